"""Plays the agent for one engine: spawns, configures, starts it and keeps its lease fresh.

`python -m benchmarks.engine_driver CORE PLAN_FILE WINDOWS_FILE` pins the engine to CORE
and prints a JSON line for each milestone (ready, started, final). Windows go to the file
as they came, undecoded. SIGTERM stops the engine as an agent would; the engine's CPU time
and this process's are separate, so that the engine's own cost can be told.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from loadtests.clock import NS_PER_S
from loadtests.engine.messages import (
    Configure,
    EngineError,
    FinalReport,
    Lease,
    Ready,
    ShareOf,
    Start,
    Stop,
    WindowReport,
    agent_side,
    encode_frame,
)
from loadtests.errors import HarnessError
from loadtests.plan.codec import decode_plan
from loadtests.record.window import Window, unpack_window

_LEASE_NS: Final = 10 * NS_PER_S
_LEAD_NS: Final = NS_PER_S // 4
_READ_BYTES: Final = 1 << 20
_LENGTH_BYTES: Final = 4


def read_windows(path: Path) -> list[Window]:
    """Decode all windows of a file that the driver wrote."""
    data, at, windows = path.read_bytes(), 0, []
    while at < len(data):
        end = at + _LENGTH_BYTES + int.from_bytes(data[at : at + _LENGTH_BYTES], "big")
        windows.append(unpack_window(data[at + _LENGTH_BYTES : end]))
        at = end
    return windows


def _say(what: str, **facts: object) -> None:
    print(msgspec.json.encode({"event": what, **facts}).decode(), flush=True)


class Driver:
    """One engine and its socket."""

    def __init__(self, core: int, plan: bytes, windows: BinaryIO) -> None:
        self._plan = plan
        self._windows = windows
        self._core = core
        self._reader = agent_side()
        self._is_stopping = False
        self._final: FinalReport | None = None
        self._renew_ns: int | None = None  # an engine takes no lease before its start
        ours, theirs = socket.socketpair()
        with theirs:
            program = [sys.executable, "-m", "loadtests.engine.process", "--fd"]
            launch = [sys.executable, "-m", "benchmarks.launch", str(core), str(os.getpid())]
            self._engine = subprocess.Popen(
                [*launch, *program, str(theirs.fileno())], pass_fds=[theirs.fileno()]
            )
        self._socket = ours

    def stop(self, *_: object) -> None:
        """SIGTERM: the engine drains and reports."""
        if not self._is_stopping:
            self._is_stopping = True
            grace_ns = decode_plan(self._plan).grace_ns
            self._send(Stop(grace_ns=grace_ns, reason="benchmark ends"))

    def run(self) -> int:
        """Drive until the engine has ended; its exit code."""
        self._send(
            Configure(
                plan=self._plan,
                run_id="benchmark",
                engine="benchmark/0",
                index=0,
                of_engines=1,
                share=ShareOf(residue=0, modulus=1, from_ns=0),
                lease_ns=_LEASE_NS,
                authorised_hosts=(),
            )
        )
        while self._final is None:
            now_ns = time.monotonic_ns()
            if self._renew_ns is not None and now_ns >= self._renew_ns:
                with contextlib.suppress(BrokenPipeError):  # it has ended; its report is to come
                    self._send(Lease(until_ns=now_ns + _LEASE_NS))
                self._renew_ns = now_ns + NS_PER_S
            readable, _, _ = select.select([self._socket], [], [], 0.5)
            if readable and not self._receive():
                break
        code = self._engine.wait(10)
        if self._final is None:
            _say("died", code=code)
            return code or 1
        return code

    def _receive(self) -> bool:
        data = self._socket.recv(_READ_BYTES)
        for message in self._reader.feed(data):
            match message:
                case Ready():
                    self._start(message)
                case WindowReport():
                    self._windows.write(len(message.window).to_bytes(_LENGTH_BYTES, "big"))
                    self._windows.write(message.window)
                case FinalReport():
                    self._final = message
                    _say("final", **msgspec.structs.asdict(message))
                case EngineError():
                    raise HarnessError(
                        where=message.where, seen=message.seen, expected=message.expected
                    )
        return bool(data)

    def _start(self, ready: Ready) -> None:
        wall_ns, now_ns = time.time_ns(), time.monotonic_ns()
        # Whole seconds, so that every window of the run but none of its edges is complete.
        t0_unix_ns = (wall_ns + _LEAD_NS) // NS_PER_S * NS_PER_S + NS_PER_S
        t0_ns = now_ns + t0_unix_ns - wall_ns
        _say("ready", pid=self._engine.pid, connections=ready.connections, warnings=ready.warnings)
        lease_ns = now_ns + _LEASE_NS
        self._send(Start(t0_ns=t0_ns, t0_unix_ns=t0_unix_ns, lease_until_ns=lease_ns))
        self._renew_ns = now_ns + NS_PER_S
        _say("started", t0_ns=t0_ns, t0_unix_ns=t0_unix_ns)

    def _send(self, message: Configure | Start | Lease | Stop) -> None:
        self._socket.sendall(encode_frame(message))


def main(argv: list[str]) -> int:
    """Run one engine."""
    core, plan_path, windows_path = int(argv[0]), Path(argv[1]), Path(argv[2])
    with windows_path.open("wb") as windows:
        driver = Driver(core, plan_path.read_bytes(), windows)
        signal.signal(signal.SIGTERM, driver.stop)
        return driver.run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
