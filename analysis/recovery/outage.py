"""When arrivals failed: the bad stretches of a series, and what they add up to.

A bin is *bad* when less than 99.9 % of the arrivals that were due in it ended ok; a dropped
arrival did not. A stretch in which nothing at all succeeded although arrivals were due is a
*blackout*, also when they are answered late in the end: at least two bins and five arrivals,
for less is not told from an answer that took its time. Unavailability is the total of both.
Bins in which nothing was due say nothing: between two bad ones they belong to the stretch,
else an outage of a part with few arrivals would seem shorter the fewer there are.

A stretch is measured closer than its bins: it begins with the 10 ms in which the first bad
arrival was due and ends with those of the last one. A blackout begins as deep in the bin
before it as that bin's answers go; its end is known to a bin, and the earlier edge counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from analysis.recovery.series import Integers, Series, Truths
from loadtests.record.bins import BIN_NS, TICK_NS, TICKS_PER_BIN, BinCount

BAD_RATIO: Final = 0.001  # success below 99.9 %
FEWEST_BINS: Final = 2  # of a blackout
FEWEST_ARRIVALS: Final = 5
_DETECT_BINS: Final = 10  # who looks at the last second of answers


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """`[start_ns, end_ns)` in unix ns."""

    start_ns: int
    end_ns: int

    @property
    def length_ns(self) -> int:
        """How long it was."""
        return self.end_ns - self.start_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """What happened from `from_ns` to `to_ns`; durations in ns, None: it did not happen."""

    from_ns: int
    to_ns: int
    stretches: tuple[Stretch, ...]  # unavailable
    blackouts: tuple[Stretch, ...]
    first_bad_ns: int | None  # from the fault to the bin of the first bad response
    detected_ns: int | None  # to the end of the first second with success < 99.9 %
    planned: int
    failed: int  # due in it, client_error or failed
    failed_slo: int  # of these, failed
    dropped: int
    ended: int

    @property
    def unavailable_ns(self) -> int:
        """Total of the bad stretches."""
        return sum(stretch.length_ns for stretch in self.stretches)

    @property
    def longest_ns(self) -> int:
        """The longest of them."""
        return max((stretch.length_ns for stretch in self.stretches), default=0)

    @property
    def blackout_ns(self) -> int:
        """Total of the time without any success."""
        return sum(stretch.length_ns for stretch in self.blackouts)


def runs_of(flags: Truths) -> list[tuple[int, int]]:
    """Stretches of true ones, as `[first, end)`."""
    edges = np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8))
    return list(zip(np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist(),
                    strict=True))  # fmt: skip


def is_bad(series: Series) -> Truths:
    """Bins in which too many of the arrivals that were due did not end ok."""
    bad = series.bad_due
    return np.asarray((bad > 0) & (bad > BAD_RATIO * series.column(BinCount.PLANNED)))


def is_black(series: Series) -> Truths:
    """Bins of stretches without any success although arrivals were due or waiting."""
    planned, waiting = series.column(BinCount.PLANNED), series.waiting
    flags = np.asarray((series.column(BinCount.OK) == 0) & ((planned > 0) | (waiting > 0)))
    found = np.zeros(series.bins, dtype=np.bool_)
    for first, end in runs_of(flags):
        has_arrivals = planned[first:end].sum() >= FEWEST_ARRIVALS
        found[first:end] = end - first >= FEWEST_BINS and has_arrivals
    return found


def is_unavailable(series: Series) -> Truths:
    """Bins of both kinds, and those without arrivals between two of them."""
    found = is_bad(series) | is_black(series)
    is_known = found | (series.column(BinCount.PLANNED) > 0)
    after, before = _last_known(found, is_known), _last_known(found[::-1], is_known[::-1])[::-1]
    return np.asarray(found | (~is_known & after & before))


def _last_known(flags: Truths, is_known: Truths) -> Truths:
    """Of every bin the flag of the last known one up to it; False before the first."""
    places = np.maximum.accumulate(np.where(is_known, np.arange(flags.size), -1))
    return np.asarray((places >= 0) & flags[places])


def silent_bins(series: Series, stretch: Stretch) -> int:
    """Bins without arrivals on both sides of a stretch, in which it may have begun and ended."""
    is_empty = series.column(BinCount.PLANNED) == 0
    first, end = series.index_of(stretch.start_ns), series.index_of(stretch.end_ns - 1) + 1
    before = np.flatnonzero(~is_empty[:first][::-1])
    after = np.flatnonzero(~is_empty[end:])
    return (int(before[0]) if before.size else first) + (
        int(after[0]) if after.size else series.bins - end
    )


def _black_start_ns(series: Series, first: int) -> int:
    """Where the answers of the bin before a blackout end, if they come evenly."""
    edge_ns = series.edge_ns(first)
    if first == 0:
        return edge_ns
    planned = int(series.column(BinCount.PLANNED)[first - 1])
    ended = int(series.column(BinCount.OK)[first - 1])
    return edge_ns - BIN_NS + round(BIN_NS * ended / planned) if 0 < ended < planned else edge_ns


def _stretch(series: Series, first: int, end: int, bad: Truths, black: Truths) -> Stretch:
    """One stretch of bins, its edges as closely as they are known."""
    ticks = series.bad_ticks
    start_ns, end_ns = series.edge_ns(first), series.edge_ns(end)
    if bad[first] and not black[first]:
        start_ns = max(start_ns, _first_tick_ns(ticks, start_ns, start_ns))
    elif black[first]:
        start_ns = min(start_ns, _black_start_ns(series, first))
    if bad[end - 1] and not black[end - 1]:
        last_ns = end_ns - BIN_NS
        place = int(np.searchsorted(ticks, end_ns // TICK_NS)) - 1
        is_there = place >= 0 and int(ticks[place]) * TICK_NS >= last_ns
        end_ns = int(ticks[place] + 1) * TICK_NS if is_there else end_ns
    return Stretch(start_ns=start_ns, end_ns=end_ns)


def _within(stretches: Sequence[Stretch], blackout: Stretch) -> Stretch:
    """A blackout is a part of its stretch, whose edges are known more closely."""
    own = next(
        s for s in stretches if s.start_ns < blackout.end_ns and s.end_ns > blackout.start_ns
    )
    return Stretch(
        start_ns=max(own.start_ns, blackout.start_ns), end_ns=min(own.end_ns, blackout.end_ns)
    )


def _first_tick_ns(ticks: Integers, from_ns: int, otherwise_ns: int) -> int:
    """Where the first bad tick of the bin at `from_ns` begins."""
    tick = from_ns // TICK_NS
    place = int(np.searchsorted(ticks, tick))
    is_there = place < ticks.size and int(ticks[place]) < tick + TICKS_PER_BIN
    return int(ticks[place]) * TICK_NS if is_there else otherwise_ns


def _between(flags: Truths, first: int, end: int) -> list[tuple[int, int]]:
    """Stretches of flags that begin in a part of the series."""
    return [(a + first, b + first) for a, b in runs_of(flags[first:end])]


def measure_outage(series: Series, from_ns: int, to_ns: int, since_ns: int | None = None) -> Outage:
    """What a series shows from a fault's time to another's, or to the end of load.

    What is counted begins with `since_ns`, when the fault was begun: one that took a while to
    be acknowledged is felt before that.
    """
    first = series.index_of(from_ns if since_ns is None else min(since_ns, from_ns))
    end = series.index_of(to_ns)
    bad, black = is_bad(series), is_black(series)
    part = series.counts[first:end]

    def total(*columns: BinCount) -> int:
        return int(part[:, list(columns)].sum())

    stretches = tuple(
        _stretch(series, a, b, bad, black) for a, b in _between(is_unavailable(series), first, end)
    )
    return Outage(
        from_ns=from_ns,
        to_ns=to_ns,
        stretches=stretches,
        blackouts=tuple(
            _within(
                stretches, Stretch(start_ns=_black_start_ns(series, a), end_ns=series.edge_ns(b))
            )
            for a, b in _between(black, first, end)
        ),
        first_bad_ns=_first_bad_ns(series, first, end, from_ns),
        detected_ns=_detected_ns(series, first, end, from_ns),
        planned=total(BinCount.PLANNED),
        failed=total(BinCount.DUE_CLIENT_ERROR, BinCount.DUE_FAILED),
        failed_slo=total(BinCount.DUE_FAILED),
        dropped=total(BinCount.DROPPED),
        ended=total(BinCount.OK, BinCount.CLIENT_ERROR, BinCount.FAILED),
    )


def _first_bad_ns(series: Series, first: int, end: int, from_ns: int) -> int | None:
    bad = series.done - series.column(BinCount.OK)
    found = np.flatnonzero(bad[first:end])
    return None if not found.size else max(0, series.edge_ns(first + int(found[0])) - from_ns)


def _detected_ns(series: Series, first: int, end: int, from_ns: int) -> int | None:
    """To the end of the first bin whose last second shows it: errors, or no success at all."""

    def last_second(values: Integers) -> Integers:
        sums = np.cumsum(values)
        sums[_DETECT_BINS:] -= np.cumsum(values)[:-_DETECT_BINS]
        return sums

    ok, done = last_second(series.column(BinCount.OK)), last_second(series.done)
    planned = last_second(series.column(BinCount.PLANNED))
    has_errors = (done - ok) > BAD_RATIO * done
    is_silent = (ok == 0) & (planned >= FEWEST_ARRIVALS)
    found = np.flatnonzero((has_errors | is_silent)[first:end])
    if not found.size:
        return None
    return max(0, series.edge_ns(first + int(found[0]) + 1) - from_ns)
