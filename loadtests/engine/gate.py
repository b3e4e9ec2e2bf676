"""The rate ceiling: never more than its share of requests in any 100 ms, whatever happened.

Pure: times are handed in. A ring holds the times of the last `allowance` requests; one
more may go when the oldest of them is a whole interval ago. That bounds every sliding
interval exactly, also after a stall, when all that is overdue would go at once. Below one
request per 100 ms the interval is stretched to 1 / rate for one request.
"""

from __future__ import annotations

from array import array
from typing import Final

from loadtests.clock import NS_PER_MS, NS_PER_S

INTERVAL_NS: Final = 100 * NS_PER_MS
# One core cannot send so many in 100 ms (1.5 us each, less than the system call takes):
# such a ceiling needs no ring, which would only cost memory and 0.1 us per request.
UNREACHABLE: Final = 65_536


class Gate:
    """Ceiling of `rate_per_s` (> 0) requests per second over every interval."""

    __slots__ = ("_at", "_ring", "allowance", "interval_ns")

    def __init__(self, rate_per_s: float) -> None:
        allowance = int(rate_per_s * INTERVAL_NS / NS_PER_S)
        self.interval_ns = INTERVAL_NS if allowance else round(NS_PER_S / rate_per_s)
        self.allowance = max(1, allowance)
        self._ring = array("q", [-(1 << 62)]) * self.allowance
        self._at = 0

    def take(self, now_ns: int) -> bool:
        """Count one request now, or refuse it."""
        at = self._at
        if now_ns - self._ring[at] < self.interval_ns:
            return False
        self._ring[at] = now_ns
        self._at = at + 1 if at + 1 < self.allowance else 0
        return True

    def opens_ns(self) -> int:
        """When the next request may go."""
        return self._ring[self._at] + self.interval_ns


def gate_of(rate_per_s: float) -> Gate | None:
    """A gate, or None where the ceiling is above what one process could ever send."""
    return Gate(rate_per_s) if rate_per_s * INTERVAL_NS / NS_PER_S < UNREACHABLE else None
