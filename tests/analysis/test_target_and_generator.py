"""Whose doing it was: the guilty target is not excused, the slow generator not blamed on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from synthetic_run import MS, T0_S, S, Trace, good_plan, good_traces, with_objectives, write_run

from analysis.findings import Effect, Law
from analysis.judging import State
from analysis.show import to_json
from analysis.verdict import Verdict, judge
from loadtests.plan.call import SINGLE, Multiplexing
from loadtests.plan.model import Hold, Plan
from loadtests.record.error_kinds import Trait, traits_of
from loadtests.record.window import CONNECTION, Hiccup, Window

CONNECTIONS = 64
PASSING = ("throughput >= 490 rps", "done_p99 < 20 s", "max < 1 min")


def laws(verdict: Verdict, effect: Effect) -> set[Law]:
    """The laws with a finding of this effect."""
    return {finding.law for finding in verdict.findings if finding.effect is effect}


def run_of(folder: Path, plan: Plan, change: Callable[[Trace], None]) -> Verdict:
    """The verdict of good requests, changed."""
    traces = good_traces(plan)
    for trace in traces:
        change(trace)
    return judge(write_run(folder, plan, traces))


def failing(kind: str, every: int = 1) -> Callable[[Trace], None]:
    """Every so many requests of the judged stage end like that."""

    def change(trace: Trace) -> None:
        trace.fail((trace.stage == 1) & (np.arange(trace.stage.size) % every == 0), kind)

    return change


@pytest.mark.parametrize("kind", ["timeout", "connect_refused", "reset", "no_connection"])
def test_a_target_that_never_answers_passes_nothing(tmp_path: Path, kind: str) -> None:
    """Whatever became of a request that had no answer, it is no throughput and never in time."""
    verdict = run_of(tmp_path, with_objectives(good_plan(), *PASSING), failing(kind))
    assert {result.state for result in verdict.objectives} == {State.FAIL}
    assert verdict.objectives[0].reading.value == 0
    assert "never answered" in verdict.objectives[1].reason


def test_rejections_are_answers(tmp_path: Path) -> None:
    """Complete responses are throughput and in time; that no objective limits them is said."""
    verdict = run_of(tmp_path, with_objectives(good_plan(), *PASSING), failing("status_503"))
    assert verdict.state is State.PASS
    texts = [finding.text for finding in verdict.findings if finding.law is Law.ERRORS]
    assert [text.split(" ended")[0] for text in texts] == [
        "3750 of 3750 requests read",
        "1250 of 1250 requests submit",
    ]


@pytest.mark.parametrize(
    ("kind", "objective", "is_limited"),
    [
        ("status_503", "error_ratio < 100 %", True),
        ("status_503", "slo_error_ratio < 100 %", True),
        ("status_404", "slo_error_ratio < 100 %", False),
        ("status_404", "success_ratio >= 0 %", True),
        ("status_503", "goodput >= 1 rps", True),
        ("status_503", "dropped_ratio < 1 %", False),
    ],
)
def test_errors_that_no_objective_limits_are_said(
    tmp_path: Path, kind: str, objective: str, *, is_limited: bool
) -> None:
    """A PASS beside errors that nobody looked at carries a warning."""
    verdict = run_of(tmp_path, with_objectives(good_plan(), objective), failing(kind, 10))
    assert (Law.ERRORS not in laws(verdict, Effect.WARNING)) == is_limited


def test_an_objective_on_one_request_does_not_limit_the_others(tmp_path: Path) -> None:
    """The warning is by request."""
    plan = with_objectives(good_plan(), "error_ratio <= 100 % on submit")
    verdict = run_of(tmp_path, plan, failing("status_500", 7))
    assert ["read" in f.text for f in verdict.findings if f.law is Law.ERRORS] == [True]


def silent_plan() -> Plan:
    """A judged stage from T0 on; two engines with 32 connections each."""
    (stage,) = good_plan().stages[1:]
    stage = dataclasses.replace(stage, start_ns=0, end_ns=10 * S, profile=Hold(level=500.0))
    plan = with_objectives(good_plan(stages=(stage,)), "error_ratio < 1 %", "p95 < 200 ms")
    return dataclasses.replace(plan, connections=CONNECTIONS)


def silent(trace: Trace) -> None:
    """Each connection is held for 1 s, which then times out; others wait, or are shed."""
    free_ns = [0] * (CONNECTIONS // 2)
    for at, due_ns in enumerate(trace.intended_ns.tolist()):
        first = min(range(len(free_ns)), key=free_ns.__getitem__)
        sent_ns = max(due_ns + 40_000, free_ns[first])
        if sent_ns - due_ns >= S:
            trace.is_dropped[at] = True
            continue
        free_ns[first] = sent_ns + S
        trace.sent_ns[at], trace.done_ns[at] = sent_ns, sent_ns + S
    trace.fail(trace.intended_ns >= 0, "timeout")


def stalls(by_ns: int) -> Callable[[Window], Window]:
    """Every engine's loop stood still for so long in every second; no ticker after the end."""

    def change(window: Window) -> Window:
        health = tuple(msgspec.structs.replace(h, stalled_ns=by_ns) for h in window.health)
        hiccups = window.hiccups if window.start_s < T0_S + 10 else ()
        return dataclasses.replace(window, health=health, hiccups=hiccups)

    return change


