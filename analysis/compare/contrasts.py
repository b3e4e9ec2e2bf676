"""One measure of two sides, held against each other; not decided yet.

A family of tests is corrected as a whole, so a contrast keeps what the decision needs: a
`LogRatio` for latencies and rates, two `Worth` for error ratios, or the reason why there is
nothing to compare.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from analysis.compare.estimates import (
    NO_SAMPLES,
    Part,
    error_worth,
    percentile_cells,
    percentile_value,
    rate_cells,
    rate_value,
)
from analysis.compare.measures import ComparedMeasure, MeasureKind
from analysis.statistics.block_bootstrap import block_weights, log_error
from analysis.statistics.interval import seed_of
from analysis.statistics.log_ratio import LogRatio, LogValue, of_runs, paired, unpaired
from analysis.statistics.quantiles import layout_log
from analysis.statistics.ratios import Worth
from analysis.statistics.totals import total_error
from loadtests.record.histogram import Histogram

UNPAIRED: Final = "block bootstrap, unpaired"
PAIRED: Final = "block bootstrap, windows paired"
RATE: Final = "block means"
RATE_PAIRED: Final = "block means, windows paired"
RUNS: Final = "runs as units, Welch"
EXACT: Final = "Fisher, Korn-Graubard"

Parts = Sequence[Part]


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
    size: LogRatio | tuple[Worth, Worth] | str
    method: str


def contrast_of(
    measure: ComparedMeasure,
    stage: str,
    request: str | None,
    sides: tuple[Parts, Parts],
    *,
    is_paired: bool,
) -> Contrast:
    """Compare one measure of both sides; `is_paired` is for one run a side."""
    sizing = {
        MeasureKind.PERCENTILE: _percentile_size,
        MeasureKind.THROUGHPUT: _rate_size,
        MeasureKind.ERROR_RATIO: _ratio_size,
    }[measure.kind]
    size, method = sizing(measure, sides, is_paired=is_paired)
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
    """Draw the same windows on both sides: what their places in the stage cause cancels out."""
    found = [percentile_cells(part, q) for part in (before, after)]
    for side in found:
        if isinstance(side, str):
            return side
    one, other = (side for side in found if not isinstance(side, str))
    if one.samples.size != other.samples.size:
        return "stages of different lengths cannot be paired"
    block = max(one.block, other.block)
    blocks = one.samples.size / block
    weights = block_weights(one.samples.size, block, seed_of(str(before.seed), str(after.seed)))
    ratios = other.replicates_us(weights) / one.replicates_us(weights)
    return paired(
        log=math.log(other.value_us / one.value_us),
        error=log_error(ratios, blocks),
        degrees=blocks - 1,
        floor=max(map(layout_log, (one.value_us, other.value_us))),
    )


def _rate_size(
    measure: ComparedMeasure, sides: tuple[Parts, Parts], *, is_paired: bool
) -> tuple[LogRatio | str, str]:
    del measure
    if is_paired and len(sides[0]) == len(sides[1]) == 1:
        return _paired_rate(sides[0][0], sides[1][0]), RATE_PAIRED
    return _of_sides(sides, rate_value, RATE)


def _paired_rate(before: Part, after: Part) -> LogRatio | str:
    found = [rate_cells(part) for part in (before, after)]
    for side in found:
        if isinstance(side, str):
            return side
    one, other = (side for side in found if not isinstance(side, str))
    if one.sums.size != other.sums.size:
        return "stages of different lengths cannot be paired"
    block = max(one.block, other.block)
    difference = other.sums / other.sums.sum() - one.sums / one.sums.sum()
    return paired(
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
