"""The two manners of an engine: exact, while it can afford that, and strained.

What leaves, is prepared or is counted together costs less for each, and what waits for others
is later. An engine that is not busy sends what is due at once, or nearly. One that is lets
arrivals wait a little longer, so that it keeps up and has room left for the hiccups of its
host: it goes on with a quarter less CPU (`make bench`, gRPC).

How busy an exact engine would be cannot be told from a strained one: it is tried, now and then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from loadtests.clock import NS_PER_MS

_HARD_RATIO: Final = 0.88  # of its core; a run in which an engine uses 0.9 is void
_HARD_LOOKS: Final = 3  # in a row: one alone is a hiccup
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


class Strain:
    """Chooses the manner; `look` is told every 100 ms how busy the engine was."""

    __slots__ = ("_hard_looks", "_looks_left", "manner")

    def __init__(self) -> None:
        self.manner = EXACT
        self._hard_looks = self._looks_left = 0

    def look(self, busy_ratio: float) -> None:
        """Take the part of its core that the engine used since the last look."""
        self._hard_looks = self._hard_looks + 1 if busy_ratio > _HARD_RATIO else 0
        if self._hard_looks >= _HARD_LOOKS:
            self.manner, self._looks_left = STRAINED, _LOOKS_STRAINED
        elif self._looks_left:
            self._looks_left -= 1
            if not self._looks_left:
                self.manner = EXACT
