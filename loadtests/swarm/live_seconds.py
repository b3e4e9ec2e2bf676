"""The last minutes of a run, second by second and request by request, for the live page.

Percentiles are of the run's own histograms, summed over stages and nodes first. A part of a
second that comes late is merged into it as long as its histograms are kept; after that its
counts are added and the second's percentiles are unknown, for they would be of a part.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from loadtests.record.bins import NO_BINS
from loadtests.record.histogram import HIGHEST_US, LENGTH
from loadtests.record.summary import segments_of
from loadtests.record.window import Count, Kind, SlotSpace, Window, merge_windows
from loadtests.record.writes import NO_WRITES

SHOWN_S: Final = 300
_MERGED_S: Final = 10
_QUANTILES: Final = (0.5, 0.95, 0.99)
_LAG: Final = len(_QUANTILES)  # column of the send lag's p99

Column = list[int] | list[float | None]


@dataclass(slots=True, kw_only=True)
class _Second:
    """`counters` (numbers, len(Count)); `quantiles_us` (numbers, 4), NaN: unknown."""

    counters: NDArray[np.int64]
    quantiles_us: NDArray[np.float64]


def collapsed(window: Window, numbers: NDArray[np.int64], kinds: Sequence[Kind]) -> Window:
    """Counts of a window with its slots renumbered; those numbered below 0 are left out."""
    slots = numbers[window.slots]
    histograms, buckets = np.divmod(window.keys.astype(np.int64), LENGTH)
    old, kind = np.divmod(histograms, len(Kind))
    new = numbers[old]
    wanted = (new >= 0) & np.isin(kind, kinds)
    keys = ((new * len(Kind) + kind) * LENGTH + buckets)[wanted]
    order = np.argsort(keys, kind="stable")
    part = dataclasses.replace(
        window,
        slots=slots[slots >= 0].astype(np.uint32),
        counters=window.counters[slots >= 0],
        keys=keys[order].astype(np.uint32),
        counts=window.counts[wanted][order],
        errors={},
        messages={},
        health=(),
        hiccups=(),
        bins=NO_BINS,
        writes=NO_WRITES,
    )
    return merge_windows(window.start_s, [part])


class LiveSeconds:
    """Takes released windows; `all_number` stands for all requests together."""

    def __init__(self, slots: SlotSpace) -> None:
        requests = len(slots.requests) - 1  # the last is CONNECTION, which is no request
        numbers = np.arange(len(slots)) // len(slots.nodes) % (requests + 1)
        self._own = np.where(numbers < requests, numbers, -1)
        self.all_number = requests
        self._all = np.where(numbers < requests, requests, -1)
        self._recent: dict[int, Window] = {}
        self._seconds: dict[int, _Second] = {}  # by start, oldest first

    def add(self, window: Window) -> None:
        """Take a window, or a late part of one."""
        kinds = (Kind.RESPONSE, Kind.SEND_LAG)
        parts = [collapsed(window, numbers, kinds) for numbers in (self._own, self._all)]
        start_s, known = window.start_s, self._recent.get(window.start_s)
        if known is None and start_s in self._seconds:
            second = self._seconds[start_s]
            second.counters += self._counters(merge_windows(start_s, parts))
            second.quantiles_us[:] = math.nan
            return
        whole = merge_windows(start_s, parts if known is None else [known, *parts])
        newest_s = max(start_s, max(self._seconds, default=start_s))
        if start_s <= newest_s - SHOWN_S:
            return
        self._recent[start_s] = whole
        self._seconds[start_s] = _Second(
            counters=self._counters(whole), quantiles_us=self._quantiles(whole)
        )
        self._recent = {s: w for s, w in self._recent.items() if s > newest_s - _MERGED_S}
        self._seconds = {
            s: self._seconds[s] for s in sorted(self._seconds) if s > newest_s - SHOWN_S
        }

    def series(self, number: int, last: int = SHOWN_S) -> dict[str, Column]:
        """Columns of one request, or of `all_number`: equally long lists, oldest first."""
        starts = list(self._seconds)[-last:]
        seconds = [self._seconds[start_s] for start_s in starts]
        counters = np.array([s.counters[number] for s in seconds]).reshape(-1, len(Count))
        errors = counters[:, Count.CLIENT_ERROR] + counters[:, Count.FAILED]
        columns: dict[str, Column] = {
            "start_s": starts,
            "planned": counters[:, Count.PLANNED].tolist(),
            "sent": counters[:, Count.SENT].tolist(),
            "dropped": counters[:, Count.DROPPED].tolist(),
            "done": (counters[:, Count.OK] + errors).tolist(),
            "errors": errors.tolist(),
        }
        for at, name in enumerate(("p50_us", "p95_us", "p99_us", "send_lag_p99_us")):
            columns[name] = [_number(s.quantiles_us[number, at]) for s in seconds]
        return columns

    def _counters(self, whole: Window) -> NDArray[np.int64]:
        counters = np.zeros((self.all_number + 1, len(Count)), dtype=np.int64)
        counters[whole.slots] = whole.counters
        return counters

    def _quantiles(self, whole: Window) -> NDArray[np.float64]:
        table = np.full((self.all_number + 1, _LAG + 1), math.nan)
        segments = segments_of(whole)
        is_response = segments.kinds == Kind.RESPONSE
        for column, q in enumerate(_QUANTILES):
            values = segments.quantile_us(q)
            table[segments.slots[is_response], column] = values[is_response]
        lags = segments.quantile_us(0.99)
        table[segments.slots[~is_response], _LAG] = lags[~is_response]
        return table


def _number(value: float) -> float | None:
    """JSON knows neither NaN (no samples) nor infinity: an hour is said as one hour."""
    if math.isnan(value):
        return None
    return float(value) if math.isfinite(value) else float(HIGHEST_US)
