"""Sums of a run for Prometheus: every released window, added up since T0.

Histograms have an edge at every latency limit of the plan, so that the share of answers
within a limit can be read without interpolation. A latency counts below an edge exactly
when the verdict counts it so (`Histogram.share_above`). The sums are exact: they come
from the run's own histograms, not from Locust's rounded ones.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

import numpy as np
from numpy.typing import NDArray

from loadtests.plan.model import MeasureKind, Plan
from loadtests.record.histogram import LENGTH, LOWEST_EQUIVALENT_US, MIDDLES_US
from loadtests.record.window import Count, EngineHealth, Kind, SlotSpace, Window

_NS_PER_US: Final = 1000
_US_PER_S: Final = 1e6
# 1-2.5-5 steps from 0.1 ms to 100 s, between which the limits of the plan lie.
_LADDER_US: Final = (
    *(step * 10.0**power for power in range(2, 8) for step in (1.0, 2.5, 5.0)),
    1e8,
)
_LATENCIES: Final = frozenset(
    {
        MeasureKind.RESPONSE_QUANTILE,
        MeasureKind.SERVICE_QUANTILE,
        MeasureKind.FAILED_RESPONSE_QUANTILE,
        MeasureKind.DONE_RESPONSE_QUANTILE,
        MeasureKind.RESPONSE_MAX,
    }
)


def edges_us(plan: Plan) -> tuple[float, ...]:
    """Upper edges of the exposed buckets, rising, in us; the last one, infinity, is not there."""
    conditions = [*plan.objectives, *plan.alerts, *(abort.objective for abort in plan.aborts)]
    limits = {
        objective.limit / _NS_PER_US
        for objective in conditions
        if objective.measure.kind in _LATENCIES
    }
    return tuple(sorted(limits.union(_LADDER_US)))


class RunSums:
    """Counts and histograms of a run by request and node.

    `counters` has shape (requests, nodes, len(Count)), the last request is CONNECTION;
    `buckets` (len(Kind), requests, edges + 1), not cumulative; `sums_s` (len(Kind),
    requests), from the middles of the fine buckets. `health` are the engines of the
    newest window.
    """

    def __init__(self, plan: Plan) -> None:
        slots = plan.slots
        edges = edges_us(plan)
        self.slots: SlotSpace = slots
        self.edges_s = tuple(edge / _US_PER_S for edge in edges)
        # Overflow lies above every edge.
        self._edge_of_bucket = np.full(LENGTH, len(self.edges_s), dtype=np.int64)
        self._edge_of_bucket[: len(LOWEST_EQUIVALENT_US)] = np.searchsorted(
            np.array(edges), LOWEST_EQUIVALENT_US, side="left"
        )
        requests = len(slots.requests)
        self.counters = np.zeros((requests, len(slots.nodes), len(Count)), dtype=np.int64)
        self.buckets = np.zeros((len(Kind), requests, len(self.edges_s) + 1), dtype=np.int64)
        self.sums_s = np.zeros((len(Kind), requests))
        self.errors: Counter[tuple[str, str]] = Counter()  # by (request, kind)
        self.health: tuple[EngineHealth, ...] = ()
        self.newest_s: int | None = None  # start of the newest window, Unix time

    def add(self, window: Window) -> None:
        """Count a window, or a late part of one."""
        requests, nodes = self._request_and_node(window.slots.astype(np.int64))
        np.add.at(self.counters, (requests, nodes), window.counters)
        self._add_latencies(window)
        for (slot, kind), count in window.errors.items():
            _, request, _ = self.slots.indices(slot)
            self.errors[self.slots.requests[request], kind] += count
        if self.newest_s is None or window.start_s > self.newest_s:
            self.newest_s, self.health = window.start_s, window.health
        elif window.start_s == self.newest_s:
            self.health += window.health

    def _add_latencies(self, window: Window) -> None:
        histograms, fine = np.divmod(window.keys.astype(np.int64), LENGTH)
        slots, kinds = np.divmod(histograms, len(Kind))
        requests, _ = self._request_and_node(slots)
        np.add.at(self.buckets, (kinds, requests, self._edge_of_bucket[fine]), window.counts)
        spent_s = MIDDLES_US[fine] / _US_PER_S * window.counts
        np.add.at(self.sums_s, (kinds, requests), spent_s)

    def _request_and_node(
        self, slots: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        rest, nodes = np.divmod(slots, len(self.slots.nodes))
        return rest % len(self.slots.requests), nodes
