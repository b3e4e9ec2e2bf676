"""The failover measures of a run: for each fault, of all requests and of each part of them.

Nothing here says good or bad. What speaks against the figures (`doubts`) is on them: lost
windows, a generator that stood still, load that waits for answers. Their resolution is on
them too: a bin, or the gaps between arrivals where those are longer, plus half a round trip
between hosts and the time that an engine stood still at the edges of an outage.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from analysis.figures import NS_PER_S
from analysis.recovery.connections import Storm, measure_storm
from analysis.recovery.doubts import doubts_of
from analysis.recovery.downtime import Downtime, measure_downtime
from analysis.recovery.faults import Fault, build_faults
from analysis.recovery.holding import HOLD_NS, Recovered, find_recovery, is_in_bins
from analysis.recovery.outage import Outage, Stretch, measure_outage, silent_bins
from analysis.recovery.rollback import Rollback, measure_rollback
from analysis.recovery.series import (
    Choice,
    Series,
    Truths,
    build_series,
    is_connection,
    is_request,
    load_span_ns,
)
from analysis.unmeasured import CRASHES, Unmeasured, crashed
from loadtests.plan.model import Binning, MeasureKind, Objective, Plan
from loadtests.plan.objectives import FAILOVER_KINDS, RATE_KINDS
from loadtests.record.archive import Run
from loadtests.record.bins import BIN_NS, BinCount

ALL: Final = "all requests"
_DAY_S: Final = 86_400
_P99: Final = 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class PartRecovery:
    """One part of the requests; `kind` is all, protocol, request or node."""

    kind: str
    name: str
    outage: Outage
    recovered: Recovered | None  # None: no objective that bins can tell of
    resolution_ns: int
    late: int | None  # ok, but later than `late_limit_ns`
    late_limit_ns: int | None  # of p99's objective, else of the highest percentile's


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """What one fault, or all of a run from the first on (`fault` None), cost."""

    fault: Fault | None
    parts: tuple[PartRecovery, ...]  # all requests first
    storm: Storm | None
    downtime: Downtime
    budget_ratio: float | None  # of the month's error budget; None without an SLO

    @property
    def whole(self) -> PartRecovery:
        """All requests together."""
        return self.parts[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recoveries:
    """All faults of a run; `whole` is from the first fault to the end of load.

    `unknown`: arrivals whose outcome nobody saw. `left_out`: objectives that bins cannot tell.
    """

    faults: tuple[Recovery, ...]
    whole: Recovery
    unknown: int
    left_out: tuple[str, ...]
    doubts: tuple[str, ...]
    rollback: Rollback | None


class _Bench:
    """The series of a run, each made once."""

    def __init__(self, run: Run, plan: Plan, binning: Binning, span_ns: tuple[int, int]) -> None:
        self.run, self.plan, self.binning, self.span_ns = run, plan, binning, span_ns
        self._objectives = [one for one in plan.objectives if is_in_bins(one, binning)]
        self.connections = self._series(is_connection)

    def _series(self, choose: Choice) -> Series:
        return build_series(self.run.bins, self.span_ns, choose)

    def choices(self) -> Iterator[tuple[str, str, Choice]]:
        """All requests, then each protocol, request and node where there are several."""
        yield "all", ALL, is_request
        protocols: dict[str, list[str]] = {}
        for request in self.plan.requests:
            protocols.setdefault(request.protocol.value, []).append(request.name)
        if len(protocols) > 1:
            for protocol, names in protocols.items():
                yield "protocol", protocol, _among("request", names)
        if len(self.plan.requests) > 1:
            for request in self.plan.requests:
                yield "request", request.name, _among("request", [request.name])
        if len(self.plan.nodes) > 1:
            for node in self.plan.nodes:
                yield "node", node.name, _among("node", [node.name])

    def part(self, choice: tuple[str, str, Choice]) -> tuple[str, str, Series, _Objectives]:
        """A part's series, and those that its objectives are about."""
        kind, name, choose = choice
        found: _Objectives = []
        series = self._series(choose)
        for objective in self._objectives:
            if objective.measure.kind in RATE_KINDS and kind != "all":
                continue  # a rate is promised of all requests together
            is_whole = objective.request is None and objective.stage is None
            own = series if is_whole else self._series(_narrowed(choose, objective))
            if own.column(BinCount.PLANNED).any():
                found.append((objective, own))
        return kind, name, series, found


_Objectives = list[tuple[Objective, Series]]


def _among(column: str, names: Sequence[str]) -> Choice:
    def choose(frame: pd.DataFrame) -> Truths:
        return np.asarray(frame[column].isin(names) & is_request(frame), dtype=np.bool_)

    return choose


def _narrowed(choose: Choice, objective: Objective) -> Choice:
    def narrow(frame: pd.DataFrame) -> Truths:
        found = choose(frame)
        if objective.request is not None:
            found = found & (frame["request"] == objective.request).to_numpy(dtype=np.bool_)
        if objective.stage is not None:
            found = found & (frame["stage"] == objective.stage).to_numpy(dtype=np.bool_)
        return np.asarray(found, dtype=np.bool_)

    return narrow


def late_limit(plan: Plan) -> tuple[int, int] | None:
    """Number and limit of the mark of p99's objective, or of the highest percentile there is."""
    found = [
        (one.measure.quantile == _P99, one.measure.quantile or 0.0, -one.limit)
        for one in plan.objectives
        if one.measure.kind is MeasureKind.RESPONSE_QUANTILE
        and one.request is None
        and one.stage is None
    ]
    if not found or plan.binning is None:
        return None
    limit_ns = -int(max(found)[2])
    numbers = [i for i, mark in enumerate(plan.binning.marks) if mark.limit_ns == limit_ns]
    return (numbers[0], limit_ns) if numbers else None


