"""What a run says of a goal: PASS held, FAIL missed, and nothing else moves a bound."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from simulated_target import probe, settings
from synthetic_run import MS, Trace, good_plan, good_traces, with_objectives, write_run

from analysis.capacity.search.outcome import trial_of
from analysis.capacity.search.trials import Trial, TrialState, counts
from analysis.verdict import judge
from loadtests.plan.model import Hold, Plan
from loadtests.record.manifest import Manifest, Outcome

GOALS = settings().goals
HELD, MISSED, VOID = TrialState.HELD, TrialState.MISSED, TrialState.VOID
P99 = with_objectives(good_plan(), "p99 < 200 ms", "error_ratio < 1 %")


def measured(
    folder: Path,
    plan: Plan = P99,
    change: Callable[[Trace], None] = lambda _trace: None,
    manifest: Callable[[Manifest], Manifest] = lambda one: one,
) -> Trial:
    """The trial that a run of changed requests was."""
    traces = good_traces(plan)
    for trace in traces:
        change(trace)
    run = write_run(folder, plan, traces, change=manifest)
    return trial_of(run, judge(run), probe(500.0), 3, GOALS)


def late(ratio: float, by_ms: int) -> Callable[[Trace], None]:
    """A part (0-1) of the judged requests is answered so much later."""

    def change(trace: Trace) -> None:
        trace.delay(
            (trace.stage == 1) & (np.arange(trace.stage.size) % 1000 < ratio * 1000), by_ms * MS
        )

    return change


def failed(trace: Trace) -> None:
    """One request in ten is answered with 503, at once."""
    trace.fail((trace.stage == 1) & (np.arange(trace.stage.size) % 10 == 0), "status_503")


def slow_generator(trace: Trace) -> None:
    """Every request leaves 50 ms late, by the generator's own doing."""
    trace.sent_ns += 50 * MS
    trace.done_ns += 50 * MS


def test_a_pass_is_held_with_its_figures(tmp_path: Path) -> None:
    """10 to 30 ms, no error, 500/s: held by the objectives and by every limit but 50 ms or more."""
    trial = measured(tmp_path)
    assert set(trial.states.values()) == {HELD}
    assert (trial.number, trial.rate_per_s, trial.judged_s) == (3, 500.0, 10.0)
    assert trial.run_id == "20260921T142640Z_good_0123abcd"
    assert trial.p99_ns == pytest.approx(30 * MS, rel=0.02)
    assert trial.p95_ns == pytest.approx(29 * MS, rel=0.02)
    assert trial.error_ratio == 0
    assert trial.goodput_per_s == pytest.approx(500.0, rel=0.01)
    assert all(counts(trial, goal.name, 10.0) for goal in GOALS)


def test_each_p99_limit_is_judged_for_itself(tmp_path: Path) -> None:
    """With a p99 of 250 ms the objective and three limits are missed, two are held."""
    trial = measured(tmp_path, change=late(0.05, 240))
    assert [trial.states[goal.name] for goal in GOALS] == [
        MISSED,
        MISSED,
        MISSED,
        MISSED,
        HELD,
        HELD,
    ]
    assert trial.reason.startswith("p99 < 200 ms")


def test_fast_failures_hold_no_latency_limit(tmp_path: Path) -> None:
    """A target that fails fast is not fast: every goal is missed with its error objective."""
    trial = measured(tmp_path, change=failed)
    assert set(trial.states.values()) == {MISSED}
    assert trial.error_ratio == pytest.approx(0.1, rel=0.01)


def test_a_slow_generator_voids_the_trial(tmp_path: Path) -> None:
    """Send lag: neither held nor missed, for no goal, and it says whose fault it was."""
    trial = measured(tmp_path, change=slow_generator)
    assert set(trial.states.values()) == {VOID}
    assert trial.is_generator_limited
    assert "send lag" in trial.reason
    assert not any(counts(trial, goal.name, 10.0) for goal in GOALS)


def test_too_few_samples_void_the_trial(tmp_path: Path) -> None:
    """30 answers carry no p99."""
    stages = tuple(dataclasses.replace(s, profile=Hold(level=3.0)) for s in P99.stages)
    trial = measured(tmp_path, dataclasses.replace(P99, stages=stages))
    assert set(trial.states.values()) == {VOID}
    assert not trial.is_generator_limited
    assert "n too small" in trial.reason
    assert trial.p99_ns is None


def aborted(manifest: Manifest) -> Manifest:
    """The same run, ended by a guard."""
    return msgspec.structs.replace(manifest, outcome=Outcome.ABORTED, outcome_reason="guard")


def test_a_run_that_was_stopped_holds_nothing(tmp_path: Path) -> None:
    """What was well until then could have become bad: void."""
    trial = measured(tmp_path, manifest=aborted)
    assert set(trial.states.values()) == {VOID}


def test_a_run_that_was_stopped_can_have_missed(tmp_path: Path) -> None:
    """Half of the answers late is a miss, however the run ended: what saves the target time."""
    trial = measured(tmp_path, change=late(0.5, 600), manifest=aborted)
    assert trial.state is MISSED
    assert counts(trial, "objectives", 10.0)


def test_a_run_that_never_started_is_void(tmp_path: Path) -> None:
    """No stage, no figures, no bound."""
    run = write_run(
        tmp_path,
        P99,
        change=lambda m: msgspec.structs.replace(m, t0_unix_ns=None, outcome=Outcome.ABORTED),
        change_window=lambda _window: None,
    )
    trial = trial_of(run, judge(run), probe(500.0), 1, GOALS)
    assert set(trial.states.values()) == {VOID}
    assert (trial.judged_s, trial.p99_ns, trial.goodput_per_s) == (0.0, None, None)
