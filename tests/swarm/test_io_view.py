"""Locust's statistics as a view of windows: the same counts, rounded as Locust rounds."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from locust.stats import RequestStats, bucket_response_time

from loadtests.plan.model import Plan
from loadtests.plan.scenario import load_scenario, resolve
from loadtests.record.histogram import LENGTH, buckets_of_ns
from loadtests.record.window import Count, Kind, Window, merge_windows
from loadtests.swarm.view import StatsView

SMOKE = Path(__file__).parents[2] / "scenarios" / "smoke.toml"
T0_S = 1_700_000_000


@pytest.fixture(scope="module")
def plan() -> Plan:
    """A plan with several stages, requests and nodes."""
    return resolve(load_scenario(SMOKE))


def a_window(start_s: int, slot: int, ok_ms: list[int], failed_ms: list[int]) -> Window:
    """A window of one slot: ok and failed requests with these response times."""
    row = np.zeros((1, len(Count)), dtype=np.int64)
    row[0, Count.OK], row[0, Count.FAILED] = len(ok_ms), len(failed_ms)
    row[0, Count.BYTES_RECEIVED] = 100 * len(ok_ms)
    parts = []
    for kind, values in ((Kind.RESPONSE, ok_ms), (Kind.FAILED_RESPONSE, failed_ms)):
        buckets = buckets_of_ns(np.array(values, dtype=np.int64) * 1_000_000)
        parts.append((slot * len(Kind) + kind) * LENGTH + buckets)
    keys, counts = np.unique(np.concatenate(parts), return_counts=True)
    return Window(
        start_s=start_s,
        slots=np.array([slot], dtype=np.uint32),
        counters=row,
        keys=keys.astype(np.uint32),
        counts=counts.astype(np.int64),
        errors={(slot, "status_503"): len(failed_ms)} if failed_ms else {},
        messages={},
        health=(),
        hiccups=(),
    )


def some_windows(plan: Plan) -> list[Window]:
    """Five seconds of several slots, seeded."""
    rng = random.Random(7)
    real = [
        plan.slots.slot(stage, request, node)
        for stage in range(len(plan.stages))
        for request in range(len(plan.requests))
        for node in range(len(plan.nodes))
    ]
    return [
        a_window(
            T0_S + second,
            rng.choice(real),
            [rng.randrange(1, 9000) for _ in range(rng.randrange(1, 40))],
            [rng.randrange(1, 900) for _ in range(rng.randrange(0, 5))],
        )
        for second in range(5)
        for _ in range(6)
    ]


def seen(stats: RequestStats) -> dict[str, object]:
    """Everything that a view shows, comparable."""
    rows = {
        (*key, name): getattr(entry, name)
        for key, entry in [*stats.entries.items(), (("Aggregated", ""), stats.total)]
        for name in (
            "num_requests", "num_failures", "min_response_time", "max_response_time",
            "response_times", "num_reqs_per_sec", "num_fail_per_sec", "total_content_length",
            "last_request_timestamp", "start_time",
        )
    }  # fmt: skip
    errors = {error.to_name(): error.occurrences for error in stats.errors.values()}
    return {"rows": rows, "errors": errors}


def viewed(plan: Plan, windows: list[Window]) -> RequestStats:
    """Statistics that were fed these windows."""
    stats = RequestStats()
    view = StatsView(stats, plan.slots, plan.requests, float(T0_S))
    for window in windows:
        view.add(window)
    return stats


def test_counts_are_those_of_the_windows(plan: Plan) -> None:
    """Requests, failures, bytes and requests per second equal the windows' sums exactly."""
    windows = some_windows(plan)
    stats = viewed(plan, windows)
    whole = merge_windows(0, windows)
    failed = whole.total(Count.FAILED)
    assert stats.total.num_requests == whole.total(Count.OK) + failed
    assert stats.total.num_failures == failed
    assert stats.total.total_content_length == whole.total(Count.BYTES_RECEIVED)
    assert sum(stats.total.num_reqs_per_sec.values()) == stats.total.num_requests
    assert sum(stats.total.response_times.values()) == stats.total.num_requests
    assert sum(entry.num_requests for entry in stats.entries.values()) == stats.total.num_requests
    assert sum(error.occurrences for error in stats.errors.values()) == failed


def test_response_times_are_rounded_as_locust_rounds_them(plan: Plan) -> None:
    """A response time lands on the number that Locust itself would have shown for it."""
    times_ms = [1, 7, 42, 99, 147, 995, 3432, 58_760]
    stats = viewed(plan, [a_window(T0_S, 0, times_ms, [])])
    expected = sorted(bucket_response_time(ms) for ms in times_ms)
    shown = sorted(ms for ms, n in stats.total.response_times.items() for _ in range(n))
    assert shown == expected
    assert stats.total.max_response_time == pytest.approx(58_760, rel=0.001)


def test_the_order_of_windows_does_not_matter(plan: Plan) -> None:
    """Late parts and reordered windows give the same view."""
    windows = some_windows(plan)
    shuffled = windows.copy()
    random.Random(1).shuffle(shuffled)
    assert seen(viewed(plan, shuffled)) == seen(viewed(plan, windows))


def test_parts_of_a_window_give_what_the_merged_one_gives(plan: Plan) -> None:
    """Feeding merged windows or their parts is the same."""
    windows = some_windows(plan)
    merged = [
        merge_windows(start_s, [w for w in windows if w.start_s == start_s])
        for start_s in sorted({w.start_s for w in windows})
    ]
    assert seen(viewed(plan, merged)) == seen(viewed(plan, windows))


def test_dropped_arrivals_are_listed_but_are_no_requests(plan: Plan) -> None:
    """What was never sent has no response time, and is not hidden either."""
    window = a_window(T0_S, 0, [5], [])
    window.counters[0, Count.DROPPED] = 3
    stats = viewed(plan, [window])
    assert stats.total.num_requests == 1
    (error,) = stats.errors.values()
    assert error.occurrences == 3
    assert "dropped" in str(error.error)


def test_connections_are_not_shown_as_requests(plan: Plan) -> None:
    """The pseudo request for connection figures has no row."""
    slot = plan.slots.slot(0, len(plan.requests), 0)
    assert not viewed(plan, [a_window(T0_S, slot, [5], [1])]).entries


def test_seconds_long_past_are_forgotten(plan: Plan) -> None:
    """An hour takes no more memory than two minutes; the current rate and the sums stay right."""
    windows = [a_window(T0_S + second, 0, [100] * 7, [50] * 2) for second in range(1000)]
    stats = viewed(plan, windows)
    for entry in (stats.total, *stats.entries.values()):
        assert entry.num_requests == 9000
        assert 60 <= len(entry.num_reqs_per_sec) <= 120
        assert 60 <= len(entry.num_fail_per_sec) <= 120
        assert entry.current_rps == pytest.approx(9.0)
        assert entry.current_fail_per_sec == pytest.approx(2.0)
