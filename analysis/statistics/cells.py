"""Rows of windows as resampling units: not more of them than decide anything.

An hour of seconds is added up to at most `MOST_CELLS` cells of equal length. Blocks of a
bootstrap are longer than such a cell anyway (2 n^(1/3) of 3,600 windows are 31), so that this
costs no accuracy and saves most of the time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from analysis.statistics.interval import TooSmall

MOST_CELLS: Final = 600
LEAST_WINDOWS: Final = 45  # below, neither dependence nor spread of windows can be known
LEAST_BLOCKS: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """Which cell each row belongs to; the last one may hold fewer rows."""

    rows: int
    rows_per_cell: int

    @property
    def count(self) -> int:
        """Number of cells."""
        return -(-self.rows // self.rows_per_cell)

    def sums(self, values: NDArray[np.int64]) -> NDArray[np.float64]:
        """Sums over the rows of each cell; `values` is (rows, ...)."""
        begins = np.arange(0, self.rows, self.rows_per_cell)
        summed: NDArray[np.float64] = np.add.reduceat(values, begins, axis=0).astype(np.float64)
        return summed


def cells_of(rows: int) -> Cells | TooSmall:
    """Cells for so many windows; `TooSmall` with fewer than `LEAST_WINDOWS`."""
    if rows < LEAST_WINDOWS:
        return TooSmall(have=rows, need=LEAST_WINDOWS, what="windows")
    return Cells(rows=rows, rows_per_cell=-(-rows // MOST_CELLS))


def too_few_blocks(cells: Cells, block: int) -> TooSmall | None:
    """Whether windows depend on each other for so long that too few blocks are left."""
    if cells.count >= LEAST_BLOCKS * block:
        return None
    need = LEAST_BLOCKS * block * cells.rows_per_cell
    return TooSmall(have=cells.rows, need=need, what="windows, as far as they depend on each other")
