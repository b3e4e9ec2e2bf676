"""What Prometheus is told: sums of the windows, with edges where the verdict's limits are."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from test_io_view import some_windows

from loadtests.plan.model import Plan
from loadtests.plan.scenario import load_scenario, resolve
from loadtests.record.tally import tally_of
from loadtests.record.window import CONNECTION, Count, EngineHealth, Kind, Window, merge_windows
from loadtests.swarm.metrics import RunSums, edges_us
from loadtests.swarm.metrics_page import MetricsPage
from loadtests.swarm.run_state import AgentStatus, RunPhase, RunView, Status

SCENARIOS = Path(__file__).parents[2] / "scenarios"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0"
STATUS = Status(
    phase=RunPhase.RUNNING,
    agents_joined=3,
    agents_alive=2,
    engines=6,
    engines_alive=4,
    elapsed_ns=1_500_000_000,
    t0_ns=0,
    events=7,
    stop_reason=None,
)
AGENTS = [
    AgentStatus(agent="a", is_alive=True, silence_ns=500_000_000, lease_age_ns=1_250_000_000),
    AgentStatus(agent="b", is_alive=False, silence_ns=4_000_000_000, lease_age_ns=None),
]
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture(scope="module")
def plan() -> Plan:
    """A plan with latency limits and several requests and nodes."""
    targets = ("http://127.0.0.1:9003", "http://127.0.0.1:9004")
    scenario = load_scenario(SCENARIOS / "rest-100.toml", targets=targets)
    return resolve(scenario, scale=0.001, targets=targets)


def page_of(plan: Plan, sums: RunSums, stage: str | None = None) -> str:
    """The OpenMetrics page."""
    view = RunView(status=STATUS, unix_ns=0, stage=stage, agents=AGENTS, refused={"not ours": 2})
    body, content_type = MetricsPage(plan, "run-1", sums, lambda: view).render(OPEN_METRICS)
    assert content_type.startswith("application/openmetrics-text")
    return body.decode()


def samples(page: str) -> Samples:
    """All samples, read by prometheus_client's strict parser."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page)  # type: ignore[no-untyped-call]  # untyped
        for sample in family.samples
    }


def total(found: Samples, name: str, **labels: str) -> float:
    """Sum of the samples that have these labels."""
    wanted = labels.items()
    return sum(v for (n, have), v in found.items() if n == name and wanted <= dict(have).items())


def test_counters_are_the_windows_sums(plan: Plan) -> None:
    """Of each request, node and outcome; errors by kind."""
    windows, sums = some_windows(plan), RunSums(plan)
    for window in windows:
        sums.add(window)
    found = samples(page_of(plan, sums))
    whole = merge_windows(0, windows)
    assert total(found, "headroom_requests_total", outcome="ok") == whole.total(Count.OK)
    assert total(found, "headroom_requests_total", outcome="failed") == whole.total(Count.FAILED)
    assert total(found, "headroom_errors_total", kind="status_503") == whole.total(Count.FAILED)
    for row, request in enumerate(plan.slots.requests[:-1]):
        for column, node in enumerate(plan.slots.nodes):
            slots = [plan.slots.slot(s, row, column) for s in range(len(plan.stages))]
            seen = total(found, "headroom_requests_total", request=request, node=node)
            assert seen == tally_of(whole, slots).done


def test_a_limit_of_the_plan_is_an_edge_and_counts_as_the_verdict_does(plan: Plan) -> None:
    """The share above each edge is `share_above` of the exact histogram."""
    windows, sums = some_windows(plan), RunSums(plan)
    for window in windows:
        sums.add(window)
    exact = tally_of(merge_windows(0, windows), range(len(plan.slots))).response
    found = samples(page_of(plan, sums))
    limits_us = {o.limit / 1000 for o in plan.objectives if "p95" in o.text}
    assert limits_us
    assert limits_us <= set(edges_us(plan))
    for edge_us in edges_us(plan):
        name = "headroom_response_time_seconds_bucket"
        within = total(found, name, outcome="ok", le=f"{edge_us / 1e6:.10g}")
        assert within == exact.n - round(exact.share_above(edge_us) * exact.n)
    name = "headroom_response_time_seconds"
    assert total(found, f"{name}_count", outcome="ok") == exact.n
    mean_s = total(found, f"{name}_sum", outcome="ok") / exact.n
    assert mean_s == pytest.approx(exact.mean_us() / 1e6, rel=1e-9)