@pytest.mark.parametrize(
    ("stalled_ms", "state"), [(0, State.FAIL), (15, State.FAIL), (800, State.INCONCLUSIVE)]
)
def test_a_silent_target_is_not_excused_by_what_nobody_could_have_sent(
    tmp_path: Path, stalled_ms: int, state: State
) -> None:
    """No connection was free: short stalls of the loop cost next to nothing, long ones all."""
    traces = good_traces(silent_plan())
    for trace in traces:
        silent(trace)
    run = write_run(tmp_path, silent_plan(), traces, change_window=stalls(stalled_ms * MS))
    verdict = judge(run)
    assert verdict.state is state
    assert (Law.SENDS in laws(verdict, Effect.WARNING)) == (state is State.FAIL)
    assert (Law.SENDS in laws(verdict, Effect.INVALID)) == (state is not State.FAIL)


@pytest.mark.parametrize(
    ("streams", "connections", "state"),
    [
        (32, 0, State.FAIL),  # of each engine: 32 of 32 taken
        (32, 6400, State.FAIL),  # HTTP/1.1 beside it has room, which is none for calls
        (71, 0, State.FAIL),  # one of two nodes can be full at 45 %
        (320, 0, State.INCONCLUSIVE),  # there were streams to send on
        (0, 6400, State.INCONCLUSIVE),
    ],
)
def test_a_target_that_holds_all_streams_is_not_excused(
    tmp_path: Path, streams: int, connections: int, state: State
) -> None:
    """Late and missing sends are the target's while its streams are taken, and only then."""
    channels = Multiplexing(connections=2, streams=32, keepalive_ns=0, authority=None)
    plan = dataclasses.replace(
        silent_plan(),
        connections=connections,
        multiplexing=channels if streams else SINGLE,
        in_flight_limit=6400,
    )
    traces = good_traces(plan)
    for trace in traces:
        silent(trace)

    def change(window: Window) -> Window:
        window = stalls(0)(window)
        health = tuple(
            msgspec.structs.replace(one, streams=streams, streams_in_use=min(32, streams))
            for one in window.health
        )
        return dataclasses.replace(window, health=health)

    verdict = judge(write_run(tmp_path, plan, traces, change_window=change))
    assert verdict.state is state
    is_targets = state is State.FAIL
    assert {Law.SENDS, Law.SEND_LAG} <= laws(
        verdict, Effect.WARNING if is_targets else Effect.INVALID
    )
    assert verdict.is_generator_limited != is_targets


def late_failing(kind: str) -> Callable[[Trace], None]:
    """One in twenty leaves 15 ms late with connections free, and all end like that."""

    def change(trace: Trace) -> None:
        late = np.arange(trace.stage.size) % 20 == 0
        trace.sent_ns[late] += 15 * MS
        trace.done_ns[late] += 15 * MS
        trace.fail(trace.stage == 1, kind)

    return change


