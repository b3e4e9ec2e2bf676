"""Durations counted in buckets, as Prometheus wants them.

The hot path appends nanoseconds to an array; `fold` bins it a few times a second. Bucket
bounds contain the limits of policy.md. Micrometer's names for the parts of a timer: `count`,
`sum` and a `max` that decays.
"""

from __future__ import annotations

from array import array
from collections import deque
from typing import Final

import numpy as np
from numpy.typing import NDArray

from loadtests.clock import NS_PER_S

# fmt: off
BOUNDS_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7,
                   1.0, 2.0, 5.0, 10.0, 30.0)
# fmt: on
MAX_MEMORY_S: Final = 120  # Micrometer's `max` decays: 2 minutes in 3 slices
MAX_SLICES: Final = 3
_BOUNDS_NS: Final = np.array([round(bound * NS_PER_S) for bound in BOUNDS_S], dtype=np.int64)
_BOUND_NAMES: Final = (*map(str, BOUNDS_S), "+Inf")


class Binned:
    """Counts per bucket (the last is above all bounds), sum and recent maxima of one array."""

    __slots__ = ("_counts", "_maxima_ns", "_sum_ns", "durations_ns")

    def __init__(self, durations_ns: array[int]) -> None:
        self.durations_ns = durations_ns
        self._counts: NDArray[np.int64] = np.zeros(len(BOUNDS_S) + 1, dtype=np.int64)
        self._sum_ns = 0
        self._maxima_ns: deque[int] = deque([0], maxlen=MAX_SLICES)

    def fold(self, *, new_slice: bool) -> None:
        """Move waiting durations into the counts; a new slice lets old maxima decay."""
        if new_slice:
            self._maxima_ns.append(0)
        waiting = self.durations_ns
        if not waiting:
            return
        values = np.array(waiting, dtype=np.int64)
        del waiting[:]
        places = np.searchsorted(_BOUNDS_NS, values, side="left")
        self._counts += np.bincount(places, minlength=len(self._counts))
        self._sum_ns += int(values.sum())
        self._maxima_ns[-1] = max(self._maxima_ns[-1], int(values.max()))

    def count(self) -> int:
        """All durations, folded or waiting."""
        return int(self._counts.sum()) + len(self.durations_ns)

    def sum_s(self) -> float:
        """Sum of the folded durations."""
        return self._sum_ns / NS_PER_S

    def max_s(self) -> float:
        """Longest of the last two minutes."""
        return max(self._maxima_ns) / NS_PER_S

    def buckets(self) -> list[tuple[str, float]]:
        """Upper bound and number of folded durations up to it."""
        totals = np.cumsum(self._counts).tolist()
        return list(zip(_BOUND_NAMES, totals, strict=True))
