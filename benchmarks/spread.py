"""Medians and their spread over rounds.

A benchmark on a virtual machine has rounds that a neighbour spoilt: the median is
reported, with the range that was seen and a bootstrap interval of the median.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_RESAMPLES = 10_000
_SEED = 20261123  # fixed: the interval of given figures must be reproducible


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Figures of `n` rounds, in the unit of the values."""

    n: int
    median: float
    lowest: float
    highest: float
    ci_low: float  # 95 % bootstrap interval of the median
    ci_high: float

    def text(self, digits: int) -> str:
        """Median and range, as a table cell."""
        if self.n == 1:
            return f"{self.median:.{digits}f}"
        return f"{self.median:.{digits}f} ({self.lowest:.{digits}f}-{self.highest:.{digits}f})"


def spread_of(values: Sequence[float]) -> Spread:
    """Summarise the rounds; ValueError when there is none."""
    if not values:
        raise ValueError("spread of no rounds")
    data = np.asarray(values, dtype=np.float64)
    picks = np.random.default_rng(_SEED).integers(0, data.size, (_RESAMPLES, data.size))
    medians = np.median(data[picks], axis=1)
    low, high = np.quantile(medians, [0.025, 0.975])
    return Spread(
        n=data.size,
        median=float(np.median(data)),
        lowest=float(data.min()),
        highest=float(data.max()),
        ci_low=float(low),
        ci_high=float(high),
    )


def undisturbed(slices: Sequence[float]) -> float:
    """Lower quartile: what a neighbour of the core adds to a cost is never negative."""
    return float(np.quantile(np.asarray(slices, dtype=np.float64), 0.25))
