"""Rows of windows as resampling units: not more of them than decide anything.

An hour of seconds is added up to at most `MOST_CELLS` cells of equal length. Blocks of a
bootstrap are longer than such a cell anyway (3 n^(1/3) of 3,600 windows are 46), so that this
costs no accuracy and saves most of the time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from analysis.blocks import Blocks
from analysis.statistics.block_length import block_length
from analysis.statistics.interval import TooSmall
from loadtests.record.histogram import Histogram

MOST_CELLS: Final = 600
LEAST_WINDOWS: Final = 46  # below, neither dependence nor spread of windows can be known
LEAST_BLOCKS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """`places` (rows,) is the cell of each row; `rows_per_cell` windows make one."""

    places: NDArray[np.int64]
    count: int
    rows_per_cell: int

    def sums(self, values: NDArray[np.int64]) -> NDArray[np.float64]:
        """Sums over the rows of each cell; `values` is (rows,)."""
        summed = np.zeros(self.count, dtype=np.int64)
        np.add.at(summed, self.places, values)
        return summed.astype(np.float64)


def cells_of(rows: int) -> Cells | TooSmall:
    """Cells of so many consecutive windows; `TooSmall` with fewer than `LEAST_WINDOWS`."""
    return cells_at(np.arange(rows), rows)


def cells_at(offsets: NDArray[np.int64], length: int) -> Cells | TooSmall:
    """Cells of windows by their offset in a stretch of `length`; what lies outside is at its edge.

    `TooSmall` with fewer than `LEAST_WINDOWS`.
    """
    if length < LEAST_WINDOWS:
        return TooSmall(have=length, need=LEAST_WINDOWS, what="windows")
    rows_per_cell = -(-length // MOST_CELLS)
    places = np.clip(offsets, 0, length - 1) // rows_per_cell
    return Cells(places=places, count=-(-length // rows_per_cell), rows_per_cell=rows_per_cell)


def block_of(cells: Cells, *series: NDArray[np.float64]) -> int | TooSmall:
    """Cells a block, by the dependence in some series over them; `TooSmall` if few are left."""
    block = block_length(*series)
    if cells.count >= LEAST_BLOCKS * block:
        return block
    need = LEAST_BLOCKS * block * cells.rows_per_cell
    have = cells.count * cells.rows_per_cell
    return TooSmall(have=have, need=need, what="windows, as far as they depend on each other")


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """The histograms of a population's cells, running sums over the buckets that were hit.

    `reached` (cells, buckets): samples of a cell in buckets up to `lowest` + column.
    """

    cells: Cells
    total: Histogram
    lowest: int
    reached: NDArray[np.int64]

    @property
    def samples(self) -> NDArray[np.float64]:
        """Samples of each cell."""
        return self.reached[:, -1].astype(np.float64)

    def at_most(self, buckets: NDArray[np.int64]) -> NDArray[np.float64]:
        """Samples of each cell in buckets up to each one given: (cells, buckets)."""
        columns = np.minimum(buckets - self.lowest, self.reached.shape[1] - 1)
        found = self.reached[:, np.maximum(columns, 0)]
        return np.where(columns >= 0, found, 0).astype(np.float64)


def population_of(blocks: Blocks, cells: Cells | None = None) -> Population | TooSmall:
    """Add a population's windows up to cells; those with samples, one after the other, if None."""
    made = cells_of(len(blocks)) if cells is None else cells
    if isinstance(made, TooSmall):
        return made
    lowest = int(blocks.buckets.min())
    width = int(blocks.buckets.max()) - lowest + 1
    rows = np.repeat(made.places * width - lowest, np.diff(blocks.starts))
    # Whole numbers in float64, exact below 2**53.
    dense = np.bincount(
        rows + blocks.buckets, weights=blocks.counts, minlength=made.count * width
    ).reshape(made.count, width)
    reached = np.cumsum(dense, axis=1, dtype=np.int64)
    return Population(cells=made, total=blocks.histogram(), lowest=lowest, reached=reached)
