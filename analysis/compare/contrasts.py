"""One measure of two sides, held against each other; not decided yet.

A family of tests is corrected as a whole, so a contrast keeps what the decision needs: a
`LogRatio` for latencies and rates (`Ranked` where a rank test was asked for, `Silence` where one
side answered nothing), two `Worth` for error ratios, or the reason why there is nothing to
compare.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from analysis.compare.estimates import (
    NO_SAMPLES,
    Part,
    error_worth,
    percentile_cells,
    percentile_value,
    percentiles_of_blocks,
    rate_cells,
    rate_value,
    rates_of_blocks,
)
from analysis.compare.measures import ComparedMeasure, MeasureKind
from analysis.statistics.cells import block_of
from analysis.statistics.interval import TooSmall, seed_of
from analysis.statistics.log_ratio import LogRatio, LogValue, of_runs, unpaired
from analysis.statistics.quantiles import paired_ratio
from analysis.statistics.rank_test import Ranked, mann_whitney
from analysis.statistics.ratios import Worth
from analysis.statistics.silence import Silence, silence_of
from analysis.statistics.totals import total_error
from loadtests.record.histogram import Histogram

UNPAIRED: Final = "block bootstrap, unpaired"
PAIRED: Final = "block bootstrap, windows paired"
RATE: Final = "block means"
RATE_PAIRED: Final = "block means, windows paired"
RUNS: Final = "runs as units, Welch"
EXACT: Final = "Fisher, Korn-Graubard"
RANKS: Final = "Mann-Whitney over blocks of windows"
RANKS_OF_RUNS: Final = "Mann-Whitney over runs"
SILENT: Final = "one side answered nothing: conditional Poisson"
UNEQUAL: Final = "stages of different lengths cannot be paired"

Parts = Sequence[Part]
Size = LogRatio | Ranked | Silence | tuple[Worth, Worth] | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """`before` and `after` are values in us, per second or a ratio; None: not known.

    `size` is the reason, a sentence, where nothing can be decided.
    """

    stage: str
    request: str | None
    measure: ComparedMeasure
    before: float | None
    after: float | None
    samples_before: int
    samples_after: int
    size: Size
    method: str


def contrast_of(
    measure: ComparedMeasure,
    stage: str,
    request: str | None,
    sides: tuple[Parts, Parts],
    *,
    is_paired: bool,
    rank_alpha: float | None,
) -> Contrast:
    """Compare one measure of both sides; `is_paired` is for one run a side.

    With `rank_alpha` the p-value of latencies and rates is Mann-Whitney's, where it can fall
    so low at all.
    """
    sizing = {
        MeasureKind.PERCENTILE: _percentile_size,
        MeasureKind.THROUGHPUT: _rate_size,
        MeasureKind.ERROR_RATIO: _ratio_size,
    }[measure.kind]
    size: Size
    size, method = sizing(measure, sides, is_paired=is_paired)
    if rank_alpha is not None and isinstance(size, LogRatio):
        size, method = _ranked(measure, sides, size, rank_alpha)
    before, after = (_value(measure, parts) for parts in sides)
    samples_before, samples_after = (_samples(measure, parts) for parts in sides)
    return Contrast(
        stage=stage,
        request=request,
        measure=measure,
        before=before,
        after=after,
        samples_before=samples_before,
        samples_after=samples_after,
        size=size,
        method=method,
    )


def _samples(measure: ComparedMeasure, parts: Parts) -> int:
    match measure.kind:
        case MeasureKind.PERCENTILE:
            return sum(part.figures.tally.response.n for part in parts)
        case MeasureKind.THROUGHPUT:
            return sum(int(part.answered.sum()) for part in parts)
        case MeasureKind.ERROR_RATIO:
            return sum(int(part.done.sum()) for part in parts)


def _value(measure: ComparedMeasure, parts: Parts) -> float | None:
    """The side's value: of several runs the geometric mean, of error ratios the pooled one."""
    if measure.kind is MeasureKind.ERROR_RATIO:
        done = _samples(measure, parts)
        return sum(int(part.bad.sum()) for part in parts) / done if done else None
    values = [_value_of_run(measure, part) for part in parts]
    if set(values) == {0.0}:
        return 0.0
    known = [value for value in values if value is not None and 0 < value < math.inf]
    if len(known) < len(values):
        return None
    return values[0] if len(values) == 1 else math.exp(float(np.mean(np.log(known))))


def _value_of_run(measure: ComparedMeasure, part: Part) -> float | None:
    if measure.quantile is None:
        return float(part.answered.sum()) / part.seconds if part.seconds else None
    response: Histogram = part.figures.tally.response
    return response.quantile_us(measure.quantile) if response.n else None


def _percentile_size(
    measure: ComparedMeasure, sides: tuple[Parts, Parts], *, is_paired: bool
) -> tuple[LogRatio | str, str]:
    q = measure.quantile or 0.0
    if is_paired and len(sides[0]) == len(sides[1]) == 1:
        return _paired_percentile(q, sides[0][0], sides[1][0]), PAIRED
    return _of_sides(sides, lambda part: percentile_value(part, q), UNPAIRED)


