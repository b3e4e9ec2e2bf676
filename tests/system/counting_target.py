"""A target that counts for itself: what it read, what it answered, when, in a file of its own.

Run as a process (`python counting_target.py LOG [options]`), so that neither the harness nor
the test process can disturb its clock. It prints its port, then serves HTTP/1.1 until SIGTERM.
One CSV row a request, written in the moment of its end:

    received_ns,replied_ns,number

CLOCK_MONOTONIC; `replied_ns` is -1 when the client had gone before the answer (or the target
ended first); `number` is the `n=` of the path, which a scenario fills with `${seq}`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import signal
import sys
import time
from dataclasses import dataclass, field
from typing import Final, cast

import uvloop

HEADER: Final = "received_ns,replied_ns,number\n"
ABANDONED: Final = -1
_HEAD_END: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_NUMBER: Final = re.compile(rb"[?&]n=(\d+)")


@dataclass(slots=True, kw_only=True)
class Script:
    """How it answers: status, delay, one freeze [at, at + for) after the first request."""

    status: int
    delay_s: float
    freeze_at_s: float
    freeze_s: float
    log: int  # file descriptor
    first_s: float | None = None
    pending: set[Peer] = field(default_factory=set)

    def answer_at_s(self, now_s: float) -> float:
        """When the answer to a request read now leaves."""
        if self.first_s is None:
            self.first_s = now_s
        due_s = now_s + self.delay_s
        since_s = due_s - self.first_s - self.freeze_at_s
        return due_s + self.freeze_s - since_s if 0 <= since_s < self.freeze_s else due_s

    def note(self, received_ns: int, replied_ns: int, number: int) -> None:
        """Hand one row to the kernel: a killed target loses none."""
        os.write(self.log, b"%d,%d,%d\n" % (received_ns, replied_ns, number))


class Peer(asyncio.Protocol):
    """One connection; answers in order, one request at a time."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._waiting: tuple[int, int] | None = None  # received_ns, number

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def connection_lost(self, exc: Exception | None) -> None:
        """An answer that is still due has nobody to go to."""
        del exc
        self._transport = None
        self.give_up()

    def give_up(self) -> None:
        """Log a request that gets no answer."""
        self._script.pending.discard(self)
        if self._waiting is not None:
            received_ns, number = self._waiting
            self._waiting = None
            self._script.note(received_ns, ABANDONED, number)

    def data_received(self, data: bytes) -> None:
        """Cut requests; a client that pipelines waits."""
        self._buffer += data
        self._next()

    def _next(self) -> None:
        end = self._buffer.find(_HEAD_END)
        if self._waiting is not None or end < 0:
            return
        head = self._buffer[: end + 2]
        length = _LENGTH.search(head)
        size = end + len(_HEAD_END) + (int(length[1]) if length else 0)
        if len(self._buffer) < size:
            return
        self._buffer = self._buffer[size:]
        number = _NUMBER.search(head.split(b"\r\n", 1)[0])
        self._waiting = (time.monotonic_ns(), int(number[1]) if number else -1)
        self._script.pending.add(self)
        now_s = self._loop.time()
        wait_s = self._script.answer_at_s(now_s) - now_s
        if wait_s > 0:
            self._loop.call_later(wait_s, self._reply)
        else:
            self._reply()

    def _reply(self) -> None:
        if self._transport is None or self._waiting is None:
            return
        received_ns, number = self._waiting
        self._waiting = None
        self._script.pending.discard(self)
        self._transport.write(
            b"HTTP/1.1 %d Counted\r\nContent-Length: 2\r\n\r\nok" % self._script.status
        )
        self._script.note(received_ns, time.monotonic_ns(), number)
        self._next()


async def serve(script: Script, host: str) -> None:
    """Print the port, serve until SIGTERM, log what is unanswered then."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    server = await loop.create_server(lambda: Peer(script), host, 0, backlog=1024)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await stop.wait()
    server.close()
    for peer in list(script.pending):
        peer.give_up()


def main() -> None:
    """Serve as the arguments say."""
    parser = argparse.ArgumentParser()
    parser.add_argument("log")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--status", type=int, default=200)
    parser.add_argument("--delay-s", type=float, default=0.0)
    parser.add_argument("--freeze-at-s", type=float, default=0.0)
    parser.add_argument("--freeze-s", type=float, default=0.0)
    options = parser.parse_args()
    log = os.open(options.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
    os.write(log, HEADER.encode())
    script = Script(
        status=options.status,
        delay_s=options.delay_s,
        freeze_at_s=options.freeze_at_s,
        freeze_s=options.freeze_s,
        log=log,
    )
    uvloop.run(serve(script, options.host))


if __name__ == "__main__":
    main()