def test_the_order_and_the_parts_do_not_matter(plan: Plan) -> None:
    """Windows one by one, backwards, or merged: the same sums."""
    windows = some_windows(plan)
    forth, back, merged = RunSums(plan), RunSums(plan), RunSums(plan)
    for window in windows:
        forth.add(window)
    for window in reversed(windows):
        back.add(window)
    merged.add(merge_windows(windows[-1].start_s, windows))
    for other in (back, merged):
        assert (other.counters == forth.counters).all()
        assert (other.buckets == forth.buckets).all()
        assert np.allclose(other.sums_s, forth.sums_s)
        assert other.errors == forth.errors


def health(engine: str, in_flight: int) -> EngineHealth:
    """An engine that used half a core."""
    return EngineHealth(
        engine=engine, wall_ns=10**9, cpu_ns=5 * 10**8, in_flight=in_flight, in_flight_ns=0,
        backlog=1, connections=8, stalled_ns=2_000_000,
    )  # fmt: skip


def test_health_is_that_of_the_newest_second(plan: Plan) -> None:
    """A late part adds its engines; an older second does not come back."""
    sums = RunSums(plan)
    for start_s, engine in ((10, "a/0"), (11, "a/0"), (11, "b/0"), (10, "c/0")):
        empty = Window.empty(start_s)
        sums.add(dataclasses.replace(empty, health=(health(engine, in_flight=start_s),)))
    found = samples(page_of(plan, sums))
    assert total(found, "headroom_in_flight_requests") == 22
    assert total(found, "headroom_engine_cpu_ratio", engine="b/0") == 0.5
    assert total(found, "headroom_newest_window_timestamp_seconds") == 11
    assert not [labels for name, labels in found if ("engine", "c/0") in labels]


def test_the_page_says_how_run_and_agents_stand(plan: Plan) -> None:
    """Phase, stage, agents, leases, refused messages, the run's name."""
    stage = plan.stages[0].name
    found = samples(page_of(plan, RunSums(plan), stage))
    assert total(found, "headroom_run_phase", phase="running") == 1
    assert total(found, "headroom_run_phase") == 1
    assert total(found, "headroom_stage", stage=stage) == total(found, "headroom_stage") == 1
    assert total(found, "headroom_agents_up") == 2
    assert total(found, "headroom_agent_up", agent="b") == 0
    assert total(found, "headroom_lease_age_seconds", agent="a") == 1.25
    assert not [
        labels
        for name, labels in found
        if name.endswith("lease_age_seconds") and "b" in str(labels)
    ]
    assert total(found, "headroom_refused_messages_total", reason="not ours") == 2
    assert total(found, "headroom_run_info", run_id="run-1", scenario=plan.scenario_name) == 1


def test_connections_have_a_histogram_of_their_own(plan: Plan) -> None:
    """The pseudo request of connections is no request in the counters."""
    found = samples(page_of(plan, RunSums(plan)))
    assert not [labels for name, labels in found if ("request", CONNECTION) in labels]
    sums = RunSums(plan)
    sums.buckets[Kind.CONNECT, len(plan.slots.requests) - 1, 3] = 4
    found = samples(page_of(plan, sums))
    assert total(found, "headroom_connect_time_seconds_count", request=CONNECTION) == 4


def test_hostile_names_stay_inside_their_labels(plan: Plan) -> None:
    """Quotes, line breaks and backslashes of a request's name are escaped, and read back."""
    name = 'a"} 1\nheadroom_evil 666\\'
    renamed = dataclasses.replace(plan.requests[0], name=name)
    hostile = dataclasses.replace(plan, requests=(renamed, *plan.requests[1:]))
    page = page_of(hostile, RunSums(hostile))
    assert "\nheadroom_evil" not in page
    labels = {dict(have).get("request") for _, have in samples(page)}
    assert name in labels
