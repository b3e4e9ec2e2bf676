"""One night: order, retries, budget, windows, what it amounts to and who is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from nights import FINE, HOUR_NS, OF_HOST, READING, attempt, plan_of, run_night, step, unix_ns
from test_nightly_calendar import window

from loadtests.errors import ExitCode
from loadtests.nightly.canary import HostJudgement
from loadtests.nightly.night import is_worth_telling, with_note
from loadtests.nightly.records import (
    EXIT_CODES,
    LastResult,
    NightRecord,
    NightState,
    history_of,
    read_last_result,
    read_records,
    silence_of,
    write_last_result,
    write_record,
)
from loadtests.nightly.spec import Occasion, StepKind

STEPS = (step("smoke", 1, is_required=True), step("rest"), step("grpc"))
HOST = NightState.INCONCLUSIVE


def states(record: NightRecord) -> list[NightState]:
    """Of the steps."""
    return [one.state for one in record.steps]


def test_a_good_night() -> None:
    """Every step in its order; the record is saved before and after each, and says what it cost."""
    saved: list[NightRecord] = []
    record, asked = run_night(plan_of(*STEPS), saved=saved)
    assert asked == ["smoke", "rest", "grpc"]
    assert (record.state, record.why) == (NightState.PASS, "all 3 steps")
    assert [one.state for one in saved[:-1]] == [NightState.RUNNING] * 4
    assert [len(one.steps) for one in saved] == [0, 1, 2, 3, 3]
    assert record.took_ns == 2 * HOUR_NS + HOUR_NS // 60
    assert record.cost == pytest.approx(2.0 * (2 + 1 / 60))
    assert record.host == READING


def test_what_does_not_pass_a_required_step_gets_no_load() -> None:
    """Neither a FAIL nor an INCONCLUSIVE smoke opens the way."""
    for bad in (NightState.FAIL, NightState.INCONCLUSIVE, NightState.USAGE):
        record, asked = run_night(plan_of(*STEPS), script={"smoke": [attempt(bad)]})
        assert asked == ["smoke"]
        assert states(record) == [bad, NightState.NOT_RUN, NightState.NOT_RUN]
        assert record.state is bad
        assert "smoke, which is required" in record.steps[1].why


def test_only_the_hosts_fault_is_tried_again() -> None:
    """Once, as the plan says; a second time it stays INCONCLUSIVE."""
    record, asked = run_night(plan_of(*STEPS), script={"rest": [OF_HOST]})
    assert asked == ["smoke", "rest", "rest", "grpc"]
    assert record.state is NightState.PASS
    assert [one.state for one in record.steps[1].attempts] == [HOST, NightState.PASS]
    record, asked = run_night(plan_of(*STEPS), script={"rest": [OF_HOST, OF_HOST]})
    assert asked.count("rest") == 2
    assert (record.state, states(record)[1]) == (HOST, HOST)
    assert "not tried again: 2 times" in record.steps[1].why


@pytest.mark.parametrize(
    "state", [NightState.FAIL, NightState.HARNESS, NightState.USAGE, NightState.INCONCLUSIVE]
)
def test_a_bad_result_is_never_repeated_away(state: NightState) -> None:
    """A FAIL that a second try would turn into a PASS is a FAIL."""
    record, asked = run_night(plan_of(*STEPS), script={"rest": [attempt(state)]})
    assert asked == ["smoke", "rest", "grpc"]
    assert record.state is state


def test_a_retry_needs_its_part_of_the_budget() -> None:
    """What is over after one try is not tried again, and says why."""
    plan = plan_of(step("rest"))
    plan = replace(plan, budget=replace(plan.budget, time_ns=HOUR_NS + HOUR_NS // 2))
    record, asked = run_night(plan, script={"rest": [OF_HOST]})
    assert asked == ["rest"]
    assert "not tried again: the night would take 2.03333 h of 1.5 h" in record.steps[0].why


def test_the_time_is_never_overdrawn() -> None:
    """A step that would not fit is left out; a shorter one after it may still."""
    plan = plan_of(step("rest"), step("soak", 480), step("grpc"))
    plan = replace(plan, budget=replace(plan.budget, time_ns=3 * HOUR_NS))
    record, asked = run_night(plan)
    assert asked == ["rest", "grpc"]
    assert record.state is NightState.INCONCLUSIVE
    assert record.took_ns <= plan.budget.time_ns
    assert record.why == "soak: the night would take 9.03333 h of 3 h"


def test_the_money_is_never_overdrawn() -> None:
    """2.00 an hour: the third hour would be above 5.00."""
    plan = plan_of(step("a"), step("b"), step("c"))
    plan = replace(plan, budget=replace(plan.budget, most_cost=5.0))
    record, asked = run_night(plan)
    assert asked == ["a", "b"]
    assert record.cost <= 5.0
    assert "would cost 6.07 of 5.00" in record.steps[2].why


def test_nothing_begins_that_would_leave_its_window() -> None:
    """From 01:30 to 04:00 two hours fit, the third would end at 04:30."""
    plan = plan_of(step("a"), step("b"), step("c"), authorised=(window("01:00", "04:00"),))
    record, asked = run_night(plan)
    assert asked == ["a", "b"]
    assert "04:00 UTC is in no authorised window" in record.steps[2].why
    plan = plan_of(step("a"), step("b"), quiet=(window("02:45", "03:00"),))
    assert run_night(plan)[1] == ["a"]


def test_what_a_run_may_last_has_to_fit_not_its_load_alone() -> None:
    """An hour of load, 15 min until its workers are there, 2 min beside: all before the edge."""
    late = step("late", join_wait_ns=HOUR_NS // 4)
    for quiet_from, is_begun in (("02:47", False), ("02:48", True)):
        plan = plan_of(late, quiet=(window(quiet_from, "03:30"),))
        assert run_night(plan)[1] == (["late"] if is_begun else []), quiet_from
    plan = plan_of(late, authorised=(window("01:00", "02:46"),))
    assert "02:46 UTC is in no authorised window" in run_night(plan)[0].why
    plan = plan_of(late)
    plan = replace(plan, budget=replace(plan.budget, time_ns=HOUR_NS + HOUR_NS // 4))
    assert "would take 1.28333 h of 1.25 h" in run_night(plan)[0].why


@pytest.mark.parametrize("which", ["quiet", "authorised"])
def test_a_run_that_is_late_is_stopped_at_the_edge(which: str) -> None:
    """It was to end at 02:32 and goes on: at 03:00 it is stopped, and nothing follows."""
    edges = {"quiet": window("03:00", "04:00"), "authorised": window("01:00", "03:00")}
    plan = plan_of(step("rest"), step("grpc", 1), **{which: (edges[which],)})
    record, asked = run_night(plan, late_ns=HOUR_NS)
    assert asked == ["rest"]
    assert states(record) == [NightState.ABORTED, NightState.NOT_RUN]
    assert record.ended_unix_ns == unix_ns("2026-11-26T03:00:00")
    assert record.state is NightState.ABORTED
    assert "03:00 UTC is in" in record.why
    assert run_night(plan_of(step("rest")), late_ns=HOUR_NS)[0].state is NightState.PASS


def test_a_night_that_is_stopped_before_its_first_run_sends_nothing() -> None:
    """While the host is measured, whether or not it moved: aborted, and says who asked."""
    for judgement in (FINE, HostJudgement(moved=("fixed work +50%",), notes=())):
        record, asked = run_night(plan_of(*STEPS), judgement=judgement, reason="the stop file")
        assert asked == []
        assert (record.state, record.why) == (NightState.ABORTED, "the stop file")


def test_a_night_over_midnight_and_new_year_keeps_its_day() -> None:
    """From 23:30 on Thursday, 31 December: Thursday's steps, in the record of that day."""
    plan = plan_of(
        step("thursday", days=frozenset({3})),
        step("friday", days=frozenset({4})),
        step("all"),
        at_minute=23 * 60 + 30,
    )
    record, asked = run_night(plan, at="2026-12-31T23:30:00")
    assert asked == ["thursday", "all"]
    assert record.night == "2026-12-31"
    assert record.ended_unix_ns is not None
    assert record.ended_unix_ns // 10**9 == 1_798_767_000  # 2027-01-01T01:30


