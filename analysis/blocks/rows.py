"""Sparse histograms of consecutive windows: one row a window, only the buckets that were hit.

An hour of one request is 3,600 rows of some hundred buckets, three to six bytes each: the
counts of every second fit in memory, and anything over them is one pass of NumPy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from loadtests.record.histogram import HIGHEST_EQUIVALENT_US, LENGTH, Histogram

Sparse = tuple[NDArray[Any], NDArray[Any]]  # sorted unique buckets, their positive counts
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
        dense = np.zeros(LENGTH, dtype=np.int64)
        for first in range(0, self.buckets.size, _CHUNK):
            part = slice(first, first + _CHUNK)
            np.add.at(
                dense, self.buckets[part].astype(np.int64), self.counts[part].astype(np.int64)
            )
        return Histogram(counts=dense)

    def rows(self) -> Iterator[Sparse]:
        """Buckets and counts of each row; views."""
        for first, end in zip(self.starts.tolist(), self.starts[1:].tolist(), strict=False):
            yield self.buckets[first:end], self.counts[first:end]

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
        sums = np.zeros(len(self) * width, dtype=np.int64)
        rows = np.repeat(np.arange(len(self)) * width, np.diff(self.starts))
        for first in range(0, self.buckets.size, _CHUNK):
            part = slice(first, first + _CHUNK)
            places = rows[part] + columns[self.buckets[part]]
            np.add.at(sums, places, self.counts[part].astype(np.int64))
        return sums.reshape(len(self), width)

    def _reached(self) -> NDArray[np.int64]:
        """Running sum of the counts, with the 0 before the first."""
        return np.concatenate(([0], np.cumsum(self.counts, dtype=np.int64)))


class SparseSum:
    """Adds sparse histograms up; one dense array serves all sums."""

    def __init__(self) -> None:
        self._dense = np.zeros(LENGTH, dtype=np.int64)

    def __call__(self, parts: Sequence[Sparse]) -> Sparse:
        """Exact sum of one or more."""
        if len(parts) == 1:
            return parts[0]
        filled = [part for part in parts if part[0].size]
        if not filled:
            return parts[0]
        low = min(int(buckets[0]) for buckets, _ in filled)
        high = max(int(buckets[-1]) for buckets, _ in filled) + 1
        for buckets, counts in filled:
            self._dense[buckets] += counts
        found = np.flatnonzero(self._dense[low:high]) + low
        counts = self._dense[found]
        self._dense[low:high] = 0
        return found, counts


class BlocksBuilder:
    """Takes rows in any order, several of one window too, and makes `Blocks` of them."""

    def __init__(self, step_s: int, total: SparseSum) -> None:
        self._step_s = step_s
        self._total = total
        self._rows: list[tuple[int, NDArray[np.uint16], NDArray[Any]]] = []

    def add(self, window_s: int, row: Sparse) -> None:
        """Keep a row, narrow; one without samples is nothing."""
        buckets, counts = row
        if buckets.size:
            width = np.min_scalar_type(int(counts.max()))
            self._rows.append((window_s, buckets.astype(np.uint16), counts.astype(width)))

    def build(self) -> Blocks:
        """All rows in order; ends the adding."""
        rows, self._rows = sorted(self._rows, key=lambda row: row[0]), []
        window_s = np.array([row[0] for row in rows], dtype=np.int64)
        if (window_s[1:] == window_s[:-1]).any():
            rows = self._merged(rows)
            window_s = np.array([row[0] for row in rows], dtype=np.int64)
        sizes = np.array([0, *(row[1].size for row in rows)], dtype=np.int64)
        return Blocks(
            step_s=self._step_s,
            window_s=window_s,
            starts=np.cumsum(sizes),
            buckets=np.concatenate([np.empty(0, dtype=np.uint16), *(row[1] for row in rows)]),
            counts=np.concatenate([np.empty(0, dtype=np.uint8), *(row[2] for row in rows)]),
        )

    def _merged(
        self, rows: list[tuple[int, NDArray[np.uint16], NDArray[Any]]]
    ) -> list[tuple[int, NDArray[np.uint16], NDArray[Any]]]:
        parts: dict[int, list[Sparse]] = {}
        for window_s, buckets, counts in rows:
            parts.setdefault(window_s, []).append((buckets, counts))
        for window_s, several in parts.items():
            self.add(window_s, self._total(several))
        merged, self._rows = self._rows, []
        return merged
