"""Locust's statistics, fed from merged windows: what its UI, console and CSV files show.

A view, never the record: Locust rounds response times to two digits and its percentiles
come from those. Rounding uses Locust's own function, so a figure here is what Locust would
have shown had it seen every request. A row is one request of the plan, whatever its stage
and node. Requests are those that ended; response times are of all of them, ok or not
(Locust knows no other); arrivals that were never sent are listed under failures as
"dropped", but are not counted as requests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from locust.stats import RequestStats, StatsEntry, StatsError, bucket_response_time
from numpy.typing import NDArray

from loadtests.plan.model import Request
from loadtests.record.histogram import LENGTH, MIDDLES_US
from loadtests.record.window import Count, Kind, SlotSpace, Window

_US_PER_MS: Final = 1000
_SECONDS_KEPT: Final = 60
_DROPPED: Final = "dropped: not sent, in-flight or backlog cap full"
_RESPONSES: Final = (Kind.RESPONSE, Kind.FAILED_RESPONSE)
_MILLISECONDS: Final = MIDDLES_US / _US_PER_MS
_ROUNDED_MS: Final = np.array([bucket_response_time(ms) for ms in _MILLISECONDS], dtype=np.int64)


class StatsView:
    """Adds windows to a `RequestStats`; the same windows give the same figures in any order."""

    def __init__(
        self, stats: RequestStats, slots: SlotSpace, requests: Sequence[Request], t0_unix_s: float
    ) -> None:
        self._stats = stats
        self._slots = slots
        self._requests = requests
        self._t0_unix_s = t0_unix_s
        stats.clear_all()
        stats.total.start_time = t0_unix_s

    def add(self, window: Window) -> None:
        """Count a window (or a late part of one) in the rows of its requests and in the total."""
        counters = self._counters(window)
        buckets = self._buckets(window)
        for index, request in enumerate(self._requests):
            row = counters[index]
            if not row.any():
                continue
            entry = self._entry(window, row, buckets.get(index, _nothing()), request)
            key = (request.name, request.method)
            if key not in self._stats.entries:
                self._stats.entries[key].start_time = self._t0_unix_s
            for shown in (self._stats.entries[key], self._stats.total):
                shown.extend(entry)
                _forget_seconds(shown.num_reqs_per_sec)
                _forget_seconds(shown.num_fail_per_sec)
            if dropped := int(row[Count.DROPPED]):
                self._add_error(request, _DROPPED, dropped, window.start_s)
        for (slot, kind), count in window.errors.items():
            _, index, _ = self._slots.indices(slot)
            if index < len(self._requests):
                self._add_error(self._requests[index], kind, count, window.start_s)

    def _counters(self, window: Window) -> NDArray[np.int64]:
        """Sums over stages and nodes; shape (requests + 1, len(Count)), the last CONNECTION."""
        sums = np.zeros((len(self._slots.requests), len(Count)), dtype=np.int64)
        np.add.at(sums, self._request_of(window.slots.astype(np.int64)), window.counters)
        return sums

    def _request_of(self, slots: NDArray[np.int64]) -> NDArray[np.int64]:
        return slots // len(self._slots.nodes) % len(self._slots.requests)

    def _buckets(self, window: Window) -> Mapping[int, tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Response times of each request: bucket numbers (may repeat) and their counts."""
        keys = window.keys.astype(np.int64)
        slots, kinds = np.divmod(keys // LENGTH, len(Kind))
        wanted = np.isin(kinds, _RESPONSES)
        requests = self._request_of(slots[wanted])
        buckets, counts = keys[wanted] % LENGTH, window.counts[wanted]
        return {
            int(index): (buckets[requests == index], counts[requests == index])
            for index in np.unique(requests)
        }

    def _entry(
        self,
        window: Window,
        row: NDArray[np.int64],
        responses: tuple[NDArray[np.int64], NDArray[np.int64]],
        request: Request,
    ) -> StatsEntry:
        buckets, counts = responses
        failures = int(row[Count.CLIENT_ERROR] + row[Count.FAILED])
        done = int(row[Count.OK]) + failures
        entry = StatsEntry(self._stats, request.name, request.method)
        entry.start_time = self._t0_unix_s
        entry.num_requests, entry.num_failures = done, failures
        entry.total_content_length = int(row[Count.BYTES_RECEIVED])
        if done:
            entry.last_request_timestamp = float(window.start_s + 1)
            entry.num_reqs_per_sec[window.start_s] = done
        if failures:
            entry.num_fail_per_sec[window.start_s] = failures
        if buckets.size:
            times: Any = entry  # annotated int, but Locust itself stores fractions of a ms
            times.total_response_time = float((_MILLISECONDS[buckets] * counts).sum())
            times.min_response_time = float(_MILLISECONDS[buckets.min()])
            times.max_response_time = float(_MILLISECONDS[buckets.max()])
            shown, rows = np.unique(_ROUNDED_MS[buckets], return_inverse=True)
            sums = np.bincount(rows, weights=counts).astype(np.int64)
            entry.response_times = dict(zip(shown.tolist(), sums.tolist(), strict=True))
        return entry

    def _add_error(self, request: Request, kind: str, count: int, start_s: int) -> None:
        key = StatsError.create_key(request.method, request.name, kind)
        error = self._stats.errors.setdefault(key, StatsError(request.method, request.name, kind))
        error.occurrences += count
        error.first_seen = min(error.first_seen or float(start_s), float(start_s))
        error.last_seen = max(error.last_seen or 0.0, float(start_s + 1))


def _forget_seconds(per_second: dict[int, int]) -> None:
    """Keep the last seconds: Locust reads twelve, and keeps all for ever (10 MB an hour)."""
    if len(per_second) > 2 * _SECONDS_KEPT:
        newest = max(per_second)
        for second in [one for one in per_second if one <= newest - _SECONDS_KEPT]:
            del per_second[second]


def _nothing() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
