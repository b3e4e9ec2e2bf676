"""Percentile spectra: latency over the percentile, as HdrHistogram's plots have it.

The axis is 1 / (1 - q), so that each nine takes the same room. A curve ends at the highest
sample; up to `carried_q` its sample is large enough for the percentile (the zero-late rule),
beyond that it is what was seen and nothing to rely on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from analysis.figures import StageFigures
from analysis.stage_tables import shown
from loadtests.plan.objectives import required_samples
from loadtests.record.histogram import HIGHEST_EQUIVALENT_US, Histogram

Floats = NDArray[np.float64]
_VALUES_US: Final = np.append(HIGHEST_EQUIVALENT_US.astype(np.float64), np.inf)
MOST_STAGES: Final = 4  # a line each, of as many colours as can be told apart
_PER_HALVING: Final = 8  # points each time the distance to 100 % is halved


@dataclass(frozen=True, slots=True, kw_only=True)
class Spectrum:
    """Quantiles (0-1, rising, without 1) and their latencies in us; `inf` beyond the hour."""

    samples: int
    quantiles: Floats
    values_us: Floats
    carried_q: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """What a baseline keeps of a stage: a whole curve, or a few quantiles; in us."""

    quantiles: Floats
    values_us: Floats
    is_whole: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Confidence:
    """Interval of each quantile, in us."""

    quantiles: Floats
    low_us: Floats
    high_us: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSpectra:
    """Response and service time of all requests of a stage; `band` is of the response time."""

    stage: str
    response: Spectrum
    service: Spectrum
    band: Confidence | None


def filled_stages(stages: Sequence[StageFigures]) -> Sequence[StageFigures]:
    """The judged stages (or all, without one) that have an ok answer."""
    return [stage for stage in shown(stages) if stage.overall.tally.response.n]


def drawn_stages(stages: Sequence[StageFigures]) -> Sequence[StageFigures]:
    """The last of them, as many as a figure has room for."""
    return filled_stages(stages)[-MOST_STAGES:]


def carried_quantile(samples: int) -> float:
    """The highest quantile that so many samples can carry; 0 when there is none.

    The inverse of `required_samples`: q**n <= 0.01, so q <= 0.01 ** (1/n).
    """
    if samples == 0:
        return 0.0
    quantile = float(0.01 ** (1 / samples))
    return quantile if required_samples(quantile) <= samples else float(np.nextafter(quantile, 0))


def _quantiles(samples: int) -> Floats:
    """From 0 to the highest sample, so many points a halving of what is left."""
    last = 1 - 0.5 / samples
    quantiles = 1 - 2.0 ** -np.arange(0, np.log2(2 * samples), 1 / _PER_HALVING)
    return np.append(quantiles[quantiles < last], last)


def values_at(histogram: Histogram, quantiles: Floats) -> Floats:
    """Latencies in us at many quantiles at once, each as `Histogram.quantile_us` has it."""
    ranks = np.maximum(1, np.ceil(np.round(quantiles * histogram.n, 6))).astype(np.int64)
    values: Floats = _VALUES_US[np.searchsorted(np.cumsum(histogram.counts), ranks)]
    return values


def build_spectrum(histogram: Histogram) -> Spectrum:
    """The curve of a histogram; empty without a sample."""
    quantiles = _quantiles(histogram.n) if histogram.n else np.empty(0)
    return Spectrum(
        samples=histogram.n,
        quantiles=quantiles,
        values_us=values_at(histogram, quantiles) if histogram.n else np.empty(0),
        carried_q=carried_quantile(histogram.n),
    )


def build_spectra(stage: StageFigures, band: Confidence | None) -> StageSpectra:
    """Both curves of a stage."""
    tally = stage.overall.tally
    return StageSpectra(
        stage=stage.facts.name,
        response=build_spectrum(tally.response),
        service=build_spectrum(tally.service),
        band=band,
    )
