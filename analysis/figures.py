"""Counts and histograms of each stage, taken from an archive once: what is judged and printed.

A stage's figures are over its *judged windows*: the whole seconds inside it, and later
ones, which hold only late answers to its arrivals (`Manifest.judges`). Percentiles come
from the archive's exact histogram sums and nothing else.

Rates are over the *judged time*: the whole seconds inside the stage. A rate counts what
ended in it or at most one window (`RESOLUTION_S`) later, so that the answers to the last
arrivals count and those of a target that queues for longer do not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from loadtests.plan.model import Plan
from loadtests.record.archive import Run
from loadtests.record.histogram import Histogram
from loadtests.record.manifest import StageFacts
from loadtests.record.tally import Tally
from loadtests.record.window import CONNECTION, Count, Kind

NS_PER_S: Final = 1_000_000_000
RESOLUTION_S: Final = 1  # length of a window
COUNT_COLUMNS: Final = tuple(count.name.lower() for count in Count)
OVERALL: Final[None] = None  # the key of all requests together


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The judged time of a stage in unix seconds: windows `first_s` .. `last_s`, inclusive.

    `last_s < first_s` when no whole second lies inside. `is_aligned`: both edges of the
    stage are whole seconds, so that no arrival of it is left out.
    """

    first_s: int
    last_s: int
    is_aligned: bool

    @property
    def seconds(self) -> int:
        """Judged time in seconds, 0 or more."""
        return max(0, self.last_s - self.first_s + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One request, or all together, in one stage."""

    tally: Tally  # judged windows
    on_time: Tally  # the same without what ended later than RESOLUTION_S; counters only
    unanswered: int  # sent in the stage and without an outcome when the run ended
    errors: Mapping[str, int]  # error kind -> requests, in judged windows


@dataclass(frozen=True, slots=True, kw_only=True)
class StageFigures:
    """One stage; `requests` has an entry per request of the plan and OVERALL (None)."""

    facts: StageFacts
    span: Span
    is_cut: bool  # the run ended before the stage did
    lost_planned: int  # arrivals of lost windows that overlap the stage
    requests: Mapping[str | None, Figures]

    @property
    def overall(self) -> Figures:
        """All requests together."""
        return self.requests[OVERALL]


def empty_tally() -> Tally:
    """Nothing counted."""
    none = Histogram.empty()
    return Tally(
        counters=np.zeros(len(Count), dtype=np.int64),
        response=none,
        service=none,
        failed_response=none,
        failed_service=none,
        send_lag=none,
    )


def span_of(facts: StageFacts, t0_unix_ns: int) -> Span:
    """The whole seconds inside a stage."""
    start_ns, end_ns = t0_unix_ns + facts.start_ns, t0_unix_ns + facts.end_ns
    return Span(
        first_s=-(-start_ns // NS_PER_S),
        last_s=end_ns // NS_PER_S - 1,
        is_aligned=start_ns % NS_PER_S == 0 and end_ns % NS_PER_S == 0,
    )


def _counters(frame: pd.DataFrame) -> dict[tuple[str, str], Tally]:
    """Counter sums by (stage, request)."""
    sums = frame.groupby(["stage", "request"], observed=True)[list(COUNT_COLUMNS)].sum()
    rows = sums.to_numpy(dtype=np.int64)
    blank = empty_tally()
    return {
        (str(stage), str(request)): _with_counters(blank, row)
        for (stage, request), row in zip(sums.index, rows, strict=True)
    }


def _with_counters(tally: Tally, row: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> Tally:
    return Tally(
        counters=row,
        response=tally.response,
        service=tally.service,
        failed_response=tally.failed_response,
        failed_service=tally.failed_service,
        send_lag=tally.send_lag,
    )


def _histograms(run: Run, *, judged: bool) -> dict[tuple[str, str], dict[Kind, Histogram]]:
    """Histogram sums over nodes by (stage, request) and kind."""
    sums: dict[tuple[str, str], dict[Kind, Histogram]] = defaultdict(dict)
    for (stage, request, _node, kind), histogram in run.totals(judged=judged).items():
        kinds = sums[stage, request]
        kinds[kind] = kinds[kind] + histogram if kind in kinds else histogram
    return sums


def _tally(counters: Tally, kinds: Mapping[Kind, Histogram]) -> Tally:
    none = Histogram.empty()
    return Tally(
        counters=counters.counters,
        response=kinds.get(Kind.RESPONSE, none),
        service=kinds.get(Kind.SERVICE, none),
        failed_response=kinds.get(Kind.FAILED_RESPONSE, none),
        failed_service=kinds.get(Kind.FAILED_SERVICE, none),
        send_lag=kinds.get(Kind.SEND_LAG, none),
    )


def _errors(run: Run) -> dict[tuple[str, str], dict[str, int]]:
    """Judged error counts by (stage, request) and kind."""
    frame = run.errors[run.errors["judged"].to_numpy(dtype=bool)]
    sums: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    counts = frame.groupby(["stage", "request", "kind"], observed=True)["count"].sum()
    for (stage, request, kind), count in counts.items():
        sums[str(stage), str(request)][str(kind)] = int(count)
    return sums


def _together(parts: Iterable[Figures]) -> Figures:
    """Exact sum of several requests."""
    tally = on_time = empty_tally()
    unanswered = 0
    errors: dict[str, int] = defaultdict(int)
    for part in parts:
        tally, on_time = tally + part.tally, on_time + part.on_time
        unanswered += part.unanswered
        for kind, count in part.errors.items():
            errors[kind] += count
    return Figures(tally=tally, on_time=on_time, unanswered=unanswered, errors=dict(errors))


def lost_in(run: Run, facts: StageFacts) -> int:
    """Arrivals of lost windows in a stage: each entry's by its overlap, rounded up."""
    t0_ns = run.manifest.t0_unix_ns
    if t0_ns is None:
        return 0
    lost = 0
    for entry in run.manifest.lost_windows:
        from_ns, to_ns = entry.from_s * NS_PER_S, entry.to_s * NS_PER_S
        overlap_ns = min(to_ns, t0_ns + facts.end_ns) - max(from_ns, t0_ns + facts.start_ns)
        if overlap_ns > 0:
            lost += -(-entry.planned * overlap_ns // (to_ns - from_ns))
    return lost


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sums:
    """Everything that stages are assembled from, read once."""

    judged: Mapping[tuple[str, str], Tally]
    every: Mapping[tuple[str, str], Tally]
    histograms: Mapping[tuple[str, str], Mapping[Kind, Histogram]]
    errors: Mapping[tuple[str, str], Mapping[str, int]]


def _figures(sums: _Sums, late: Mapping[tuple[str, str], Tally], key: tuple[str, str]) -> Figures:
    blank = empty_tally()
    judged, every = sums.judged.get(key, blank), sums.every.get(key, blank)
    on_time = judged.counters - late.get(key, blank).counters
    return Figures(
        tally=_tally(judged, sums.histograms.get(key, {})),
        on_time=_with_counters(blank, on_time),
        unanswered=every.count(Count.SENT) - every.done,
        errors=sums.errors.get(key, {}),
    )


def build_figures(run: Run, plan: Plan) -> tuple[StageFigures, ...]:
    """Figures of every stage in plan order, warm-ups too; () when the run never started."""
    t0_ns = run.manifest.t0_unix_ns
    if t0_ns is None:
        return ()
    frame = run.windows
    is_judged = frame["judged"].to_numpy(dtype=bool)
    sums = _Sums(
        judged=_counters(frame[is_judged]),
        every=_counters(frame),
        histograms=_histograms(run, judged=True),
        errors=_errors(run),
    )
    window_s = frame["window_s"].to_numpy(dtype=np.int64)
    last_seen_s = max(
        (int(s.max()) for s in (window_s, run.engines["window_s"]) if len(s)), default=-1
    )
    stages = []
    for facts in run.manifest.stages:
        span = span_of(facts, t0_ns)
        late = _counters(frame[is_judged & (window_s > span.last_s + RESOLUTION_S)])
        parts = {
            request.name: _figures(sums, late, (facts.name, request.name))
            for request in plan.requests
        }
        stages.append(
            StageFigures(
                facts=facts,
                span=span,
                is_cut=last_seen_s < span.last_s,
                lost_planned=lost_in(run, facts),
                requests={**parts, OVERALL: _together(parts.values())},
            )
        )
    return tuple(stages)


def connection_errors(run: Run, stage: str) -> Mapping[str, int]:
    """Errors of connections themselves in a stage, by kind."""
    return _errors(run).get((stage, CONNECTION), {})
