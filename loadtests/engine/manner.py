"""How an engine works: exact while it can afford that, strained where it is too busy.

What leaves, is prepared or is counted together costs less for each, and what waits for others
is later. An engine that is not busy sends what is due at once, or nearly. One that is lets
arrivals wait a little longer, so that it keeps up and has room left for the hiccups of its
host: it goes on with a quarter less CPU (`make bench`, gRPC).

How busy an exact engine would be cannot be told well from a strained one: by a fifth to a half
of a core more. So an engine begins every stage strained, and where that takes less than 0.6 of
its core it becomes exact by steps, each of which costs it less than 8 % of it, or at once where
it is nearly idle; where one is too much it is strained again, and waits before it tries the
next time. It is never overloaded by trying, nor by the load that follows a pause: that would
make a part of its requests late.

The share of a core does not tell all: one that others use as well, or a container's quota, can
be exhausted at any. So an engine that is late all the time is strained, too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from loadtests.clock import NS_PER_MS

_HARD_RATIO: Final = 0.83  # of its core: the rest is for hiccups, and from 0.9 on a run is void
_OVERLOADED_RATIO: Final = 0.97
# Of its core, where it is not exact: exact at once below the one, no try above the other.
_IDLE_RATIO: Final = 0.3
_BUSY_RATIO: Final = 0.6
_LATE_NS: Final = 2 * NS_PER_MS  # behind the time at which arrivals were to leave
_LOOK_NS: Final = 100 * NS_PER_MS
_HARD_LOOKS: Final = 3  # in a row, two on the way there: one alone is a hiccup
_LOOKS_STRAINED: Final = 100  # until being exact is tried again


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How much is done together."""

    quantum_ns: int  # between the times at which arrivals leave, where they are denser
    slice_ns: int  # of arrivals that are prepared together, at high rates
    batch_events: int  # sent or ok, that are counted together


# 60 us of send lag on average; slices whose steps hold up nothing for longer than a quantum.
EXACT: Final = Manner(quantum_ns=120_000, slice_ns=7 * NS_PER_MS, batch_events=1024)
# Well below the 1 ms of send lag that voids a run.
STRAINED: Final = Manner(quantum_ns=600_000, slice_ns=10 * NS_PER_MS, batch_events=6144)
_BETWEEN_NS: Final = (145_000, 170_000, 200_000, 260_000, 340_000, 450_000)
MANNERS: Final = (EXACT, *(replace(STRAINED, quantum_ns=ns) for ns in _BETWEEN_NS), STRAINED)


class Strain:
    """Chooses the manner, from how busy and how late the engine was over the last 100 ms.

    Times are those of CLOCK_MONOTONIC and of the process's CPU, in ns.
    """

    __slots__ = ("_hard_looks", "_late_looks", "_level", "_looked_cpu_ns", "_looked_ns", "_waits")

    def __init__(self) -> None:
        self.begin(0, 0)

    def begin(self, now_ns: int, cpu_ns: int) -> None:
        """Begin anew: what an engine could afford in one stage says nothing of the next."""
        self._level = len(MANNERS) - 1
        self._hard_looks = self._late_looks = self._waits = 0
        self._looked_ns, self._looked_cpu_ns = now_ns, cpu_ns

    @property
    def manner(self) -> Manner:
        """The one to work in until the next look."""
        return MANNERS[self._level]

    def is_due(self, now_ns: int) -> bool:
        """Whether it is time to look."""
        return now_ns - self._looked_ns >= _LOOK_NS

    def look(self, now_ns: int, cpu_ns: int, late_ns: int) -> None:
        """Take what the engine has used by now, and the latest that arrivals left meanwhile."""
        busy_ratio = (cpu_ns - self._looked_cpu_ns) / (now_ns - self._looked_ns)
        self._looked_ns, self._looked_cpu_ns = now_ns, cpu_ns
        self._hard_looks = self._hard_looks + 1 if busy_ratio > _HARD_RATIO else 0
        self._late_looks = self._late_looks + 1 if late_ns > _LATE_NS else 0
        most_looks = _HARD_LOOKS - 1 if self._level else _HARD_LOOKS
        if (
            busy_ratio > _OVERLOADED_RATIO
            or self._hard_looks >= most_looks
            or self._late_looks >= _HARD_LOOKS
        ):
            self._level, self._waits = len(MANNERS) - 1, _LOOKS_STRAINED
        elif self._waits:
            self._waits -= 1
        elif busy_ratio < _IDLE_RATIO:
            self._level = 0
        elif self._level:
            bearable_ratio = _BUSY_RATIO if self.manner is STRAINED else _HARD_RATIO
            self._level -= 1 if busy_ratio < bearable_ratio else 0
