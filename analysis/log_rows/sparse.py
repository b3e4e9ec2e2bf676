"""Sparse histograms as arrays: many at a time are added up, sorted and joined with NumPy.

Sums are made in float64, whose whole numbers are exact below 2**53: no bucket of a run that
anybody could make counts as far.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
_CELLS: Final = 1 << 19  # of a dense table: 4 MB


class Sparse(NamedTuple):
    """Row i's buckets (sorted, unique) and counts lie in `starts[i]:starts[i + 1]`."""

    starts: Ints  # (rows + 1,), from 0 on
    buckets: NDArray[Any]
    counts: NDArray[Any]

    def between(self, first: int, end: int) -> Sparse:
        """Rows `first` up to `end`, exclusive; a view."""
        starts = self.starts[first : end + 1]
        inside = slice(int(starts[0]), int(starts[-1]))
        return Sparse(starts - starts[0], self.buckets[inside], self.counts[inside])

    def taken(self, rows: Ints) -> Sparse:
        """These rows in this order."""
        sizes = np.diff(self.starts)[rows]
        starts = np.concatenate(([0], np.cumsum(sizes)))
        entries = np.arange(starts[-1]) + np.repeat(self.starts[rows] - starts[:-1], sizes)
        return Sparse(starts, self.buckets[entries], self.counts[entries])


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Histograms of consecutive windows, row i from `window_s[i]` on; sorted and unique."""

    window_s: Ints
    sparse: Sparse

    def __len__(self) -> int:
        return int(self.window_s.size)


def chain(parts: Sequence[Sparse]) -> Sparse:
    """The rows of all, one part after the other."""
    ends = np.cumsum([0, *(part.starts[-1] for part in parts)])
    starts = [part.starts[:-1] + end for part, end in zip(parts, ends.tolist(), strict=False)]
    return Sparse(
        np.concatenate([*starts, ends[-1:]]),
        np.concatenate([part.buckets for part in parts]),
        np.concatenate([part.counts for part in parts]),
    )


def added_up(groups: Ints, number: int, sparse: Sparse) -> Sparse:
    """The exact sum of the rows of each group, numbered from 0 on, none of them empty."""
    if (groups[1:] < groups[:-1]).any():
        order = np.argsort(groups, kind="stable")
        groups, sparse = groups[order], sparse.taken(order)
    if groups.size == number:
        return sparse
    low, high = int(sparse.buckets.min()), int(sparse.buckets.max()) + 1
    edges = np.searchsorted(groups, np.arange(number + 1))
    at_once = max(1, _CELLS // (high - low))
    return chain(
        [
            _dense_sum(groups[a:b] - first, sparse.between(a, b), low, high)
            for first in range(0, number, at_once)
            for a, b in [edges[[first, min(first + at_once, number)]].tolist()]
        ]
    )


def _dense_sum(groups: Ints, sparse: Sparse, low: int, high: int) -> Sparse:
    """The same of a few groups, whose buckets are all in `[low, high)`."""
    number, width = int(groups[-1]) + 1, high - low
    places = np.repeat(groups * width - low, np.diff(sparse.starts)) + sparse.buckets
    dense = np.bincount(places, weights=sparse.counts, minlength=number * width)
    hit = np.flatnonzero(dense)
    starts = np.searchsorted(hit, np.arange(number + 1) * width)
    buckets = hit - np.repeat(np.arange(number) * width - low, np.diff(starts))
    return Sparse(starts, buckets, dense[hit].astype(np.int64))


def narrow(sparse: Sparse) -> Sparse:
    """The same in the narrowest types: three bytes a bucket are the rule."""
    width = np.min_scalar_type(int(sparse.counts.max(initial=0)))
    return Sparse(sparse.starts, sparse.buckets.astype(np.uint16), sparse.counts.astype(width))


def join(parts: Sequence[Rows]) -> Rows:
    """All rows in order; where several are of one window, their sum."""
    if len(parts) == 1:
        return parts[0]
    window_s = np.concatenate([part.window_s for part in parts])
    sparse = chain([part.sparse for part in parts])
    if (window_s[1:] < window_s[:-1]).any():
        order = np.argsort(window_s, kind="stable")
        window_s, sparse = window_s[order], sparse.taken(order)
    changes = np.flatnonzero(np.diff(window_s, prepend=window_s[0] - 1))
    if changes.size < window_s.size:
        sparse = _merged(np.append(changes, window_s.size), sparse)
    return Rows(window_s=window_s[changes], sparse=sparse)


def _merged(edges: Ints, sparse: Sparse) -> Sparse:
    """Rows between two edges added up; most are one row, and copied in long runs."""
    several = np.flatnonzero(np.diff(edges) > 1)
    cuts = np.unique(np.concatenate(([0], several, several + 1, [edges.size - 1])))
    pieces = []
    for first, end in pairwise(cuts.tolist()):
        piece = sparse.between(int(edges[first]), int(edges[end]))
        is_several = end == first + 1
        rows = piece.starts.size - 1
        one = np.zeros(rows, dtype=np.int64)
        pieces.append(narrow(added_up(one, 1, piece)) if is_several else piece)
    return chain(pieces)