def _paired_percentile(q: float, before: Part, after: Part) -> LogRatio | str:
    one, other = (percentile_cells(part, q) for part in (before, after))
    if isinstance(one, str) or isinstance(other, str):
        return one if isinstance(one, str) else str(other)
    if one.samples.size != other.samples.size:
        return UNEQUAL
    ratio = paired_ratio(one, other, seed_of(str(before.seed), str(after.seed)))
    return str(ratio) if isinstance(ratio, TooSmall) else ratio


def _rate_size(
    measure: ComparedMeasure, sides: tuple[Parts, Parts], *, is_paired: bool
) -> tuple[LogRatio | Silence | str, str]:
    answers = [_samples(measure, parts) for parts in sides]
    if 0 in answers and any(answers):
        return _silence(sides, answers), SILENT
    if is_paired and len(sides[0]) == len(sides[1]) == 1:
        return _paired_rate(sides[0][0], sides[1][0]), RATE_PAIRED
    return _of_sides(sides, rate_value, RATE)


def _ranked(
    measure: ComparedMeasure, sides: tuple[Parts, Parts], ratio: LogRatio, alpha: float
) -> tuple[Ranked | str, str]:
    """The same with the p-value of a rank test: over runs, or over the blocks of one run each."""
    is_of_runs = max(map(len, sides)) > 1
    found = [_units(measure, parts, is_of_runs=is_of_runs) for parts in sides]
    method = RANKS_OF_RUNS if is_of_runs else RANKS
    for reason in (units for units in found if isinstance(units, str)):
        return reason, method
    before, after = ([float(value) for value in units] for units in found)
    p_value = mann_whitney(before, after, alpha)
    if isinstance(p_value, TooSmall):
        return str(p_value), method
    return Ranked(ratio=ratio, p_value=p_value), method


def _units(
    measure: ComparedMeasure, parts: Parts, *, is_of_runs: bool
) -> Sequence[float] | NDArray[np.float64] | str:
    if not is_of_runs:
        q = measure.quantile
        return rates_of_blocks(parts[0]) if q is None else percentiles_of_blocks(parts[0], q)
    values = [_value_of_run(measure, part) for part in parts]
    return [value for value in values if value is not None]


def _silence(sides: tuple[Parts, Parts], answers: Sequence[int]) -> Silence | str:
    """One side against another that has not a single answer."""
    is_after = answers[1] == 0
    answering, silent = sides if is_after else reversed(sides)
    values = [rate_value(part) for part in answering]
    for reason in (found for found in values if isinstance(found, str)):
        return reason
    return silence_of(
        [value for value in values if isinstance(value, LogValue)],
        sum(answers),
        answering_s=sum(part.seconds for part in answering),
        silent_s=sum(part.seconds for part in silent),
        is_after=is_after,
    )


def _paired_rate(before: Part, after: Part) -> LogRatio | str:
    one, other = (rate_cells(part) for part in (before, after))
    if isinstance(one, str) or isinstance(other, str):
        return one if isinstance(one, str) else str(other)
    if one.sums.size != other.sums.size:
        return UNEQUAL
    difference = other.deviation / other.per_window - one.deviation / one.per_window
    block = block_of(one.cells, difference)
    if isinstance(block, TooSmall):
        return str(block)
    return LogRatio(
        log=math.log(other.per_window / one.per_window),
        error=total_error(difference, block),
        degrees=one.sums.size / block - 1,
        floor=0.0,
    )


def _of_sides(
    sides: tuple[Parts, Parts], value: Callable[[Part], LogValue | str], method: str
) -> tuple[LogRatio | str, str]:
    """One run a side, or several; the first reason where a run has no value."""
    values = [[value(part) for part in parts] for parts in sides]
    for reason in (found for side in values for found in side if isinstance(found, str)):
        return reason, method
    before, after = ([v for v in side if isinstance(v, LogValue)] for side in values)
    if len(before) == len(after) == 1:
        return unpaired(before[0], after[0]), method
    return of_runs(before, after), RUNS


def _ratio_size(
    measure: ComparedMeasure, sides: tuple[Parts, Parts], *, is_paired: bool
) -> tuple[tuple[Worth, Worth] | str, str]:
    del measure, is_paired
    before, after = (error_worth(parts) for parts in sides)
    if isinstance(before, str) or isinstance(after, str):
        return before if isinstance(before, str) else str(after), EXACT
    return (before, after), EXACT


def missing(
    measure: ComparedMeasure, stage: str, request: str | None, reason: str = NO_SAMPLES
) -> Contrast:
    """What only one side has."""
    return Contrast(
        stage=stage,
        request=request,
        measure=measure,
        before=None,
        after=None,
        samples_before=0,
        samples_after=0,
        size=reason,
        method="",
    )