def test_a_night_that_is_caught_up_has_the_steps_of_its_own_day() -> None:
    """Whatever day it is by then; and it says that it was late."""
    plan = plan_of(step("thu", days=frozenset({3})), step("fri", days=frozenset({4})))
    record, asked = run_night(plan, at="2026-11-26T09:00:00", night="2026-11-26")
    assert (asked, record.is_caught_up) == (["thu"], True)
    assert not run_night(plan)[0].is_caught_up


def test_on_a_host_that_moved_nothing_is_sent() -> None:
    """The night is void, and says by what."""
    moved = HostJudgement(moved=("fixed work takes 15 ms, +50%",), notes=())
    record, asked = run_night(plan_of(*STEPS), judgement=moved)
    assert asked == []
    assert set(states(record)) == {NightState.NOT_RUN}
    assert record.state is NightState.VOID
    assert record.why == "the host moved: fixed work takes 15 ms, +50%"
    assert EXIT_CODES[record.state] is ExitCode.INCONCLUSIVE


def test_a_signal_ends_the_night_in_order() -> None:
    """The step that it met is aborted, the others are not begun."""
    record, asked = run_night(plan_of(*STEPS), stops_at="rest")
    assert asked == ["smoke", "rest"]
    assert states(record)[1:] == [NightState.ABORTED, NightState.NOT_RUN]
    assert record.state is NightState.ABORTED
    assert EXIT_CODES[record.state] is ExitCode.ABORTED


