"""Every law broken, one at a time, in a run that is good otherwise."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from synthetic_run import (
    MS,
    NEVER,
    T0_S,
    S,
    Trace,
    agent,
    good_plan,
    good_traces,
    manifest_of,
    windows_of,
    with_objectives,
    write_run,
)

from analysis.findings import Effect, Law
from analysis.judging import State
from analysis.verdict import AlertState, Verdict, judge
from loadtests.plan.codec import encode_plan
from loadtests.plan.model import Hold, LoadModel, LossPolicy, Plan
from loadtests.record.archive import create_archive, load_run
from loadtests.record.histogram import LENGTH
from loadtests.record.manifest import LostRequests, LostWindow, Manifest, Outcome
from loadtests.record.window import CONNECTION, Count, EngineHealth, Kind, Window

FIRST_S = T0_S + 2  # the first second of the judged stage
STEADY = slice(FIRST_S, FIRST_S + 10)


def replaced(value: Any, **changes: object) -> Any:
    """A msgspec value with fields changed."""
    return msgspec.structs.replace(value, **changes)


def laws(verdict: Verdict, effect: Effect = Effect.INVALID) -> set[Law]:
    """The laws with a finding of this effect."""
    return {finding.law for finding in verdict.findings if finding.effect is effect}


def is_steady(window: Window) -> bool:
    """Whether a window is one of the judged stage's seconds."""
    return STEADY.start <= window.start_s < STEADY.stop


def with_health(window: Window, **changes: int) -> Window:
    """The window with these figures for the first engine."""
    first, *others = window.health
    return dataclasses.replace(window, health=(replaced(first, **changes), *others))


def with_counter(window: Window, count: Count, by: int) -> Window:
    """The window with one counter of its first slot changed."""
    counters = window.counters.copy()
    counters[0, count] += by
    return dataclasses.replace(window, counters=counters)


def test_a_good_run_passes(tmp_path: Path) -> None:
    """Constant arrivals at exactly the objective's rate against a healthy target PASS."""
    verdict = judge(write_run(tmp_path))
    assert verdict.state is State.PASS
    assert verdict.findings == ()
    assert verdict.reasons == ()
    assert {result.state for result in verdict.objectives} == {State.PASS}
    assert {alert.state for alert in verdict.alerts} == {AlertState.CLEAR}


def change_sums(manifest: Manifest, **changes: int) -> Manifest:
    """One engine's own sums say something else; the total agrees with it."""
    first, *others = manifest.engine_sums
    assert manifest.total_sums is not None
    first = replaced(first, sums=replaced(first.sums, **_added(first.sums, changes)))
    total = replaced(manifest.total_sums, **_added(manifest.total_sums, changes))
    return replaced(manifest, engine_sums=(first, *others), total_sums=total)  # type: ignore[no-any-return]


def _added(sums: Any, changes: dict[str, int]) -> dict[str, int]:
    return {name: getattr(sums, name) + by for name, by in changes.items()}


def without_final(manifest: Manifest) -> Manifest:
    """The second engine never sent its FINAL."""
    first, second = manifest.engine_sums
    return replaced(manifest, engine_sums=(first, replaced(second, has_final=False)))  # type: ignore[no-any-return]


def waiting(manifest: Manifest, planned: int, stated: int) -> Manifest:
    """The second engine was lost with so many arrivals more planned; so many are stated."""
    first, second = without_final(manifest).engine_sums
    assert manifest.total_sums is not None
    more = {"planned": planned}
    second = replaced(second, sums=replaced(second.sums, **_added(second.sums, more)))
    return replaced(  # type: ignore[no-any-return]
        manifest,
        engine_sums=(first, second),
        total_sums=replaced(manifest.total_sums, **_added(manifest.total_sums, more)),
        lost_requests=LostRequests(in_flight=0, in_backlog=stated),
    )


def lost(planned: int, who: str = "a1/1") -> tuple[LostWindow, ...]:
    """A lost second of one engine in the judged stage."""
    return (LostWindow(who=who, from_s=FIRST_S + 3, to_s=FIRST_S + 4, planned=planned),)


