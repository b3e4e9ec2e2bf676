"""Percentiles under resampling of windows: replicates, standard error, interval.

A percentile of a replicate needs the replicate's histogram only where the percentile can
lie. So the samples of each cell are counted up to some tens of edges around it (Woodruff's
idea, 1952: the percentile's spread follows from that of the share of samples below it), and
one product of matrices gives all replicates. Between two edges the counts are taken as
evenly spread over the logarithm of the latency; where the edges are every bucket that was
hit, which is the rule, nothing is left to spread.

Law: no interval where the sample cannot carry the percentile (`required_samples`) or where
there are too few windows to know how they vary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from analysis.blocks import Blocks
from analysis.statistics.block_bootstrap import block_weights, log_error, t_factor
from analysis.statistics.block_length import block_length
from analysis.statistics.cells import Cells, Population, block_of, population_of
from analysis.statistics.interval import CONFIDENCE, Interval, TooSmall
from analysis.statistics.log_ratio import LogRatio, LogValue
from analysis.statistics.totals import total_error
from loadtests.plan.objectives import required_samples
from loadtests.record.histogram import HIGHEST_EQUIVALENT_US, Histogram

METHOD: Final = "circular block bootstrap over windows, t interval of the logarithm"
_VALUES_US: Final = np.append(HIGHEST_EQUIVALENT_US.astype(np.float64), np.inf)
_MOST_EDGES: Final = 64
_SPREADS: Final = 6.0  # standard errors on both sides of the share that edges cover


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantileCells:
    """One percentile of one population, ready to be resampled.

    `value_us` is the percentile of all windows. Of each cell: `samples` (n,), `below`
    (n, edges), the samples in buckets up to each of `edges` (ascending bucket numbers), and
    how far it moves the share of samples below the percentile (`influence`) and below the
    median, the best witness of how long windows depend on each other.
    """

    q: float
    value_us: float
    cells: Cells
    samples: NDArray[np.float64]
    edges: NDArray[np.int64]
    below: NDArray[np.float64]
    influence: NDArray[np.float64]
    of_median: NDArray[np.float64]

    def replicates_us(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """The percentile in each replicate of `weights` (replicates, cells)."""
        ranks = np.maximum(1.0, np.ceil(np.round(self.q * (weights @ self.samples), 6)))
        below = weights @ self.below
        at = np.minimum((below < ranks[:, None]).sum(axis=1), self.edges.size - 1)
        return self._between(at, below, ranks)

    def _between(
        self, at: NDArray[np.int64], below: NDArray[np.float64], ranks: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Values of ranks that lie above edge `at` - 1 and up to edge `at`."""
        rows, before = np.arange(at.size), np.maximum(at - 1, 0)
        low, high = below[rows, before], below[rows, at]
        share = np.clip((ranks - low) / np.maximum(high - low, 1.0), 0.0, 1.0)
        upper = _VALUES_US[self.edges[at]]
        lower = np.where(
            self.edges[at] - self.edges[before] <= 1, upper, _VALUES_US[self.edges[before]]
        )
        known = np.isfinite(upper) & (lower > 0)
        ratio = np.divide(upper, lower, out=np.ones_like(upper), where=known)
        return np.where(known, lower * ratio**share, upper)


def quantile_cells(population: Population, q: float) -> QuantileCells | TooSmall:
    """Prepare a percentile (q in (0, 1)) for resampling; `TooSmall` where it has no interval."""
    total = population.total
    if total.n < (need := required_samples(max(q, 1 - q))):
        return TooSmall(have=total.n, need=need, what="samples")
    influence, of_median = (_influence(population, at) for at in (q, 0.5))
    edges = _edges(total, q, total_error(influence, block_length(influence, of_median)))
    return QuantileCells(
        q=q,
        value_us=total.quantile_us(q),
        cells=population.cells,
        samples=population.samples,
        edges=edges,
        below=population.at_most(edges),
        influence=influence,
        of_median=of_median,
    )


def _influence(population: Population, q: float) -> NDArray[np.float64]:
    """How far each cell moves the share of samples up to a percentile: sums to zero."""
    total = population.total
    bucket = int(np.searchsorted(_VALUES_US, total.quantile_us(q)))
    share = float(total.counts[: bucket + 1].sum()) / total.n
    return (population.at_most(np.array([bucket]))[:, 0] - share * population.samples) / total.n