@pytest.mark.parametrize(
    ("kind", "is_targets"),
    [
        *((kind, True) for kind in ("status_500", "check", "protocol", "too_large", "reset")),
        *((kind, True) for kind in ("closed", "closed_before_response", "connect_refused")),
        *((kind, True) for kind in ("connect_reset", "connect_closed")),
        *((kind, True) for kind in ("grpc_14", "goaway", "h2_internal_error")),
        *((kind, False) for kind in ("grpc_1", "grpc_4", "h2_cancel")),
        *((kind, False) for kind in ("timeout", "no_connection", "connect_timeout", "dns")),
        *((kind, False) for kind in ("tls", "connect_tls", "status_408", "other")),
        ("client_descriptors_exhausted", False),
    ],
)
def test_a_late_generator_excuses_only_what_it_could_have_caused(
    tmp_path: Path, kind: str, *, is_targets: bool
) -> None:
    """Each kind of the table: all requests ended like that while 5 % left 15 ms late."""
    verdict = run_of(
        tmp_path, with_objectives(good_plan(), "error_ratio < 1 %", "p95 < 200 ms"),
        late_failing(kind),
    )  # fmt: skip
    assert (Trait.TARGET_ALONE in traits_of(kind)) == is_targets
    assert verdict.state is (State.FAIL if is_targets else State.INCONCLUSIVE)


def test_a_fail_has_no_reason_that_is_none(tmp_path: Path) -> None:
    """What else was found stands beside the reasons of a FAIL, not among them."""
    verdict = run_of(
        tmp_path, with_objectives(good_plan(), "error_ratio < 1 %"), late_failing("reset")
    )
    assert [reason.split(" (")[0] for reason in verdict.reasons] == ["error_ratio < 1 %"]
    assert [note.split(" (")[0] for note in verdict.notes] == ["send lag"]


@pytest.mark.parametrize("is_host", [True, False])
def test_a_machine_short_of_cpu_is_told_from_a_slow_engine(
    tmp_path: Path, *, is_host: bool
) -> None:
    """Where the bare ticker was late in the same seconds, the finding says so."""

    def change(window: Window) -> Window:
        ticker = Hiccup(agent="a1", ticks=1000, p50_ns=50_000, p99_ns=90_000, max_ns=46 * MS)
        return dataclasses.replace(window, hiccups=(ticker,)) if is_host else window

    traces = good_traces(good_plan())
    for trace in traces:
        late_failing("")(trace)
    verdict = judge(write_run(tmp_path, traces=traces, change_window=change))
    (text,) = [finding.text for finding in verdict.findings if finding.law is Law.SEND_LAG]
    assert ("ticker on a1 was up to 46.0 ms late" in text) == is_host


def test_bytes_that_no_request_asked_for_are_a_warning(tmp_path: Path) -> None:
    """A target that answers twice does not pass without a word."""
    plan = good_plan()
    slot = plan.slots.slot(1, plan.slots.requests.index(CONNECTION), 0)

    def change(window: Window) -> Window:
        errors = {(slot, "protocol"): 5} if window.start_s == T0_S + 5 else {}
        return dataclasses.replace(window, errors=errors)

    verdict = judge(write_run(tmp_path, plan, change_window=change))
    assert verdict.state is State.PASS
    assert laws(verdict, Effect.WARNING) == {Law.STRAY_BYTES}


def test_tables_say_what_never_left_and_what_the_plan_was(tmp_path: Path) -> None:
    """Outcomes count those that never left; rates stand beside the plan's."""
    traces = good_traces(good_plan())
    for trace in traces:
        failing("no_connection", 5)(trace)
    run = write_run(tmp_path, traces=traces)
    tables = to_json(run, judge(run))["tables"]
    assert isinstance(tables, dict)
    outcomes, rates = tables["outcomes"], tables["rates"]
    assert isinstance(outcomes, list)
    assert isinstance(rates, list)
    assert isinstance(outcomes[0], dict)
    assert outcomes[0]["never_left"] == outcomes[0]["failed"] == 1000
    assert [row["plan_per_s"] for row in rates if isinstance(row, dict)] == [500.0, 375.0, 125.0]
