"""Rates and the spread of sums over windows that depend on each other.

A rate is a sum over windows per second, so its standard error needs no bootstrap: it is that
of a mean, from the sums of all circular blocks (the batch means of a circle; the bootstrap's
own limit for many replicates).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from analysis.statistics.block_bootstrap import t_factor
from analysis.statistics.cells import Cells, block_of, cells_of
from analysis.statistics.interval import CONFIDENCE, Interval, TooSmall

RATE_METHOD: Final = "circular block means of windows, t interval"


@dataclass(frozen=True, slots=True, kw_only=True)
class SumCells:
    """A sum over windows, ready to be resampled: `sums` (n,) of each cell, `per` its windows."""

    cells: Cells
    sums: NDArray[np.float64]
    windows: NDArray[np.float64]

    @property
    def per_window(self) -> float:
        """The mean of a window."""
        return float(self.sums.sum() / self.windows.sum())

    @property
    def deviation(self) -> NDArray[np.float64]:
        """How far each cell moves the mean of a window: sums to zero."""
        return (self.sums - self.per_window * self.windows) / float(self.windows.sum())


def sum_cells(values: NDArray[np.int64]) -> SumCells | TooSmall:
    """Prepare a count of every window, also of those where it was 0."""
    cells = cells_of(values.size)
    if isinstance(cells, TooSmall):
        return cells
    sums, windows = cells.sums(values), cells.sums(np.ones(values.size, dtype=np.int64))
    return SumCells(cells=cells, sums=sums, windows=windows)


def total_error(deviation: NDArray[np.float64], block: int) -> float:
    """Standard error of a sum over cells, from the sums of all blocks of the circle.

    `deviation` (cells,) sums to zero. Made up for the (k - 1) / k that k blocks cost.
    """
    blocks = deviation.size / block
    closed = np.concatenate(([0.0], np.cumsum(np.append(deviation, deviation[: block - 1]))))
    sums = closed[block:] - closed[:-block]
    return float(sums.std()) * math.sqrt(blocks * blocks / (blocks - 1))


def rate_interval(
    values: NDArray[np.int64], *, window_s: float = 1.0, confidence: float = CONFIDENCE
) -> Interval | TooSmall:
    """Confidence interval of a rate per second, from the count of every window."""
    found = sum_cells(values)
    if isinstance(found, TooSmall):
        return found
    block = block_of(found.cells, found.deviation)
    if isinstance(block, TooSmall):
        return block
    degrees = found.sums.size / block - 1
    reach = t_factor(confidence, degrees) * total_error(found.deviation, block)
    return Interval(
        value=found.per_window / window_s,
        low=max(0.0, found.per_window - reach) / window_s,
        high=(found.per_window + reach) / window_s,
        confidence=confidence,
        windows=values.size,
        block_windows=block * found.cells.rows_per_cell,
        method=RATE_METHOD,
    )
