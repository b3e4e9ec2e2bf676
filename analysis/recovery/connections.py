"""Connections lost in a fault, and the storm in which they come back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from analysis.recovery.series import Series
from loadtests.record.bins import BinCount

_BINS_PER_S: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Storm:
    """Connections of all engines from a fault on; `connects` and `failures` are attempts.

    `restored_ns` from the fault to the first bin, after the fewest, with as many as before;
    None where none were lost, or where they did not come back (`is_restored`).
    """

    before: int
    fewest: int
    connects: int
    failures: int
    highest_per_s: int  # attempts in the busiest second
    restored_ns: int | None
    is_restored: bool


def measure_storm(series: Series, from_ns: int, to_ns: int) -> Storm | None:
    """Of the series of connections; None before the first bin."""
    first, end = series.index_of(from_ns), series.index_of(to_ns)
    if first == 0 or end <= first:
        return None
    open_ = series.column(BinCount.OPEN)
    before, own = int(open_[first - 1]), open_[first:end]
    lowest = int(np.argmin(own))
    back = np.flatnonzero(own[lowest:] >= before)
    connects = series.column(BinCount.CONNECTS)[first:end]
    failures = series.column(BinCount.CONNECT_FAILURES)[first:end]
    seconds = np.convolve(connects + failures, np.ones(_BINS_PER_S, dtype=np.int64))
    is_lost = int(own[lowest]) < before
    restored_ns = None
    if is_lost and back.size:
        restored_ns = max(0, series.edge_ns(first + lowest + int(back[0])) - from_ns)
    return Storm(
        before=before,
        fewest=int(own[lowest]),
        connects=int(connects.sum()),
        failures=int(failures.sum()),
        highest_per_s=int(seconds.max()),
        restored_ns=restored_ns,
        is_restored=not is_lost or bool(back.size),
    )
