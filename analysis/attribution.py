"""Whose doing late and missing sends are: the generator answers for those it could have sent.

Second by second. The *target* held a second when arrivals were waiting at its end (or at
that of the second before: a backlog is drained in the second after it) and the connections
of a node were taken: requests in flight >= 90 % of what the smallest node's part of the
open ones carries, of HTTP/1.1 or of HTTP/2. That proves nothing where the generator was not
well: an engine above 90 % CPU, or a bare ticker late by more than the limit for send lag
(p99), in that second or in the one before. A second of the plan that no engine or ticker
reported was not well; before T0 and after the plan's end there is no ticker, and nothing to
hold up.

In a second that the target held, the generator answers for its own standing still and for
nothing else. Its loop's longest stall, of this second or reaching into it from the one
before, made the arrivals late that fell into it further from its end than the limit: that
part of the late sends is the generator's. Of missing sends it could have sent in that time
as many as it did in the rest of the second, however many were waiting: 20 ms cannot have
cost more than the target took in 20 ms. In any other second it answers for everything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.figures import NS_PER_S, RESOLUTION_S, StageFigures
from analysis.reading import FROM_INTENDED
from analysis.text import latency
from loadtests.plan.model import Plan
from loadtests.record.archive import Run

ENGINE_CPU_RATIO: Final = 0.9
SEND_LAG_FLOOR_NS: Final = 1_000_000.0
SEND_LAG_RATIO: Final = 0.05  # of the judged p95 limit
TAKEN_RATIO: Final = 0.9
_P95: Final = 0.95

OwnParts = Mapping[int, float]  # second -> part (0-1) of it that is the generator's


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


def between(frame: pd.DataFrame, first_s: int, last_s: int) -> pd.DataFrame:
    """Rows of these seconds, both included."""
    window_s = frame["window_s"].to_numpy(dtype=np.int64)
    return frame[(window_s >= first_s) & (window_s <= last_s)]


def _well_seconds(run: Run, first_s: int, last_s: int, limit_ns: float) -> NDArray[np.bool_]:
    """Which of the seconds `first_s` .. `last_s` found every engine and host well."""
    engines = between(run.engines, first_s, last_s)
    hiccups = between(run.hiccups, first_s, last_s)
    seen = np.intersect1d(engines["window_s"].unique(), hiccups["window_s"].unique())
    t0_ns = run.manifest.t0_unix_ns or 0
    end_ns = t0_ns + max(stage.end_ns for stage in run.manifest.stages)
    seconds = np.arange(first_s, last_s + 1)
    is_outside = (seconds < t0_ns // NS_PER_S) | (seconds >= -(-end_ns // NS_PER_S))
    well = is_outside | np.isin(seconds, seen)
    is_busy = engines["cpu_ns"] > ENGINE_CPU_RATIO * engines["wall_ns"]
    well[engines["window_s"][is_busy].to_numpy(dtype=np.int64) - first_s] = False
    late = hiccups["window_s"][hiccups["p99_ns"] > limit_ns]
    well[late.to_numpy(dtype=np.int64) - first_s] = False
    return well


def _stalled_parts(run: Run, first_s: int, last_s: int, limit_ns: float) -> NDArray[np.float64]:
    """The part of each second whose arrivals the longest stall of a loop made too late."""
    longest = between(run.engines, first_s, last_s).groupby("window_s")["stalled_ns"].max()
    stalled_ns = longest.reindex(range(first_s, last_s + 1), fill_value=0)
    return np.clip((stalled_ns.to_numpy(dtype=np.float64) - limit_ns) / NS_PER_S, 0.0, 1.0)


def taken_seconds(run: Run, plan: Plan, first_s: int, last_s: int) -> NDArray[np.bool_]:
    """Which seconds ended with arrivals waiting and the connections of a node taken."""
    engines = between(run.engines, first_s, last_s)
    columns = ["backlog", "in_flight", "connections", "streams"]
    sums = engines.groupby("window_s")[columns].sum()
    weights = [node.weight for node in plan.nodes]
    smallest = min(weights) / sum(weights)
    capacity = np.full(len(sums), plan.in_flight_limit)
    if plan.connections:
        capacity = np.minimum(capacity, sums["connections"] * plan.pipelining)
    if plan.multiplexing.connections:
        capacity = np.minimum(capacity, sums["streams"])
    is_taken = (sums["backlog"] > 0) & (sums["in_flight"] >= TAKEN_RATIO * smallest * capacity)
    taken = np.zeros(last_s - first_s + 1, dtype=np.bool_)
    taken[sums.index[is_taken].to_numpy(dtype=np.int64) - first_s] = True
    return taken


def rows_of(run: Run, stage: StageFigures) -> pd.DataFrame:
    """Judged rows of a stage's windows."""
    frame = run.windows
    return frame[(frame["stage"] == stage.facts.name) & frame["judged"].to_numpy(dtype=bool)]


