"""One trial of a capacity search as a plan: a warm-up, then one judged stage at one rate.

The scenario is resolved at the scale that gives its stage the rate wanted, so connections,
in-flight limits and throughput objectives follow the rate as in any scaled run. Of the
scenario's criteria those count that are about this stage or about every stage.

A trial whose verdict is beyond hope ends early: half of the answers late, or half of them
bad, for a third of the trial is several times what any usual objective allows. The verdict
is still that of the archive; this only saves the target the rest.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Final

from loadtests.clock import NS_PER_S
from loadtests.plan.model import (
    Abort,
    Comparison,
    Hold,
    Measure,
    MeasureKind,
    Objective,
    Plan,
    Ramp,
    Stage,
)
from loadtests.plan.scraping import hastened
from loadtests.plan.units import format_duration

SUFFIX: Final = "-search"  # a trial is never taken for a run of the scenario itself
_HALF: Final = 0.5
_HOPELESS_RATIO: Final = 1 / 3
_FEWEST_HOPELESS_S: Final = 3
_WARM_UP_FROM: Final = 0.1  # of the rate
_LATE_KINDS: Final = frozenset({MeasureKind.RESPONSE_QUANTILE})
_BAD_KINDS: Final = frozenset({MeasureKind.ERROR_RATIO, MeasureKind.SUCCESS_RATIO})
_MOST_BAD: Final = 0.1  # an objective that allows more than this is not made hopeless by half


def trial_plan(
    plan: Plan, stage: Stage, rate_per_s: float, *, warm_up_ns: int, trial_ns: int, ceiling: float
) -> Plan:
    """A plan, resolved for a rate (per second) of its `stage`, cut down to one trial of it.

    `ceiling`: the hard limit of the rate over the run, as far as it is lower than the plan's.
    """
    objectives = tuple(o for o in plan.objectives if o.stage in {None, stage.name})
    return dataclasses.replace(
        plan,
        scenario_name=plan.scenario_name + SUFFIX,
        description=f"A trial of a capacity search. {plan.description}",
        stages=_stages(stage, rate_per_s, warm_up_ns, trial_ns),
        objectives=objectives,
        alerts=tuple(o for o in plan.alerts if o.stage in {None, stage.name}),
        aborts=(
            *(abort for abort in plan.aborts if abort.objective.stage in {None, stage.name}),
            *_hopeless(objectives, stage.name, trial_ns),
        ),
        load_percent=None,
        max_rate_per_s=min(plan.max_rate_per_s, ceiling),
        scraping=hastened(plan.scraping, trial_ns),
    )


def _stages(stage: Stage, rate: float, warm_up_ns: int, trial_ns: int) -> tuple[Stage, ...]:
    name = "warm-up" if stage.name != "warm-up" else "before"
    return (
        Stage(
            name=name,
            start_ns=0,
            end_ns=warm_up_ns,
            profile=Ramp(start=rate * _WARM_UP_FROM, end=rate),
            is_judged=False,
        ),
        Stage(
            name=stage.name,
            start_ns=warm_up_ns,
            end_ns=warm_up_ns + trial_ns,
            profile=Hold(level=rate),
            is_judged=True,
        ),
    )


def _hopeless(objectives: tuple[Objective, ...], stage: str, trial_ns: int) -> Iterator[Abort]:
    """What ends a trial early, one abort for each objective that allows one."""
    seconds = max(_FEWEST_HOPELESS_S, math.ceil(trial_ns / NS_PER_S * _HOPELESS_RATIO))
    for objective in objectives:
        if (condition := _half_of(objective, stage)) is not None:
            yield Abort(objective=condition, sustain_ns=seconds * NS_PER_S)


def _half_of(objective: Objective, stage: str) -> Objective | None:
    """The condition that half of the answers miss an objective that allows far less."""
    kind, quantile, limit = objective.measure.kind, objective.measure.quantile, objective.limit
    allowed = 1 - limit if kind is MeasureKind.SUCCESS_RATIO else limit
    if kind in _LATE_KINDS and quantile is not None and quantile >= 1 - _MOST_BAD:
        measure, most = Measure(kind=kind, quantile=_HALF), limit
        text = f"p50 > {format_duration(limit)}"
    elif kind in _BAD_KINDS and allowed <= _MOST_BAD:
        measure, most = Measure(kind=MeasureKind.ERROR_RATIO, quantile=None), _HALF
        text = "error_ratio > 50 %"
    else:
        return None
    on = "" if objective.request is None else f" on {objective.request}"
    return Objective(
        text=f"{text}{on} in {stage} (beyond hope: {objective.text})",
        measure=measure,
        comparison=Comparison.ABOVE,
        limit=most,
        request=objective.request,
        stage=stage,
    )