def test_after_an_aborted_run_nothing_more_is_sent() -> None:
    """`headroom stop` ends the load of the night, not of one step; what is there is compared."""
    compare = step("compare", 0, kind=StepKind.COMPARE, scenario=None)
    aborted = {"rest": [attempt(NightState.ABORTED)]}
    record, asked = run_night(plan_of(*STEPS, compare), script=aborted)
    assert asked == ["smoke", "rest", "compare"]
    assert "rest was aborted" in record.steps[2].why
    assert record.state is NightState.ABORTED


def test_comparing_costs_no_load_and_can_fail_a_night() -> None:
    """It runs outside the windows and the budget, and a regression is a FAIL."""
    compare = step("compare", 0, kind=StepKind.COMPARE, scenario=None)
    plan = plan_of(step("rest"), compare, authorised=(window("01:00", "02:33"),))
    record, asked = run_night(plan, script={"compare": [attempt(NightState.FAIL)]})
    assert asked == ["rest", "compare"]
    assert record.state is NightState.FAIL


def test_the_worst_step_decides() -> None:
    """A FAIL is above everything: a fault of ours elsewhere takes nothing away from it."""
    order = [
        NightState.INCONCLUSIVE,
        NightState.USAGE,
        NightState.HARNESS,
        NightState.FAIL,
    ]
    for number in range(1, len(order) + 1):
        names = [f"s{i}" for i in range(number)]
        script = {name: [attempt(state)] for name, state in zip(names, order, strict=False)}
        record, _ = run_night(plan_of(*map(step, names)), script=script)
        assert record.state is order[number - 1]


def test_a_night_without_steps_shows_nothing() -> None:
    """A plan whose steps are all of other days cannot PASS."""
    record, _ = run_night(plan_of(step("a", days=frozenset({0}))))
    assert record.state is NightState.INCONCLUSIVE


def record_with(state: NightState) -> NightRecord:
    """A night that ended so."""
    return msgspec.structs.replace(run_night(plan_of(step("a")))[0], state=state)


