"""Objectives on failovers are judged from an archive, and nothing passes that is not known."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import pytest
from binned_run import FAULT_NS, applied, binned_run, failover_plan
from synthetic_run import T0_S, S

from analysis.figures import build_figures
from analysis.judging import ObjectiveResult, State
from analysis.recovery.faults import build_faults
from analysis.recovery.measures import Recoveries, measure_recoveries
from analysis.recovery.sentence import recovery_sentences
from analysis.report.timeline import build_timeline
from analysis.run_tables import build_tables
from analysis.tables import to_rows
from analysis.verdict import Verdict, judge, plan_of
from loadtests.record.archive import Run, verify
from loadtests.record.event import Event
from loadtests.record.fault_events import FaultEvent
from loadtests.record.manifest import LostWindow


def failover(verdict: Verdict) -> dict[str, ObjectiveResult]:
    """Results of the objectives on failovers, by their text."""
    return {one.objective: one for one in verdict.objectives if one.stage == "(failover)"}


def judged(run: Run, text: str) -> ObjectiveResult:
    """The one objective's result."""
    return failover(judge(run))[text]


def recoveries_of(run: Run) -> Recoveries:
    """The run's failover measures."""
    found = measure_recoveries(run, plan_of(run))
    assert isinstance(found, Recoveries), found
    return found


PASSING = {
    "time_to_recover < 300 s": 2 * S,
    "time_to_detect < 1 s": S // 10,
    "unavailability < 30 s": 2 * S,
    "longest_outage < 3 s": 2 * S,
    "blackout < 3 s": 2 * S,
    "error_budget_spent < 10 %": 400 / (0.0001 * 200 * 30 * 86_400),
}
FAILING = (
    "time_to_recover < 1 s",
    "unavailability < 1 s",
    "longest_outage <= 1.5 s",
    "downtime == none",
    "error_budget_spent < 0.1 %",
)


def test_a_measured_outage_meets_and_misses_its_objectives(tmp_path: Path) -> None:
    """2 s of 503 after a fault: every measure has its value, and the verdict is FAIL."""
    run = binned_run(tmp_path, *PASSING, *FAILING, outage_s=2.0)
    assert verify(run.path) == ()
    verdict = judge(run)
    results = failover(verdict)
    for text, expected in PASSING.items():
        value = results[text].reading.value
        assert (results[text].state, results[text].reason) == (State.PASS, "met"), text
        assert value is not None
        assert abs(value - expected) <= (S / 10 if expected > 1 else 0.02), (text, value)
    assert {text: results[text].state for text in FAILING} == dict.fromkeys(FAILING, State.FAIL)
    assert verdict.state is State.FAIL
    assert "failed" in results["downtime == none"].reason


def test_no_downtime_passes_when_nothing_failed(tmp_path: Path) -> None:
    """A fault that nobody felt: no downtime, no unavailability, recovered at once."""
    texts = ("downtime == none", "unavailability < 0.05 s", "time_to_recover < 1 s")
    verdict = judge(binned_run(tmp_path, *texts))
    assert {text: failover(verdict)[text].state for text in texts} == dict.fromkeys(
        texts, State.PASS
    )
    assert verdict.state is State.PASS, verdict.reasons


def test_late_answers_are_downtime_and_have_to_end_before_recovery(tmp_path: Path) -> None:
    """Nothing failed, but for 3 s one in five answers took 600 ms: p99 < 500 ms did not hold."""
    run = binned_run(tmp_path, "downtime == none", "time_to_recover < 300 s", late_s=3.0)
    assert judged(run, "downtime == none").state is State.FAIL
    value = judged(run, "time_to_recover < 300 s").reading.value
    assert value is not None
    # 120 late ones, of which p99 of 30 s forgives 60: half of them are over after 1.5 + 0.6 s.
    assert abs(value - 2.1 * S) <= 0.2 * S
    part = recoveries_of(run).whole.whole
    assert (part.late, part.outage.unavailable_ns) == (120, 0)


def test_a_limit_within_the_resolution_is_not_decided(tmp_path: Path) -> None:
    """2.0 s measured to 0.1 s is neither below 2.05 s nor above it."""
    run = binned_run(tmp_path, "unavailability < 2.05 s", outage_s=2.0)
    assert judged(run, "unavailability < 2.05 s").state is State.INCONCLUSIVE


@pytest.mark.parametrize(
    ("seconds", "limit", "state"),
    [(22, "300 s", State.INCONCLUSIVE), (22, "2 s", State.FAIL), (45, "300 s", State.PASS)],
)
def test_a_run_that_ends_too_soon_shows_no_recovery(
    tmp_path: Path, seconds: int, limit: str, state: State
) -> None:
    """5 s of outage, 10 s of good load: not 30 s, so only a limit that had passed decides."""
    text = f"time_to_recover < {limit}"
    run = binned_run(tmp_path, text, outage_s=5.0, seconds=seconds)
    assert judged(run, text).state is state


