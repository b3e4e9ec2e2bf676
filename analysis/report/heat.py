"""Latency over time as counts in cells: what the heat map shows.

A cell counts ok requests exactly; rows of cells are steps of the same ratio, columns the
same number of seconds. No cell is left out: what lies beyond the axis' last step is in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from analysis.blocks import Blocks
from analysis.report.envelope import step_for
from analysis.report.rows import chunks_of

Floats = NDArray[np.float64]
_COLUMNS: Final = 200
_ROWS_PER_DECADE: Final = 12
_OVERFLOW_TOP_US: Final = 3.6e9


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatMap:
    """`counts` (rows, columns) from the lowest latencies up; `edges_us` has a row's two ends.

    A column is `step_s` seconds, the first one from the axis' start.
    """

    step_s: int
    edges_us: Floats
    counts: NDArray[np.int64]


def _edges_us(blocks: Iterable[Blocks]) -> Floats:
    """Steps of the same ratio around everything that was seen."""
    seen = [histogram for one in blocks if (histogram := one.histogram()).n]
    low = min(max(1.0, one.quantile_us(1e-12)) for one in seen)
    high = max(min(one.max_us(), _OVERFLOW_TOP_US) for one in seen)
    first = np.floor(np.log10(low) * _ROWS_PER_DECADE)
    last = np.ceil(np.log10(high) * _ROWS_PER_DECADE)
    edges: Floats = 10 ** (np.arange(first - 1, max(last, first) + 1) / _ROWS_PER_DECADE)
    return edges


def build_heat_map(blocks: Iterable[Blocks], first_s: int, length_s: int) -> HeatMap | None:
    """Add the rows of every stage up; None without a sample."""
    parts = [one for one in blocks if len(one)]
    if not parts:
        return None
    edges_us = _edges_us(parts)
    step_s = max(step_for(length_s, _COLUMNS), *(one.step_s for one in parts))
    columns = -(-length_s // step_s)
    counts = np.zeros((columns, edges_us.size - 1), dtype=np.int64)
    for one in (chunk for part in parts for chunk in chunks_of(part)):
        coarse = one.coarse(edges_us[1:-1].tolist())
        at = np.clip((one.window_s - first_s) // step_s, 0, columns - 1)
        np.add.at(counts, at, coarse)
    return HeatMap(step_s=step_s, edges_us=edges_us, counts=counts.T.copy())
