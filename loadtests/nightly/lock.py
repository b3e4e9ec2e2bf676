"""Who holds the night: one at a time, and a dead holder's lock is taken over.

A pid may be given to another process at any time, and again after a restart: so a holder is
pid, start time of the process (proc(5), field 22) and boot of the machine. What runs on
another host cannot be looked at from here: its lock is good until the end of the time that
its night may take.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

import msgspec

from loadtests.clock import NS_PER_S


class Holder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The process that wrote the lock."""

    host: str
    boot_id: str
    pid: int
    start_ticks: int
    night: str
    until_unix_ns: int  # when its night has to be over


class LockState(Enum):
    """What a lock file says."""

    FREE = "free"
    STALE = "stale"  # its holder is dead: taken over, and said
    HELD = "held"


def state_of(
    before: Holder | None, me: Holder, now_unix_ns: int, start_ticks_of: Callable[[int], int | None]
) -> LockState:
    """Judge the lock that was found; `start_ticks_of` a pid is None where nobody has it."""
    if before is None:
        return LockState.FREE
    if before.host != me.host:
        return LockState.STALE if now_unix_ns > before.until_unix_ns else LockState.HELD
    is_there = before.boot_id == me.boot_id and start_ticks_of(before.pid) == before.start_ticks
    return LockState.HELD if is_there else LockState.STALE


def words_of(holder: Holder, now_unix_ns: int) -> str:
    """Who it is, for messages."""
    left_s = (holder.until_unix_ns - now_unix_ns) / NS_PER_S
    until = f", for at most {left_s / 60:.0f} more min" if left_s > 0 else ", overdue"
    return f"night {holder.night} of pid {holder.pid} on {holder.host}{until}"
