"""One measure of one run, as it is needed to compare it: value, samples, standard error.

Windows lie in the cells of their stage by their place in it, so that cell i of two runs of
one plan is the same part of the stage. What a stage's last arrivals were answered after its
end counts in its last cell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.blocks import WindowCounts
from analysis.compare.subject import Subject
from analysis.figures import Figures, Span
from analysis.statistics.cells import Population, block_of, cells_at, population_of
from analysis.statistics.interval import TooSmall, seed_of
from analysis.statistics.log_ratio import LogValue
from analysis.statistics.quantiles import (
    QuantileCells,
    log_value_of,
    quantile_cells,
    quantiles_of_blocks_us,
)
from analysis.statistics.ratios import Worth, worth_of
from analysis.statistics.totals import SumCells, sum_cells, total_error
from loadtests.record.window import Count

NO_SAMPLES = "no samples"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One request (or all) in one stage of one run.

    `answered`, `bad`, `done` are counts of every second of the judged time; for `answered`
    those of one window later count in the last second, as in the stage's rate.
    """

    seed: int
    seconds: int
    figures: Figures
    population: Population | TooSmall | None  # None: no ok response
    answered: NDArray[np.int64]
    bad: NDArray[np.int64]
    done: NDArray[np.int64]


def build_part(subject: Subject, stage: str, request: str | None) -> Part:
    """Gather what a stage says of a request."""
    figures = subject.stages[stage]
    counts = subject.counts.get((stage, request))
    return Part(
        seed=seed_of(subject.run_id, stage),
        seconds=figures.span.seconds,
        figures=figures.requests[request],
        population=_population(subject, stage, request, figures.span),
        answered=_by_second(counts, "answered", figures.span, late_s=1),
        bad=_by_second(counts, "bad", figures.span, late_s=None),
        done=_by_second(counts, "done", figures.span, late_s=None),
    )


def _population(
    subject: Subject, stage: str, request: str | None, span: Span
) -> Population | TooSmall | None:
    blocks = subject.responses.get((stage, request))
    if blocks is None:
        return None
    offsets = (blocks.window_s - span.first_s) // blocks.step_s
    cells = cells_at(offsets, -(-span.seconds // blocks.step_s))
    return cells if isinstance(cells, TooSmall) else population_of(blocks, cells)


def _by_second(
    counts: WindowCounts | None, what: str, span: Span, late_s: int | None
) -> NDArray[np.int64]:
    """A count of each judged second.

    What came up to `late_s` (None: any time) later is added to the last one.
    """
    seconds = np.zeros(span.seconds, dtype=np.int64)
    if counts is None or not span.seconds:
        return seconds
    bad = counts.of(Count.CLIENT_ERROR) + counts.of(Count.FAILED)
    values = {"answered": counts.answered, "bad": bad, "done": counts.done}[what]
    offsets = counts.window_s - span.first_s
    kept = offsets < (np.inf if late_s is None else span.seconds + late_s)
    np.add.at(seconds, np.minimum(offsets[kept], span.seconds - 1), values[kept])
    return seconds


def percentile_cells(part: Part, q: float) -> QuantileCells | str:
    """A percentile ready for resampling, or why there is none to compare."""
    if part.population is None:
        return NO_SAMPLES
    if isinstance(part.population, TooSmall):
        return str(part.population)
    found = quantile_cells(part.population, q)
    if isinstance(found, TooSmall):
        return str(found)
    return found if math.isfinite(found.value_us) else "beyond 1 h"


def percentile_value(part: Part, q: float) -> LogValue | str:
    """A percentile as a logarithm of us."""
    found = percentile_cells(part, q)
    if isinstance(found, str):
        return found
    value = log_value_of(found, part.seed)
    return str(value) if isinstance(value, TooSmall) else value


def rate_cells(part: Part) -> SumCells | str:
    """Throughput ready to be compared, or why it is not."""
    if not part.answered.sum():
        return "no answers"
    found = sum_cells(part.answered)
    return str(found) if isinstance(found, TooSmall) else found


def _rate_and_block(part: Part) -> tuple[SumCells, int] | str:
    """Throughput, and how many windows make a block of it."""
    found = rate_cells(part)
    if isinstance(found, str):
        return found
    block = block_of(found.cells, found.deviation)
    return str(block) if isinstance(block, TooSmall) else (found, block)


def rate_value(part: Part) -> LogValue | str:
    """Throughput as a logarithm of answers per second."""
    rate = _rate_and_block(part)
    if isinstance(rate, str):
        return rate
    found, block = rate
    return LogValue(
        log=math.log(found.per_window),
        error=total_error(found.deviation, block) / found.per_window,
        degrees=found.sums.size / block - 1,
        floor=0.0,
    )


def percentiles_of_blocks(part: Part, q: float) -> NDArray[np.float64] | str:
    """A percentile of each block of windows: as good as independent of one another."""
    found = percentile_cells(part, q)
    if isinstance(found, str) or not isinstance(part.population, Population):
        return str(found)
    block = block_of(found.cells, found.influence, found.of_median)
    if isinstance(block, TooSmall):
        return str(block)
    values = quantiles_of_blocks_us(part.population, q, block)
    return str(values) if isinstance(values, TooSmall) else values


def rates_of_blocks(part: Part) -> NDArray[np.float64] | str:
    """The throughput of each block of windows."""
    rate = _rate_and_block(part)
    if isinstance(rate, str):
        return rate
    found, block = rate
    begins = np.arange(0, found.sums.size - block + 1, block)
    whole = slice(0, int(begins[-1]) + block)
    rates: NDArray[np.float64] = np.add.reduceat(found.sums[whole], begins) / np.add.reduceat(
        found.windows[whole], begins
    )
    return rates


def error_worth(parts: Sequence[Part]) -> Worth | str:
    """What the errors of a side are worth as independent ones; several runs are the units."""
    if len(parts) == 1:
        found = worth_of(parts[0].bad, parts[0].done)
    else:
        totals = [(int(part.bad.sum()), int(part.done.sum())) for part in parts]
        found = worth_of_runs(totals, [worth_of(part.bad, part.done) for part in parts])
    return str(found) if isinstance(found, TooSmall) else found


def worth_of_runs(
    totals: Sequence[tuple[int, int]], of_runs: Sequence[Worth | TooSmall]
) -> Worth | TooSmall:
    """Errors and requests of several runs: shrunk by how runs differ, and by how windows do."""
    known = [worth for worth in of_runs if isinstance(worth, Worth)]
    if len(known) < len(of_runs):
        return next(worth for worth in of_runs if isinstance(worth, TooSmall))
    x, n = (sum(column) for column in zip(*totals, strict=True))
    own = sum(worth.trials for worth in known) / n
    between = 1.0
    if 0 < x < n:
        ratio = x / n
        squares = sum((hits - ratio * trials) ** 2 for hits, trials in totals)
        effect = squares * len(totals) / (len(totals) - 1) / (n * ratio * (1 - ratio))
        between = 1 / max(1.0, effect)
    shrink = min(own, between)
    return Worth(
        hits=x * shrink,
        trials=n * shrink,
        windows=sum(worth.windows for worth in known),
        block_windows=max(worth.block_windows for worth in known),
    )
