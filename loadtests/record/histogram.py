"""The histogram layout that every latency in Headroom is counted in.

HdrHistogram layout: values are whole microseconds, 1 us lowest, 3 600 000 000 us (one
hour) highest, 3 significant digits, so a value read back is at most 0.1 % (below 2 ms:
1 us) above the value recorded. A histogram is `LENGTH` = 23 553 counters: `BUCKETS` of
the layout and one last overflow counter for values above the highest, which is printed
and never clamped. Merging adds counters, so merge order cannot matter.

Worked example: 1.2345 s = 1 234 500 us lies in bucket 10 * 1024 + 1205 = 11 445, which is
1024 us wide; its highest value is 1 234 943 us, 0.04 % above.

Source of the layout: HdrHistogram's `countsArrayIndex` (unit magnitude 0, 2048
sub-buckets); tests compare every index with the PyPI `hdrhistogram` package.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

HIGHEST_US: Final = 3_600_000_000
SIGNIFICANT_DIGITS: Final = 3
BUCKETS: Final = 23_552
OVERFLOW: Final = BUCKETS
LENGTH: Final = BUCKETS + 1

_HALF: Final = 1024  # sub-buckets that a further power of two adds (2048 / 2)
_HALF_BITS: Final = 10
_INDEX_SHIFT: Final = 52 - _HALF_BITS  # of a float64's 52 bits of mantissa
_INDEX_OF_1: Final = (1023 + _HALF_BITS - 1) * _HALF  # its exponent has a bias of 1023


def buckets_of_ns(values_ns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bucket index of each latency in nanoseconds; shape kept, range 0..OVERFLOW.

    Sub-microsecond values fall into bucket 0. A negative value is a programming error
    (a latency ends after it began) and raises ValueError.
    """
    if values_ns.size and int(values_ns.min()) < 0:
        raise ValueError(f"latency below zero: {int(values_ns.min())} ns")
    values_us = values_ns // 1000
    # A float64's exponent and its highest 10 bits of mantissa *are* the layout's index from
    # 1024 us on, up to a constant; below, the value is. Exact below 2**53.
    indices = (values_us.astype(np.float64).view(np.int64) >> _INDEX_SHIFT) - _INDEX_OF_1
    buckets = np.where(values_us < _HALF, values_us, indices)
    if values_us.size and int(values_us.max()) > HIGHEST_US:
        buckets[values_us > HIGHEST_US] = OVERFLOW
    return buckets


def _bounds_us() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    index = np.arange(BUCKETS, dtype=np.int64)
    shifts = np.maximum((index >> _HALF_BITS) - 1, 0)
    sub_buckets = index - (shifts << _HALF_BITS)
    lowest = sub_buckets << shifts
    return lowest, lowest + (1 << shifts) - 1


LOWEST_EQUIVALENT_US, HIGHEST_EQUIVALENT_US = _bounds_us()
# Middle of every bucket, shape (LENGTH,); overflow stands as the highest value.
MIDDLES_US: Final = np.append((LOWEST_EQUIVALENT_US + HIGHEST_EQUIVALENT_US + 1) / 2, HIGHEST_US)


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Counts of one population; `counts` has shape (LENGTH,), the last one is overflow."""

    counts: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.counts.shape != (LENGTH,):
            raise ValueError(f"histogram shape {self.counts.shape}, expected ({LENGTH},)")

    @staticmethod
    def empty() -> Histogram:
        """No samples."""
        return Histogram(counts=np.zeros(LENGTH, dtype=np.int64))

    @staticmethod
    def of_ns(values_ns: NDArray[np.int64]) -> Histogram:
        """Count latencies given in nanoseconds."""
        counts = np.bincount(buckets_of_ns(values_ns), minlength=LENGTH).astype(np.int64)
        return Histogram(counts=counts)

    def __add__(self, other: Histogram) -> Histogram:
        return Histogram(counts=self.counts + other.counts)

    @property
    def n(self) -> int:
        """Samples counted, overflow included."""
        return int(self.counts.sum())

    @property
    def overflow(self) -> int:
        """Samples above one hour."""
        return int(self.counts[OVERFLOW])

    def quantile_us(self, q: float) -> float:
        """Smallest value v with count(<= v) >= ceil(q * n), in us; q in (0, 1].

        `inf` where that rank lies in the overflow counter; ValueError when empty.
        """
        n = self.n
        if n == 0 or not 0 < q <= 1:
            raise ValueError(f"quantile {q} of {n} samples")
        # q comes from decimal text: without rounding 0.99 * 100 could pass 99 by one ulp.
        rank = max(1, math.ceil(round(q * n, 6)))
        bucket = int(np.searchsorted(np.cumsum(self.counts), rank))
        return math.inf if bucket == OVERFLOW else float(HIGHEST_EQUIVALENT_US[bucket])

    def max_us(self) -> float:
        """Upper edge of the highest bucket hit; `inf` with overflow; ValueError when empty."""
        return self.quantile_us(1.0)

    def mean_us(self) -> float:
        """Mean of bucket midpoints in us, overflow left out; ValueError when empty."""
        regular = self.counts[:BUCKETS]
        total = int(regular.sum())
        if total == 0:
            raise ValueError("mean of 0 samples")
        return float((regular * MIDDLES_US[:BUCKETS]).sum() / total)

    def share_above(self, limit_us: float) -> float:
        """Ratio (0-1) of samples in buckets wholly above `limit_us`; ValueError when empty."""
        if self.n == 0:
            raise ValueError("share of 0 samples")
        above = int(self.counts[:BUCKETS][limit_us < LOWEST_EQUIVALENT_US].sum()) + self.overflow
        return above / self.n