MANIFESTS: dict[str, tuple[Law, Callable[[Manifest], Manifest]]] = {
    "an engine planned more than it sent and dropped": (
        Law.PLANNED,
        lambda m: change_sums(m, planned=1),
    ),
    "an engine sent more than ended": (Law.SENT, lambda m: change_sums(m, ok=-1)),
    "arrivals wait in a lost engine and are not stated": (
        Law.PLANNED,
        lambda m: waiting(m, planned=3, stated=0),
    ),
    "arrivals are stated that wait in no lost engine": (
        Law.PLANNED,
        lambda m: waiting(m, planned=0, stated=3),
    ),
    "a lost engine sent more than it planned": (
        Law.PLANNED,
        lambda m: waiting(m, planned=-1, stated=-1),
    ),
    "requests are stated that were in flight in no lost engine": (
        Law.SUMS,
        lambda m: replaced(m, lost_requests=LostRequests(in_flight=1, in_backlog=0)),
    ),
    "the engines counted what the windows do not hold": (
        Law.SUMS,
        lambda m: change_sums(m, planned=1, sent=1, ok=1),
    ),
    "the total is not the sum of the engines": (
        Law.SUMS,
        lambda m: replaced(m, engine_sums=m.engine_sums[:1]),
    ),
    "no total was written": (Law.SUMS, lambda m: replaced(m, total_sums=None)),
    "an engine of the agent is missing": (
        Law.WORKERS,
        lambda m: replaced(m, agents=(agent(engines=3),)),
    ),
    "a FINAL is missing": (Law.WORKERS, without_final),
    "the agent's FINAL is missing": (
        Law.WORKERS,
        lambda m: replaced(m, agents=(agent(has_final=False),)),
    ),
    "no worker took part": (Law.WORKERS, lambda m: replaced(m, agents=())),
    "the run was aborted": (
        Law.COMPLETENESS,
        lambda m: replaced(m, outcome=Outcome.ABORTED, outcome_reason="stopped by its user"),
    ),
    "the run crashed": (Law.COMPLETENESS, lambda m: replaced(m, outcome=Outcome.CRASHED)),
    "clocks may be 60 ms apart": (
        Law.CLOCKS,
        lambda m: replaced(m, agents=(*m.agents, agent("a2", engines=0, round_trip_ns=120 * MS))),
    ),
    "a clock was never compared": (
        Law.CLOCKS,
        lambda m: replaced(m, agents=(*m.agents, agent("a2", engines=0, clock_offset_ns=None))),
    ),
    "2 % of the stage was lost": (
        Law.LOST_WINDOWS,
        lambda m: replaced(m, lost_windows=lost(100)),
    ),
    "the scale is another than the plan's": (Law.SCHEDULE, lambda m: replaced(m, scale=0.5)),
    "a stage has another name than in the plan": (
        Law.SCHEDULE,
        lambda m: replaced(m, stages=(replaced(m.stages[0], name="other"), m.stages[1])),
    ),
}


@pytest.mark.parametrize(("law", "change"), MANIFESTS.values(), ids=MANIFESTS.keys())
def test_a_manifest_that_breaks_a_law_is_inconclusive(
    tmp_path: Path, law: Law, change: Callable[[Manifest], Manifest]
) -> None:
    """A broken law is named and the run cannot pass."""
    verdict = judge(write_run(tmp_path, change=change))
    assert law in laws(verdict)
    assert verdict.state is State.INCONCLUSIVE
    assert any(law.value in reason for reason in verdict.reasons)
    assert State.PASS not in {result.state for result in verdict.objectives}


@pytest.mark.parametrize("is_stated", [True, False], ids=["stated", "older archive"])
def test_arrivals_that_wait_in_a_lost_engine_balance(tmp_path: Path, *, is_stated: bool) -> None:
    """Stated or not (archives from before), what a lost engine left open breaks no sum."""

    def change(manifest: Manifest) -> Manifest:
        changed = waiting(manifest, planned=3, stated=3)
        return changed if is_stated else replaced(changed, lost_requests=None)

    def change_window(window: Window) -> Window:
        return with_counter(window, Count.PLANNED, 3) if window.start_s == FIRST_S + 5 else window

    verdict = judge(write_run(tmp_path, change=change, change_window=change_window))
    assert Law.WORKERS in laws(verdict)
    assert not laws(verdict) & {Law.PLANNED, Law.SENT, Law.SUMS}
    assert any("0 in flight and 3 waiting" in reason for reason in verdict.reasons)


