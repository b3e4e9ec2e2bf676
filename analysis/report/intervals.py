"""Confidence intervals of what objectives judge, and of the spectra.

All honour that neighbouring seconds depend on each other (`analysis.statistics`): percentiles
by resampling the stage's judged seconds in blocks (where there are many, some added up),
ratios by exact intervals of what the counts are worth, rates by means of blocks. Where there
is no method, or too few seconds or samples for it, there is no interval, and the report says
which.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from analysis.blocks import Blocks, Key, WindowCounts, load_counts
from analysis.figures import OVERALL, RESOLUTION_S, Span, StageFigures
from analysis.report.rows import added_up, judged_rows
from analysis.report.spectrum import Confidence, drawn_stages
from analysis.statistics.cells import MOST_CELLS, Population, population_of
from analysis.statistics.interval import Interval, TooSmall, seed_of
from analysis.statistics.quantiles import interval_of_quantile
from analysis.statistics.ratios import ratio_interval
from analysis.statistics.totals import rate_interval
from analysis.text import TOO_SMALL, with_unit
from analysis.unit import Unit
from analysis.verdict import Verdict
from loadtests.plan.model import Measure, MeasureKind, Plan
from loadtests.plan.objectives import RATE_KINDS, RATIO_KINDS
from loadtests.record.archive import Run
from loadtests.record.window import Count

NONE: Final = "none"
NS_PER_US: Final = 1000
_BAND: Final = (0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999)


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervals:
    """`texts` by the objective's place in the verdict; `bands` by stage."""

    texts: Mapping[int, str]
    bands: Mapping[str, Confidence]


class _Populations:
    """The judged rows of a stage and request, few enough to be resampled often."""

    def __init__(self, run: Run, blocks: Mapping[Key, Blocks]) -> None:
        self._run = run
        self._blocks = blocks
        self.counts = load_counts(run)
        self._kept: dict[Key, Population | TooSmall | None] = {}

    def population(self, key: Key) -> Population | TooSmall | None:
        """None without a sample; made once, for it costs more than a percentile of it."""
        if key not in self._kept:
            self._kept[key] = self._made(key)
        return self._kept[key]

    def _made(self, key: Key) -> Population | TooSmall | None:
        found = self._blocks.get(key)
        if found is None:
            return None
        stage = self._run.slots.stages.index(key[0])
        rows = added_up(judged_rows(found, self._run.manifest, stage), MOST_CELLS)
        return population_of(rows) if len(rows) else None

    def interval(self, key: Key, quantile: float) -> Interval | TooSmall | None:
        """The interval of a percentile of response time, in us."""
        population = self.population(key)
        if population is None or isinstance(population, TooSmall):
            return population
        seed = seed_of(self._run.manifest.run_id, key[0], key[1] or "", f"{quantile}")
        return interval_of_quantile(population, quantile, seed=seed)


def _errors(counts: WindowCounts, kind: MeasureKind) -> Interval | TooSmall:
    """The interval of a ratio (0-1); of success, one minus that of the errors."""
    failed, client = counts.of(Count.FAILED), counts.of(Count.CLIENT_ERROR)
    if kind is MeasureKind.DROPPED_RATIO:
        return ratio_interval(counts.of(Count.DROPPED), counts.of(Count.PLANNED))
    bad = failed if kind is MeasureKind.SLO_ERROR_RATIO else failed + client
    found = ratio_interval(bad, counts.done)
    if kind is MeasureKind.SUCCESS_RATIO and isinstance(found, Interval):
        return dataclasses.replace(found, low=1 - found.high, high=1 - found.low)
    return found


def _rate(counts: WindowCounts, kind: MeasureKind, span: Span) -> Interval | TooSmall:
    """The interval of a rate over the judged time; what ended a window later is its last."""
    values = counts.answered if kind is MeasureKind.THROUGHPUT else counts.of(Count.OK)
    seconds = np.zeros(span.seconds, dtype=np.int64)
    inside = (counts.window_s >= span.first_s) & (counts.window_s <= span.last_s + RESOLUTION_S)
    at = np.minimum(counts.window_s[inside] - span.first_s, span.seconds - 1)
    np.add.at(seconds, at, values[inside])
    return rate_interval(seconds)


def _found(
    measure: Measure, stage: StageFigures | None, request: str | None, populations: _Populations
) -> Interval | TooSmall | None:
    """None where there is no method for the measure, or nothing was counted.

    Nor is there one for what is of the whole run and of no stage: failovers, audits.
    """
    if stage is None:
        return None
    key, kind = (stage.facts.name, request), measure.kind
    if kind is MeasureKind.RESPONSE_QUANTILE and measure.quantile is not None:
        return populations.interval(key, measure.quantile)
    counts = populations.counts.get(key)
    if counts is None or not stage.span.seconds:
        return None
    if kind in RATIO_KINDS:
        return _errors(counts, kind)
    return _rate(counts, kind, stage.span) if kind in RATE_KINDS else None


def _text(unit: Unit, found: Interval | TooSmall | None) -> str:
    """Both ends in the value's unit."""
    if isinstance(found, TooSmall):
        return f"{TOO_SMALL} ({found.have} of {found.need} {found.what.split(',')[0]})"
    if found is None or math.isnan(found.low) or math.isnan(found.high):
        return NONE
    factor = NS_PER_US if unit is Unit.NANOSECONDS else 1
    return f"{with_unit(unit, found.low * factor)} to {with_unit(unit, found.high * factor)}"


def _band(stage: StageFigures, populations: _Populations) -> Confidence | None:
    key = (stage.facts.name, OVERALL)
    found = [(q, populations.interval(key, q)) for q in _BAND]
    known = [(q, one) for q, one in found if isinstance(one, Interval)]
    if not known:
        return None
    return Confidence(
        quantiles=np.array([q for q, _ in known]),
        low_us=np.array([one.low for _, one in known]),
        high_us=np.array([one.high for _, one in known]),
    )


def _bands(
    stages: Sequence[StageFigures], populations: _Populations
) -> Iterator[tuple[str, Confidence]]:
    for stage in stages:
        band = _band(stage, populations)
        if band is not None:
            yield stage.facts.name, band


def build_intervals(
    run: Run,
    plan: Plan,
    verdict: Verdict,
    stages: Sequence[StageFigures],
    blocks: Mapping[Key, Blocks],
) -> Intervals:
    """Intervals of every objective's value, and of the spectra of as many stages as are drawn."""
    populations = _Populations(run, blocks)
    measures = {objective.text: objective.measure for objective in plan.objectives}
    by_name = {stage.facts.name: stage for stage in stages}
    return Intervals(
        texts={
            place: _text(
                result.reading.unit,
                _found(
                    measures[result.objective],
                    by_name.get(result.stage),
                    result.request,
                    populations,
                ),
            )
            for place, result in enumerate(verdict.objectives)
        },
        bands=dict(_bands(drawn_stages(stages), populations)),
    )
