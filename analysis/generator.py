"""Whether the generator was the limit: a slow one must never fail or pass a target.

In a judged stage: achieved sends, send lag, engine CPU, lost windows, ports and
descriptors; over the run: the clocks of the workers.

Sends that are late or missing are the target's doing only where that is proven, second by
second (`own_ratios`): arrivals were waiting, the connections of a node were taken (requests
in flight >= 90 % of the smallest node's part of the open ones), and in that second and the
one before, every engine was below 90 % CPU and a bare ticker on every host not late by more
than the limit for send lag. In such a second the generator answers for the part in which
its own loop stood still: twice the longest stall of the second (arrivals due in it, and
those behind them) and once that of the second before. In any other second it answers for
everything. A backlog is drained in the second after it, so that one counts as taken too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.figures import NS_PER_S, RESOLUTION_S, StageFigures
from analysis.findings import Finding, Law, invalid, warning
from analysis.reading import FROM_INTENDED
from loadtests.plan.model import LoadModel, Plan
from loadtests.plan.units import format_duration
from loadtests.record.archive import Run
from loadtests.record.manifest import LostWindow
from loadtests.record.window import Count

ACHIEVED_SENDS_RATIO: Final = 0.99
SEND_LAG_FLOOR_NS: Final = 1_000_000.0
SEND_LAG_RATIO: Final = 0.05  # of the judged p95 limit
ENGINE_CPU_RATIO: Final = 0.9
ENGINE_CPU_WINDOWS: Final = 3
LOST_RATIO: Final = 0.01
CLOCK_UNCERTAINTY_NS: Final = 50_000_000
TAKEN_RATIO: Final = 0.9
LATE_SENDS_RATIO: Final = 0.01
HOST_LIMIT_KINDS: Final = ("client_port_exhausted", "client_descriptors_exhausted")
_P95: Final = 0.95


def send_lag_limit_ns(plan: Plan, stage: str) -> float:
    """The send lag p99 that a stage may have: max(1 ms, 5 % of the judged p95 limit).

    Of several p95 limits the smallest; where none is judged, the smallest limit of another
    percentile; with no limit on a response time at all, 1 ms.
    """
    judged = [
        (objective.measure.quantile, objective.limit)
        for objective in plan.objectives
        if objective.measure.kind in FROM_INTENDED
        and objective.measure.quantile is not None
        and objective.stage in {None, stage}
    ]
    limits = [limit for quantile, limit in judged if quantile == _P95]
    limits = limits or [limit for _quantile, limit in judged]
    return max(SEND_LAG_FLOOR_NS, SEND_LAG_RATIO * min(limits)) if limits else SEND_LAG_FLOOR_NS


def _between(frame: pd.DataFrame, first_s: int, last_s: int) -> pd.DataFrame:
    window_s = frame["window_s"].to_numpy(dtype=np.int64)
    return frame[(window_s >= first_s) & (window_s <= last_s)]


def _well_seconds(run: Run, first_s: int, last_s: int, limit_ns: float) -> NDArray[np.bool_]:
    """Which of the seconds `first_s` .. `last_s` found every engine and host well."""
    well = np.zeros(last_s - first_s + 1, dtype=np.bool_)
    engines = _between(run.engines, first_s, last_s)
    hiccups = _between(run.hiccups, first_s, last_s)
    seen = np.intersect1d(engines["window_s"].unique(), hiccups["window_s"].unique())
    well[seen.astype(np.int64) - first_s] = True
    is_busy = engines["cpu_ns"] > ENGINE_CPU_RATIO * engines["wall_ns"]
    well[engines["window_s"][is_busy].to_numpy(dtype=np.int64) - first_s] = False
    late = hiccups["window_s"][hiccups["p99_ns"] > limit_ns]
    well[late.to_numpy(dtype=np.int64) - first_s] = False
    return well


def _stalled_ratios(run: Run, first_s: int, last_s: int, limit_ns: float) -> NDArray[np.float64]:
    """The part of each second for which the slowest engine's loop stood still, at once."""
    engines = _between(run.engines, first_s, last_s)
    long = engines[engines["stalled_ns"] > limit_ns]
    longest = long.groupby("window_s")["stalled_ns"].max() / NS_PER_S
    return longest.reindex(range(first_s, last_s + 1), fill_value=0.0).to_numpy(dtype=np.float64)


