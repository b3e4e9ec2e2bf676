"""The verdict of a run: a pure function of its archive.

`judge` takes a run read back and returns PASS, FAIL or INCONCLUSIVE with reasons and
numbers: the same archive gives the same verdict on any machine, in any time zone. Parts
merge as FAIL > INCONCLUSIVE > PASS. A PASS needs at least one objective, every objective
of every judged stage to pass, and not one finding that takes that right away. Alerts are
reported beside it and change nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from analysis.conservation import (
    completeness_findings,
    data_findings,
    histogram_findings,
    identity_findings,
    schedule_findings,
    sums_findings,
)
from analysis.figures import StageFigures, build_figures
from analysis.findings import Finding, Law, warning
from analysis.generator import generator_findings
from analysis.judging import Case, ObjectiveResult, State, judge_objective
from analysis.little import little_findings
from analysis.reading import Reading, read
from analysis.text import reading_text
from loadtests.errors import HarnessError
from loadtests.plan.codec import decode_plan
from loadtests.plan.model import LoadModel, Objective, Plan
from loadtests.plan.objectives import is_met
from loadtests.record.archive import Run
from loadtests.record.manifest import Outcome
from loadtests.record.window import Count

LIMITER_KINDS: Final = ("status_429", "grpc_8")


class AlertState(Enum):
    """Whether an alert level was reached; UNKNOWN without data or with an invalid stage."""

    RAISED = "RAISED"
    CLEAR = "clear"
    UNKNOWN = "?"


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertResult:
    """One alert level in one judged stage."""

    stage: str
    request: str | None
    alert: str
    limit: float
    reading: Reading
    state: AlertState


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a run is worth; `reasons` are sentences, the deciding ones first."""

    run_id: str
    scenario: str
    scale: float
    load_model: str
    load_percent: float | None
    outcome: Outcome
    is_complete: bool
    state: State
    reasons: tuple[str, ...]
    objectives: tuple[ObjectiveResult, ...]
    alerts: tuple[AlertResult, ...]
    findings: tuple[Finding, ...]

    @property
    def is_generator_limited(self) -> bool:
        """Whether the generator was the limit in any judged stage."""
        return any(finding.is_generator_limit for finding in self.findings)

    @property
    def is_scaled(self) -> bool:
        """Whether the rates were not those of the scenario."""
        return self.scale != 1.0


def merge_states(states: Iterable[State]) -> State:
    """FAIL > INCONCLUSIVE > PASS; of nothing: INCONCLUSIVE."""
    seen = set(states)
    for state in (State.FAIL, State.INCONCLUSIVE, State.PASS):
        if state in seen:
            return state
    return State.INCONCLUSIVE


def plan_of(run: Run) -> Plan:
    """The plan that a run carried out; HarnessError when this version cannot read it."""
    try:
        return decode_plan(run.plan_bytes)
    except ValueError as error:
        raise HarnessError(
            where=f"{run.path}/plan.msgpack",
            seen=str(error),
            expected="a plan of this version; read the archive with the version that wrote it",
        ) from error


def _stage_warnings(stage: StageFigures) -> Iterator[Finding]:
    """What a reader must know beside a stage's numbers."""
    name, tally = stage.facts.name, stage.overall.tally
    if dropped := tally.count(Count.DROPPED):
        yield warning(Law.DROPPED, name, f"{dropped} of {tally.count(Count.PLANNED)} planned")
    if stage.overall.unanswered:
        text = f"{stage.overall.unanswered} requests had no answer when the run stopped"
        yield warning(Law.UNANSWERED, name, text)
    held = (tally.response, tally.failed_response, tally.service, tally.failed_service)
    if overflow := sum(histogram.overflow for histogram in held):
        yield warning(Law.OVERFLOW, name, f"{overflow} latencies above one hour")
    if limited := sum(stage.overall.errors.get(kind, 0) for kind in LIMITER_KINDS):
        text = f"{limited} answers were 429: met the limiter, not the capacity"
        yield warning(Law.LIMITER, name, text)