def without_latency(window: Window, kind: Kind) -> Window:
    """One request of the first bucket of this kind is missing from the histogram."""
    counts = window.counts.copy()
    at = next(i for i, key in enumerate(window.keys) if key // LENGTH % len(Kind) == kind)
    if counts[at] == 1:
        keep = [i for i in range(len(counts)) if i != at]
        return dataclasses.replace(window, keys=window.keys[keep], counts=counts[keep])
    counts[at] -= 1
    return dataclasses.replace(window, counts=counts)


def once(change: Callable[[Window], Window], second: int = 5) -> Callable[[Window], Window]:
    """Change one second of the judged stage."""
    return lambda window: change(window) if window.start_s == FIRST_S + second else window


def steady(change: Callable[[Window], Window]) -> Callable[[Window], Window]:
    """Change every second of the judged stage."""
    return lambda window: change(window) if is_steady(window) else window


def port_exhausted(window: Window) -> Window:
    """A connection found no port."""
    slot = good_plan().slots.slot(1, 2, 0)
    assert good_plan().slots.requests[2] == CONNECTION
    return dataclasses.replace(window, errors={(slot, "client_port_exhausted"): 3})


def one_engine(window: Window) -> Window:
    """The second engine's health is not there."""
    return dataclasses.replace(window, health=window.health[:1])


def busy_for(windows: int) -> Callable[[Window], Window]:
    """An engine at 95 % CPU in the first seconds of the stage."""

    def change(window: Window) -> Window:
        is_busy = FIRST_S <= window.start_s < FIRST_S + windows
        return with_health(window, cpu_ns=950 * MS) if is_busy else window

    return change


def more_in_flight(ratio: float) -> Callable[[Window], Window]:
    """Engines that counted more requests in flight than the latencies say."""

    def health(engine: EngineHealth) -> EngineHealth:
        return replaced(engine, in_flight_ns=round(engine.in_flight_ns * ratio))  # type: ignore[no-any-return]

    return steady(lambda w: dataclasses.replace(w, health=tuple(map(health, w.health))))


WINDOWS: dict[str, tuple[Law, Callable[[Window], Window]]] = {
    "a request ended without latency": (
        Law.SUMS, once(lambda w: without_latency(w, Kind.RESPONSE))),
    "a request has no service time": (Law.SUMS, once(lambda w: without_latency(w, Kind.SERVICE))),
    "a request has no send lag": (Law.SUMS, once(lambda w: without_latency(w, Kind.SEND_LAG))),
    "a window holds a request that no engine counted": (
        Law.SUMS, once(lambda w: with_counter(w, Count.OK, 1))),
    "fewer arrivals than the plan has": (
        Law.SCHEDULE, once(lambda w: with_counter(w, Count.PLANNED, -1))),
    "an engine's window is missing and not stated": (Law.LOST_WINDOWS, once(one_engine)),
    "the machine ran out of ports": (Law.HOST_LIMITS, once(port_exhausted)),
    "an engine was above 90 % CPU for 3 windows": (Law.ENGINE_CPU, busy_for(3)),
    "10 % more in flight than throughput x service time": (Law.LITTLE, more_in_flight(1.10)),
    "10 % less in flight than throughput x service time": (Law.LITTLE, more_in_flight(0.90)),
    "nothing was recorded in flight": (Law.LITTLE, lambda w: dataclasses.replace(w, health=())),
}  # fmt: skip


@pytest.mark.parametrize(("law", "change"), WINDOWS.values(), ids=WINDOWS.keys())
def test_a_window_that_breaks_a_law_is_inconclusive(
    tmp_path: Path, law: Law, change: Callable[[Window], Window]
) -> None:
    """A broken law is named and the run cannot pass."""
    verdict = judge(write_run(tmp_path, change_window=change))
    assert law in laws(verdict)
    assert verdict.state is State.INCONCLUSIVE
    assert State.PASS not in {result.state for result in verdict.objectives}


@pytest.mark.parametrize(
    "change", [busy_for(2), more_in_flight(1.03)], ids=["2 busy windows", "3 % in flight"]
)
def test_within_its_limits_a_law_is_kept(
    tmp_path: Path, change: Callable[[Window], Window]
) -> None:
    """What is allowed is not found."""
    assert judge(write_run(tmp_path, change_window=change)).state is State.PASS


def traces_of(change: Callable[[Trace], None], plan: Plan | None = None) -> list[Trace]:
    """Good requests, changed."""
    traces = good_traces(good_plan() if plan is None else plan)
    for trace in traces:
        change(trace)
    return traces


def every_nth(trace: Trace, n: int) -> Any:
    """Every n-th arrival of an engine."""
    return (np.arange(trace.stage.size) % n) == 0


def late_sends(by_ns: int, every: int) -> Callable[[Trace], None]:
    """Every so many requests leave late, with connections free."""

    def change(trace: Trace) -> None:
        late = every_nth(trace, every)
        trace.sent_ns[late] += by_ns
        trace.done_ns[late] += by_ns

    return change


def test_a_generator_that_sends_late_is_named(tmp_path: Path) -> None:
    """Send lag p99 above 5 % of the p95 limit makes the stage generator-limited."""
    verdict = judge(write_run(tmp_path, traces=traces_of(late_sends(15 * MS, 20))))
    assert laws(verdict) == {Law.SEND_LAG}
    assert verdict.is_generator_limited
    assert verdict.state is State.INCONCLUSIVE


def test_send_lag_below_five_percent_of_the_limit_is_allowed(tmp_path: Path) -> None:
    """The limit for send lag is max(1 ms, 5 % of the judged p95 limit)."""
    assert judge(write_run(tmp_path, traces=traces_of(late_sends(8 * MS, 20)))).state is State.PASS


def test_without_a_latency_limit_send_lag_may_be_one_millisecond(tmp_path: Path) -> None:
    """The limit for send lag is 1 ms where no response time is judged."""
    plan = with_objectives(good_plan(), "error_ratio < 0.1 %")
    verdict = judge(write_run(tmp_path, plan, traces_of(late_sends(8 * MS, 20), plan)))
    assert laws(verdict) == {Law.SEND_LAG}


def test_a_slow_generator_does_not_fail_a_target(tmp_path: Path) -> None:
    """A limit that is missed while the generator was the limit is INCONCLUSIVE, not FAIL."""
    verdict = judge(write_run(tmp_path, traces=traces_of(late_sends(900 * MS, 2))))
    assert Law.SEND_LAG in laws(verdict)
    assert {result.state for result in verdict.objectives} == {State.INCONCLUSIVE}


def test_errors_that_only_the_target_can_make_fail_it(tmp_path: Path) -> None:
    """An error ratio missed on the target's own answers is a FAIL even if sends were late."""

    def change(trace: Trace) -> None:
        late_sends(15 * MS, 20)(trace)
        trace.fail(every_nth(trace, 10), "status_503")

    states = {r.objective: r.state for r in judge(
        write_run(tmp_path, traces=traces_of(change))).objectives}  # fmt: skip
    assert states.pop("error_ratio < 0.1 %") is State.FAIL
    assert set(states.values()) == {State.INCONCLUSIVE}


def test_timeouts_under_a_slow_generator_fail_nobody(tmp_path: Path) -> None:
    """Errors that a slow generator can cause itself do not fail a target."""

    def change(trace: Trace) -> None:
        late_sends(15 * MS, 20)(trace)
        trace.fail(every_nth(trace, 10), "timeout")

    verdict = judge(write_run(tmp_path, traces=traces_of(change)))
    assert {result.state for result in verdict.objectives} == {State.INCONCLUSIVE}


def frozen(trace: Trace) -> None:
    """The target answers nothing from second 6 to 8; its 32 connections an engine fill up."""
    held = (trace.intended_ns >= 6 * S) & (trace.intended_ns < 8 * S)
    number = held.cumsum() * held
    on_connection = held & (number <= 32)
    waiting = held & (number > 32)
    trace.done_ns[on_connection] = 8 * S + 10 * MS
    trace.sent_ns[waiting] = 8 * S + 20 * MS
    trace.done_ns[waiting] = 8 * S + 40 * MS


def test_a_target_that_holds_all_connections_is_not_excused(tmp_path: Path) -> None:
    """Sends that waited for connections the target held are the target's: it FAILs."""
    verdict = judge(write_run(tmp_path, traces=traces_of(frozen)))
    assert laws(verdict) == set()
    assert Law.SEND_LAG in laws(verdict, Effect.WARNING)
    states = {result.objective: result.state for result in verdict.objectives}
    assert verdict.state is State.FAIL
    assert states["p99 < 500 ms"] is State.FAIL
    assert states["throughput >= 500 rps"] is State.PASS  # all were answered within the stage


def test_a_full_backlog_of_a_stalled_engine_is_the_engines(tmp_path: Path) -> None:
    """Arrivals that wait while the engine's own loop stood still are never the target's doing."""

    def change(window: Window) -> Window:
        return with_health(window, stalled_ns=900 * MS)

    verdict = judge(write_run(tmp_path, traces=traces_of(frozen), change_window=change))
    assert Law.SEND_LAG in laws(verdict)
    assert verdict.state is State.INCONCLUSIVE


def dropped(every: int) -> Callable[[Trace], None]:
    """Every so many arrivals of the judged stage are shed."""

    def change(trace: Trace) -> None:
        trace.is_dropped[(trace.stage == 1) & every_nth(trace, every)] = True

    return change


def test_sends_missing_with_free_connections_are_the_generators(tmp_path: Path) -> None:
    """Achieved sends below 99 % while connections were free make the stage generator-limited."""
    verdict = judge(write_run(tmp_path, traces=traces_of(dropped(20))))
    assert laws(verdict) == {Law.SENDS}
    assert verdict.state is State.INCONCLUSIVE


def test_dropped_arrivals_count_against_the_target(tmp_path: Path) -> None:
    """An arrival shed for want of a connection is one never answered: p99.9 fails on 0.5 %."""
    plan = with_objectives(good_plan(), "p99.9 < 1 s", "p95 < 200 ms")
    verdict = judge(write_run(tmp_path, plan, traces_of(dropped(200), plan)))
    states = {result.objective: result for result in verdict.objectives}
    assert states["p99.9 < 1 s"].state is State.FAIL
    assert "dropped" in states["p99.9 < 1 s"].reason
    assert states["p95 < 200 ms"].state is State.PASS
    assert Law.DROPPED in laws(verdict, Effect.WARNING)


def test_dropped_arrivals_that_could_turn_a_ratio_leave_it_open(tmp_path: Path) -> None:
    """An error ratio is over what ended; with 0.5 % shed, below 0.1 % is not shown."""
    plan = with_objectives(good_plan(), "error_ratio < 0.1 %")
    verdict = judge(write_run(tmp_path, plan, traces_of(dropped(200), plan)))
    assert verdict.objectives[0].state is State.INCONCLUSIVE


def unanswered(every: int) -> Callable[[Trace], None]:
    """Every so many requests of the judged stage never end."""

    def change(trace: Trace) -> None:
        trace.done_ns[(trace.stage == 1) & every_nth(trace, every)] = NEVER

    return change


def test_requests_unanswered_for_the_whole_grace_are_late(tmp_path: Path) -> None:
    """2 % without an answer after a grace of 5 s miss a p99 of 500 ms: FAIL."""
    plan = with_objectives(good_plan(), "p99 < 500 ms", "p95 < 200 ms", "error_ratio < 3 %")
    verdict = judge(write_run(tmp_path, plan, traces_of(unanswered(50), plan)))
    assert Law.UNANSWERED in laws(verdict, Effect.WARNING)
    states = [result.state for result in verdict.objectives]
    assert states == [State.FAIL, State.PASS, State.PASS]


def test_unanswered_requests_that_could_turn_an_objective_leave_it_open(tmp_path: Path) -> None:
    """With a limit above the grace nobody knows when they would have been answered."""
    plan = with_objectives(good_plan(grace_ns=S), "p99 < 2 s", "error_ratio < 1 %")
    verdict = judge(write_run(tmp_path, plan, traces_of(unanswered(50), plan)))
    states = [result.state for result in verdict.objectives]
    assert states == [State.INCONCLUSIVE, State.INCONCLUSIVE]


def test_an_unstated_gap_of_a_share_that_was_taken_over_is_found(tmp_path: Path) -> None:
    """Arrivals that nobody sent and nobody stated as lost break the plan's sum."""

    def lose(trace: Trace) -> None:
        keep = trace.intended_ns // S != 5
        for field in dataclasses.fields(trace):
            if field.name != "engine":
                setattr(trace, field.name, getattr(trace, field.name)[keep])

    plan = good_plan(loss_policy=LossPolicy.REDISTRIBUTE)
    verdict = judge(write_run(tmp_path, plan, traces_of(lose, plan)))
    assert Law.SCHEDULE in laws(verdict)
    assert verdict.state is State.INCONCLUSIVE


@pytest.mark.parametrize("policy", [LossPolicy.ABORT, LossPolicy.CONTINUE])
def test_a_lost_engine_cannot_pass_unless_its_share_was_taken_over(
    tmp_path: Path, policy: LossPolicy
) -> None:
    """Under abort and continue a missing FINAL is INCONCLUSIVE, stated as lost or not."""

    def change(manifest: Manifest) -> Manifest:
        return replaced(without_final(manifest), lost_windows=lost(0))  # type: ignore[no-any-return]

    verdict = judge(write_run(tmp_path, good_plan(loss_policy=policy), change=change))
    assert Law.WORKERS in laws(verdict)
    assert verdict.state is State.INCONCLUSIVE


@pytest.mark.parametrize("policy", [LossPolicy.ABORT, LossPolicy.CONTINUE])
def test_an_engine_given_up_under_load_cannot_pass_though_it_came_back(
    tmp_path: Path, policy: LossPolicy
) -> None:
    """A stated loss of any size, of an engine with a FINAL, is INCONCLUSIVE."""

    def change(manifest: Manifest) -> Manifest:
        who = manifest.engine_sums[0].engine
        return replaced(manifest, lost_windows=lost(0, who))  # type: ignore[no-any-return]

    verdict = judge(write_run(tmp_path, good_plan(loss_policy=policy), change=change))
    assert Law.WORKERS in laws(verdict)
    assert verdict.state is State.INCONCLUSIVE


def partial_run(folder: Path, *, windows: int, has_started: bool) -> Verdict:
    """A run whose master died: journalled windows, no end; or one that never started."""
    plan = good_plan()
    traces = good_traces(plan)
    draft = replaced(
        manifest_of(plan, traces),
        outcome=Outcome.RUNNING,
        total_sums=None,
        t0_unix_ns=T0_S * S if has_started else None,
    )
    writer = create_archive(folder, draft, encode_plan(plan))
    writer.journal_windows("a1", windows_of(plan, traces)[:windows])
    return judge(load_run(writer.abandon("the master was killed")))


@pytest.mark.parametrize(("windows", "has_started"), [(8, True), (12, True), (0, True), (0, False)])
def test_a_partial_run_is_read_and_never_passes(
    tmp_path: Path, windows: int, *, has_started: bool
) -> None:
    """A crash leaves a run that is judged INCONCLUSIVE and says so, at whatever second."""
    verdict = partial_run(tmp_path, windows=windows, has_started=has_started)
    assert Law.COMPLETENESS in laws(verdict)
    assert verdict.state is State.INCONCLUSIVE
    assert not verdict.is_complete


def test_a_closed_run_says_that_stalls_are_under_counted(tmp_path: Path) -> None:
    """Closed load carries its warning."""
    plan = with_objectives(good_plan(load_model=LoadModel.CLOSED), "p95 < 200 ms")
    traces = good_traces(good_plan())
    verdict = judge(write_run(tmp_path, plan, traces))
    assert Law.CLOSED_LOAD in laws(verdict, Effect.WARNING)
    assert verdict.state is State.PASS


def test_a_closed_plan_that_cannot_offer_the_rate_fails_nobody(tmp_path: Path) -> None:
    """Users that think for 0.2 s limit the rate themselves: INCONCLUSIVE, not FAIL."""
    plan = with_objectives(
        good_plan(load_model=LoadModel.CLOSED, think_time_ns=200 * MS), "throughput >= 5000 rps"
    )
    verdict = judge(write_run(tmp_path, plan, good_traces(good_plan())))
    assert verdict.objectives[0].state is State.INCONCLUSIVE
    assert "offered" in verdict.objectives[0].reason


def test_an_open_plan_that_did_not_offer_the_rate_fails_nobody(tmp_path: Path) -> None:
    """A target that answered all it was offered is not failed on a higher limit."""
    plan = with_objectives(good_plan(), "throughput >= 501 rps")
    verdict = judge(write_run(tmp_path, plan))
    assert verdict.objectives[0].state is State.INCONCLUSIVE


def test_one_arrival_is_the_tolerance_of_a_rate(tmp_path: Path) -> None:
    """500.1/s is one arrival of ten seconds above what was answered; 500.2/s is two."""
    plan = with_objectives(good_plan(), "throughput >= 500.1 rps", "throughput >= 500.2 rps")
    states = [result.state for result in judge(write_run(tmp_path, plan)).objectives]
    assert states == [State.PASS, State.INCONCLUSIVE]


def test_a_target_that_queues_beyond_the_stage_misses_the_rate(tmp_path: Path) -> None:
    """Answers later than one window after the judged time do not count for throughput."""

    def queue(trace: Trace) -> None:
        # 80 % of the rate: every answer is a quarter of its age in the stage later.
        age = trace.intended_ns - 2 * S
        trace.done_ns += (age * (trace.stage == 1)) // 4

    verdict = judge(write_run(tmp_path, traces=traces_of(queue)))
    result = next(r for r in verdict.objectives if r.objective.startswith("throughput"))
    assert result.state is State.FAIL
    assert result.reading.value == pytest.approx(440, abs=2)  # 11 s of answers at 400/s, over 10


def test_too_few_samples_cannot_pass(tmp_path: Path) -> None:
    """p99.9 of 1,250 requests is printed as too small and is INCONCLUSIVE."""
    plan = with_objectives(good_plan(), "p99.9 < 1 s on submit")
    verdict = judge(write_run(tmp_path, plan))
    assert verdict.objectives[0].reading.samples == 1250
    assert verdict.objectives[0].state is State.INCONCLUSIVE
    assert "n too small: 1250 of 4603" in verdict.objectives[0].reason


def test_a_request_never_sent_cannot_pass(tmp_path: Path) -> None:
    """An endpoint that was never hit has no data: INCONCLUSIVE."""
    requests = good_plan().requests
    never = dataclasses.replace(requests[1], weight=0.0)
    plan = with_objectives(good_plan(requests=(requests[0], never)), "p95 < 200 ms on submit")
    verdict = judge(write_run(tmp_path, plan))
    assert verdict.objectives[0].state is State.INCONCLUSIVE
    assert verdict.objectives[0].reason == "no data"


def test_a_run_without_objectives_cannot_pass(tmp_path: Path) -> None:
    """Nothing judged is nothing shown."""
    verdict = judge(write_run(tmp_path, good_plan(objectives=())))
    assert verdict.state is State.INCONCLUSIVE
    assert verdict.reasons == ("no objective was judged",)


def test_a_run_that_was_only_a_warm_up_cannot_pass(tmp_path: Path) -> None:
    """A warm-up is not judged, and without a judged stage there is no PASS."""
    stages = tuple(dataclasses.replace(s, is_judged=False) for s in good_plan().stages)
    verdict = judge(write_run(tmp_path, good_plan(stages=stages)))
    assert verdict.state is State.INCONCLUSIVE
    assert Law.DATA in laws(verdict)


def test_an_empty_run_cannot_pass(tmp_path: Path) -> None:
    """Zero data is never a pass."""
    traces = good_traces(good_plan())
    for trace in traces:
        trace.is_dropped[:] = True
        trace.done_ns[:] = NEVER
    verdict = judge(write_run(tmp_path, traces=traces))
    assert verdict.state is State.INCONCLUSIVE
    assert {Law.DATA, Law.SENDS} <= laws(verdict)


def test_a_run_cut_short_cannot_pass(tmp_path: Path) -> None:
    """A stage that did not run to its end has no throughput, and its PASSes are open."""

    def cut(trace: Trace) -> None:
        late = trace.intended_ns >= 7 * S
        for field in dataclasses.fields(trace):
            if field.name != "engine":
                setattr(trace, field.name, getattr(trace, field.name)[~late])

    verdict = judge(
        write_run(
            tmp_path,
            traces=traces_of(cut),
            change=lambda m: replaced(m, outcome=Outcome.ABORTED, outcome_reason="lost a worker"),
            change_window=lambda w: w if w.start_s < T0_S + 8 else None,
        )
    )
    assert verdict.state is State.INCONCLUSIVE
    assert {result.state for result in verdict.objectives} == {State.INCONCLUSIVE}


def test_errors_before_an_abort_still_fail(tmp_path: Path) -> None:
    """An error ratio missed by far before the abort is a FAIL."""

    def change(trace: Trace) -> None:
        trace.fail(trace.stage == 1, "status_500")

    verdict = judge(
        write_run(tmp_path, traces=traces_of(change),
                  change=lambda m: replaced(m, outcome=Outcome.ABORTED, outcome_reason="errors"))
    )  # fmt: skip
    assert verdict.state is State.FAIL


def test_a_missed_limit_fails(tmp_path: Path) -> None:
    """A slow target FAILs its latency objectives and nothing else."""
    verdict = judge(
        write_run(tmp_path, traces=traces_of(lambda t: t.delay(t.request == 1, 250 * MS)))
    )
    states = {result.objective: result.state for result in verdict.objectives}
    assert verdict.state is State.FAIL
    assert states["p95 < 200 ms on submit"] is State.FAIL
    assert states["p99 < 500 ms"] is State.PASS
    assert verdict.reasons[0].startswith("p95 < 200 ms")


def test_429_is_a_warning_about_the_limiter(tmp_path: Path) -> None:
    """A run that meets 429 says that it met the limiter, not the capacity."""
    verdict = judge(
        write_run(tmp_path, traces=traces_of(lambda t: t.fail(t.request == 1, "status_429")))
    )
    text = next(f.text for f in verdict.findings if f.law is Law.LIMITER)
    assert "met the limiter, not the capacity" in text


def test_a_scaled_run_says_so(tmp_path: Path) -> None:
    """A scaled run carries its scale as a warning."""
    verdict = judge(write_run(tmp_path, good_plan(scale=0.01)))
    assert verdict.is_scaled
    assert Law.SCALE in laws(verdict, Effect.WARNING)


def test_alerts_are_reported_and_change_nothing(tmp_path: Path) -> None:
    """An alert level that was reached is RAISED beside a PASS."""
    plan = with_objectives(good_plan(), "p99.9 < 10 s")
    verdict = judge(write_run(tmp_path, plan, traces_of(lambda t: t.delay(t.stage == 1, 400 * MS))))
    assert verdict.state is State.PASS
    assert [alert.state for alert in verdict.alerts] == [AlertState.RAISED, AlertState.CLEAR]


def test_an_alert_of_an_invalid_stage_is_unknown(tmp_path: Path) -> None:
    """What cannot be judged cannot be clear."""
    verdict = judge(write_run(tmp_path, change_window=busy_for(4)))
    assert {alert.state for alert in verdict.alerts} == {AlertState.UNKNOWN}


@pytest.mark.parametrize("offset_ns", [300 * MS, 999 * MS])
def test_edges_that_are_not_whole_seconds_do_not_fail_a_healthy_target(
    tmp_path: Path, offset_ns: int
) -> None:
    """With stages between window edges the resolution is larger, and never decides."""
    stages = tuple(
        dataclasses.replace(
            s, start_ns=s.start_ns + (offset_ns if i else 0), end_ns=s.end_ns + offset_ns
        )
        for i, s in enumerate(good_plan().stages)
    )
    verdict = judge(write_run(tmp_path, good_plan(stages=stages)))
    assert verdict.state in {State.PASS, State.INCONCLUSIVE}
    assert State.FAIL not in {result.state for result in verdict.objectives}


def test_a_stage_shorter_than_a_window_cannot_pass(tmp_path: Path) -> None:
    """Without a whole second inside, a stage has nothing to judge."""
    short = dataclasses.replace(
        good_plan().stages[1],
        start_ns=2 * S + 1,
        end_ns=2 * S + 900 * MS,
        profile=Hold(level=500.0),
    )
    first = dataclasses.replace(good_plan().stages[0], end_ns=2 * S + 1)
    verdict = judge(write_run(tmp_path, good_plan(stages=(first, short))))
    assert verdict.state is State.INCONCLUSIVE
    assert Law.DATA in laws(verdict)


def test_no_error_among_few_is_no_evidence(tmp_path: Path) -> None:
    """0 of 1,250 cannot PASS 0.1 %: at 0.24 % none would come in one of 20 runs; 1 % it can."""
    plan = with_objectives(
        good_plan(), "error_ratio < 0.1 % on submit", "error_ratio < 1 % on submit"
    )
    strict, loose = judge(write_run(tmp_path, plan)).objectives
    assert (strict.reading.value, strict.reading.samples) == (0.0, 1250)
    assert (strict.state, strict.reason) == (
        State.INCONCLUSIVE, "n too small: 1250 of 4603 samples",
    )  # fmt: skip
    assert loose.state is State.PASS