def _taken_seconds(run: Run, plan: Plan, first_s: int, last_s: int) -> NDArray[np.bool_]:
    """Which seconds ended with arrivals waiting and the connections of a node taken."""
    engines = _between(run.engines, first_s, last_s)
    sums = engines.groupby("window_s")[["backlog", "in_flight", "connections"]].sum()
    weights = [node.weight for node in plan.nodes]
    smallest = min(weights) / sum(weights)
    capacity = np.minimum(sums["connections"] * plan.pipelining, plan.in_flight_limit)
    is_taken = (sums["backlog"] > 0) & (sums["in_flight"] >= TAKEN_RATIO * smallest * capacity)
    taken = np.zeros(last_s - first_s + 1, dtype=np.bool_)
    taken[sums.index[is_taken].to_numpy(dtype=np.int64) - first_s] = True
    return taken


def own_ratios(run: Run, plan: Plan, stage: StageFigures) -> Mapping[int, float]:
    """Seconds in which the target held the connections: the part (0-1) that is still ours.

    A second that is not in it is the generator's alone.
    """
    if stage.span.seconds == 0:
        return {}
    first_s, last_s = stage.span.first_s - 1, stage.span.last_s + RESOLUTION_S
    limit_ns = send_lag_limit_ns(plan, stage.facts.name)
    well = _well_seconds(run, first_s, last_s, limit_ns)
    taken = _taken_seconds(run, plan, first_s, last_s)
    stalled = _stalled_ratios(run, first_s, last_s, limit_ns)
    is_targets = well[1:] & well[:-1] & (taken[1:] | taken[:-1])
    own = np.minimum(1.0, 2 * stalled[1:] + stalled[:-1])
    return {first_s + 1 + int(at): float(own[at]) for at in np.flatnonzero(is_targets)}


def _rows(run: Run, stage: StageFigures) -> pd.DataFrame:
    frame = run.windows
    return frame[(frame["stage"] == stage.facts.name) & frame["judged"].to_numpy(dtype=bool)]


def _own_part(counts: pd.Series[int], seconds: Iterable[int], own: Mapping[int, float]) -> float:
    """Sum of counts by second, each weighted with the generator's part."""
    weights = [own.get(int(second), 1.0) for second in seconds]
    return float((counts.to_numpy(dtype=np.float64) * weights).sum())


def send_findings(run: Run, stage: StageFigures, own: Mapping[int, float]) -> Iterator[Finding]:
    """Achieved sends: within the judged time, of what was planned in it."""
    rows = _between(_rows(run, stage), stage.span.first_s, stage.span.last_s)
    seconds = rows.groupby("window_s")[["planned", "sent"]].sum()
    planned, sent = int(seconds["planned"].sum()), int(seconds["sent"].sum())
    if planned == 0 or sent >= ACHIEVED_SENDS_RATIO * planned:
        return
    short = (seconds["planned"] - seconds["sent"]).clip(lower=0)
    ours = _own_part(short, short.index, own)
    text = f"{sent} of {planned} planned ({sent / planned:.2%})"
    if ours > (1 - ACHIEVED_SENDS_RATIO) * planned:
        yield invalid(Law.SENDS, stage.facts.name, f"{text} while connections were free")
    else:
        yield warning(Law.SENDS, stage.facts.name, f"{text}: the target left no connection free")


def lag_findings(
    run: Run, plan: Plan, stage: StageFigures, own: Mapping[int, float]
) -> Iterator[Finding]:
    """Send lag p99 of the stage, and whose doing it was."""
    lag = stage.overall.tally.send_lag
    limit_ns = send_lag_limit_ns(plan, stage.facts.name)
    if lag.n == 0 or (p99_us := lag.quantile_us(0.99)) * 1000 <= limit_ns:
        return
    rows = _rows(run, stage)
    late = rows[rows["send_lag_p99_us"] * 1000 > limit_ns]
    ours = _own_part(late["send_lag_n"], late["window_s"], own)
    seen = "over 1 h" if math.isinf(p99_us) else format_duration(p99_us * 1000)
    text = f"p99 {seen}, at most {format_duration(limit_ns)} of the generator"
    if ours > LATE_SENDS_RATIO * lag.n:
        yield invalid(Law.SEND_LAG, stage.facts.name, text)
    else:
        text = f"p99 {seen}: arrivals waited for connections that the target held"
        yield warning(Law.SEND_LAG, stage.facts.name, text)


def longest_streak(seconds: Sequence[int]) -> int:
    """Length of the longest run of consecutive seconds; `seconds` sorted and unique."""
    longest = length = 0
    for position, second in enumerate(seconds):
        follows = position > 0 and second == seconds[position - 1] + 1
        length = length + 1 if follows else 1
        longest = max(longest, length)
    return longest


