"""When every objective held again: the first 30 s in which they do, from every bin on.

An objective is evaluated over 300 bins on end, at every bin at once, from running sums:

    pN < limit      late(limit) <= n - ceil(N/100 * n)     of n ok answers; exact, see `binning`
    done_pN, max    the same, a request that did not end ok counts as late
    error_ratio     by when requests were due: bad / (planned - dropped)
    throughput      answers that are no failure, per second; goodput ok ones

Objectives on levels (pool, the target's own metrics) and on latencies of failures are not in
bins; they are named, and judged over their stage as ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from analysis.figures import NS_PER_S
from analysis.recovery.outage import is_black, is_unavailable, runs_of
from analysis.recovery.series import Integers, Series, Truths
from loadtests.plan.binning import mark_of
from loadtests.plan.model import Binning, Comparison, MeasureKind, Objective
from loadtests.plan.objectives import RATE_KINDS
from loadtests.record.bins import BIN_NS, BinCount

HOLD_NS: Final = 30 * NS_PER_S
_SOON_BINS: Final = 10
_RATIOS: Final = frozenset(
    {
        MeasureKind.ERROR_RATIO,
        MeasureKind.SLO_ERROR_RATIO,
        MeasureKind.SUCCESS_RATIO,
        MeasureKind.DROPPED_RATIO,
    }
)
_WITH_BAD: Final = frozenset({MeasureKind.DONE_RESPONSE_QUANTILE, MeasureKind.RESPONSE_MAX})


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """`after_ns` from the fault; None: not within the run.

    `tail_ns`: the objectives held from so long after the fault to the end of load, which was
    too soon to tell; None where they did not.
    """

    after_ns: int | None
    tail_ns: int | None


def is_in_bins(objective: Objective, binning: Binning) -> bool:
    """Whether bins can tell when the objective holds."""
    kind = objective.measure.kind
    return mark_of(objective) in binning.marks or kind in _RATIOS or kind in RATE_KINDS


class _Sums:
    """Sums of every column over `[start, end)` bins, at every start."""

    def __init__(self, series: Series, starts: Integers, ends: Integers) -> None:
        zero = np.zeros((1, series.counts.shape[1]), dtype=np.int64)
        running = np.concatenate([zero, np.cumsum(series.counts, axis=0)])
        self._values = running[ends] - running[starts]
        self.seconds = np.asarray((ends - starts) * (BIN_NS / NS_PER_S), dtype=np.float64)

    def of(self, *columns: BinCount) -> Integers:
        return np.asarray(self._values[:, list(columns)].sum(axis=1), dtype=np.int64)


def _meets(objective: Objective, values: NDArray[np.float64]) -> Truths:
    limit = objective.limit
    match objective.comparison:
        case Comparison.BELOW:
            return values < limit
        case Comparison.AT_MOST:
            return values <= limit
        case Comparison.ABOVE:
            return values > limit
        case Comparison.AT_LEAST:
            return values >= limit
        case Comparison.EQUALS:
            return np.asarray(values == limit)


def _quantile_holds(objective: Objective, sums: _Sums, binning: Binning) -> Truths:
    mark = mark_of(objective)
    assert mark is not None, "only objectives on latency come here"
    ok = sums.of(BinCount.OK)
    late = sums.of(BinCount(BinCount.LATE_0 + binning.marks.index(mark)))
    if objective.measure.kind in _WITH_BAD:
        bad = sums.of(BinCount.CLIENT_ERROR, BinCount.FAILED)
        ok, late = ok + bad, late + bad
    quantile = 1.0 if objective.measure.quantile is None else objective.measure.quantile
    # Rounded before the ceiling: 0.95 * 100 is a little more than 95 in binary.
    rank = np.ceil(np.round(quantile * ok, 6)).astype(np.int64)
    return np.asarray((ok > 0) & (late <= ok - rank))


def _ratio_holds(objective: Objective, sums: _Sums) -> Truths:
    planned, dropped = sums.of(BinCount.PLANNED), sums.of(BinCount.DROPPED)
    failed, client = sums.of(BinCount.DUE_FAILED), sums.of(BinCount.DUE_CLIENT_ERROR)
    kind = objective.measure.kind
    whole = planned if kind is MeasureKind.DROPPED_RATIO else planned - dropped
    part = {
        MeasureKind.DROPPED_RATIO: dropped,
        MeasureKind.SLO_ERROR_RATIO: failed,
        MeasureKind.SUCCESS_RATIO: whole - failed - client,
    }.get(kind, failed + client)
    return np.asarray((whole > 0) & _meets(objective, part / np.maximum(1, whole)))


def _rate_holds(objective: Objective, sums: _Sums) -> Truths:
    columns = [BinCount.OK]
    if objective.measure.kind is MeasureKind.THROUGHPUT:
        columns.append(BinCount.CLIENT_ERROR)
    # One arrival of tolerance, as rates of stages have.
    return _meets(objective, (sums.of(*columns) + 1) / np.maximum(1e-9, sums.seconds))


def _holds(objective: Objective, sums: _Sums, binning: Binning) -> Truths:
    kind = objective.measure.kind
    if kind in _RATIOS:
        return _ratio_holds(objective, sums)
    if kind in RATE_KINDS:
        return _rate_holds(objective, sums)
    return _quantile_holds(objective, sums, binning)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """At every start from a bin on: whether every objective held, and over a whole stretch."""

    first: int
    holds: Truths
    is_whole: Truths


def _held(
    series: Series,
    objectives: Sequence[tuple[Objective, Series]],
    binning: Binning,
    from_ns: int,
    hold_ns: int,
) -> _Held:
    first, length = series.index_of(from_ns), hold_ns // BIN_NS
    starts = np.arange(first, series.bins, dtype=np.int64)
    ends = np.minimum(starts + length, series.bins)
    # Where nothing was due nothing can be said to hold.
    has_arrivals = _Sums(series, starts, ends).of(BinCount.PLANNED) > 0
    black = np.concatenate([[0], np.cumsum(_long_black(series, objectives))])
    holds = has_arrivals & (black[ends] == black[starts])
    made: dict[int, _Sums] = {}
    for objective, own in objectives:
        sums = made.setdefault(id(own), _Sums(own, starts, ends))
        # A stage that is over, or has not begun, promises nothing.
        is_elsewhere = (objective.stage is not None) & (sums.of(BinCount.PLANNED) == 0)
        holds &= _holds(objective, sums, binning) | is_elsewhere
    return _Held(first=first, holds=holds, is_whole=np.asarray(ends - starts == length))


def count_relapses(
    series: Series,
    objectives: Sequence[tuple[Objective, Series]],
    binning: Binning,
    from_ns: int,
    hold_ns: int = HOLD_NS,
) -> int:
    """How often the objectives ceased to hold, over `hold_ns` each, from a time on."""
    held = _held(series, objectives, binning, from_ns, hold_ns)
    return len(runs_of(~held.holds & held.is_whole))


def find_recovery(
    series: Series,
    objectives: Sequence[tuple[Objective, Series]],
    binning: Binning,
    fault_ns: int,
    hold_ns: int = HOLD_NS,
) -> Recovered:
    """The start of the first `hold_ns` from the fault on in which every objective holds.

    Each objective comes with the series that it is about. The stretch begins in a bin that is
    available in `series`, and not before the fault was felt: without that, a limit that
    forgives some bad arrivals would let it begin before the end of the outage. And there is no
    blackout in it that is longer than the limits of latency: where nothing succeeds nothing
    holds. A shorter one is what those limits allow.
    """
    held = _held(series, objectives, binning, fault_ns, hold_ns)
    first, is_whole = held.first, held.is_whole
    unavailable = is_unavailable(series)
    holds = held.holds & ~unavailable[first:]
    holds[: _felt_until(unavailable, first) - first] = False
    found = np.flatnonzero(holds & is_whole)
    if found.size:
        return Recovered(after_ns=_after(series, first + int(found[0]), fault_ns), tail_ns=None)
    # Only what holds at every later start as well held to the end.
    tail = np.flatnonzero(holds & ~is_whole)
    after_ns = _after(series, first + int(tail[0]), fault_ns) if tail.size else None
    return Recovered(after_ns=None, tail_ns=after_ns)


def _long_black(series: Series, objectives: Sequence[tuple[Objective, Series]]) -> Truths:
    """Bins of blackouts longer than every limit of latency."""
    marks = [mark_of(objective) for objective, _ in objectives]
    longest_ns = max((mark.limit_ns for mark in marks if mark is not None), default=0)
    flags = is_black(series)
    for begin, end in runs_of(flags):
        flags[begin:end] = (end - begin) * BIN_NS > longest_ns
    return flags


def _felt_until(unavailable: Truths, first: int) -> int:
    """Where the stretch ends that begins with the fault or within a second of it."""
    soon = [end for begin, end in runs_of(unavailable[first:]) if begin < _SOON_BINS]
    return first + (soon[0] if soon else 0)


def _after(series: Series, index: int, fault_ns: int) -> int:
    return max(0, series.edge_ns(index) - fault_ns)
