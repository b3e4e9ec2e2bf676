"""The lock of the nights on disk: judged and taken under flock(2), so that two cannot both win."""

from __future__ import annotations

import fcntl
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from loadtests.errors import HarnessError, TargetError
from loadtests.failover.processes import identity_of
from loadtests.nightly.lock import Holder, LockState, state_of, words_of
from loadtests.nightly.records import FOLDER

_FILE: Final = "lock"
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def _me(night: str, until_unix_ns: int) -> Holder:
    own = identity_of(os.getpid())
    assert own is not None, "a process finds itself in /proc"
    return Holder(
        host=platform.node(),
        boot_id=_BOOT_ID.read_text(encoding="ascii").strip(),
        pid=own.pid,
        start_ticks=own.start_ticks,
        night=night,
        until_unix_ns=until_unix_ns,
    )


def _start_ticks_of(pid: int) -> int | None:
    found = identity_of(pid)
    return None if found is None else found.start_ticks


def _read(descriptor: int, path: Path) -> Holder | None:
    data = os.pread(descriptor, 65_536, 0)
    if not data.strip():
        return None
    try:
        return msgspec.json.decode(data, type=Holder)
    except ValueError as error:
        expected = "a lock of headroom nightly: look who runs, then remove the file"
        raise HarnessError(where=str(path), seen=str(error), expected=expected) from error


def night_under_way(results: Path) -> Holder | None:
    """Who holds the lock of a results folder and lives; None while no night goes on."""
    path = results / FOLDER / _FILE
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        holder = _read(descriptor, path)
    finally:
        os.close(descriptor)
    if holder is None:
        return None
    state = state_of(holder, _me("", 0), time.time_ns(), _start_ticks_of)
    return holder if state is LockState.HELD else None


@contextmanager
def holding_the_night(
    results: Path, night: str, *, now_unix_ns: int, until_unix_ns: int, say: Callable[[str], None]
) -> Iterator[None]:
    """Hold the lock of a results folder; TargetError while another night runs.

    A dead holder's lock is taken over, and `say` is told.
    """
    path = results / FOLDER / _FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        expected = "a results folder that can be written"
        raise HarnessError(where=str(path), seen=str(error), expected=expected) from error
    try:
        me = _me(night, until_unix_ns)
        _take(descriptor, path, me, now_unix_ns, say)
        try:
            yield
        finally:
            _give_back(descriptor, path, me)
    finally:
        os.close(descriptor)


def _give_back(descriptor: int, path: Path, me: Holder) -> None:
    """Empty the file, unless another host took the lock over when this night was overdue."""
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        if _read(descriptor, path) == me:
            os.ftruncate(descriptor, 0)
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _take(
    descriptor: int, path: Path, me: Holder, now_unix_ns: int, say: Callable[[str], None]
) -> None:
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        before = _read(descriptor, path)
        state = state_of(before, me, now_unix_ns, _start_ticks_of)
        if before is not None and state is LockState.HELD:
            raise TargetError(
                where=str(path),
                seen=words_of(before, now_unix_ns),
                expected="one night at a time: wait for its end",
            )
        if before is not None:
            say(f"took over the lock of {words_of(before, now_unix_ns)}: it is dead")
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, msgspec.json.encode(me) + b"\n", 0)
        os.fsync(descriptor)
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
