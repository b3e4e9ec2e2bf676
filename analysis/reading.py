"""One measure read from one stage: value, samples, resolution, and its extremes.

A reading says nothing about good or bad. It also answers what the value would be if the
arrivals without a known outcome had ended as badly, or as well, as they could have: a
verdict that they could turn is not given on the rest alone.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Final

from analysis.figures import Figures, Span
from analysis.unit import Unit
from loadtests.plan.model import Measure, MeasureKind, Objective
from loadtests.plan.objectives import (
    COUNT_KINDS,
    RATE_KINDS,
    RATIO_KINDS,
    required_for,
    samples_of,
    value_of,
)
from loadtests.record.histogram import OVERFLOW, SIGNIFICANT_DIGITS, Histogram
from loadtests.record.tally import Tally
from loadtests.record.window import Count

QUANTILE_KINDS: Final = frozenset(
    {
        MeasureKind.RESPONSE_QUANTILE,
        MeasureKind.SERVICE_QUANTILE,
        MeasureKind.FAILED_RESPONSE_QUANTILE,
        MeasureKind.DONE_RESPONSE_QUANTILE,
    }
)
FROM_INTENDED: Final = frozenset(
    {
        MeasureKind.RESPONSE_QUANTILE,
        MeasureKind.DONE_RESPONSE_QUANTILE,
        MeasureKind.RESPONSE_MAX,
    }
)
_SHARES: Final = frozenset(
    {MeasureKind.POOL_USE, MeasureKind.ERROR_BUDGET_SPENT, MeasureKind.P95_RESTORED}
)
LAYOUT_RESOLUTION_RATIO: Final = 10.0**-SIGNIFICANT_DIGITS


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A value with what it rests on; None: no data. Infinite: beyond the histogram's hour.

    `resolution` is the smallest difference that the value can show, in its own unit.
    `required` samples are needed before the value may pass (0: any number will do).
    """

    unit: Unit
    value: float | None
    samples: int
    required: int
    resolution: float | None

    @property
    def is_too_small(self) -> bool:
        """Whether the sample is too small for the value to pass."""
        return self.samples < self.required


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """Arrivals that ended in some way that was not seen: how they are to be counted."""

    late: int = 0  # as never answered: beyond any latency limit
    bad: int = 0  # as failed
    good: int = 0  # as answered well and at once


def unit_of(measure: Measure) -> Unit:
    """The unit of a measure's values and limits."""
    if measure.kind in RATIO_KINDS | _SHARES:
        return Unit.RATIO
    if measure.kind in COUNT_KINDS or measure.kind is MeasureKind.DOWNTIME:
        return Unit.COUNT
    return Unit.PER_SECOND if measure.kind in RATE_KINDS else Unit.NANOSECONDS


def _tally_for(measure: Measure, figures: Figures) -> Tally:
    return figures.on_time if measure.kind in RATE_KINDS else figures.tally


def _resolution(unit: Unit, value: float, samples: int, span: Span) -> float | None:
    if unit is Unit.NANOSECONDS:
        return None if math.isinf(value) else max(1000.0, value * LAYOUT_RESOLUTION_RATIO)
    if unit is Unit.RATIO:
        return 1 / samples
    return 1 / span.seconds


def read(objective: Objective, figures: Figures, span: Span) -> Reading:
    """The objective's measure in one stage."""
    measure, tally = objective.measure, _tally_for(objective.measure, figures)
    unit, samples = unit_of(measure), samples_of(measure, tally)
    value = value_of(measure, tally, span.seconds) if span.seconds else None
    return Reading(
        unit=unit,
        value=value,
        samples=samples,
        required=required_for(objective),
        resolution=None if value is None else _resolution(unit, value, samples, span),
    )


def _with(histogram: Histogram, unknown: Unknown) -> Histogram:
    counts = histogram.counts.copy()
    counts[OVERFLOW] += unknown.late
    counts[0] += unknown.good
    return Histogram(counts=counts)


def read_with(objective: Objective, figures: Figures, span: Span, unknown: Unknown) -> float | None:
    """The value if `unknown` arrivals had been counted as they say."""
    tally = _tally_for(objective.measure, figures)
    counters = tally.counters.copy()
    counters[Count.OK] += unknown.good
    counters[Count.FAILED] += unknown.bad
    # Only a ratio of dropped arrivals is over planned ones; there a lost arrival may be one.
    counters[Count.PLANNED] += unknown.good + unknown.bad
    counters[Count.DROPPED] += unknown.bad
    # Each once: a measure over ok and failed requests adds both histograms up.
    is_failed = objective.measure.kind is MeasureKind.FAILED_RESPONSE_QUANTILE
    changed = dataclasses.replace(
        tally,
        counters=counters,
        response=_with(tally.response, unknown),
        service=_with(tally.service, unknown),
        failed_response=_with(tally.failed_response, unknown if is_failed else Unknown()),
    )
    return value_of(objective.measure, changed, span.seconds) if span.seconds else None