def test_what_did_not_recover_fails_once_the_limit_is_over(tmp_path: Path) -> None:
    """Failing to the end: FAIL for a limit within the run, no answer for one beyond it."""
    run = binned_run(tmp_path, "time_to_recover < 10 s", "time_to_recover < 300 s", outage_s=60.0)
    assert judged(run, "time_to_recover < 10 s").state is State.FAIL
    assert judged(run, "time_to_recover < 300 s").state is State.INCONCLUSIVE


def test_nothing_is_judged_without_a_fault_or_bins(tmp_path: Path) -> None:
    """Zero data is never a pass."""
    run = binned_run(tmp_path / "a", "unavailability < 30 s", faults=())
    result = judged(run, "unavailability < 30 s")
    assert (result.state, result.reason) == (State.INCONCLUSIVE, "no fault was injected")
    bare = dataclasses.replace(run, bins=run.bins.iloc[:0])
    assert any("there are none" in reason for reason in judge(bare).reasons)
    result = judged(bare, "unavailability < 30 s")
    assert (result.state, result.reason) == (State.INCONCLUSIVE, "no bins were recorded")


def test_a_fault_that_did_not_take_hold_measures_nothing(tmp_path: Path) -> None:
    """No outage because nothing was done is no proof of anything."""
    refuted = dataclasses.replace(applied(FAULT_NS + 1), kind=FaultEvent.NOT_IN_FORCE)
    run = binned_run(tmp_path, "downtime == none", faults=(applied(FAULT_NS), refuted))
    result = judged(run, "downtime == none")
    assert result.state is State.INCONCLUSIVE
    assert "not seen to be in force" in result.reason


def test_bins_that_do_not_add_up_are_believed_nothing(tmp_path: Path) -> None:
    """One missing row of bins: INCONCLUSIVE, with the law."""
    run = binned_run(tmp_path, "downtime == none")
    damaged = dataclasses.replace(run, bins=run.bins.drop(index=run.bins.index[3]))
    verdict = judge(damaged)
    assert {one.state for one in verdict.objectives} == {State.INCONCLUSIVE}
    assert any("do not add up" in reason for reason in verdict.reasons)


def test_lost_windows_and_a_stalled_engine_are_doubts(tmp_path: Path) -> None:
    """What was not handed over, and a generator that stood still while requests failed."""
    run = binned_run(tmp_path, "unavailability < 30 s", outage_s=2.0)
    lost = LostWindow(who="a1/0", from_s=1_790_000_008, to_s=1_790_000_009, planned=5)
    manifest = msgspec.structs.replace(run.manifest, lost_windows=(lost,))
    assert any("lost" in doubt for doubt in recoveries_of(
        dataclasses.replace(run, manifest=manifest)).doubts)  # fmt: skip
    engines = run.engines.copy()
    engines.loc[engines["window_s"] == 1_790_000_008, "stalled_ns"] = 250_000_000
    stalled = dataclasses.replace(run, engines=engines)
    assert judged(stalled, "unavailability < 30 s").state is State.INCONCLUSIVE
    engines["stalled_ns"] = 0
    engines.loc[engines["window_s"] == 1_790_000_020, "stalled_ns"] = 250_000_000
    elsewhere = dataclasses.replace(run, engines=engines)
    assert judged(elsewhere, "unavailability < 30 s").state is State.PASS


def test_several_faults_are_measured_each_and_together(tmp_path: Path) -> None:
    """The second fault did nothing; the first one's figures are its own, the totals the run's."""
    faults = (applied(FAULT_NS), applied(FAULT_NS + 5 * S, "restart n2", "n2"))
    found = recoveries_of(binned_run(tmp_path, outage_s=2.0, faults=faults))
    first, second = found.faults
    assert abs(first.whole.outage.unavailable_ns - 2 * S) <= S / 10
    assert second.whole.outage.unavailable_ns == 0
    assert second.downtime.is_none is True
    assert found.whole.whole.outage.unavailable_ns == first.whole.outage.unavailable_ns
    assert {part.kind for part in found.whole.parts} == {"all", "request", "node"}
    parts = [part for part in found.whole.parts if part.kind == "request"]
    assert sum(part.outage.failed for part in parts) == found.whole.whole.outage.failed == 400


def test_a_zone_is_one_fault_on_several_nodes(tmp_path: Path) -> None:
    """Steps of one fault on two nodes: it counts from the first, and is gone with the last."""
    steps = [applied(FAULT_NS), applied(FAULT_NS + S, node="n2")]
    gone = [
        dataclasses.replace(step, kind=FaultEvent.GONE, at_ns=step.at_ns + 3 * S) for step in steps
    ]
    run = binned_run(tmp_path, faults=(*steps, *gone))
    (fault,) = build_faults(run)
    assert fault.nodes == ("n1", "n2")
    t0_ns = 1_790_000_000 * S
    assert (fault.at_ns, fault.gone_ns) == (t0_ns + FAULT_NS, t0_ns + FAULT_NS + 4 * S)
    half = dataclasses.replace(run, events=run.events[:3])
    assert build_faults(half)[0].gone_ns is None


