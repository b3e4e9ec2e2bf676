"""Leases: permission to send that ends by itself.

The master grants until an absolute time, told in the agent's own clock; the agent hands
the same time down to its engines. A late message can therefore never lengthen a lease,
and a wrong clock estimate never beyond one lease length from receipt.

Law: no request is sent after `until_ns`; whoever cannot be reached stops by itself.
"""

from __future__ import annotations

from collections import deque
from typing import Final

_RECENT: Final = 64  # clock samples kept: about a minute, so that drift is followed


class HeldLease:
    """An agent's lease; `until_ns` is None before the first one."""

    __slots__ = ("_length_ns", "until_ns")

    def __init__(self, length_ns: int) -> None:
        self._length_ns = length_ns
        self.until_ns: int | None = None

    def renew(self, until_ns: int, now_ns: int) -> bool:
        """Take a grant; True if it lengthens the lease (and must be handed down)."""
        until_ns = min(until_ns, now_ns + self._length_ns)
        if until_ns <= now_ns or (self.until_ns is not None and until_ns <= self.until_ns):
            return False
        if self.until_ns is not None and self.until_ns <= now_ns:
            return False  # an ended lease is not revived: its engines have ended too
        self.until_ns = until_ns
        return True

    def has_ended(self, now_ns: int) -> bool:
        """True once a lease was held and has run out."""
        return self.until_ns is not None and self.until_ns <= now_ns


class ClockEstimate:
    """Offset of an agent's CLOCK_MONOTONIC from the master's, from exchanges.

    As in NTP (RFC 5905, paragraph 8): with t0 sent, t1 received, t2 replied, t3 come back,
    offset = ((t1 - t0) + (t2 - t3)) / 2 and round trip = (t3 - t0) - (t2 - t1); the offset
    is wrong by at most half the round trip, so the exchange with the shortest one counts.
    On the same kernel (`is_same_kernel`) both read one clock: the offset is 0 unless the
    exchanges contradict that, as they do across time namespaces.
    """

    __slots__ = ("_is_same_kernel", "_samples", "rounds")

    def __init__(self, *, is_same_kernel: bool, first: tuple[int, int, int] | None = None) -> None:
        """Begin with what another master's estimate had as its `best`, if there was one."""
        self._is_same_kernel = is_same_kernel
        self._samples: deque[tuple[int, int, int]] = deque(maxlen=_RECENT)
        if first is not None:
            self._samples.append(first)
        self.rounds = 0

    def add(self, t0_ns: int, t1_ns: int, t2_ns: int, t3_ns: int, wall_ns: int) -> bool:
        """Take an exchange; False if it is impossible (it came back before it left).

        `wall_ns` is (unix - monotonic) of the agent.
        """
        round_trip_ns = (t3_ns - t0_ns) - (t2_ns - t1_ns)
        if t3_ns < t0_ns or t2_ns < t1_ns or round_trip_ns < 0:
            return False
        self._samples.append((round_trip_ns, ((t1_ns - t0_ns) + (t2_ns - t3_ns)) // 2, wall_ns))
        self.rounds += 1
        return True

    @property
    def best(self) -> tuple[int, int, int] | None:
        """Round trip, offset and agent's (unix - monotonic) of the exchange that counts."""
        if not self._samples:
            return None
        round_trip_ns, _, wall_ns = min(self._samples)
        return round_trip_ns, self.offset_ns, wall_ns

    @property
    def round_trip_ns(self) -> int | None:
        """Shortest round trip of the last minute; None without an exchange."""
        return min(self._samples)[0] if self._samples else None

    @property
    def offset_ns(self) -> int:
        """Agent's monotonic clock minus the master's; 0 without an exchange."""
        if not self._samples:
            return 0
        round_trip_ns, offset_ns, _ = min(self._samples)
        is_zero = self._is_same_kernel and abs(offset_ns) * 2 <= round_trip_ns + 1
        return 0 if is_zero else offset_ns

    def wall_offset_ns(self, master_wall_ns: int) -> int | None:
        """Agent's wall clock minus the master's, whose (unix - monotonic) is given."""
        if not self._samples:
            return None
        return self.offset_ns + min(self._samples)[2] - master_wall_ns
