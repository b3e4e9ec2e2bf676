"""Bins as arrays: what was counted every 100 ms, of all requests or of a part of them.

A series is dense: one row for each bin from T0 to the end of load or the last bin that an
engine handed over. Times are unix nanoseconds, and always edges of bins or ticks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from loadtests.record.archive import Run
from loadtests.record.bin_rows import COLUMNS, MS_PER_TICK
from loadtests.record.bins import BIN_NS, TICKS_PER_BIN, BinCount
from loadtests.record.window import CONNECTION

Integers = NDArray[np.int64]
Truths = NDArray[np.bool_]
Choice = Callable[[pd.DataFrame], Truths]  # which rows of the table of bins belong to a series

_BAD_DUE: Final = (BinCount.DUE_CLIENT_ERROR, BinCount.DUE_FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """`counts` has a row for each bin and a column for each `BinCount`.

    `bad_ticks` (unix time in ticks, sorted, unique) are those in which a request was due
    that ended badly.
    """

    start_ns: int
    counts: Integers
    bad_ticks: Integers

    @property
    def bins(self) -> int:
        """How many there are."""
        return len(self.counts)

    @property
    def end_ns(self) -> int:
        """Where the last bin ends."""
        return self.edge_ns(self.bins)

    def edge_ns(self, index: int) -> int:
        """Where a bin begins."""
        return self.start_ns + index * BIN_NS

    def index_of(self, at_ns: int) -> int:
        """The bin that a time lies in; kept within the series."""
        return min(max(0, (at_ns - self.start_ns) // BIN_NS), self.bins)

    def column(self, count: BinCount) -> Integers:
        """One counter of every bin."""
        values: Integers = self.counts[:, count]
        return values

    @property
    def bad_due(self) -> Integers:
        """Requests that were due in each bin and did not end ok, dropped arrivals included."""
        bad = self.counts[:, list(_BAD_DUE)].sum(axis=1)
        return np.asarray(bad + self.column(BinCount.DROPPED), dtype=np.int64)

    @property
    def done(self) -> Integers:
        """Requests that ended in each bin."""
        ended = [BinCount.OK, BinCount.CLIENT_ERROR, BinCount.FAILED]
        return np.asarray(self.counts[:, ended].sum(axis=1), dtype=np.int64)

    @property
    def waiting(self) -> Integers:
        """Arrivals without an outcome at the end of each bin."""
        gone = self.done + self.column(BinCount.DROPPED)
        return np.cumsum(self.column(BinCount.PLANNED) - gone)


def load_span_ns(run: Run) -> tuple[int, int] | None:
    """From the bin of T0 to the end of load, in edges of bins; None without bins or T0."""
    t0_ns = run.manifest.t0_unix_ns
    if t0_ns is None or run.bins.empty:
        return None
    ends_ns = t0_ns + max(stage.end_ns for stage in run.manifest.stages)
    last_ns = (int(run.windows["window_s"].max()) + 1) * 1_000_000_000
    start_ns = t0_ns // BIN_NS * BIN_NS
    return start_ns, max(start_ns, min(ends_ns, last_ns) // BIN_NS * BIN_NS)


def is_request(frame: pd.DataFrame) -> Truths:
    """Rows of requests, which are all but those of connections."""
    return np.asarray(frame["request"] != CONNECTION, dtype=np.bool_)


def is_connection(frame: pd.DataFrame) -> Truths:
    """Rows of connections."""
    return ~is_request(frame)


def build_series(frame: pd.DataFrame, span_ns: tuple[int, int], choose: Choice) -> Series:
    """The series of the rows that `choose` takes; what lies behind the span is left out."""
    rows = frame[choose(frame)]
    start_ns, end_ns = span_ns
    ticks = rows["at_ms"].to_numpy(np.int64) // MS_PER_TICK
    numbers = ticks // TICKS_PER_BIN - start_ns // BIN_NS
    values = rows[list(COLUMNS)].to_numpy(np.int64)
    is_inside = (numbers >= 0) & (numbers < (end_ns - start_ns) // BIN_NS)
    counts = np.zeros(((end_ns - start_ns) // BIN_NS, len(BinCount)), dtype=np.int64)
    np.add.at(counts, numbers[is_inside], values[is_inside])
    is_bad = is_inside & (values[:, list(_BAD_DUE)].sum(axis=1) > 0)
    return Series(start_ns=start_ns, counts=counts, bad_ticks=np.unique(ticks[is_bad]))
