"""Which saturated first: the generator, its connections, or the CPU of the target.

Each is a series of seconds in the judged stages, and is saturated from the first of three
seconds on end in which it was at its limit:

- generator: an engine above 90 % CPU, or more than 1 % of a second's sends late or missing
  by its own doing (the laws of validity, second by second; `attribution`);
- connections: arrivals waited while the connections of a node were taken, or were dropped,
  and the generator was well. Not of closed load, where they are always taken;
- server CPU: `server.cpu` of a node, or `server.host_cpu` where it is not loopback (which the
  generator shares), at the stage's objective or, without one, at 90 %. A value is a mean since
  the scrape before, so its time is known to one scrape.

What saturates first makes the others follow within moments, so those that cannot be told
apart in time are named together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

import numpy as np
import pandas as pd

from analysis.attribution import (
    ENGINE_CPU_RATIO,
    between,
    generator_parts,
    own_parts,
    rows_of,
    send_lag_limit_ns,
    taken_seconds,
)
from analysis.figures import NS_PER_S, StageFigures
from analysis.generator import ACHIEVED_SENDS_RATIO, LATE_SENDS_RATIO
from analysis.server_side.series import NodeSeries, ServerSide
from analysis.text import clean, latency, ratio
from loadtests.plan.model import LoadModel, MeasureKind, Node, Plan, is_loopback
from loadtests.plan.objectives import is_met
from loadtests.plan.server_metrics import CPU, HOST_CPU
from loadtests.record.archive import Run

SUSTAIN_S: Final = 3
CPU_RATIO: Final = 0.9  # where no objective limits it


class Resource(Enum):
    """What can be the limit of a run."""

    GENERATOR = "generator"
    CONNECTIONS = "connections"
    SERVER_CPU = "server CPU"


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """When a resource was first at its limit: within `resolution_s` before `at_s` (unix)."""

    resource: Resource
    stage: str
    at_s: float
    resolution_s: float
    offset_s: float  # from the stage's start
    evidence: str

    @property
    def earliest_s(self) -> float:
        """From when on it may have been there."""
        return self.at_s - self.resolution_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Saturation:
    """What was at its limit, earliest first.

    `first` has several where they cannot be told apart, none where nothing saturated.
    `unknown` was not measured, so that nothing is known about it.
    """

    crossings: tuple[Crossing, ...]
    first: tuple[Resource, ...]
    unknown: tuple[Resource, ...]
    sentences: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signal:
    """Seconds of a stage in which a resource was at its limit, and what one of them shows."""

    seconds: frozenset[int]
    evidence: Callable[[int], str]


def find_saturation(
    run: Run, plan: Plan, stages: Sequence[StageFigures], side: ServerSide | None
) -> Saturation:
    """What saturated first in the judged stages of a run."""
    judged = [stage for stage in stages if stage.facts.is_judged and stage.span.seconds]
    found = [
        crossing
        for crossing in (
            _first_of(Resource.GENERATOR, judged, lambda stage: _generator(run, plan, stage)),
            _first_of(Resource.CONNECTIONS, judged, lambda stage: _connections(run, plan, stage)),
            _server_cpu(plan, judged, side),
        )
        if crossing is not None
    ]
    crossings = tuple(sorted(found, key=lambda one: (one.at_s, one.resource.value)))
    known_by_s = min((one.at_s for one in crossings), default=0.0)
    first = tuple(one.resource for one in crossings if one.earliest_s < known_by_s)
    unknown = () if _is_cpu_known(judged, side) else (Resource.SERVER_CPU,)
    return Saturation(
        crossings=crossings,
        first=first,
        unknown=unknown,
        sentences=tuple(_sentences(crossings, first, unknown)),
    )


def _first_of(
    resource: Resource,
    stages: Sequence[StageFigures],
    signal_of: Callable[[StageFigures], _Signal],
) -> Crossing | None:
    """The first of `SUSTAIN_S` seconds on end."""
    for stage in stages:
        signal = signal_of(stage)
        for second in sorted(signal.seconds):
            if signal.seconds.issuperset(range(second, second + SUSTAIN_S)):
                return Crossing(
                    resource=resource,
                    stage=stage.facts.name,
                    at_s=float(second + 1),
                    resolution_s=1.0,
                    offset_s=float(second - stage.span.first_s),
                    evidence=signal.evidence(second),
                )
    return None


def _generator(run: Run, plan: Plan, stage: StageFigures) -> _Signal:
    """Seconds in which the generator broke a law of validity by its own doing."""
    first_s, last_s = stage.span.first_s, stage.span.last_s
    engines = between(run.engines, first_s, last_s)
    use = (engines["cpu_ns"] / engines["wall_ns"].clip(lower=1)).groupby(engines["window_s"]).max()
    rows = between(rows_of(run, stage), first_s, last_s)
    sums = rows.groupby("window_s")[["planned", "sent", "send_lag_n"]].sum()
    late = rows[rows["send_lag_p99_us"] * 1000 > send_lag_limit_ns(plan, stage.facts.name)]
    lag_us = late.groupby("window_s")["send_lag_p99_us"].max()
    late_n = late.groupby("window_s")["send_lag_n"].sum().reindex(sums.index, fill_value=0)
    own = pd.Series(own_parts(run, plan, stage), dtype="float64")
    part = own.reindex(sums.index, fill_value=1.0)
    # Of missing sends it could have sent in its own time as many as in the rest (`own_missing`).
    possible = (part / (1 - part) * sums["sent"]).where(part < 1, np.inf)
    missing = np.minimum((sums["planned"] - sums["sent"]).clip(lower=0), possible)
    is_short = (missing > (1 - ACHIEVED_SENDS_RATIO) * sums["planned"]) & _is_open(plan)
    is_late = late_n * part > LATE_SENDS_RATIO * sums["send_lag_n"]

    def evidence(second: int) -> str:
        if use.get(second, 0.0) > ENGINE_CPU_RATIO:
            return f"an engine at {ratio(float(use[second]))} of its core"
        if is_late.get(second, default=False):
            return f"sends late by {latency(float(lag_us[second]) * 1000)} (p99), its own doing"
        sent, planned = int(sums["sent"][second]), int(sums["planned"][second])
        return f"{sent} of {planned} planned sends, with connections free"

    found = (*use.index[use > ENGINE_CPU_RATIO], *sums.index[is_late | is_short])
    return _Signal(seconds=frozenset(map(int, found)), evidence=evidence)


def _is_open(plan: Plan) -> bool:
    return plan.load_model is LoadModel.OPEN


def _connections(run: Run, plan: Plan, stage: StageFigures) -> _Signal:
    """Seconds in which arrivals waited for connections, or were dropped, and all else was well."""
    first_s, last_s = stage.span.first_s, stage.span.last_s
    rows = between(rows_of(run, stage), first_s, last_s)
    dropped = rows.groupby("window_s")["dropped"].sum()
    taken = taken_seconds(run, plan, first_s, last_s)
    parts = generator_parts(run, plan, stage)
    seconds = {first_s + at for at in np.flatnonzero(taken).tolist()}
    seconds |= set(map(int, dropped.index[dropped > 0]))

    def evidence(second: int) -> str:
        sums = between(run.engines, second, second)[["in_flight", "backlog"]].sum()
        return (
            f"{int(sums['in_flight'])} in flight of {plan.in_flight_limit} allowed, "
            f"{int(sums['backlog'])} waiting, {int(dropped.get(second, 0))} dropped"
        )

    is_well = frozenset(second for second in seconds if parts.get(second, 1.0) < 1)
    return _Signal(seconds=is_well if _is_open(plan) else frozenset(), evidence=evidence)


def _is_cpu_known(stages: Sequence[StageFigures], side: ServerSide | None) -> bool:
    """Whether every node has values of its CPU in every judged stage."""
    if side is None:
        return False
    series = side.of(CPU)
    return bool(series) and all(
        one.between(stage.span.first_s, stage.span.last_s + 1).known().numbers.size
        for one in series
        for stage in stages
    )


def _server_cpu(
    plan: Plan, stages: Sequence[StageFigures], side: ServerSide | None
) -> Crossing | None:
    if side is None:
        return None
    crossings = [
        crossing
        for stage in stages
        for measure in (CPU, HOST_CPU)
        for series in side.of(measure)
        if measure == CPU or not _is_shared(series.node, plan.nodes)
        for crossing in _cpu_crossings(plan, stage, series, side)
    ]
    return min(crossings, key=lambda one: one.at_s, default=None)


def _is_shared(node: str, nodes: Sequence[Node]) -> bool:
    """Whether a node runs where the generator may run; one that nobody knows may."""
    return all(is_loopback(one.host) for one in nodes if one.name == node)


def _cpu_crossings(
    plan: Plan, stage: StageFigures, series: NodeSeries, side: ServerSide
) -> Iterator[Crossing]:
    """The first of as many values on end above the limit as make up `SUSTAIN_S`."""
    every_s = side.scraping.every_ns / NS_PER_S
    length = max(1, round(SUSTAIN_S / every_s))
    own = series.between(stage.span.first_s, stage.span.last_s + 1)
    limit, is_high = _cpu_limit(plan, stage, series)
    high = np.array([is_high(value) for value in own.numbers.tolist()], dtype=np.bool_)
    if high.size < length:
        return
    starts = np.lib.stride_tricks.sliding_window_view(high, length).all(axis=1)
    for at in np.flatnonzero(starts)[:1].tolist():
        value, time_s = float(own.numbers[at]), float(own.times_s[at])
        yield Crossing(
            resource=Resource.SERVER_CPU,
            stage=stage.facts.name,
            at_s=time_s,
            resolution_s=every_s,
            offset_s=time_s - stage.span.first_s,
            evidence=f"node {clean(series.node)} at {ratio(value)} ({own.source}), "
            f"limit {ratio(limit)}",
        )


def _cpu_limit(
    plan: Plan, stage: StageFigures, series: NodeSeries
) -> tuple[float, Callable[[float], bool]]:
    """The limit of this measure in a stage, and whether a value is at it (NaN is not)."""
    asked = [
        objective
        for objective in plan.objectives
        if objective.measure.kind is MeasureKind.SERVER
        and objective.measure.server == series.measure.name
        and objective.stage in {None, stage.facts.name}
    ]
    if not asked:
        return CPU_RATIO, lambda value: value >= CPU_RATIO
    strictest = min(asked, key=lambda objective: objective.limit)
    return strictest.limit, lambda value: not np.isnan(value) and not is_met(strictest, value)


def _when(crossing: Crossing) -> str:
    return f"stage {clean(crossing.stage)}, {crossing.offset_s:.0f} s in: {crossing.evidence}"


def _sentences(
    crossings: Sequence[Crossing], first: Sequence[Resource], unknown: Sequence[Resource]
) -> Iterator[str]:
    """What a reader is told, most important first."""
    names = " and ".join(one.value for one in first)
    if len(first) > 1:
        yield f"{names} saturated first, too close in time to be told apart"
    elif first:
        yield f"{names} saturated first"
    else:
        others = [one.value for one in Resource if one not in unknown]
        yield f"nothing saturated: neither {' nor '.join(others)}"
    for crossing in crossings:
        yield f"{crossing.resource.value}: {_when(crossing)}"
    for one in unknown:
        yield f"{one.value} is not known for every node and stage: it may have been the limit"
