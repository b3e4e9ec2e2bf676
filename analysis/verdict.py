"""The verdict of a run: a pure function of its archive.

`judge` takes a run read back and returns PASS, FAIL or INCONCLUSIVE with reasons and
numbers: the same archive gives the same verdict on any machine, in any time zone. Parts
merge as FAIL > INCONCLUSIVE > PASS. A PASS needs at least one objective, every objective
of every judged stage to pass, and not one finding that takes that right away. Alerts are
reported beside it and change nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from analysis.conservation import (
    bin_findings,
    completeness_findings,
    data_findings,
    histogram_findings,
    identity_findings,
    schedule_findings,
    sums_findings,
)
from analysis.figures import StageFigures, build_figures
from analysis.findings import Finding
from analysis.generator import generator_findings
from analysis.judging import Case, ObjectiveResult, State, judge_objective, reading_of
from analysis.little import little_findings
from analysis.pool_use import PoolUse, build_pool_uses
from analysis.reading import Reading
from analysis.recovery.judging import failover_warnings, judge_failover
from analysis.recovery.measures import measure_recoveries
from analysis.remarks import run_warnings, stage_warnings
from analysis.server_side.levels import Level, levels_of
from analysis.server_side.series import build_server_side
from analysis.text import reading_text
from loadtests.errors import HarnessError
from loadtests.plan.codec import decode_plan
from loadtests.plan.model import Objective, Plan
from loadtests.plan.objectives import FAILOVER_KINDS, LEVEL_KINDS, is_met
from loadtests.record.archive import Run
from loadtests.record.manifest import Outcome


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
    """What a run is worth: `reasons` are why it is `state`, `notes` what was found besides."""

    run_id: str
    scenario: str
    scale: float
    load_model: str
    load_percent: float | None
    outcome: Outcome
    is_complete: bool
    state: State
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
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


def find(run: Run, plan: Plan, stages: Sequence[StageFigures]) -> tuple[Finding, ...]:
    """All findings of a run, those about the whole run first."""
    found = [
        *completeness_findings(run, plan),
        *identity_findings(run, plan),
        *sums_findings(run),
        *bin_findings(run, plan),
        *histogram_findings(run),
        *data_findings(stages),
        *(schedule_findings(run, plan, stages) if stages else ()),
        *generator_findings(run, plan, stages),
        *little_findings(run, stages),
        *run_warnings(plan),
    ]
    for stage in stages:
        found.extend(stage_warnings(plan, stage))
    order = {stage.facts.name: index for index, stage in enumerate(stages)}
    return tuple(sorted(found, key=lambda f: (not f.is_invalid, order.get(f.stage or "", -1))))


def _pairs(
    objectives: Iterable[Objective], stages: Sequence[StageFigures]
) -> Iterator[tuple[Objective, StageFigures]]:
    """Each objective with each stage that it limits, stage by stage; none of a failover."""
    for stage in stages:
        if not stage.facts.is_judged:
            continue
        for objective in objectives:
            is_here = objective.stage in {None, stage.facts.name}
            if is_here and objective.measure.kind not in FAILOVER_KINDS:
                yield objective, stage


def _concerning(findings: Sequence[Finding], stage: StageFigures) -> tuple[Finding, ...]:
    return tuple(f for f in findings if f.stage in {None, stage.facts.name})


def _judge_alert(
    alert: Objective,
    stage: StageFigures,
    pool: PoolUse,
    level: Level | None,
    findings: Sequence[Finding],
) -> AlertResult:
    reading = reading_of(alert, stage.requests[alert.request], pool, level)
    is_valid = not any(f.is_invalid for f in _concerning(findings, stage))
    state = AlertState.UNKNOWN
    if reading.value is not None and is_valid:
        state = AlertState.RAISED if is_met(alert, reading.value) else AlertState.CLEAR
    is_hidden = reading.is_too_small if level is None else level.unknown() is not None
    if alert.measure.kind in LEVEL_KINDS and is_hidden:
        # A time without a value may have been one of a full pool.
        state = AlertState.UNKNOWN if state is AlertState.CLEAR else state
    return AlertResult(
        stage=stage.facts.name,
        request=alert.request,
        alert=alert.text,
        limit=alert.limit,
        reading=reading,
        state=state,
    )


def levels_in(
    run: Run, plan: Plan, stages: Sequence[StageFigures]
) -> Mapping[tuple[str, str], Level]:
    """What the target said of itself in each stage, by stage and measure."""
    spans = [(stage.facts.name, stage.span) for stage in stages]
    asked = {one.measure.server for one in (*plan.objectives, *plan.alerts)}
    measures = [measure for measure in asked if measure is not None]
    return levels_of(build_server_side(run, plan), spans, measures, len(plan.nodes))


Pools = Mapping[str, PoolUse]  # by stage
Levels = Mapping[tuple[str, str], Level]  # by stage and measure


def cases_of(
    plan: Plan,
    stages: Sequence[StageFigures],
    findings: Sequence[Finding],
    pools: Pools,
    levels: Levels,
) -> Iterator[Case]:
    """Each objective in each stage that it limits, with all that its judgement looks at."""
    for objective, stage in _pairs(plan.objectives, stages):
        yield Case(
            plan=plan,
            stage=stage,
            objective=objective,
            figures=stage.requests[objective.request],
            pool=pools[stage.facts.name],
            level=levels.get((stage.facts.name, objective.measure.server or "")),
            findings=_concerning(findings, stage),
        )


Sentences = tuple[str, ...]


def _reasons(
    objectives: Sequence[ObjectiveResult], findings: Sequence[Finding]
) -> tuple[Sentences, Sentences]:
    """Why the verdict is what it is, and what besides could not be judged.

    A FAIL's reasons are the objectives that fail alone: what would have made the run
    INCONCLUSIVE did not decide it.
    """

    def line(result: ObjectiveResult) -> str:
        value = f"{reading_text(result.reading)}, " if result.state is State.FAIL else ""
        return f"{result.objective} (stage {result.stage}): {value}{result.reason}"

    def lines(state: State) -> list[str]:
        return [line(result) for result in objectives if result.state is state]

    invalid = [str(finding) for finding in findings if finding.is_invalid]
    none = [] if objectives else ["no objective was judged"]
    failed, open_ = lines(State.FAIL), (*invalid, *lines(State.INCONCLUSIVE), *none)
    return (tuple(failed), open_) if failed else (open_, ())


def judge(run: Run) -> Verdict:
    """Judge a run from its archive alone; HarnessError when its plan cannot be read."""
    plan = plan_of(run)
    stages = build_figures(run)
    recoveries = measure_recoveries(run, plan)
    findings = (*find(run, plan, stages), *failover_warnings(recoveries))
    pools = build_pool_uses(run, plan, stages)
    levels = levels_in(run, plan, stages)
    cases = cases_of(plan, stages, findings, pools, levels)
    objectives = tuple(map(judge_objective, cases))
    objectives += judge_failover(run, plan, recoveries, findings)
    states = [result.state for result in objectives]
    if any(finding.is_invalid for finding in findings):
        states.append(State.INCONCLUSIVE)
    reasons, notes = _reasons(objectives, findings)
    return Verdict(
        run_id=run.manifest.run_id,
        scenario=run.manifest.scenario_name,
        scale=run.manifest.scale,
        load_model=run.manifest.load_model,
        load_percent=plan.load_percent,
        outcome=run.manifest.outcome,
        is_complete=run.is_complete,
        state=merge_states(states) if objectives else State.INCONCLUSIVE,
        reasons=reasons,
        notes=notes,
        objectives=objectives,
        alerts=tuple(
            _judge_alert(
                alert,
                stage,
                pools[stage.facts.name],
                levels.get((stage.facts.name, alert.measure.server or "")),
                findings,
            )
            for alert, stage in _pairs(plan.alerts, stages)
        ),
        findings=findings,
    )
