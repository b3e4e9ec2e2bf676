"""The rules of one judgement, and that nothing but a whole, valid, met run can be a PASS."""

from __future__ import annotations

import dataclasses
import functools
import math
import tempfile
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_run import (
    MS,
    RUN_ID,
    Trace,
    good_plan,
    good_traces,
    manifest_of,
    window_of,
    windows_of,
    write_run,
)

from analysis.attribution import send_lag_limit_ns
from analysis.figures import StageFigures, build_figures, empty_tally
from analysis.findings import Effect, Finding, Law
from analysis.generator import longest_streak
from analysis.judging import Case, State, chance_of, judge_objective
from analysis.little import little_of
from analysis.pool_use import build_pool_uses
from analysis.show import encode_verdict
from analysis.verdict import judge, merge_states
from loadtests.plan.codec import encode_plan
from loadtests.plan.objectives import parse_objective, required_for
from loadtests.record.archive import Run, create_archive, load_run
from loadtests.record.histogram import Histogram
from loadtests.record.manifest import Outcome
from loadtests.record.window import Window

OBJECTIVES = (
    "p50 < 1 s",
    "p95 < 200 ms",
    "p99.9 < 1 s",
    "service_p95 < 200 ms",
    "done_p99 < 1 s",
    "max < 10 s",
    "error_ratio < 0.1 %",
    "slo_error_ratio < 0.1 %",
    "success_ratio > 99.9 %",
    "dropped_ratio < 1 %",
    "throughput >= 500 rps",
    "goodput >= 500 rps",
)


@functools.cache
def good_run() -> Run:
    """The good run, written once."""
    with tempfile.TemporaryDirectory() as folder:
        return write_run(Path(folder))


@functools.cache
def good_stage() -> StageFigures:
    """Its judged stage."""
    return build_figures(good_run())[1]


def case_of(text: str, *findings: Finding) -> Case:
    """An objective on the good run's judged stage."""
    stage = good_stage()
    return Case(
        plan=good_plan(),
        stage=stage,
        objective=parse_objective(text),
        figures=stage.overall,
        pool=build_pool_uses(good_run(), good_plan(), (stage,))["steady"],
        level=None,
        findings=findings,
    )


@pytest.mark.parametrize("text", OBJECTIVES)
def test_every_measure_can_pass(text: str) -> None:
    """Each kind of objective passes on a run that meets it."""
    assert judge_objective(case_of(text)).state is State.PASS


@pytest.mark.parametrize("law", Law)
def test_no_objective_passes_beside_a_broken_law(law: Law) -> None:
    """Whatever is invalid, in the stage or the run, and whatever is measured: no PASS."""
    for stage in (None, "steady"):
        finding = Finding(law=law, effect=Effect.INVALID, stage=stage, text="broken")
        for text in OBJECTIVES:
            result = judge_objective(case_of(text, finding))
            assert result.state is State.INCONCLUSIVE, text
            assert law.value in result.reason


@pytest.mark.parametrize("text", OBJECTIVES)
def test_a_warning_takes_nothing_away(text: str) -> None:
    """Warnings are printed and change nothing."""
    finding = Finding(law=Law.LIMITER, effect=Effect.WARNING, stage=None, text="noted")
    assert judge_objective(case_of(text, finding)).state is State.PASS


@pytest.mark.parametrize("text", OBJECTIVES)
def test_without_data_nothing_passes(text: str) -> None:
    """Zero data is INCONCLUSIVE for every kind of objective."""
    case = case_of(text)
    figures = dataclasses.replace(case.figures, tally=empty_tally(), on_time=empty_tally())
    result = judge_objective(dataclasses.replace(case, figures=figures))
    assert (result.state, result.reason) == (State.INCONCLUSIVE, "no data")


@pytest.mark.parametrize(
    ("text", "lost", "state"),
    [
        ("p95 < 200 ms", 100, State.PASS),
        ("p95 < 200 ms", 300, State.INCONCLUSIVE),
        ("p99.9 < 1 s", 4, State.PASS),
        ("p99.9 < 1 s", 10, State.INCONCLUSIVE),
        ("error_ratio < 0.1 %", 4, State.PASS),
        ("error_ratio < 0.1 %", 6, State.INCONCLUSIVE),
        ("dropped_ratio < 0.1 %", 6, State.INCONCLUSIVE),
        ("throughput >= 501 rps", 10, State.INCONCLUSIVE),
        ("done_p99.9 < 1 s", 5, State.PASS),
        ("done_p99.9 < 1 s", 6, State.INCONCLUSIVE),
        ("p95 < 28 ms", 10, State.FAIL),
        ("p95 < 29.18 ms", 300, State.INCONCLUSIVE),
    ],
)
def test_lost_arrivals_may_not_decide(text: str, lost: int, state: State) -> None:
    """A result stands only if arrivals of lost windows, at their worst or best, leave it so."""
    case = case_of(text)
    stage = dataclasses.replace(case.stage, lost_planned=lost)
    assert judge_objective(dataclasses.replace(case, stage=stage)).state is state


def test_a_check_that_crashes_is_inconclusive() -> None:
    """A crashed check is unknown, never a pass."""
    case = case_of("p95 < 200 ms")
    broken = Histogram(counts=case.figures.tally.response.counts * 2**62)
    tally = dataclasses.replace(case.figures.tally, response=broken)
    figures = dataclasses.replace(case.figures, tally=tally)
    result = judge_objective(dataclasses.replace(case, figures=figures))
    assert result.state is State.INCONCLUSIVE