@pytest.mark.parametrize(
    ("state", "before", "is_told"),
    [
        (NightState.PASS, None, False),
        (NightState.PASS, NightState.PASS, False),
        (NightState.PASS, NightState.FAIL, True),
        (NightState.PASS, NightState.RUNNING, True),  # the night before was killed
        (NightState.FAIL, NightState.FAIL, True),
        (NightState.HARNESS, None, True),
        (NightState.ABORTED, None, True),
        (NightState.VOID, None, True),
        (NightState.INCONCLUSIVE, None, True),
    ],
)
def test_who_is_told(state: NightState, before: NightState | None, is_told: bool) -> None:  # noqa: FBT001 - a table
    """Everything but one good night after another."""
    on = (Occasion.FAILURE, Occasion.VOID, Occasion.INCONCLUSIVE, Occasion.RECOVERED)
    previous = None if before is None else record_with(before)
    assert is_worth_telling(record_with(state), previous, on) is is_told
    assert is_worth_telling(record_with(state), previous, (Occasion.ALWAYS,))


def test_an_upload_that_failed_is_our_fault_and_hides_no_fail() -> None:
    """A PASS that nobody will ever see again is a harness error; a FAIL stays one."""
    assert with_note(record_with(NightState.PASS), "upload: x", is_failure=True).state is (
        NightState.HARNESS
    )
    noted = with_note(record_with(NightState.FAIL), "upload: x", is_failure=True)
    assert (noted.state, noted.notes) == (NightState.FAIL, ("upload: x",))


def test_records_are_read_back_as_they_were(tmp_path: Path) -> None:
    """Oldest first, across a year; other files in the folder are none."""
    for night in ("2027-01-01", "2026-12-31"):
        record = msgspec.structs.replace(record_with(NightState.PASS), night=night)
        write_record(tmp_path, record)
    write_last_result(tmp_path, record_with(NightState.PASS), 5)
    (tmp_path / "nights" / "lock").touch()
    found = read_records(tmp_path).records
    assert [one.night for one in found] == ["2026-12-31", "2027-01-01"]
    assert history_of(found) == (READING, READING)
    last = read_last_result(tmp_path)
    assert last is not None
    assert last.written_unix_ns == 5


@pytest.mark.parametrize(
    ("age_h", "words"),
    [(0, None), (25.99, None), (26.01, "no result for 26.0 h"), (-1, "1.0 h ahead")],
)
def test_silence_is_noticed(age_h: float, words: str | None) -> None:
    """A result is good for 26 h; one of the future is a clock that is wrong."""
    last = LastResult(night="2026-11-26", state=NightState.FAIL, written_unix_ns=10**18)
    now_ns = 10**18 + round(age_h * HOUR_NS)
    found = silence_of(last, now_ns, 26 * HOUR_NS)
    assert silence_of(last, now_ns, 26 * HOUR_NS, now_ns) == found  # it has just begun
    assert found is None if words is None else found is not None and words in found
    assert silence_of(None, now_ns, HOUR_NS) == "no night has ended yet"
    assert FINE.moved == ()


def test_a_night_that_takes_longer_than_the_one_before_is_no_silence() -> None:
    """The shipped plan: smoke FAILs on Friday at 01:33, Saturday's soak goes on at 08:15."""
    friday = LastResult(
        night="2026-11-27", state=NightState.FAIL, written_unix_ns=unix_ns("2026-11-27T01:33:00")
    )
    begun, checked = unix_ns("2026-11-28T01:30:00"), unix_ns("2026-11-28T08:15:00")
    assert silence_of(friday, checked, 26 * HOUR_NS) is not None
    assert silence_of(friday, checked, 26 * HOUR_NS, begun) is None
    # What was silent when it began is not made good by beginning.
    assert silence_of(friday, checked + 24 * HOUR_NS, 26 * HOUR_NS, begun + 24 * HOUR_NS)
    assert silence_of(None, checked, 26 * HOUR_NS, begun) == "no night has ended yet"
