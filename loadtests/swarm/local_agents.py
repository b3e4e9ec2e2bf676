"""Agents on the master's own host: started by it, watched by it, gone with it.

Each is `python -m loadtests.swarm.agent` in a session of its own (the terminal's Ctrl-C is
the master's to act on) that the kernel kills when the master's process dies. Their
standard error is kept for the error that tells of their end.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Final

import gevent
from gevent import subprocess

from loadtests.swarm.tail import Tail

_POLL_S: Final = 0.05
_WORDS_S: Final = 0.5


class LocalAgents:
    """`count` agent processes, named agent-1 .. agent-N."""

    def __init__(self, count: int, engines_each: int, host: str, port: int) -> None:
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._tails: dict[str, Tail] = {}
        self._told: set[str] = set()
        for number in range(1, count + 1):
            name = f"agent-{number}"
            process = subprocess.Popen(
                [
                    sys.executable, "-m", "loadtests.swarm.agent",
                    "--master-host", host, "--master-port", str(port), "--name", name,
                    "--engines", str(engines_each), "--parent", str(os.getpid()),
                    *(["--without-ticker"] if number > 1 else []),  # one a host is enough
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )  # fmt: skip
            self._processes[name] = process
            self._tails[name] = Tail(process.stderr)

    def newly_dead(self) -> dict[str, str]:
        """Agents that ended since the last call, each with how it ended."""
        dead = {
            name: process.poll()
            for name, process in self._processes.items()
            if name not in self._told and process.poll() is not None
        }
        self._told |= dead.keys()
        return {
            name: f"{_status(status)} {self._tails[name].text(_WORDS_S)}".strip()
            for name, status in dead.items()
        }

    def end(self, wait_s: float) -> None:
        """Give them `wait_s` to end by themselves, then kill what is left, and reap all."""
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline and any(
            process.poll() is None for process in self._processes.values()
        ):
            gevent.sleep(_POLL_S)
        for process in self._processes.values():
            if process.poll() is None:
                process.kill()
            process.wait()


def _status(status: int | None) -> str:
    if status is None:
        return "still alive"
    return f"signal {-status}" if status < 0 else f"exit status {status}"
