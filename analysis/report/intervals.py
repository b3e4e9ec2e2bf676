"""Confidence intervals of what objectives judge, and of the spectra.

Percentiles: the stage's judged seconds are resampled in blocks (`analysis.statistics`), of
all of them, or where there are many, of a few hundred added up. Where there is no method, or
too few seconds or samples for it, there is no interval, and the report says which.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from analysis.blocks import Blocks, Key
from analysis.figures import OVERALL, StageFigures
from analysis.report.rows import added_up, judged_rows
from analysis.report.spectrum import Confidence
from analysis.statistics.cells import MOST_CELLS
from analysis.statistics.interval import Interval, TooSmall, seed_of
from analysis.statistics.quantiles import percentile_interval
from analysis.text import TOO_SMALL, latency
from analysis.verdict import Verdict
from loadtests.plan.model import MeasureKind, Objective, Plan
from loadtests.record.archive import Run

NONE: Final = "none"
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
        self._kept: dict[Key, Blocks | None] = {}

    def rows(self, key: Key) -> Blocks | None:
        """None without a sample."""
        if key not in self._kept:
            found = self._blocks.get(key)
            if found is not None:
                stage = self._run.slots.stages.index(key[0])
                found = added_up(judged_rows(found, self._run.manifest, stage), MOST_CELLS)
            self._kept[key] = found if found is not None and len(found) else None
        return self._kept[key]

    def interval(self, key: Key, quantile: float) -> Interval | TooSmall | None:
        """The interval of a percentile of response time, in us."""
        rows = self.rows(key)
        if rows is None:
            return None
        seed = seed_of(self._run.manifest.run_id, key[0], key[1] or "", f"{quantile}")
        return percentile_interval(rows, quantile, seed=seed)


def _text(objective: Objective, stage: str, populations: _Populations) -> str:
    measure = objective.measure
    if measure.kind is not MeasureKind.RESPONSE_QUANTILE or measure.quantile is None:
        return NONE
    found = populations.interval((stage, objective.request), measure.quantile)
    if isinstance(found, Interval):
        return f"{latency(found.low * 1000)} to {latency(found.high * 1000)}"
    return TOO_SMALL


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
    """Intervals of every objective's value, and of the spectra of `stages`."""
    populations = _Populations(run, blocks)
    objectives = {objective.text: objective for objective in plan.objectives}
    return Intervals(
        texts={
            place: _text(objectives[result.objective], result.stage, populations)
            for place, result in enumerate(verdict.objectives)
        },
        bands=dict(_bands(stages, populations)),
    )
