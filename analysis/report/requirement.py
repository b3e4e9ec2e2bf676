"""A run against the requirement's targets, whatever its own objectives were.

`requirement.toml` has the limits. They are judged by the verdict's own rules, and a target
is *met* only by an open, unscaled run in a stage that reached the protocol's full rate: a
percentile at a tenth of the load shows nothing about the whole. Everything else is *not
shown*, and why. Nothing here changes the verdict.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from importlib import resources
from typing import Final

from analysis.cells import count_cell, number_column, text_column, whole_column
from analysis.figures import Figures, StageFigures, together
from analysis.findings import Finding
from analysis.judging import Case, State, judge_objective, reading_of
from analysis.pool_use import PoolUse
from analysis.reading import Reading
from analysis.server_side.levels import Level, levels_of
from analysis.server_side.series import build_server_side
from analysis.tables import Cell, Table, words
from analysis.text import rate, reading_text, with_unit
from analysis.verdict import AlertState, Verdict
from loadtests.plan.call import Protocol
from loadtests.plan.model import LoadModel, MeasureKind, Objective, Plan
from loadtests.plan.objectives import RATE_KINDS, is_met, parse_alert, parse_objective
from loadtests.record.archive import Run
from loadtests.record.window import Count

_FILE: Final = "requirement.toml"
_PROTOCOLS: Final[Mapping[str, frozenset[Protocol]]] = {
    "rest": frozenset({Protocol.HTTP1, Protocol.HTTP2}),
    "grpc": frozenset({Protocol.GRPC}),
}


class Shown(Enum):
    """What a run shows about a target."""

    MET = "met"
    MISSED = "missed"
    NOT_SHOWN = "not shown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """The limits of one protocol; `rate` is the full rate that the others hold at."""

    title: str
    section: str
    protocols: frozenset[Protocol]
    rate: Objective
    targets: tuple[Objective, ...]
    alerts: tuple[Objective, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One measure in one stage: its target, the alert level that goes with it, and both states."""

    stage: str
    title: str
    target: Objective
    alert: Objective
    reading: Reading
    shown: Shown
    alert_state: AlertState
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stage:
    """What one protocol did in one stage."""

    plan: Plan
    stage: StageFigures
    figures: Figures
    findings: Sequence[Finding]
    levels: Mapping[tuple[str, str], Level]

    @property
    def _no_pool(self) -> PoolUse:
        """No limit here is of the stream pool."""
        return PoolUse(span=self.stage.span, use={}, own={}, step=None)

    def level(self, objective: Objective) -> Level | None:
        """What the target said of itself, for objectives on that."""
        return self.levels.get((self.stage.facts.name, objective.measure.server or ""))

    def is_measured(self, objective: Objective) -> bool:
        """Whether the run asked for it: of requests always, of the target perhaps."""
        is_servers = objective.measure.kind is MeasureKind.SERVER
        return not is_servers or self.level(objective) is not None

    def read(self, objective: Objective) -> Reading:
        """The value in this stage."""
        return reading_of(objective, self.figures, self._no_pool, self.level(objective))

    def judge(self, objective: Objective) -> tuple[Reading, State, str]:
        result = judge_objective(
            Case(
                plan=self.plan, stage=self.stage, objective=objective, figures=self.figures,
                pool=self._no_pool, level=self.level(objective), findings=self.findings,
            )
        )  # fmt: skip
        return result.reading, result.state, result.reason

    def is_offered(self, rate: Objective) -> bool:
        """Whether the plan had the rate, to one arrival."""
        arrival_per_s = 1 / self.stage.span.seconds if self.stage.span.seconds else 0.0
        return is_met(rate, self.planned_per_s() + arrival_per_s)

    def planned_per_s(self) -> float:
        seconds = self.stage.span.seconds
        return self.figures.on_time.count(Count.PLANNED) / seconds if seconds else 0.0


def load_demands() -> tuple[Demand, ...]:
    """The requirement's limits, REST first."""
    data = tomllib.loads(resources.files(__package__).joinpath(_FILE).read_text("utf-8"))
    return tuple(
        Demand(
            title=data[key]["title"],
            section=data[key]["section"],
            protocols=protocols,
            rate=parse_objective(data[key]["rate"]),
            targets=tuple(map(parse_objective, data[key]["targets"])),
            alerts=tuple(map(parse_alert, data[key]["alerts"])),
        )
        for key, protocols in _PROTOCOLS.items()
    )


def _cannot_show(plan: Plan) -> str:
    """Why no stage of a run can show a target; "" when one can."""
    if plan.scale != 1.0:
        return f"scaled x {plan.scale:.6g}: a scaled run cannot show it"
    if plan.load_model is LoadModel.CLOSED:
        return "closed load: stalls are under-counted"
    return ""


