"""The rate ceiling: never more than its share of requests in any 100 ms, whatever happened.

Pure: times are handed in. A ring holds the times of the last `allowance` requests; one
more may go when the oldest of them is a whole interval ago. That bounds every sliding
interval exactly, also after a stall, when all that is overdue would go at once. Below one
request per 100 ms the interval is stretched to 1 / rate for one request.

A process may be stopped between taking and writing, so it is `wrote` that notes the time,
for all that was taken since: it has left by now at the latest. What is not written yet
blocks its place, whatever its age. So any two requests that are an allowance apart are
*written* an interval apart.

Once the ring has refused, what waits leaves evenly (a bucket of 5 ms) until nothing is held
back any more: otherwise whole allowances would leave 100 ms apart, and the least jitter
on the way would show the target two of them in one interval.
"""

from __future__ import annotations

from array import array
from itertools import repeat, takewhile
from typing import Final

from loadtests.clock import NS_PER_MS, NS_PER_S

INTERVAL_NS: Final = 100 * NS_PER_MS
_BURST_NS: Final = 5 * NS_PER_MS
# One core cannot send so many in 100 ms (1.5 us each, less than the system call takes):
# such a ceiling needs no ring, which would only cost memory and 0.1 us per request.
UNREACHABLE: Final = 65_536


class Gate:
    """Ceiling of `rate_per_s` (> 0) requests per second over every interval."""

    __slots__ = (
        "_at",
        "_burst_ns",
        "_credit_ns",
        "_fresh",
        "_is_held",
        "_last_ns",
        "_ring",
        "_spacing_ns",
        "allowance",
        "interval_ns",
    )

    def __init__(self, rate_per_s: float) -> None:
        allowance = int(rate_per_s * INTERVAL_NS / NS_PER_S)
        self.interval_ns = INTERVAL_NS if allowance else round(NS_PER_S / rate_per_s)
        self.allowance = max(1, allowance)
        self._ring = array("q", [-(1 << 62)]) * self.allowance
        self._at = 0
        self._fresh = 0  # taken, and not known to be written
        self._spacing_ns = self.interval_ns // self.allowance
        self._burst_ns = max(_BURST_NS, self._spacing_ns)
        self._is_held = False
        self._credit_ns = self._last_ns = 0

    def take(self, now_ns: int) -> bool:
        """Count one request, to be written at once, or refuse it."""
        at = self._at
        if now_ns - self._ring[at] < self.interval_ns or self._fresh == self.allowance:
            self._is_held, self._credit_ns, self._last_ns = True, self._spacing_ns, now_ns
            return False
        if self._is_held and not self._pay(now_ns):
            return False
        self._at = at + 1 if at + 1 < self.allowance else 0
        self._fresh += 1
        return True

    def take_many(self, now_ns: int, wanted: int) -> int:
        """Count as many of the wanted requests as may go now; how many."""
        end = self._at + wanted
        if wanted and not self._is_held and self._fresh + wanted <= self.allowance:
            # The ring is in order of time: if the last of their places is free, all are.
            last = end - 1 if end <= self.allowance else end - 1 - self.allowance
            if now_ns - self._ring[last] >= self.interval_ns:
                self._at = last + 1 if last + 1 < self.allowance else 0
                self._fresh += wanted
                return wanted
        return sum(1 for _ in takewhile(self.take, repeat(now_ns, wanted)))

    def give_back(self, unused: int) -> None:
        """Return what was taken last and will not be written, before anything else is."""
        self._at = (self._at - unused) % self.allowance
        self._fresh -= unused
        if self._is_held:
            self._credit_ns += unused * self._spacing_ns

    def wrote(self, now_ns: int) -> None:
        """All that was taken has been written by now."""
        fresh, self._fresh = self._fresh, 0
        if fresh == 1:
            self._ring[self._at - 1] = now_ns
        elif fresh:
            begin = (self._at - fresh) % self.allowance
            first = min(fresh, self.allowance - begin)
            self._ring[begin : begin + first] = array("q", [now_ns]) * first
            if first < fresh:  # round the ring
                self._ring[: fresh - first] = array("q", [now_ns]) * (fresh - first)

    def _pay(self, now_ns: int) -> bool:
        """Take one request's spacing from the bucket; when it overflows, nobody waits."""
        credit_ns = self._credit_ns + now_ns - max(self._last_ns, self._opens_by_ring_ns())
        if credit_ns >= self._burst_ns + self._spacing_ns:
            self._is_held = False
            return True
        self._last_ns = now_ns
        is_paid = credit_ns >= self._spacing_ns
        self._credit_ns = credit_ns - self._spacing_ns if is_paid else credit_ns
        return is_paid

    def _opens_by_ring_ns(self) -> int:
        return self._ring[self._at] + self.interval_ns

    def opens_ns(self) -> int:
        """When the next request may go."""
        by_ring_ns = self._opens_by_ring_ns()
        if not self._is_held:
            return by_ring_ns
        return max(by_ring_ns, self._last_ns) + self._spacing_ns - self._credit_ns


def gate_of(rate_per_s: float) -> Gate | None:
    """A gate, or None where the ceiling is above what one process could ever send."""
    return Gate(rate_per_s) if rate_per_s * INTERVAL_NS / NS_PER_S < UNREACHABLE else None