def _seconds_of(run: Run, stage: StageFigures) -> tuple[int, int]:
    """The second before a stage, and the last one in which something of it can be sent."""
    sends = rows_of(run, stage)["window_s"]
    last_s = max(stage.span.last_s + RESOLUTION_S, int(sends.max()) if len(sends) else 0)
    return stage.span.first_s - 1, last_s


def generator_parts(run: Run, plan: Plan, stage: StageFigures) -> OwnParts:
    """Part of each second of a stage for which the generator stood still; 1 if it was not well."""
    if stage.span.seconds == 0:
        return {}
    first_s, last_s = _seconds_of(run, stage)
    limit_ns = send_lag_limit_ns(plan, stage.facts.name)
    well = _well_seconds(run, first_s, last_s, limit_ns)
    stalled = _stalled_parts(run, first_s, last_s, limit_ns)
    own = np.where(well[1:] & well[:-1], np.maximum(stalled[1:], stalled[:-1]), 1.0)
    return {first_s + 1 + at: part for at, part in enumerate(own.tolist())}


def own_parts(run: Run, plan: Plan, stage: StageFigures) -> OwnParts:
    """Those of the seconds that the target held; all others are the generator's."""
    if stage.span.seconds == 0:
        return {}
    first_s, last_s = _seconds_of(run, stage)
    taken = taken_seconds(run, plan, first_s, last_s)
    held = np.flatnonzero(taken[1:] | taken[:-1]) + first_s + 1
    parts = generator_parts(run, plan, stage)
    return {int(second): parts[int(second)] for second in held if parts[int(second)] < 1}


def own_late(late: pd.DataFrame, own: OwnParts) -> float:
    """How many of the late sends are the generator's; rows of windows with late ones."""
    parts = late["window_s"].map(lambda second: own.get(int(second), 1.0))
    return float((late["send_lag_n"] * parts).sum())


def own_missing(seconds: pd.DataFrame, own: OwnParts) -> float:
    """How many of the missing sends the generator could have sent; planned and sent by second."""
    ours = 0.0
    for second, planned, sent in zip(
        seconds.index.tolist(), seconds["planned"].tolist(), seconds["sent"].tolist(), strict=True
    ):
        part = own.get(second, 1.0)
        possible = part / (1 - part) * sent if part < 1 else math.inf
        ours += min(max(0, planned - sent), possible)
    return ours


def hiccup_text(run: Run, late: pd.DataFrame, limit_ns: float) -> str:
    """Says so where the hosts' tickers were late in the same seconds; "" otherwise."""
    rows = run.hiccups[run.hiccups["window_s"].isin(late["window_s"])]
    worst = max(zip(rows["max_ns"].tolist(), rows["agent"].tolist(), strict=True), default=None)
    if worst is None or worst[0] <= limit_ns:
        return ""
    return (
        f"; the bare ticker on {worst[1]} was up to {latency(worst[0])} late as well: "
        "this machine was short of CPU"
    )