@given(st.lists(st.sampled_from(State)))
def test_states_merge_as_fail_inconclusive_pass(states: list[State]) -> None:
    """FAIL > INCONCLUSIVE > PASS, in any order; of nothing comes no PASS."""
    merged = merge_states(states)
    if State.FAIL in states:
        assert merged is State.FAIL
    elif State.INCONCLUSIVE in states or not states:
        assert merged is State.INCONCLUSIVE
    else:
        assert merged is State.PASS


@pytest.mark.parametrize(
    ("text", "samples"),
    [
        ("p95 < 1 s", 90),
        ("p99 < 1 s", 459),
        ("p99.9 < 1 s", 4603),
        ("error_ratio < 0.1 %", 4603),
        ("error_ratio < 1 %", 459),
        ("error_ratio < 100 %", 1),
        ("success_ratio > 99.9 %", 4603),
        ("dropped_ratio <= 0 %", 1),
        ("throughput >= 1 rps", 0),
    ],
)
def test_required_samples(text: str, samples: int) -> None:
    """The zero-late rule: a limit on errors needs what the percentile of the same share needs."""
    assert required_for(parse_objective(text)) == samples


@given(st.integers(1, 300), st.floats(0.001, 0.5), st.data())
def test_the_chance_of_errors_is_never_understated(
    n: int, ratio: float, data: st.DataObject
) -> None:
    """The bound is at least the exact binomial tail."""
    bad = data.draw(st.integers(0, n))
    exact = sum(math.comb(n, k) * ratio**k * (1 - ratio) ** (n - k) for k in range(bad, n + 1))
    assert chance_of(bad, n, ratio) >= exact - 1e-9


@pytest.mark.parametrize(
    ("seconds", "streak"),
    [((), 0), ((5,), 1), ((5, 6, 7), 3), ((5, 7, 9), 1), ((1, 2, 9, 10, 11, 20), 3)],
)
def test_a_streak_is_of_consecutive_seconds(seconds: tuple[int, ...], streak: int) -> None:
    """Busy windows count only in a row."""
    assert longest_streak(seconds) == streak


@pytest.mark.parametrize(
    ("objectives", "limit_ms"),
    [
        ((), 1.0),
        (("error_ratio < 1 %",), 1.0),
        (("p95 < 200 ms",), 10.0),
        (("p95 < 200 ms", "p99 < 50 ms"), 10.0),
        (("p95 < 10 ms",), 1.0),
        (("p95 < 200 ms", "p95 < 100 ms on submit"), 5.0),
        (("p95 < 40 ms in warm-up",), 1.0),
        (("p99 < 500 ms",), 25.0),
        (("done_p99 < 1 s", "goodput >= 1 rps"), 50.0),
    ],
)
def test_the_limit_for_send_lag(objectives: tuple[str, ...], limit_ms: float) -> None:
    """max(1 ms, 5 % of the smallest p95 limit that the stage judges; without, of any other)."""
    plan = good_plan(objectives=tuple(map(parse_objective, objectives)))
    assert send_lag_limit_ns(plan, "steady") == limit_ms * MS


def test_littles_law_is_exact_on_true_counts() -> None:
    """Both countings of the same requests agree to the clock's resolution."""
    law = little_of(good_run(), good_stage())
    assert law is not None
    assert law.difference < 0.005 * law.in_flight
    assert law.edges < 0.01 * law.in_flight


@settings(max_examples=8)
@given(st.integers(100, 3000), st.integers(50, 400), st.integers(0, 2**16))
def test_littles_law_holds_under_any_load(base_ms: int, growth: int, seed: int) -> None:
    """Slow, growing and scattered service times do not break the law: it is one of counting."""

    def change(trace: Trace) -> None:
        random = np.random.default_rng(seed)
        age = np.clip(trace.intended_ns, 0, None) * growth // 1000
        scatter = random.exponential(base_ms * MS, trace.done_ns.size).astype(np.int64)
        trace.done_ns += age + scatter

    traces = good_traces(good_plan())
    for trace in traces:
        change(trace)
    with tempfile.TemporaryDirectory() as folder:
        run = write_run(Path(folder), traces=traces)
        law = little_of(run, build_figures(run)[1])
    assert law is not None
    assert law.is_kept


def parts_of_run() -> list[Window]:
    """Every second of the good run, one window per engine."""
    plan = good_plan()
    traces = good_traces(plan)
    tickers = windows_of(plan, traces)
    parts = [
        window_of(trace, plan.slots, second, plan.connections // len(traces))
        for second in range(len(tickers))
        for trace in traces
    ]
    only_tickers = [
        dataclasses.replace(Window.empty(w.start_s), hiccups=w.hiccups) for w in tickers
    ]
    return [*parts, *only_tickers]


@settings(max_examples=10)
@given(st.randoms(use_true_random=False))
def test_the_order_in_which_windows_came_changes_no_byte(random: object) -> None:
    """Windows of engines, in any order and grouping, give the same verdict."""
    parts = parts_of_run()
    random.shuffle(parts)  # type: ignore[attr-defined]  # hypothesis types it as object here
    plan = good_plan()
    manifest = manifest_of(plan, good_traces(plan))
    with tempfile.TemporaryDirectory() as folder:
        draft = msgspec.structs.replace(manifest, outcome=Outcome.RUNNING)
        writer = create_archive(Path(folder), draft, encode_plan(plan))
        for window in parts:
            writer.append_window(window)
        run = load_run(writer.finish(manifest))
        assert run.manifest.run_id == RUN_ID
        assert encode_verdict(judge(run)) == encode_verdict(judge(good_run()))
