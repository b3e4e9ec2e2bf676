"""Sparse histograms of consecutive windows: one row a window, only the buckets that were hit.

An hour of one request is 3,600 rows of some hundred buckets, three to six bytes each: the
counts of every second fit in memory, and anything over them is one pass of NumPy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from loadtests.record.histogram import HIGHEST_EQUIVALENT_US, LENGTH, Histogram

_VALUES_US: Final = np.append(HIGHEST_EQUIVALENT_US.astype(np.float64), np.inf)
_CHUNK: Final = 1 << 20  # entries widened to int64 at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """The histograms of one population, row i from `window_s[i]` on, `step_s` seconds long.

    `window_s` (n,) int64 sorted and unique: a window without samples has no row. Row i's
    `buckets` (sorted; the last of the layout is the overflow) and `counts` lie in
    `starts[i]:starts[i + 1]`; both arrays have the narrowest unsigned type that holds them,
    so widen before adding up.
    """

    step_s: int
    window_s: NDArray[np.int64]
    starts: NDArray[np.int64]
    buckets: NDArray[np.uint16]
    counts: NDArray[Any]

    def __len__(self) -> int:
        return int(self.window_s.size)

    def histogram(self) -> Histogram:
        """Exact sum of all rows."""
        dense = np.zeros(LENGTH)  # of whole numbers, exact below 2**53
        for first in range(0, self.buckets.size, _CHUNK):
            part = slice(first, first + _CHUNK)
            dense += np.bincount(self.buckets[part], weights=self.counts[part], minlength=LENGTH)
        return Histogram(counts=dense.astype(np.int64))

    def samples(self) -> NDArray[np.int64]:
        """Samples of each row, overflow included."""
        return np.diff(self._reached()[self.starts])

    def quantiles_us(self, q: float) -> NDArray[np.float64]:
        """Quantile of each row in us, `inf` where it lies in the overflow; q in (0, 1]."""
        if not 0 < q <= 1:
            raise ValueError(f"quantile {q}")
        reached = self._reached()
        before = reached[self.starts[:-1]]
        n = reached[self.starts[1:]] - before
        # Rounded for the same reason as in Histogram.quantile_us: q is decimal text.
        ranks = np.maximum(1, np.ceil(np.round(q * n, 6)).astype(np.int64))
        values: NDArray[np.float64] = _VALUES_US[
            self.buckets[np.searchsorted(reached[1:], before + ranks)]
        ]
        return values

    def coarse(self, edges_us: Sequence[float]) -> NDArray[np.int64]:
        """Samples of each row between edges in us (ascending): (rows, edges + 1).

        Column 0 has the values up to the first edge, column j those above edge j - 1 and up to
        edge j, the last one those above the last edge, overflow included: none is left out. A
        sample counts as its bucket's highest value.
        """
        columns = np.searchsorted(np.asarray(edges_us, dtype=np.float64), _VALUES_US)
        return self._grouped(columns, len(edges_us) + 1)

    def at_most(self, edges: NDArray[np.int64]) -> NDArray[np.int64]:
        """Samples of each row in buckets up to each edge (bucket numbers, ascending)."""
        columns = np.searchsorted(edges, np.arange(LENGTH))
        return np.cumsum(self._grouped(columns, edges.size + 1)[:, :-1], axis=1)

    def _grouped(self, columns: NDArray[np.int64], width: int) -> NDArray[np.int64]:
        """Sum the counts of each row by the column of their bucket."""
        sums = np.zeros(len(self) * width)  # of whole numbers, exact below 2**53
        rows = np.repeat(np.arange(len(self)) * width, np.diff(self.starts))
        for first in range(0, self.buckets.size, _CHUNK):
            part = slice(first, first + _CHUNK)
            places = rows[part] + columns[self.buckets[part]]
            sums += np.bincount(places, weights=self.counts[part], minlength=sums.size)
        return sums.astype(np.int64).reshape(len(self), width)

    def _reached(self) -> NDArray[np.int64]:
        """Running sum of the counts, with the 0 before the first."""
        return np.concatenate(([0], np.cumsum(self.counts, dtype=np.int64)))
