"""The engine process: `python -m loadtests.engine.process --fd N`.

N is an inherited socket-pair descriptor to the agent; everything comes and goes there in
frames of engine/messages.py. The process dies with its parent (PR_SET_PDEATHSIG), ends
when the socket closes, and ignores SIGINT: a terminal's Ctrl-C reaches the whole process
group, and the agent decides what it means. It imports neither locust nor gevent.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import uvloop

from loadtests.engine.messages import (
    Configure,
    EngineError,
    FromEngine,
    Lease,
    Start,
    Stop,
    TakeOver,
    encode_frame,
    engine_side,
)
from loadtests.errors import ExitCode, HarnessError, HeadroomError, ScenarioError, TargetError
from loadtests.parentage import lives_with

if TYPE_CHECKING:
    from loadtests.engine import run as engine_run

_FLUSH_S: Final = 5.0


class _Agent(asyncio.Protocol):
    """The agent's side of the conversation, as the engine sees it."""

    def __init__(self) -> None:
        self._reader = engine_side()
        self._transport: asyncio.Transport | None = None
        self._run: engine_run.Run | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_flushed = asyncio.Event()
        self._is_flushed.set()
        self.exit_code: asyncio.Future[ExitCode] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport  # type: ignore[assignment]  # uvloop's is none of asyncio's

    def pause_writing(self) -> None:
        """The agent is slow to read."""
        self._is_flushed.clear()

    def resume_writing(self) -> None:
        """The agent has read."""
        self._is_flushed.set()

    def send(self, message: FromEngine) -> None:
        """Send one frame."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(encode_frame(message))

    def data_received(self, data: bytes) -> None:
        """Act on each message; a malformed one ends the engine, for its plan is not certain."""
        try:
            for message in self._reader.feed(data):
                self._take(message)
        except ValueError as error:
            self.give_up(HarnessError(where="agent socket", seen=str(error), expected="frames"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Without an agent there is no load, however the socket ended (`exc`)."""
        del exc
        self._end(ExitCode.HARNESS)

    def _take(self, message: object) -> None:
        run = self._run
        if isinstance(message, Configure) and not self._tasks:
            task = asyncio.get_running_loop().create_task(self._configure(message))
            task.add_done_callback(self._configured)
            self._tasks.add(task)
        elif run is None or isinstance(message, Configure):
            self.give_up(
                HarnessError(
                    where="agent socket",
                    seen=type(message).__name__,
                    expected="Configure first and once",
                )
            )
        elif isinstance(message, Start):
            run.start(message)
        elif isinstance(message, Lease):
            run.lease(message)
        elif isinstance(message, TakeOver):
            run.take_over(message)
        elif isinstance(message, Stop):
            run.stop(message)

    async def _configure(self, configure: Configure) -> None:
        # NumPy's BLAS starts a thread per core when it is imported, and its arrays ask for
        # huge pages, unless they are told not to: an engine has one core, multiplies no
        # matrices, and must not stop for 2 MB to be cleared where it counts in 4 kB.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        os.environ.setdefault("NUMPY_MADVISE_HUGEPAGE", "0")
        from loadtests.engine.run import Run  # noqa: PLC0415 - after the lines above

        try:
            self._run = run = Run(configure, self.send, environment=os.environ, pid=os.getpid())
            await run.prepare()
            await run.over.wait()
            await self._flush()
            self._end(ExitCode.PASS)
        except HeadroomError as error:
            self.give_up(error)
        except ValueError as error:
            self.give_up(HarnessError(where="configure", seen=str(error), expected="a plan"))

    def _configured(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.broken({"message": "the run broke", "exception": error})

    def broken(self, context: dict[str, Any]) -> None:
        """An error of ours in a callback: an engine that half works is worse than none."""
        error = context.get("exception")
        if isinstance(error, BaseException):
            traceback.print_exception(error)
        seen = f"{context.get('message')}: {error!r}"
        self.give_up(HarnessError(where="engine", seen=seen, expected="no error of its own"))

    async def _flush(self) -> None:
        if self._transport is not None:
            self._transport.set_write_buffer_limits(0)
        try:
            await asyncio.wait_for(self._is_flushed.wait(), _FLUSH_S)
        except TimeoutError:
            return

    def give_up(self, error: HeadroomError) -> None:
        """Tell the agent why and end."""
        self.send(error_frame(error))
        self._end(error.exit_code)

    def _end(self, code: ExitCode) -> None:
        if not self.exit_code.done():
            self.exit_code.set_result(code)


def error_frame(error: HeadroomError) -> EngineError:
    """An error as the agent is told it: family, place, what was seen and expected."""
    if isinstance(error, ScenarioError):
        places = ["" if m.where == error.source else f"{m.where}: " for m in error.mistakes]
        seen = "; ".join(f"{p}{m.seen}" for p, m in zip(places, error.mistakes, strict=True))
        expected = "; ".join(mistake.expected for mistake in error.mistakes)
        return EngineError("scenario", error.source, seen, expected)
    if isinstance(error, TargetError):
        return EngineError("target", error.where, error.seen, error.expected)
    if isinstance(error, HarnessError):
        return EngineError("harness", error.where, error.seen, error.expected)
    return EngineError("harness", type(error).__name__, str(error), "no such error")


async def _serve(descriptor: int) -> int:
    own = socket.socket(fileno=descriptor)
    own.setblocking(False)  # noqa: FBT003 - the standard library's signature
    loop = asyncio.get_running_loop()
    transport, agent = await loop.connect_accepted_socket(_Agent, own)
    loop.set_exception_handler(lambda _, context: agent.broken(context))
    code = await agent.exit_code
    await asyncio.sleep(0)  # what was written in this turn leaves in this turn
    transport.close()
    return code


def main(argv: Sequence[str]) -> int:
    """Run one engine; returns an `ExitCode` value."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.engine.process")
    parser.add_argument("--fd", type=int, required=True, help="inherited socket to the agent")
    arguments = parser.parse_args(argv)
    if not lives_with(os.getppid()):
        return ExitCode.HARNESS
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return uvloop.run(_serve(arguments.fd))


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))  # connections need no farewell: 10,000 transports take seconds
