"""Counts and histograms of any set of slots: what a measurement is computed from.

One tally of one window serves live abort conditions; the tally of a whole stage's merged
windows serves the verdict. Both go through `loadtests.plan.objectives.value_of`, so a
live figure and a judged one cannot be defined differently.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtests.record.histogram import Histogram
from loadtests.record.window import Count, Kind, Window, histogram_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Sums over slots: `counters` has shape (len(Count),); histograms count microseconds."""

    counters: NDArray[np.int64]
    response: Histogram
    service: Histogram
    failed_response: Histogram
    failed_service: Histogram
    send_lag: Histogram

    def count(self, count: Count) -> int:
        """One counter's sum."""
        return int(self.counters[count])

    @property
    def done(self) -> int:
        """Requests that ended: ok + client_error + failed."""
        return sum(map(self.count, (Count.OK, Count.CLIENT_ERROR, Count.FAILED)))

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            counters=self.counters + other.counters,
            response=self.response + other.response,
            service=self.service + other.service,
            failed_response=self.failed_response + other.failed_response,
            failed_service=self.failed_service + other.failed_service,
            send_lag=self.send_lag + other.send_lag,
        )


def tally_of(window: Window, slots: Collection[int]) -> Tally:
    """Exact sums of a window, or of merged ones, over `slots`; a slot not hit counts zero."""
    wanted = np.isin(window.slots, np.fromiter(slots, dtype=np.uint32, count=len(slots)))
    hit = [int(slot) for slot in window.slots[wanted]]
    # Latencies can only belong to a slot whose counters were touched in the same second,
    # connection times excepted, which no tally holds.
    return Tally(
        counters=window.counters[wanted].sum(axis=0),
        response=histogram_of(window, Kind.RESPONSE, hit),
        service=histogram_of(window, Kind.SERVICE, hit),
        failed_response=histogram_of(window, Kind.FAILED_RESPONSE, hit),
        failed_service=histogram_of(window, Kind.FAILED_SERVICE, hit),
        send_lag=histogram_of(window, Kind.SEND_LAG, hit),
    )