def test_the_tables_say_what_was_measured(tmp_path: Path) -> None:
    """Every figure stands in a table with its resolution."""
    run = binned_run(tmp_path, "unavailability < 30 s", outage_s=2.0)
    tables = {table.name: table for table in build_tables(run, judge(run), build_figures(run))}
    row = to_rows(tables["recovery"])[0]
    assert row["of"] == "all requests"
    assert row["failed"] == 400
    assert abs(float(row["unavailable_us"] or 0) - 2e6) <= 1e5
    assert abs(float(row["recovered_us"] or 0) - 2e6) <= 1e5
    assert float(row["resolution_us"] or 0) >= 1e5
    (fault,) = to_rows(tables["faults"])
    assert (fault["downtime"], fault["nodes"], fault["action"]) == ("yes", "n1", "kill")


def test_a_sentence_says_what_a_fault_cost(tmp_path: Path) -> None:
    """With its resolution; of a run without faults nothing is said."""
    (sentence,) = recovery_sentences(binned_run(tmp_path / "a", outage_s=2.0))
    assert sentence == (
        "kill leader (kill of n1): unavailable for 2.00 s ±100 ms, every objective held again "
        "after 2.07 s ±100 ms; 400 of 7,000 requests failed"
    )
    assert recovery_sentences(binned_run(tmp_path / "b", faults=())) == ()


def test_what_was_expected_stands_beside_what_was_measured(tmp_path: Path) -> None:
    """The prediction of each fault, as it was said before the run."""
    run = binned_run(tmp_path, outage_s=2.0)
    said = Event(
        at_unix_ns=0, kind=FaultEvent.PREDICTION.value, who="failover",
        text="kill leader: quorum is kept",
        fields={"at_ns": 0, "fault": "kill leader", "unavailable_ns": 3 * S},
    )  # fmt: skip
    placed = msgspec.structs.replace(said, text="a: n1", fields={"at_ns": 0})
    run = dataclasses.replace(run, events=(placed, said, *run.events))
    tables = {table.name: table for table in build_tables(run, judge(run), build_figures(run))}
    (row,) = to_rows(tables["predictions"])
    assert (row["fault"], row["expected"], row["most_us"]) == ("kill leader", "quorum is kept", 3e6)
    assert abs(float(row["unavailable_us"] or 0) - 2e6) <= 1e5


def test_objectives_that_bins_cannot_tell_are_named(tmp_path: Path) -> None:
    """What time to recover leaves out is said, not dropped in silence."""
    plan = failover_plan("failed_p99 < 1 s", "time_to_recover < 300 s")
    run = binned_run(tmp_path, plan=plan, outage_s=1.0)
    assert recoveries_of(run).left_out == ("failed_p99 < 1 s",)
    assert any("failed_p99 < 1 s" in finding.text for finding in judge(run).findings)


def test_downtime_holds_p99_against_its_own_limit(tmp_path: Path) -> None:
    """600 ms are late for p99 < 500 ms, whatever p99.9 may take."""
    run = binned_run(tmp_path, "p99.9 < 2 s", "downtime == none", late_s=3.0)
    assert recoveries_of(run).whole.whole.late_limit_ns == 500_000_000
    assert judged(run, "downtime == none").state is State.FAIL


def test_what_fails_before_a_slow_fault_is_acknowledged_counts(tmp_path: Path) -> None:
    """An action that took 3 s to return: its outage of 2 s was over before, and is its own."""
    slow = dataclasses.replace(applied(FAULT_NS + 3 * S), began_ns=FAULT_NS - S)
    run = binned_run(tmp_path, "downtime == none", outage_s=2.0, faults=(slow,))
    outage = recoveries_of(run).whole.whole.outage
    assert outage.failed == 400
    assert abs(outage.unavailable_ns - 2 * S) <= S / 10
    assert outage.first_bad_ns == 0
    assert judged(run, "downtime == none").state is State.FAIL


def test_a_check_that_crashes_is_inconclusive_and_loses_no_verdict(tmp_path: Path) -> None:
    """An event without its time: no failover objective passes or fails, all others are judged."""
    texts = ("unavailability < 30 s", "time_to_recover < 300 s", "downtime == none")
    run = binned_run(tmp_path, *texts)
    (event,) = run.events
    fields = {name: value for name, value in event.fields.items() if name != "at_ns"}
    damaged = dataclasses.replace(run, events=(msgspec.structs.replace(event, fields=fields),))
    verdict = judge(damaged)
    for text in texts:
        result = failover(verdict)[text]
        assert result.state is State.INCONCLUSIVE
        assert result.reason == "the check crashed: KeyError: 'at_ns'"
    others = [one for one in verdict.objectives if one.stage != "(failover)"]
    assert {one.state for one in others} == {State.PASS}
    assert verdict.state is State.INCONCLUSIVE
    assert build_tables(damaged, verdict, build_figures(damaged))
    assert build_timeline(damaged, T0_S, 60).faults == ()
