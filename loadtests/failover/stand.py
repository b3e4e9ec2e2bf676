"""Starting a system under test of the harness's own: supervisor, nodes, HAProxy.

    with Stand.start(spec, folder) as stand: ...

The caller says which programs; this module starts their supervisor, waits for it, and ends
it. The supervisor ends everything when this process does, so an exit without `stop` leaves
nothing either.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

import msgspec

from loadtests.errors import HarnessError
from loadtests.failover.supervisor import StandSpec

START_TIMEOUT_S: Final = 20.0
STOP_TIMEOUT_S: Final = 15.0


class Stand:
    """A running supervisor; `networks` are the pids that hold the namespaces, by host."""

    def __init__(self, spec: StandSpec, folder: Path) -> None:
        self.spec = spec
        path = folder / "stand.json"
        path.write_bytes(msgspec.json.encode(spec))
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [
                sys.executable, "-m", "loadtests.failover.supervisor",
                "--spec", str(path), "--parent", str(os.getpid()),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,  # Ctrl-C goes to the harness, which ends the stand last
        )  # fmt: skip
        try:
            self.networks = self._wait_ready()
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        """The supervisor: when it ends, every node has ended."""
        return self._process.pid

    def _wait_ready(self) -> Mapping[str, int]:
        assert self._process.stdout is not None
        line = b""
        while not line.endswith(b"\n"):
            if not select.select([self._process.stdout], [], [], START_TIMEOUT_S)[0]:
                break
            piece = os.read(self._process.stdout.fileno(), 65_536)
            if not piece:
                break
            line += piece
        said: dict[str, object] = msgspec.json.decode(line or b"{}")
        if "ready" not in said:
            seen = str(said.get("error", "no sign of life"))
            raise HarnessError(where="test stand", seen=seen, expected="its programs to start")
        return msgspec.convert(said["ready"], dict[str, int])

    def stop(self) -> None:
        """End everything and wait for it."""
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()  # and the kernel kills its children
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
