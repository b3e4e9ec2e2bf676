"""Counts and histograms of each stage, taken from an archive once: what is judged and printed.

A stage's figures are over its *judged windows*: the whole seconds inside it, and later
ones, which hold only late answers to its arrivals (`Manifest.judges`). Percentiles come
from the archive's exact histogram sums and nothing else.

Rates are over the *judged time*: the whole seconds inside the stage. A rate counts what
ended in it or at most one window (`RESOLUTION_S`) later, so that the answers to the last
arrivals count and those of a target that queues for longer do not.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from loadtests.record.archive import Run
from loadtests.record.histogram import Histogram
from loadtests.record.manifest import StageFacts
from loadtests.record.tally import Tally, tally_of
from loadtests.record.window import CONNECTION, Count

NS_PER_S: Final = 1_000_000_000
RESOLUTION_S: Final = 1  # length of a window
COUNT_COLUMNS: Final = tuple(count.name.lower() for count in Count)
OVERALL: Final[None] = None  # the key of all requests together

ErrorCounts = Mapping[tuple[str, str], Mapping[str, int]]  # (stage, request) -> kind -> requests


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

    @property
    def errors(self) -> Mapping[str, int]:
        """Requests by error kind, in judged windows."""
        return self.tally.errors


@dataclass(frozen=True, slots=True, kw_only=True)
class StageFigures:
    """One stage; `requests` has an entry per request of the plan and OVERALL (None)."""

    facts: StageFacts
    span: Span
    is_cut: bool  # the run ended before the stage did
    lost_planned: int  # arrivals of lost windows that overlap the stage
    requests: Mapping[str | None, Figures]
    connection_errors: Mapping[str, int]  # of connections that could not be opened or broke

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
        errors={},
    )


def span_of(facts: StageFacts, t0_unix_ns: int) -> Span:
    """The whole seconds inside a stage."""
    start_ns, end_ns = t0_unix_ns + facts.start_ns, t0_unix_ns + facts.end_ns
    return Span(
        first_s=-(-start_ns // NS_PER_S),
        last_s=end_ns // NS_PER_S - 1,
        is_aligned=start_ns % NS_PER_S == 0 and end_ns % NS_PER_S == 0,
    )


def _late_rows(frame: pd.DataFrame, span: Span, stage: str) -> pd.DataFrame:
    """Judged rows of a stage after the last window that rates count."""
    is_late = frame["window_s"].to_numpy(dtype=np.int64) > span.last_s + RESOLUTION_S
    return frame[is_late & _is_judged(frame) & (frame["stage"] == stage).to_numpy(dtype=bool)]


def late_tallies(run: Run, span: Span, stage: str) -> dict[str, Tally]:
    """What ended after the last window that rates count, by request; counters and errors."""
    rows = _late_rows(run.windows, span, stage)
    sums = rows.groupby("request", observed=True)[list(COUNT_COLUMNS)].sum()
    values = sums.to_numpy(dtype=np.int64)
    errors = error_counts(_late_rows(run.errors, span, stage))
    return {
        str(request): dataclasses.replace(
            empty_tally(), counters=row, errors=errors.get((stage, str(request)), {})
        )
        for request, row in zip(sums.index, values, strict=True)
    }


def _without(tally: Tally, late: Tally) -> Tally:
    """Counters and errors of a tally without a part of it."""
    errors = {kind: n - late.errors.get(kind, 0) for kind, n in tally.errors.items()}
    return dataclasses.replace(
        empty_tally(), counters=tally.counters - late.counters, errors=errors
    )


def _is_judged(frame: pd.DataFrame) -> NDArray[np.bool_]:
    return frame["judged"].to_numpy(dtype=bool)


def error_counts(frame: pd.DataFrame) -> ErrorCounts:
    """Sums of rows of errors by (stage, request) and kind."""
    counts = frame.groupby(["stage", "request", "kind"], observed=True, as_index=False)["count"]
    sums: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for row in counts.sum().itertuples(index=False):
        sums[str(row.stage), str(row.request)][str(row.kind)] = int(row.count)
    return sums


def together(parts: Iterable[Figures]) -> Figures:
    """Exact sum of several requests."""
    tally = on_time = empty_tally()
    unanswered = 0
    for part in parts:
        tally, on_time = tally + part.tally, on_time + part.on_time
        unanswered += part.unanswered
    return Figures(tally=tally, on_time=on_time, unanswered=unanswered)


def lost_in(run: Run, facts: StageFacts) -> int:
    """Arrivals of lost windows that overlap a stage.

    An entry's edges are whole seconds, wider than what was lost, so one that overlaps two
    stages counts in full for both.
    """
    t0_ns = run.manifest.t0_unix_ns
    if t0_ns is None:
        return 0
    start_ns, end_ns = t0_ns + facts.start_ns, t0_ns + facts.end_ns
    return sum(
        entry.planned
        for entry in run.manifest.lost_windows
        if entry.from_s * NS_PER_S < end_ns and entry.to_s * NS_PER_S > start_ns
    )


def _request_figures(run: Run, stage: int, late: Mapping[str, Tally]) -> dict[str | None, Figures]:
    """Figures of each request of one stage."""
    slots = run.slots
    parts: dict[str | None, Figures] = {}
    for index, request in enumerate(slots.requests):
        if request == CONNECTION:
            continue
        own = [slots.slot(stage, index, node) for node in range(len(slots.nodes))]
        tally = tally_of(run.merged(judged=True), own)
        every = tally_of(run.merged(judged=False), own)
        parts[request] = Figures(
            tally=tally,
            on_time=_without(tally, late.get(request, empty_tally())),
            unanswered=every.count(Count.SENT) - every.done,
        )
    return parts


def _last_second(run: Run) -> int:
    """The last window of the run; 0 of an empty one."""
    ends = [int(frame["window_s"].max()) for frame in (run.windows, run.engines) if len(frame)]
    return max(ends, default=0)


def build_figures(run: Run) -> tuple[StageFigures, ...]:
    """Figures of every stage in plan order, warm-ups too; () when the run never started."""
    t0_ns = run.manifest.t0_unix_ns
    if t0_ns is None:
        return ()
    errors, last_seen_s = error_counts(run.errors[_is_judged(run.errors)]), _last_second(run)
    stages = []
    for index, facts in enumerate(run.manifest.stages):
        span = span_of(facts, t0_ns)
        parts = _request_figures(run, index, late_tallies(run, span, facts.name))
        stages.append(
            StageFigures(
                facts=facts,
                span=span,
                is_cut=last_seen_s < span.last_s,
                lost_planned=lost_in(run, facts),
                requests={**parts, OVERALL: together(parts.values())},
                connection_errors=errors.get((facts.name, CONNECTION), {}),
            )
        )
    return tuple(stages)