def log_value_of(found: QuantileCells, seed: int) -> LogValue | TooSmall:
    """The percentile's logarithm and its standard error; `TooSmall` with too few blocks."""
    block = block_of(found.cells, found.influence, found.of_median)
    if isinstance(block, TooSmall):
        return block
    blocks = found.samples.size / block
    replicates = found.replicates_us(block_weights(found.samples.size, block, seed))
    return LogValue(
        log=math.log(found.value_us) if found.value_us > 0 else -math.inf,
        error=log_error(replicates, blocks),
        degrees=blocks - 1,
        floor=layout_log(found.value_us),
    )


def quantiles_of_blocks_us(
    population: Population, q: float, block: int
) -> NDArray[np.float64] | TooSmall:
    """The percentile of every whole block of so many cells, each from its own histogram.

    `TooSmall` where a block cannot carry it.
    """
    begins = np.arange(0, population.cells.count - block + 1, block)
    reached = np.add.reduceat(population.reached[: begins[-1] + block], begins, axis=0)
    samples = reached[:, -1]
    if (fewest := int(samples.min())) < (need := required_samples(max(q, 1 - q))):
        return TooSmall(have=fewest, need=need, what="samples in a block of windows")
    ranks = np.maximum(1, np.ceil(np.round(q * samples, 6)).astype(np.int64))
    places = (reached < ranks[:, None]).sum(axis=1)
    values: NDArray[np.float64] = _VALUES_US[population.lowest + places]
    return values


def paired_ratio(before: QuantileCells, after: QuantileCells, seed: int) -> LogRatio | TooSmall:
    """Both sides' percentile in the same windows: what their place in the stage causes cancels."""
    block = block_of(
        before.cells, after.influence - before.influence, after.of_median - before.of_median
    )
    if isinstance(block, TooSmall):
        return block
    blocks = before.samples.size / block
    weights = block_weights(before.samples.size, block, seed)
    ratios = after.replicates_us(weights) / before.replicates_us(weights)
    return LogRatio(
        log=math.log(after.value_us / before.value_us),
        error=log_error(ratios, blocks),
        degrees=blocks - 1,
        floor=max(map(layout_log, (before.value_us, after.value_us))),
    )


def _edges(total: Histogram, q: float, error: float) -> NDArray[np.int64]:
    """Bucket numbers around a percentile: every bucket hit, or as many as `_MOST_EDGES`."""
    reached = np.cumsum(total.counts)
    margin = _SPREADS * error * total.n + 2
    hit = np.flatnonzero(total.counts)
    first = int(np.searchsorted(reached, max(1.0, q * total.n - margin)))
    last = int(np.searchsorted(reached, min(float(total.n), q * total.n + margin)))
    inside = hit[(hit >= first) & (hit <= last)]
    below = hit[hit < first][-1:]
    if inside.size > _MOST_EDGES:
        inside = np.unique(np.linspace(first, last, _MOST_EDGES).round().astype(np.int64))
    return np.concatenate((below, inside))


def percentile_interval(
    blocks: Blocks, q: float, *, seed: int, confidence: float = CONFIDENCE
) -> Interval | TooSmall:
    """Confidence interval of a percentile in us; q in (0, 1).

    The same blocks and seed give the same numbers. `high` is `inf` where it may lie beyond
    the histogram's hour.
    """
    population = population_of(blocks)
    if isinstance(population, TooSmall):
        return population
    return interval_of_quantile(population, q, seed=seed, confidence=confidence)


def interval_of_quantile(
    population: Population, q: float, *, seed: int, confidence: float = CONFIDENCE
) -> Interval | TooSmall:
    """The same of a population made before: several percentiles of it cost little more."""
    found = quantile_cells(population, q)
    if isinstance(found, TooSmall):
        return found
    measured = log_value_of(found, seed)
    if isinstance(measured, TooSmall):
        return measured
    cells, value_us = found.cells, found.value_us
    reach = t_factor(confidence, measured.degrees) * measured.error + measured.floor
    return Interval(
        value=value_us,
        low=value_us * math.exp(-reach),
        high=math.inf if math.isinf(reach) else value_us * math.exp(reach),
        confidence=confidence,
        windows=cells.places.size,
        block_windows=cells.rows_per_cell * cells.count / (measured.degrees + 1),
        method=METHOD,
    )


def layout_log(value_us: float) -> float:
    """How far rounding to a bucket can move the logarithm: the bucket's width; > 0."""
    bucket = int(np.searchsorted(_VALUES_US, value_us))
    below = float(_VALUES_US[bucket - 1]) if bucket else 0.0
    return math.log(value_us / below) if below > 0 and math.isfinite(value_us) else math.inf