def _resolution_ns(series: Series, outage: Outage, run: Run) -> int:
    """A bin or the gaps between arrivals, and what clocks and engines may have added.

    A stretch is known from its arrivals alone: it may have begun a gap before the first bad
    one and ended a gap after the last.
    """
    planned = int(series.column(BinCount.PLANNED).sum())
    gap_ns = (series.end_ns - series.start_ns) // planned if planned else 0
    silent = max((silent_bins(series, stretch) for stretch in outage.stretches), default=0)
    trips_ns = [agent.round_trip_ns or 0 for agent in run.manifest.agents]
    return (
        max(BIN_NS, 2 * gap_ns, (silent + 1) * BIN_NS)
        + max(trips_ns, default=0) // 2
        + max((_stalled_ns(run, stretch) for stretch in outage.stretches), default=0)
    )


def _stalled_ns(run: Run, stretch: Stretch) -> int:
    """How long an engine stood still at the edges of a stretch, both together.

    A stall belongs to the second in which it ended, so the one after an edge counts as well:
    what was due in it was sent when it was over, and met what was so then.
    """
    total_ns = 0
    for second in {stretch.start_ns // NS_PER_S, stretch.end_ns // NS_PER_S}:
        own = run.engines["stalled_ns"][run.engines["window_s"].isin([second, second + 1])]
        total_ns += int(own.max()) if len(own) else 0
    return total_ns


def _measure_part(
    bench: _Bench,
    made: tuple[str, str, Series, _Objectives],
    fault: Fault,
    to_ns: int,
    hold_ns: int,
) -> PartRecovery:
    kind, name, series, objectives = made
    mark = late_limit(bench.plan)
    first, end = series.index_of(fault.began_ns), series.index_of(to_ns)
    late = None
    if mark is not None:
        late = int(series.column(BinCount(BinCount.LATE_0 + mark[0]))[first:end].sum())
    recovered = None
    if objectives:
        recovered = find_recovery(series, objectives, bench.binning, fault.at_ns, hold_ns)
    outage = measure_outage(series, fault.at_ns, to_ns, fault.began_ns)
    return PartRecovery(
        kind=kind,
        name=name,
        outage=outage,
        recovered=recovered,
        resolution_ns=_resolution_ns(series, outage, bench.run),
        late=late,
        late_limit_ns=None if mark is None else mark[1],
    )


def _budget_ratio(plan: Plan, outage: Outage, series: Series) -> float | None:
    """Failed requests / those that the SLO forgives in its window at this run's mean rate.

    A whole outage of t seconds spends t / ((1 - SLO) * window): 259.2 s are all of a month's
    99.99 %.
    """
    planned = int(series.column(BinCount.PLANNED).sum())
    seconds = (series.end_ns - series.start_ns) / NS_PER_S
    if plan.slo is None or not planned:
        return None
    per_window = planned / seconds * plan.slo.window_days * _DAY_S
    return outage.failed_slo / ((1 - plan.slo.ratio) * per_window)


def measure_recoveries(run: Run, plan: Plan, *, hold_ns: int = HOLD_NS) -> Recoveries | Unmeasured:
    """All failover measures of a run, or why there are none.

    `hold_ns` is how long the objectives have to hold: 30 s, less in tests alone.
    """
    try:
        return _measure(run, plan, hold_ns)
    except CRASHES as error:
        return crashed(error)


def _measure(run: Run, plan: Plan, hold_ns: int) -> Recoveries | Unmeasured:
    span_ns = load_span_ns(run)
    if plan.binning is None or span_ns is None:
        return Unmeasured(reason="no bins were recorded", is_crash=False)
    faults = build_faults(run)
    if not faults:
        return Unmeasured(reason="no fault was injected", is_crash=False)
    bench = _Bench(run, plan, plan.binning, span_ns)
    made = [bench.part(choice) for choice in bench.choices()]

    def recovery(fault: Fault, to_ns: int, *, is_whole: bool = False) -> Recovery:
        parts = tuple(_measure_part(bench, part, fault, to_ns, hold_ns) for part in made)
        return Recovery(
            fault=None if is_whole else fault,
            parts=parts,
            storm=measure_storm(bench.connections, fault.began_ns, to_ns),
            downtime=measure_downtime(made[0][2], fault.began_ns, to_ns, late_limit(plan)),
            budget_ratio=_budget_ratio(plan, parts[0].outage, made[0][2]),
        )

    ends_ns = [*(fault.began_ns for fault in faults[1:]), span_ns[1]]
    whole_series = made[0][2]
    return Recoveries(
        faults=tuple(recovery(fault, to_ns) for fault, to_ns in zip(faults, ends_ns, strict=True)),
        whole=recovery(faults[0], span_ns[1], is_whole=True),
        unknown=_unknown(run),
        left_out=tuple(
            one.text
            for one in plan.objectives
            if one.measure.kind not in FAILOVER_KINDS and not is_in_bins(one, plan.binning)
        ),
        doubts=tuple(doubts_of(run, plan, faults, whole_series)),
        rollback=measure_rollback(
            run, plan, whole_series, made[0][3], binning=plan.binning, hold_ns=hold_ns
        ),
    )


def _unknown(run: Run) -> int:
    """Requests in flight or waiting when the run ended, and arrivals of lost windows."""
    sums = run.manifest.total_sums
    open_ = 0 if sums is None else sums.in_flight_at_stop + sums.waiting
    return open_ + sum(entry.planned for entry in run.manifest.lost_windows)
