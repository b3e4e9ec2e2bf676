"""Processes by pid file: who they are, in which state, and signals that hit nobody else.

A pid may be given to another process at any time. So a process is its pid and its start
time (proc(5), field 22), and a signal goes through a descriptor of it (pidfd_open(2)) that
was checked after it was opened.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Final

from loadtests.failover.strike import FaultError, Identity

POLL_S: Final = 0.01
_STATE, _START_TICKS = 0, 19  # of the fields behind the command's name, which may hold spaces


def _fields(pid: int) -> list[str] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def identity_of(pid: int) -> Identity | None:
    """Who has this pid now; None: nobody, or only what a dead one left (a zombie)."""
    fields = _fields(pid)
    if fields is None or fields[_STATE] in "ZX":
        return None
    return Identity(pid=pid, start_ticks=int(fields[_START_TICKS]))


def is_running(one: Identity) -> bool:
    """Whether this very process has not ended."""
    return identity_of(one.pid) == one


def state_of(one: Identity) -> str:
    """Its state letter of proc(5), "" when it has ended; T is stopped by a signal."""
    fields = _fields(one.pid)
    if fields is None or int(fields[_START_TICKS]) != one.start_ticks:
        return ""
    return "" if fields[_STATE] in "ZX" else fields[_STATE]


def read_pid_file(path: str) -> Identity | None:
    """The process that a pid file names, if it runs; FaultError for a file without a pid."""
    try:
        text = Path(path).read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FaultError(where=path, seen=str(error), expected="a pid file") from error
    if not text:
        return None  # whoever writes it has just opened it
    if not text.isdecimal() or int(text) <= 1:
        raise FaultError(where=path, seen=repr(text[:40]), expected="the pid of one process")
    return identity_of(int(text))


def send(one: Identity, number: signal.Signals) -> bool:
    """Signal this very process; False when it has ended. FaultError without the right to."""
    try:
        descriptor = os.pidfd_open(one.pid)
    except ProcessLookupError:
        return False
    try:
        if not is_running(one):
            return False
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    except PermissionError as error:
        raise FaultError(
            where=f"pid {one.pid}", seen=str(error), expected=f"the right to send {number.name}"
        ) from error
    finally:
        os.close(descriptor)
    return True


def wait_ended(one: Identity, seconds: float) -> bool:
    """Wait for its end; False when it still runs."""
    deadline = time.monotonic() + seconds
    while is_running(one):
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_S)
    return True
