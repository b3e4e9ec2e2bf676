"""Quantiles of every histogram of a window at once.

A window's histograms share one sorted key array (window.py), so one cumulative sum and
one binary search give a quantile of all of them: 0.1 ms for 200 histograms, where taking
them out one by one costs 20 ms. The rank is measurement.md's: ceil(q * n).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtests.record.histogram import HIGHEST_EQUIVALENT_US, LENGTH, OVERFLOW
from loadtests.record.window import Kind, Window

_VALUES_US = np.append(HIGHEST_EQUIVALENT_US.astype(np.float64), np.inf)


@dataclass(frozen=True, slots=True, kw_only=True)
class Segments:
    """The histograms of a window, one entry each, sorted by slot and kind.

    `starts` and `ends` delimit each in the window's keys; `n` are samples, overflow
    included; `overflow` are samples above the highest value.
    """

    slots: NDArray[np.int64]
    kinds: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    n: NDArray[np.int64]
    overflow: NDArray[np.int64]
    buckets: NDArray[np.int64]  # of every key of the window
    cumulative: NDArray[np.int64]  # running sum of the window's counts

    def quantile_us(self, q: float) -> NDArray[np.float64]:
        """Quantile of each histogram in us, `inf` where it lies in the overflow; q in (0, 1]."""
        if not self.n.size:
            return np.empty(0)
        # Rounded for the same reason as in Histogram.quantile_us: q is decimal text.
        ranks = np.maximum(1, np.ceil(np.round(q * self.n, 6)).astype(np.int64))
        before = self.cumulative[self.ends - 1] - self.n
        values: NDArray[np.float64] = _VALUES_US[
            self.buckets[np.searchsorted(self.cumulative, before + ranks)]
        ]
        return values


def segments_of(window: Window) -> Segments:
    """Find the histograms of a window."""
    keys = window.keys.astype(np.int64)
    groups, buckets = np.divmod(keys, LENGTH)
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    ends = np.append(starts[1:], keys.size) if keys.size else starts
    cumulative = np.cumsum(window.counts)
    n = np.add.reduceat(window.counts, starts) if keys.size else starts
    last = ends - 1
    return Segments(
        slots=groups[starts] // len(Kind),
        kinds=groups[starts] % len(Kind),
        starts=starts,
        ends=ends,
        n=n,
        overflow=np.where(buckets[last] == OVERFLOW, window.counts[last], 0),
        buckets=buckets,
        cumulative=cumulative,
    )


def sparse_quantile_us(buckets: NDArray[np.int64], counts: NDArray[np.int64], q: float) -> float:
    """Quantile in us of counts in buckets, which may be in any order and come several times.

    NaN without samples, `inf` where it lies in the overflow; q in (0, 1].
    """
    if not buckets.size:
        return math.nan
    cumulative = np.cumsum(np.bincount(buckets, weights=counts))  # exact below 2**53
    # Rounded for the same reason as in Histogram.quantile_us: q is decimal text.
    rank = max(1, math.ceil(round(q * float(cumulative[-1]), 6)))
    return float(_VALUES_US[np.searchsorted(cumulative, rank)])
