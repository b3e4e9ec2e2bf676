"""The verdict so far: the judge's own words on a run that is cut where it stands."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from synthetic_run import (
    MS,
    T0_S,
    S,
    Trace,
    good_plan,
    good_traces,
    manifest_of,
    windows_of,
    with_objectives,
    write_run,
)

from analysis.findings import Law
from analysis.judging import State
from analysis.provisional import SoFar, Standing, judge_so_far, standing_of
from analysis.verdict import judge
from loadtests.commands.provisional import Watch, to_json
from loadtests.plan.codec import encode_plan
from loadtests.plan.model import Plan


def watch(plan: Plan, traces: list[Trace], seconds: int) -> SoFar:
    """Judge what a master would have fed by then, windows one by one, as the process does."""
    watched = Watch()
    watched.take(encode_plan(plan))
    watched.take(manifest_of(plan, traces))
    for window in windows_of(plan, traces):
        if window.start_s < T0_S + seconds:
            watched.take(window)
    run = watched.run()
    assert run is not None
    assert to_json(judge_so_far(run)).count(b"\n") == 0
    return judge_so_far(run)


def standings(so_far: SoFar) -> dict[str, Standing]:
    """By objective."""
    return {result.objective: standing_of(result) for result in so_far.objectives}


@pytest.mark.parametrize("fault", ["", "slow", "failing"])
def test_at_the_end_it_says_what_the_verdict_says(fault: str, tmp_path: Path) -> None:
    """Value by value and state by state; the verdict's findings about the end are not its own."""
    plan = good_plan()
    traces = good_traces(plan)
    for trace in traces:
        if fault == "slow":
            trace.delay(trace.intended_ns % 3 == 0, 400 * MS)
        elif fault == "failing":
            trace.fail(trace.intended_ns % 5 == 0, "status_503")
    verdict = judge(write_run(tmp_path, plan, traces))
    so_far = watch(plan, traces, 60)
    assert [(r.objective, r.stage, r.state, r.reading) for r in so_far.objectives] == [
        (r.objective, r.stage, r.state, r.reading) for r in verdict.objectives
    ]
    assert so_far.state is verdict.state
    assert so_far.state is (State.PASS if not fault else State.FAIL)


def test_a_good_run_holds_half_way() -> None:
    """After 8 of 10 s: rates are of the time gone by, and what is in flight violates nothing."""
    so_far = watch(good_plan(), good_traces(good_plan()), 10)
    assert so_far.through_s == T0_S + 9
    assert standings(so_far) == {
        "p95 < 200 ms": Standing.HOLDS,
        "p99 < 500 ms": Standing.HOLDS,
        "p99.9 < 1 s": Standing.TOO_FEW,  # 4,000 of 4,603
        "error_ratio < 0.1 %": Standing.TOO_FEW,  # as many are needed
        "throughput >= 500 rps": Standing.HOLDS,
        "p95 < 200 ms on submit": Standing.HOLDS,
    }
    assert so_far.state is State.INCONCLUSIVE
    assert [finding for finding in so_far.findings if finding.is_invalid] == []


@pytest.mark.parametrize("seconds", [0, 1, 2])
def test_before_a_judged_stage_nothing_is_judged(seconds: int) -> None:
    """No window, or the warm-up's alone: no objective, no PASS."""
    plan = good_plan()
    if seconds == 0:
        watched = Watch()
        watched.take(encode_plan(plan))
        watched.take(manifest_of(plan, good_traces(plan)))
        assert watched.run() is None
        return
    so_far = watch(plan, good_traces(plan), seconds)
    assert so_far.objectives == ()
    assert so_far.state is State.INCONCLUSIVE


def test_a_violation_is_seen_while_it_happens() -> None:
    """Errors from the fourth second on are a violation two seconds later, latencies are not."""
    plan = good_plan()
    traces = good_traces(plan)
    for trace in traces:
        trace.fail(trace.intended_ns > 4 * S, "status_503")
    found = standings(watch(plan, traces, 6))
    assert found["error_ratio < 0.1 %"] is Standing.VIOLATED
    assert found["p95 < 200 ms"] is Standing.HOLDS


def test_what_is_on_its_way_is_neither_held_nor_violated() -> None:
    """A target that has not answered for two seconds: what waits could turn both limits."""
    plan = with_objectives(good_plan(), "p95 < 5 s", "throughput >= 500 rps")
    traces = good_traces(plan)
    for trace in traces:
        held = trace.intended_ns > 6 * S
        trace.done_ns[held] = np.maximum(trace.done_ns[held], 10 * S + 500 * MS)
    so_far = watch(plan, traces, 8)
    assert standings(so_far) == {
        "p95 < 5 s": Standing.OPEN,
        "throughput >= 500 rps": Standing.OPEN,
    }
    assert all("without an outcome" in result.reason for result in so_far.objectives)
    assert standings(watch(plan, traces, 13))["p95 < 5 s"] is Standing.HOLDS


def test_a_slow_generator_is_not_the_targets_violation() -> None:
    """Sends that were late: the generator is named, and no latency is called violated."""
    plan = with_objectives(good_plan(), "p95 < 20 ms")
    traces = good_traces(plan)
    for trace in traces:
        trace.sent_ns += 30 * MS
        trace.done_ns += 30 * MS
    so_far = watch(plan, traces, 10)
    assert standings(so_far) == {"p95 < 20 ms": Standing.OPEN}
    assert Law.SEND_LAG in {finding.law for finding in so_far.findings if finding.is_invalid}


def test_a_moved_t0_is_the_one_that_counts() -> None:
    """The manifest may come again before there is load."""
    plan = good_plan()
    traces = good_traces(plan)
    manifest = manifest_of(plan, traces)
    watched = Watch()
    watched.take(encode_plan(plan))
    watched.take(msgspec.structs.replace(manifest, t0_unix_ns=None))
    watched.take(msgspec.structs.replace(manifest, t0_unix_ns=(T0_S - 5) * S))
    watched.take(manifest)
    for window in windows_of(plan, traces):
        watched.take(window)
    run = watched.run()
    assert run is not None
    assert judge_so_far(run).state is State.PASS
    assert watched.run() is None  # nothing new
