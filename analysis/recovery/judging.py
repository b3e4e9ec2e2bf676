"""Objectives on failovers: PASS, FAIL or INCONCLUSIVE, judged once a run.

INCONCLUSIVE where nothing was measured, where something speaks against the figures
(`Recoveries.doubts`, a law or a generator's limit in the stages after the fault), where the
limit lies within the value's resolution, and where requests without an outcome could turn
it. A run that ended too soon to show a recovery neither passes nor fails, unless the limit
had passed by then. What is met passes only in a run that came to its end. A check that
crashes is INCONCLUSIVE, with the crash as its reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from analysis.findings import GENERATOR_LAWS, Finding, Law, warning
from analysis.judging import NUMBERS_LAWS, ObjectiveResult, Outcome, State, inconclusive
from analysis.reading import Reading, unit_of
from analysis.recovery.downtime import Downtime
from analysis.recovery.measures import PartRecovery, Recoveries, Recovery
from analysis.recovery.rollback import BIN_KINDS, judge_rollback, read_rollback
from analysis.recovery.writes import WriteAudit, audit_writes, judge_writes
from analysis.unit import Unit
from analysis.unmeasured import CRASHES, Unmeasured, crash_text
from loadtests.plan.model import MeasureKind, Objective, Plan
from loadtests.plan.objectives import FAILOVER_KINDS, ROLLOUT_KINDS, WRITE_KINDS, is_met
from loadtests.plan.units import format_duration
from loadtests.record.archive import Run
from loadtests.record.manifest import Outcome as RunOutcome

FAILOVER: Final = "(failover)"  # stands for a stage; no stage can be called so
_BLOCKING: Final = NUMBERS_LAWS | GENERATOR_LAWS


def failover_warnings(recoveries: Recoveries | Unmeasured) -> Iterator[Finding]:
    """What a reader must know of the figures."""
    if isinstance(recoveries, Unmeasured):
        if recoveries.is_crash:
            yield warning(Law.FAILOVER, None, f"nothing was measured: {recoveries.reason}")
        return
    for doubt in recoveries.doubts:
        yield warning(Law.FAILOVER, None, doubt)
    if recoveries.left_out:
        text = f"time to recover leaves out {', '.join(recoveries.left_out)}: not in bins"
        yield warning(Law.FAILOVER, None, text)


def judge_failover(
    run: Run, plan: Plan, recoveries: Recoveries | Unmeasured, findings: Sequence[Finding]
) -> tuple[ObjectiveResult, ...]:
    """Every objective on failovers of a plan."""
    results = []
    audit = audit_writes(run, plan)
    for objective in plan.objectives:
        if objective.measure.kind not in FAILOVER_KINDS:
            continue
        try:
            reading, (state, reason) = _judge(run, objective, recoveries, audit, findings)
        except CRASHES as error:
            reading, (state, reason) = _nothing(objective), inconclusive(crash_text(error))
        results.append(
            ObjectiveResult(
                stage=FAILOVER,
                request=objective.request,
                objective=objective.text,
                limit=objective.limit,
                reading=reading,
                state=state,
                reason=reason,
            )
        )
    return tuple(results)


def _judge(
    run: Run,
    objective: Objective,
    recoveries: Recoveries | Unmeasured,
    audit: WriteAudit | Unmeasured,
    findings: Sequence[Finding],
) -> tuple[Reading, Outcome]:
    if objective.measure.kind in WRITE_KINDS:
        return judge_writes(objective, audit)
    if isinstance(recoveries, Unmeasured):
        return _nothing(objective), inconclusive(recoveries.reason)
    if objective.measure.kind in ROLLOUT_KINDS:
        return _judge_rollback(run, objective, recoveries, findings)
    reading = _read(objective, recoveries)
    blocked = _blocked(run, recoveries, findings)
    if blocked is not None:
        return reading, inconclusive(blocked)
    if reading.value is None:
        return reading, _unrecovered(objective, recoveries)
    return reading, _compare(run, objective, recoveries, reading, reading.value)


def _judge_rollback(
    run: Run, objective: Objective, recoveries: Recoveries, findings: Sequence[Finding]
) -> tuple[Reading, Outcome]:
    reading = read_rollback(objective, recoveries.rollback)
    if recoveries.rollback is None:
        return reading, inconclusive("the scenario has no [failover.rollout]")
    blocked = _blocked(run, recoveries, findings)
    if blocked is not None and objective.measure.kind in BIN_KINDS:
        return reading, inconclusive(blocked)
    outcome = judge_rollback(objective, recoveries.rollback, reading)
    return reading, _ended(run) if outcome[0] is State.PASS else outcome


def _nothing(objective: Objective) -> Reading:
    unit = unit_of(objective.measure)
    return Reading(unit=unit, value=None, samples=0, required=0, resolution=None)


def _blocked(run: Run, recoveries: Recoveries, findings: Sequence[Finding]) -> str | None:
    """Why no figure of this run can be judged."""
    if recoveries.doubts:
        return recoveries.doubts[0]
    t0_ns, from_ns = run.manifest.t0_unix_ns or 0, recoveries.whole.whole.outage.from_ns
    after = {stage.name for stage in run.manifest.stages if t0_ns + stage.end_ns > from_ns}
    for finding in findings:
        is_here = finding.stage is None or finding.stage in after
        if is_here and finding.is_invalid and finding.law in _BLOCKING:
            return f"{finding.law.value} does not hold"
    return None


def _part(objective: Objective, recovery: Recovery) -> PartRecovery:
    """The part of the requests that an objective is about; one request alone is all."""
    for part in recovery.parts:
        if part.kind == "request" and part.name == objective.request:
            return part
    return recovery.whole


def _value(objective: Objective, recoveries: Recoveries) -> float | None:
    kind, whole = objective.measure.kind, recoveries.whole
    if kind is MeasureKind.TIME_TO_RECOVER:
        return _time_to_recover(objective, recoveries)
    outage = _part(objective, whole).outage
    detected = [_part(objective, fault).outage.detected_ns for fault in recoveries.faults]
    return {
        MeasureKind.UNAVAILABILITY: outage.unavailable_ns,
        MeasureKind.LONGEST_OUTAGE: outage.longest_ns,
        MeasureKind.BLACKOUT: outage.blackout_ns,
        MeasureKind.ERROR_BUDGET_SPENT: whole.budget_ratio,
        MeasureKind.DOWNTIME: _against(whole.downtime),
        MeasureKind.TIME_TO_DETECT: max((one for one in detected if one is not None), default=0),
    }[kind]


def _against(downtime: Downtime) -> float:
    """How much speaks against "no downtime"."""
    return downtime.failed + downtime.failed_seconds + (downtime.slow_seconds or 0)


def _time_to_recover(objective: Objective, recoveries: Recoveries) -> float | None:
    """The longest of all faults; None where one of them is not known to have ended."""
    values = []
    for fault in recoveries.faults:
        recovered = _part(objective, fault).recovered
        if recovered is None or recovered.after_ns is None:
            return None
        values.append(recovered.after_ns)
    return max(values)


def _read(objective: Objective, recoveries: Recoveries) -> Reading:
    part, unit = _part(objective, recoveries.whole), unit_of(objective.measure)
    planned = part.outage.planned
    resolution = {
        Unit.NANOSECONDS: float(part.resolution_ns),
        Unit.COUNT: 1.0,
    }.get(unit)
    return Reading(
        unit=unit,
        value=_value(objective, recoveries),
        samples=planned,
        required=0,
        resolution=resolution,
    )


def _unrecovered(objective: Objective, recoveries: Recoveries) -> Outcome:
    """A recovery that the run does not show."""
    for fault in recoveries.faults:
        part = _part(objective, fault)
        if part.recovered is None:
            return inconclusive("no objective that bins can tell of has to hold again")
        if part.recovered.after_ns is not None:
            continue
        seen_ns = recoveries.whole.whole.outage.to_ns - part.outage.from_ns
        name = "" if fault.fault is None else f" after {fault.fault.name}"
        since_ns = part.recovered.tail_ns
        if since_ns is not None and is_met(objective, since_ns):
            return inconclusive(
                f"objectives held from {format_duration(since_ns)}{name} on, but the run ended "
                "before 30 s of it"
            )
        if is_met(objective, seen_ns):
            return inconclusive(f"the run ended {format_duration(seen_ns)}{name}, before the limit")
        return State.FAIL, f"not recovered within {format_duration(seen_ns)}{name}"
    return inconclusive("no data")


def _compare(
    run: Run, objective: Objective, recoveries: Recoveries, reading: Reading, value: float
) -> Outcome:
    kind, is_ok = objective.measure.kind, is_met(objective, value)
    if kind is MeasureKind.DOWNTIME:
        return _downtime(run, recoveries)
    if kind is MeasureKind.ERROR_BUDGET_SPENT:
        return _finished(run, recoveries) if is_ok else (State.FAIL, "limit missed")
    resolution = reading.resolution or 0.0
    # A value of nothing at all is exact: no request failed.
    if value and is_met(objective, value + resolution) != is_met(objective, value - resolution):
        return inconclusive("the limit lies within the value's resolution")
    if not is_ok:
        return State.FAIL, "limit missed"
    is_total = kind in {MeasureKind.UNAVAILABILITY, MeasureKind.LONGEST_OUTAGE}
    return _finished(run, recoveries) if is_total else _ended(run)


def _downtime(run: Run, recoveries: Recoveries) -> Outcome:
    downtime = recoveries.whole.downtime
    if downtime.is_none is False:
        slow = downtime.slow_seconds or 0
        return State.FAIL, (
            f"{downtime.failed} requests failed, {downtime.failed_seconds} s with success < 99.9 %,"
            f" {slow} s with p99 beyond its limit"
        )
    if downtime.is_none is None:
        return inconclusive("no objective on a response percentile: p99 has no limit")
    return _finished(run, recoveries)


def _finished(run: Run, recoveries: Recoveries) -> Outcome:
    """Met, unless what nobody saw could have failed."""
    if recoveries.unknown:
        return inconclusive(f"{recoveries.unknown} arrivals without an outcome could turn it")
    return _ended(run)


def _ended(run: Run) -> Outcome:
    is_whole = run.is_complete and run.manifest.outcome is RunOutcome.COMPLETE
    return (State.PASS, "met") if is_whole else inconclusive("met, but the run was cut short")