def _why_not(part: _Stage, demand: Demand, objective: Objective, judged: State, reason: str) -> str:
    """Why a target that is not missed is not met either; "" when it is."""
    is_full, planned = part.is_offered(demand.rate), f"{rate(part.planned_per_s())} rps planned"
    if objective is demand.rate and not is_full:
        return planned
    if judged is State.INCONCLUSIVE:
        return reason
    if not is_full:
        return f"holds, but at {planned}"
    is_reached = part.judge(demand.rate)[1] is State.PASS
    return "" if is_reached else "holds, but the full rate was not reached"


def _target(part: _Stage, demand: Demand, objective: Objective) -> tuple[Reading, Shown, str]:
    reading, state, reason = part.judge(objective)
    if why := _cannot_show(part.plan):
        return reading, Shown.NOT_SHOWN, why
    is_asked = objective is not demand.rate or part.is_offered(demand.rate)
    if state is State.FAIL and is_asked:
        return reading, Shown.MISSED, f"{reason} at {rate(part.planned_per_s())} rps planned"
    why = _why_not(part, demand, objective, state, reason)
    return reading, Shown.NOT_SHOWN if why else Shown.MET, why or reason


def _alert(part: _Stage, alert: Objective) -> AlertState:
    reading = part.read(alert)
    is_invalid = any(finding.is_invalid for finding in part.findings)
    if _cannot_show(part.plan) or is_invalid or reading.value is None:
        return AlertState.UNKNOWN
    if alert.measure.kind in RATE_KINDS and is_met(alert, part.planned_per_s()):
        return AlertState.UNKNOWN  # nobody asked for so much
    return AlertState.RAISED if is_met(alert, reading.value) else AlertState.CLEAR


def _comparisons(part: _Stage, demand: Demand) -> Iterator[Comparison]:
    for target, alert in zip((demand.rate, *demand.targets), demand.alerts, strict=True):
        if not part.is_measured(target):
            continue
        reading, shown, why = _target(part, demand, target)
        yield Comparison(
            stage=part.stage.facts.name,
            title=demand.title,
            target=target,
            alert=alert,
            reading=reading,
            shown=shown,
            alert_state=_alert(part, alert),
            why=why,
        )


def _levels(
    run: Run, plan: Plan, stages: Sequence[StageFigures]
) -> Mapping[tuple[str, str], Level]:
    """What the target said of itself, as far as it was asked."""
    side = build_server_side(run, plan)
    measures = {measure.name for measure in plan.scraping.measures} if plan.scraping else set()
    spans = [(stage.facts.name, stage.span) for stage in stages]
    return levels_of(side, spans, measures, len(plan.nodes))


def compare_with_requirement(
    run: Run,
    plan: Plan,
    verdict: Verdict,
    stages: Sequence[StageFigures],
    demands: Sequence[Demand],
) -> tuple[Comparison, ...]:
    """Every limit of every protocol that the plan uses, in every judged stage."""
    judged = [stage for stage in stages if stage.facts.is_judged]
    levels = _levels(run, plan, judged)
    found: list[Comparison] = []
    for stage in judged:
        findings = [f for f in verdict.findings if f.stage in {None, stage.facts.name}]
        for demand in demands:
            own = [r.name for r in plan.requests if r.protocol in demand.protocols]
            if own:
                figures = together(stage.requests[name] for name in own)
                part = _Stage(
                    plan=plan, stage=stage, figures=figures, findings=findings, levels=levels
                )
                found.extend(_comparisons(part, demand))
    return tuple(found)


def _row(one: Comparison) -> tuple[Cell, ...]:
    unit, text = one.reading.unit, reading_text(one.reading)
    is_number = text == with_unit(unit, one.reading.value) and one.reading.value != float("inf")
    return (
        words(one.stage),
        words(one.title),
        words(one.target.text),
        Cell(text=text, value=one.reading.value if is_number else None),
        count_cell(one.reading.samples),
        words(one.shown.value),
        words(one.why),
        words(one.alert.text),
        words(one.alert_state.value),
    )


def requirement_table(comparisons: Sequence[Comparison]) -> Table:
    """One row a measure."""
    return Table(
        name="requirement",
        title="Against the requirement (met: by an unscaled open run at the full rate)",
        columns=(
            text_column("stage"),
            text_column("protocol"),
            text_column("target"),
            number_column("value"),
            number_column("n"),
            whole_column("state"),
            text_column("why"),
            text_column("alert_level", "alert level"),
            whole_column("alert"),
        ),
        rows=tuple(map(_row, comparisons)),
    )
