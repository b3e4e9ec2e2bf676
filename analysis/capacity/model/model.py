"""Runs in, answers out: the capacity model as one value.

A model of scaled runs is a scaled model: it asks for scaled rates and says so in every
heading. Runs of different scales, load models or mixes are not one system and are refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.capacity.model.bill import Bill, bill_of
from analysis.capacity.model.costs import Costs
from analysis.capacity.model.estimates import Estimate, Figure, estimates_of
from analysis.capacity.model.intervals import Range, Replicates, bootstrap
from analysis.capacity.model.loads import (
    Axis,
    Load,
    Point,
    Void,
    in_flight_points,
    loads_of,
    node_points,
)
from analysis.capacity.model.questions import (
    FirstBreak,
    answers,
    first_break,
    nodes_of_law,
)
from analysis.capacity.model.usl import Errors, Floats, Usl, fit_usl
from analysis.load_identity import load_identity_of
from analysis.text import reading_text, with_unit
from analysis.verdict import Verdict, plan_of
from loadtests.errors import Mistake, ScenarioError
from loadtests.record.archive import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A point with what the law says of it; `residual` is X / X(N) - 1."""

    point: Point
    fitted_per_s: float
    residual: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Everything that the page says."""

    axis: Axis
    errors: Errors
    scale: float
    scenarios: tuple[str, ...]
    law: Usl
    estimates: tuple[Estimate, ...]
    fitted: tuple[Fitted, ...]
    voids: tuple[Void, ...]
    breaks: tuple[FirstBreak, ...]
    bills: tuple[Bill, ...]
    costs: Costs

    @property
    def largest_n(self) -> float:
        """The largest N that was measured."""
        return max(one.point.n for one in self.fitted)


def _refuse(seen: str, expected: str) -> ScenarioError:
    return ScenarioError("capacity model", (Mistake(where="RUN", seen=seen, expected=expected),))


def check_one_system(runs: Sequence[Run]) -> None:
    """ScenarioError when the runs cannot be points of one law."""
    repeated = {run.manifest.run_id for run in runs}
    scales = sorted({run.manifest.scale for run in runs})
    models = sorted({run.manifest.load_model for run in runs})
    mixes = {load_identity_of(plan_of(run)).mix_sha256 for run in runs}
    if len(repeated) < len(runs):
        raise _refuse("the same run twice", "each run once")
    if len(scales) > 1:
        raise _refuse(f"runs of scales {', '.join(f'{s:g}' for s in scales)}", "one scale")
    if len(models) > 1:
        raise _refuse(f"runs of {' and '.join(models)} load", "one load model")
    if len(mixes) > 1:
        raise _refuse(f"runs of {len(mixes)} mixes of requests", "the same requests in every run")


def _points(loads: Sequence[Load], axis: Axis | None) -> tuple[Axis, list[Point], list[Void]]:
    """Points on the axis asked for; without one, on nodes if their numbers can carry a law."""
    by_nodes, nodes_void = node_points(loads)
    can_carry = len({point.n for point in by_nodes}) > 1
    if axis is Axis.NODES or (axis is None and can_carry):
        return Axis.NODES, by_nodes, nodes_void
    return Axis.IN_FLIGHT, *in_flight_points(loads)


def _array(values: Sequence[float]) -> Floats:
    return np.array(values, dtype=np.float64)


def _broken_words(load: Load) -> tuple[str, ...]:
    return tuple(
        f"{one.objective}: {reading_text(one.reading)}, "
        f"limit {with_unit(one.reading.unit, one.limit)}"
        for one in load.broken
    )


def _breaks(loads: Sequence[Load]) -> tuple[FirstBreak, ...]:
    counts = sorted({load.nodes for load in loads})
    groups = ([load for load in loads if load.nodes == nodes] for nodes in counts)
    return tuple(first_break(group, _broken_words) for group in groups)


def _least_nodes(
    breaks: Sequence[FirstBreak], peak: Range
) -> Callable[[float], tuple[float, float | None]]:
    """Nodes for a rate from runs at one node count: at least so many, if they add up fully."""
    (at,) = breaks
    carries = peak.high if at.breaks_per_s is None else min(peak.high, at.breaks_per_s)

    def nodes_for(per_s: float) -> tuple[float, float | None]:
        least = math.ceil(per_s * at.nodes / carries - 1e-9) if math.isfinite(carries) else 1
        return max(1, least), None

    return nodes_for


def _nodes_of(replicates: Replicates) -> Callable[[float], tuple[float, float | None]]:
    """Nodes for a rate from runs at several node counts: what the law says."""

    def nodes_for(per_s: float) -> tuple[float, float | None]:
        whole = nodes_of_law(replicates, per_s)
        return whole.low, whole.high

    return nodes_for


def build_model(
    judged: Sequence[tuple[Run, Verdict]], costs: Costs, axis: Axis | None, errors: Errors
) -> Model:
    """The model of some runs; ScenarioError when they cannot carry one."""
    check_one_system([run for run, _ in judged])
    loads: list[Load] = []
    voids: list[Void] = []
    for run, verdict in judged:
        more, void = loads_of(run, verdict)
        loads.extend(more)
        voids.extend(void)
    axis, points, void = _points(loads, axis)
    voids.extend(void)
    n, x = _array([p.n for p in points]), _array([p.per_s for p in points])
    try:
        law = fit_usl(n, x, errors)
    except ValueError as error:
        reasons = "".join(f"\n    void: {v.run_id}, stage {v.stage}: {v.reason}" for v in voids)
        raise _refuse(
            f"{error} ({axis.value}){reasons}", "at least 6 points at 4 different N"
        ) from error
    replicates = bootstrap(law, n, x, errors)
    estimates, breaks = estimates_of(law, n, x, errors, replicates), _breaks(loads)
    scale = judged[0][0].manifest.scale
    if axis is Axis.NODES:
        nodes_for = _nodes_of(replicates)
    elif len(breaks) == 1:
        nodes_for = _least_nodes(breaks, replicates.range_of(Figure.PEAK_PER_S.of))
    else:
        raise _refuse(
            f"runs at {len(breaks)} node counts for a law over requests in flight",
            "runs at one node count, or --over nodes",
        )
    largest = float(max(load.nodes for load in loads))
    rates = [rate * scale for rate in costs.demand.rates_per_s]
    needed = answers(rates, costs.demand.zones, nodes_for, largest)
    return Model(
        axis=axis,
        errors=errors,
        scale=scale,
        scenarios=tuple(sorted({run.manifest.scenario_name for run, _ in judged})),
        law=law,
        estimates=estimates,
        fitted=tuple(
            Fitted(
                point=point,
                fitted_per_s=law.at(point.n),
                residual=point.per_s / law.at(point.n) - 1,
            )
            for point in points
        ),
        voids=tuple(voids),
        breaks=breaks,
        bills=tuple(bill_of(costs, one, loads) for one in needed),
        costs=costs,
    )
