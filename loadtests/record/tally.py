"""Counts and histograms of any set of slots: what a measurement is computed from.

One tally of one window serves live abort conditions; the tally of a whole stage's merged
windows serves the verdict. Both go through `loadtests.plan.objectives.value_of`, so a
live figure and a judged one cannot be defined differently.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtests.record.error_kinds import Trait, count_with
from loadtests.record.histogram import Histogram
from loadtests.record.window import Count, Kind, Window, histogram_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Sums over slots: `counters` has shape (len(Count),); histograms count microseconds.

    `errors` are requests by error kind; those of connections are in no tally.
    """

    counters: NDArray[np.int64]
    response: Histogram
    service: Histogram
    failed_response: Histogram
    failed_service: Histogram
    send_lag: Histogram
    errors: Mapping[str, int]

    def count(self, count: Count) -> int:
        """One counter's sum."""
        return int(self.counters[count])

    @property
    def done(self) -> int:
        """Requests that ended: ok + client_error + failed."""
        return sum(map(self.count, (Count.OK, Count.CLIENT_ERROR, Count.FAILED)))

    @property
    def silent(self) -> int:
        """Requests that failed without a complete response: timed out, refused, broken off."""
        bad = self.count(Count.CLIENT_ERROR) + self.count(Count.FAILED)
        return max(0, bad - count_with(self.errors, Trait.ANSWERED))

    @property
    def answered(self) -> int:
        """Requests with a complete response, whatever it said."""
        return self.done - self.silent

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            counters=self.counters + other.counters,
            response=self.response + other.response,
            service=self.service + other.service,
            failed_response=self.failed_response + other.failed_response,
            failed_service=self.failed_service + other.failed_service,
            send_lag=self.send_lag + other.send_lag,
            errors=Counter(self.errors) + Counter(other.errors),
        )


def tally_of(window: Window, slots: Collection[int]) -> Tally:
    """Exact sums of a window, or of merged ones, over `slots`; a slot not hit counts zero."""
    wanted = np.isin(window.slots, np.fromiter(slots, dtype=np.uint32, count=len(slots)))
    hit = [int(slot) for slot in window.slots[wanted]]
    bad = window.counters[wanted][:, [Count.CLIENT_ERROR, Count.FAILED]].sum(axis=1)
    failing = {slot for slot, number in zip(hit, bad.tolist(), strict=True) if number}
    errors: Counter[str] = Counter()
    for (slot, kind), number in window.errors.items():
        if slot in failing:
            errors[kind] += number
    # Latencies can only belong to a slot whose counters were touched in the same second,
    # connection times excepted, which no tally holds.
    return Tally(
        counters=window.counters[wanted].sum(axis=0),
        response=histogram_of(window, Kind.RESPONSE, hit),
        service=histogram_of(window, Kind.SERVICE, hit),
        failed_response=histogram_of(window, Kind.FAILED_RESPONSE, hit),
        failed_service=histogram_of(window, Kind.FAILED_SERVICE, hit),
        send_lag=histogram_of(window, Kind.SEND_LAG, hit),
        errors=errors,
    )
