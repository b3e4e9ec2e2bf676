"""From an archived run to a trial: what its verdict says of each goal.

PASS is held, FAIL is missed, INCONCLUSIVE is void. A limit on p99 is judged by the same rules
as an objective `p99 <= limit` of the run (`analysis.judging`), together with the scenario's
own objectives on errors and rates: a target that fails fast is not fast.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from analysis.attribution import rows_of
from analysis.capacity.search.decide import Step
from analysis.capacity.search.settings import Goal
from analysis.capacity.search.trials import Trial, TrialState
from analysis.figures import StageFigures, build_figures
from analysis.judging import Case, State, judge_objective
from analysis.pool_use import build_pool_uses
from analysis.verdict import Verdict, merge_states, plan_of
from loadtests.plan.model import Comparison, Measure, MeasureKind, Objective, Plan
from loadtests.plan.objectives import RATE_KINDS, RATIO_KINDS, required_samples
from loadtests.record.archive import Run
from loadtests.record.histogram import Histogram
from loadtests.record.window import Count

P99: Final = 0.99
P95: Final = 0.95
_STATES: Final = {
    State.PASS: TrialState.HELD,
    State.FAIL: TrialState.MISSED,
    State.INCONCLUSIVE: TrialState.VOID,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A run with its verdict and the figures of its one judged stage."""

    run: Run
    plan: Plan
    verdict: Verdict
    stages: tuple[StageFigures, ...]

    @property
    def stage(self) -> StageFigures | None:
        """The judged stage; None when the run never started."""
        return next((stage for stage in self.stages if stage.facts.is_judged), None)


def trial_of(run: Run, verdict: Verdict, step: Step, number: int, goals: Sequence[Goal]) -> Trial:
    """The trial that a run of a step was."""
    judged = Judged(run=run, plan=plan_of(run), verdict=verdict, stages=build_figures(run))
    stage = judged.stage
    tally = None if stage is None else stage.overall.tally
    done = 0 if tally is None else tally.done
    return Trial(
        number=number,
        purpose=step.purpose,
        rate_per_s=step.rate_per_s,
        judged_s=0.0 if stage is None or stage.is_cut else float(stage.span.seconds),
        states={goal.name: _STATES[_state(judged, goal)] for goal in goals},
        reason=verdict.reasons[0] if verdict.reasons else "",
        is_generator_limited=verdict.is_generator_limited,
        run_id=verdict.run_id,
        p95_ns=None if tally is None else _quantile_ns(tally.response, P95),
        p99_ns=None if tally is None else _quantile_ns(tally.response, P99),
        error_ratio=_bad(stage) / done if stage is not None and done else None,
        goodput_per_s=None if stage is None else _goodput_per_s(run, stage),
    )


def _goodput_per_s(run: Run, stage: StageFigures) -> float | None:
    """Over the seconds in which something was planned: of a stage that was cut, those it had."""
    rows = rows_of(run, stage)
    seconds = int(rows[rows["planned"] > 0]["window_s"].nunique())
    return stage.overall.on_time.count(Count.OK) / seconds if seconds else None


def _bad(stage: StageFigures) -> int:
    tally = stage.overall.tally
    return tally.count(Count.CLIENT_ERROR) + tally.count(Count.FAILED)


def _quantile_ns(histogram: Histogram, quantile: float) -> float | None:
    if histogram.n < required_samples(quantile):
        return None
    value_us = histogram.quantile_us(quantile)
    return None if value_us == float("inf") else value_us * 1000


def _state(judged: Judged, goal: Goal) -> State:
    if goal.limit_ns is None:
        return judged.verdict.state
    stage = judged.stage
    if stage is None:
        return State.INCONCLUSIVE
    return merge_states([_p99_state(judged, stage, goal.limit_ns), *_other_states(judged)])


def _p99_state(judged: Judged, stage: StageFigures, limit_ns: int) -> State:
    name = stage.facts.name
    objective = Objective(
        text=f"p99 <= {limit_ns} ns",
        measure=Measure(kind=MeasureKind.RESPONSE_QUANTILE, quantile=P99),
        comparison=Comparison.AT_MOST,
        limit=float(limit_ns),
        request=None,
        stage=None,
    )
    case = Case(
        plan=judged.plan,
        stage=stage,
        objective=objective,
        figures=stage.overall,
        pool=build_pool_uses(judged.run, judged.plan, judged.stages)[name],
        level=None,
        findings=tuple(f for f in judged.verdict.findings if f.stage in {None, name}),
    )
    return judge_objective(case).state


def _other_states(judged: Judged) -> list[State]:
    """States of the objectives on errors and rates."""
    kinds = RATIO_KINDS | RATE_KINDS
    texts = {o.text for o in judged.plan.objectives if o.measure.kind in kinds}
    return [r.state for r in judged.verdict.objectives if r.objective in texts]
