"""Points of the capacity model: what each judged stage of a run loaded the target with.

The law is defined on N, which is one of two things here:

- **in flight**: N is the mean number of requests in flight of a stage (counted by the
  engines), X its goodput. Every judged stage is a point, below saturation and beyond it.
  It describes a target of one size.
- **nodes**: N is the number of nodes of the target, X the largest goodput at which every
  objective but those on rates holds. One point a run, and only of a run that met its limit:
  a higher load of it broke an objective, or it was closed load. Runs at one node count that
  do not show their limit alone may show it together, as the trials of a search do.

X is goodput, not throughput: an overloaded target that rejects quickly does no work.
What the generator limited, or what was INCONCLUSIVE for any other reason, is void: it is
named and never a point.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from analysis.figures import StageFigures, build_figures
from analysis.judging import ObjectiveResult, State
from analysis.little import little_of
from analysis.unit import Unit
from analysis.verdict import Verdict
from loadtests.plan.model import LoadModel
from loadtests.record.archive import Run
from loadtests.record.window import Count


class Axis(Enum):
    """What N is."""

    IN_FLIGHT = "in flight"
    NODES = "nodes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One judged stage that measured its target.

    `holds`: every objective but those on rates passed; None: one is inconclusive, or none was.
    `broken` are those that failed. `generator_cpu_s` is the engines' CPU time per request.
    """

    run_id: str
    stage: str
    nodes: int
    is_closed: bool
    in_flight: float
    planned_per_s: float
    goodput_per_s: float
    holds: bool | None
    broken: tuple[ObjectiveResult, ...]
    generator_cpu_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Void:
    """A stage, or a run, that is no point, and why."""

    run_id: str
    stage: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One (N, X) and where it comes from."""

    run_id: str
    stage: str
    n: float
    per_s: float


def _reason_void(verdict: Verdict, stage: StageFigures) -> str:
    """Why a stage measured nothing; "" when it did."""
    if not verdict.is_complete:
        return "the run did not end whole"
    if stage.is_cut:
        return "the stage was cut short"
    for finding in verdict.findings:
        if finding.is_invalid and finding.stage in {None, stage.facts.name}:
            kind = "generator-limited" if finding.is_generator_limit else "inconclusive"
            return f"{kind}: {finding}"
    return "" if stage.overall.tally.done else "no request ended in it"


def _holds(results: Sequence[ObjectiveResult]) -> bool | None:
    if not results:
        return None  # a stage without a limit holds nothing
    if any(result.state is State.FAIL for result in results):
        return False
    return None if any(result.state is State.INCONCLUSIVE for result in results) else True


def cpu_s_per_request(run: Run, stage: StageFigures) -> float:
    """CPU time of the engines for each request sent in the judged time of a stage."""
    window_s, sent = run.engines["window_s"], stage.overall.on_time.count(Count.SENT)
    is_inside = (window_s >= stage.span.first_s) & (window_s <= stage.span.last_s)
    return float(run.engines["cpu_ns"][is_inside].sum()) / 1e9 / max(1, sent)


def loads_of(run: Run, verdict: Verdict) -> tuple[list[Load], list[Void]]:
    """Every judged stage of a run, as a load or as void."""
    loads, voids = [], []
    for stage in build_figures(run):
        if not stage.facts.is_judged:
            continue
        name, law = stage.facts.name, little_of(run, stage)
        reason = _reason_void(verdict, stage)
        if reason or law is None:
            reason = reason or "no requests in flight were recorded"
            voids.append(Void(run_id=verdict.run_id, stage=name, reason=reason))
            continue
        own = [result for result in verdict.objectives if result.stage == name]
        limits = [result for result in own if result.reading.unit is not Unit.PER_SECOND]
        part, seconds = stage.overall.on_time, stage.span.seconds
        loads.append(
            Load(
                run_id=verdict.run_id,
                stage=name,
                nodes=len(run.manifest.nodes),
                is_closed=run.manifest.load_model == LoadModel.CLOSED.value,
                in_flight=law.in_flight,
                planned_per_s=part.count(Count.PLANNED) / seconds,
                goodput_per_s=part.count(Count.OK) / seconds,
                holds=_holds(limits),
                broken=tuple(result for result in limits if result.state is State.FAIL),
                generator_cpu_s=cpu_s_per_request(run, stage),
            )
        )
    return loads, voids


def in_flight_points(loads: Iterable[Load]) -> tuple[list[Point], list[Void]]:
    """A point a stage; the law begins at N = 1."""
    points, voids = [], []
    for load in loads:
        if load.in_flight < 1 or load.goodput_per_s <= 0:
            text = f"{load.in_flight:.2g} in flight, {load.goodput_per_s:.3g} good answers/s"
            reason = f"{text}: the law begins at 1 in flight"
            voids.append(Void(run_id=load.run_id, stage=load.stage, reason=reason))
        else:
            points.append(Point(run_id=load.run_id, stage=load.stage, n=load.in_flight,
                                per_s=load.goodput_per_s))  # fmt: skip
    return points, voids


def _limit_of(loads: Sequence[Load]) -> Load | None:
    """The largest load that holds, where a larger one did not or closed load found it."""
    holding = [load for load in loads if load.holds and load.goodput_per_s > 0]
    best = max(holding, key=lambda load: load.goodput_per_s, default=None)
    if best is None or best.is_closed:
        return best
    broke = any(load.planned_per_s > best.planned_per_s for load in loads if load.holds is False)
    return best if broke else None


def node_points(loads: Sequence[Load]) -> tuple[list[Point], list[Void]]:
    """A point a run that met its limit, or one of all runs of a node count that met it together."""
    points: list[Point] = []
    alone: dict[int, list[Load]] = {}
    for run_id in dict.fromkeys(load.run_id for load in loads):
        own = [load for load in loads if load.run_id == run_id]
        if (best := _limit_of(own)) is not None:
            points.append(_node_point(best))
        else:
            alone.setdefault(own[0].nodes, []).extend(own)
    voids: list[Void] = []
    for group in alone.values():
        if (best := _limit_of(group)) is not None:
            points.append(_node_point(best))
            continue
        has_held = any(load.holds for load in group)
        reason = "no higher load broke an objective: the limit was not met" if has_held else (
            "no stage held its objectives")  # fmt: skip
        voids.extend(Void(run_id=load.run_id, stage=load.stage, reason=reason) for load in group)
    return points, voids


def _node_point(load: Load) -> Point:
    return Point(run_id=load.run_id, stage=load.stage, n=float(load.nodes),
                 per_s=load.goodput_per_s)  # fmt: skip
