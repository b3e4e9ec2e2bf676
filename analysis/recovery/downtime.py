"""Downtime by measurement.md: none is no failed request and no second out of its limits.

    no downtime = no failed request (no client retries)
                  and no second with success < 99.9 %, or with p99 beyond its limit

Seconds are those of UTC. p99's limit is that of its objective, or of the highest percentile of
response time that has one; without any nothing can say that there was no downtime.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from analysis.figures import NS_PER_S
from analysis.recovery.outage import BAD_RATIO
from analysis.recovery.series import Series
from loadtests.record.bins import BIN_NS, BinCount

_QUANTILE: Final = 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class Downtime:
    """What speaks against "no downtime"; `slow_seconds` None: no limit to hold p99 against."""

    failed: int  # dropped arrivals too: nobody served them
    failed_seconds: int  # with success < 99.9 %
    slow_seconds: int | None

    @property
    def is_none(self) -> bool | None:
        """Whether there was none; None: not known."""
        if self.failed or self.failed_seconds or self.slow_seconds:
            return False
        return None if self.slow_seconds is None else True


def measure_downtime(
    series: Series, from_ns: int, to_ns: int, mark: tuple[int, int] | None
) -> Downtime:
    """Of a series, from a fault on; `mark` is the number and the limit of the late answers."""
    first, end = series.index_of(from_ns), series.index_of(to_ns)
    if end <= first:
        return Downtime(failed=0, failed_seconds=0, slow_seconds=None)
    edges_s = (series.start_ns + np.arange(first, end) * BIN_NS) // NS_PER_S
    starts = np.flatnonzero(np.diff(edges_s, prepend=edges_s[0] - 1))
    per_second = np.add.reduceat(series.counts[first:end], starts, axis=0)
    bad = np.add.reduceat(series.bad_due[first:end], starts)
    slow = None
    if mark is not None:
        ok, late = per_second[:, BinCount.OK], per_second[:, BinCount.LATE_0 + mark[0]]
        rank = np.ceil(np.round(_QUANTILE * ok, 6)).astype(np.int64)
        slow = int((late > ok - rank).sum())
    return Downtime(
        failed=int(bad.sum()),
        failed_seconds=int((bad > BAD_RATIO * per_second[:, BinCount.PLANNED]).sum()),
        slow_seconds=slow,
    )