def cpu_findings(run: Run, stage: StageFigures) -> Iterator[Finding]:
    """No engine may have been short of its core for three windows in a row."""
    rows = _between(run.engines, stage.span.first_s, stage.span.last_s)
    busy = rows[rows["cpu_ns"] > ENGINE_CPU_RATIO * rows["wall_ns"]]
    for engine, windows in busy.groupby("engine", observed=True):
        streak = longest_streak(sorted(int(second) for second in windows["window_s"].unique()))
        if streak >= ENGINE_CPU_WINDOWS:
            worst = float((windows["cpu_ns"] / windows["wall_ns"]).max())
            text = f"{engine}: above 90 % for {streak} windows in a row, up to {worst:.0%}"
            yield invalid(Law.ENGINE_CPU, stage.facts.name, text)


def _lost_engine_seconds(run: Run, stage: StageFigures) -> int:
    """Engine-seconds of the judged time that lost windows state."""
    engines = {agent.agent: agent.engines for agent in run.manifest.agents}

    def overlap_s(entry: LostWindow) -> int:
        return max(
            0, min(entry.to_s, stage.span.last_s + 1) - max(entry.from_s, stage.span.first_s)
        )

    return sum(overlap_s(e) * engines.get(e.who, 1) for e in run.manifest.lost_windows)


def lost_findings(run: Run, stage: StageFigures) -> Iterator[Finding]:
    """Lost windows above 1 % of the stage, and holes that nobody stated."""
    name, finals = stage.facts.name, [e.engine for e in run.manifest.engine_sums if e.has_final]
    lost_s = _lost_engine_seconds(run, stage)
    engine_s = stage.span.seconds * max(1, len(run.manifest.engine_sums))
    planned = stage.overall.tally.count(Count.PLANNED) + stage.lost_planned
    ratio = max(lost_s / engine_s if engine_s else 0.0, stage.lost_planned / max(1, planned))
    if ratio > LOST_RATIO:
        text = f"{stage.lost_planned} arrivals, {ratio:.2%} of the stage; at most 1 % may be"
        yield invalid(Law.LOST_WINDOWS, name, text)
    elif ratio > 0:
        text = f"{stage.lost_planned} arrivals, {ratio:.2%} of the stage"
        yield warning(Law.LOST_WINDOWS, name, text)
    if stage.is_cut or not stage.span.seconds:
        return
    rows = _between(run.engines, stage.span.first_s, stage.span.last_s)
    seen = rows.groupby("engine", observed=True)["window_s"].nunique()
    missing = sum(stage.span.seconds - int(seen.get(engine, 0)) for engine in finals)
    if missing > lost_s:
        text = f"{missing} engine windows are missing, {lost_s} are stated as lost"
        yield invalid(Law.LOST_WINDOWS, name, text)


def host_findings(run: Run) -> Iterator[Finding]:
    """Ports and descriptors of the generator's own hosts."""
    judged = {stage.name: stage.is_judged for stage in run.manifest.stages}
    frame = run.errors[run.errors["kind"].isin(HOST_LIMIT_KINDS)]
    sums = frame.groupby(["stage", "kind"], observed=True, as_index=False)["count"].sum()
    for row in sums.itertuples(index=False):
        make = invalid if judged[str(row.stage)] else warning
        yield make(Law.HOST_LIMITS, str(row.stage), f"{row.kind}: {int(row.count)} times")


def clock_findings(run: Run) -> Iterator[Finding]:
    """How far the workers' clocks may be apart.

    T0 is sent to each agent in its own clock, corrected by the offset; what is left
    between two agents is the sum of both uncertainties, half a round trip each.
    """
    agents = run.manifest.agents
    if len(agents) <= 1:
        return
    known = [agent.round_trip_ns for agent in agents if agent.round_trip_ns is not None]
    for agent in agents:
        if agent.round_trip_ns is None or agent.clock_offset_ns is None:
            text = f"the clock of {agent.agent} was never compared"
            yield invalid(Law.CLOCKS, None, text)
    apart_ns = sum(sorted(known)[-2:]) / 2
    if apart_ns > CLOCK_UNCERTAINTY_NS:
        text = f"two workers may be {format_duration(apart_ns)} apart, at most 50 ms"
        yield invalid(Law.CLOCKS, None, text)


def generator_findings(run: Run, plan: Plan, stages: Sequence[StageFigures]) -> Iterator[Finding]:
    """All of the above."""
    yield from clock_findings(run)
    yield from host_findings(run)
    for stage in stages:
        if not stage.facts.is_judged:
            continue
        own = own_ratios(run, plan, stage)
        if plan.load_model is LoadModel.OPEN:
            yield from send_findings(run, stage, own)
        yield from lag_findings(run, plan, stage, own)
        yield from cpu_findings(run, stage)
        yield from lost_findings(run, stage)