def _run_warnings(plan: Plan) -> Iterator[Finding]:
    if plan.scale != 1.0:
        text = f"every rate is x {plan.scale:g}: this does not show that the full target is met"
        yield warning(Law.SCALE, None, text)
    if plan.load_model is LoadModel.CLOSED:
        text = "response time equals service time, so stalls of the target are under-counted"
        yield warning(Law.CLOSED_LOAD, None, text)


def find(run: Run, plan: Plan, stages: Sequence[StageFigures]) -> tuple[Finding, ...]:
    """All findings of a run, those about the whole run first."""
    found = [
        *completeness_findings(run, plan),
        *identity_findings(run, plan),
        *sums_findings(run),
        *histogram_findings(run),
        *data_findings(stages),
        *(schedule_findings(run, plan, stages) if stages else ()),
        *generator_findings(run, plan, stages),
        *little_findings(run, stages),
        *_run_warnings(plan),
    ]
    for stage in stages:
        found.extend(_stage_warnings(stage))
    order = {stage.facts.name: index for index, stage in enumerate(stages)}
    return tuple(sorted(found, key=lambda f: (not f.is_invalid, order.get(f.stage or "", -1))))


def _pairs(
    objectives: Iterable[Objective], stages: Sequence[StageFigures]
) -> Iterator[tuple[Objective, StageFigures]]:
    """Each objective with each stage that it limits, stage by stage."""
    for stage in stages:
        if not stage.facts.is_judged:
            continue
        for objective in objectives:
            if objective.stage in {None, stage.facts.name}:
                yield objective, stage


def _concerning(findings: Sequence[Finding], stage: StageFigures) -> tuple[Finding, ...]:
    return tuple(f for f in findings if f.stage in {None, stage.facts.name})


def _judge_alert(alert: Objective, stage: StageFigures, findings: Sequence[Finding]) -> AlertResult:
    reading = read(alert, stage.requests[alert.request], stage.span)
    is_valid = not any(f.is_invalid for f in _concerning(findings, stage))
    state = AlertState.UNKNOWN
    if reading.value is not None and is_valid:
        state = AlertState.RAISED if is_met(alert, reading.value) else AlertState.CLEAR
    return AlertResult(
        stage=stage.facts.name,
        request=alert.request,
        alert=alert.text,
        limit=alert.limit,
        reading=reading,
        state=state,
    )


def _reasons(objectives: Sequence[ObjectiveResult], findings: Sequence[Finding]) -> tuple[str, ...]:
    """FAILs, then what made the run INCONCLUSIVE, then what could not be judged."""

    def line(result: ObjectiveResult) -> str:
        value = f"{reading_text(result.reading)}, " if result.state is State.FAIL else ""
        return f"{result.objective} (stage {result.stage}): {value}{result.reason}"

    def lines(state: State) -> list[str]:
        return [line(result) for result in objectives if result.state is state]

    invalid = [str(finding) for finding in findings if finding.is_invalid]
    none = [] if objectives else ["no objective was judged"]
    return (*lines(State.FAIL), *invalid, *lines(State.INCONCLUSIVE), *none)


def judge(run: Run) -> Verdict:
    """Judge a run from its archive alone; HarnessError when its plan cannot be read."""
    plan = plan_of(run)
    stages = build_figures(run)
    findings = find(run, plan, stages)
    objectives = tuple(
        judge_objective(
            Case(
                plan=plan,
                stage=stage,
                objective=objective,
                figures=stage.requests[objective.request],
                findings=_concerning(findings, stage),
            )
        )
        for objective, stage in _pairs(plan.objectives, stages)
    )
    states = [result.state for result in objectives]
    if any(finding.is_invalid for finding in findings):
        states.append(State.INCONCLUSIVE)
    return Verdict(
        run_id=run.manifest.run_id,
        scenario=run.manifest.scenario_name,
        scale=run.manifest.scale,
        load_model=run.manifest.load_model,
        load_percent=plan.load_percent,
        outcome=run.manifest.outcome,
        is_complete=run.is_complete,
        state=merge_states(states) if objectives else State.INCONCLUSIVE,
        reasons=_reasons(objectives, findings),
        objectives=objectives,
        alerts=tuple(_judge_alert(a, s, findings) for a, s in _pairs(plan.alerts, stages)),
        findings=findings,
    )
