"""Every stage and measure of a history as a series, and where each of them changed.

A latency or a rate changes by a factor, so its logarithm is looked at; an error ratio, which
may be 0, is looked at as it is. A change counts only if it is as large as `Metric.least`:
with enough nights a difference that nobody cares about is significant too. What noise the
series has, and how small a shift it could have shown within three nights, is said beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from analysis.baseline_types import BaselineRow
from analysis.trend.change_points import SHIFT_TO_NOISE, find_change_points, noise_of
from analysis.trend.history import History
from analysis.unit import Unit

LEAST_RUNS: Final = 10
STRONG_EVIDENCE: Final = 0.01
_LEAST_RATIO: Final = 0.01  # of a latency or rate: below, nobody would act on it
_LEAST_ERROR_RATIO: Final = 0.0001  # a tenth of the limit that every profile has


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One measure of a stage; `least` is the smallest change that counts.

    `is_factor`: changes are ratios (after / before - 1); otherwise differences.
    """

    key: str
    unit: Unit
    value_of: Callable[[BaselineRow], float | None]
    is_higher_better: bool
    is_factor: bool
    least: float


def _latency(key: str, value_of: Callable[[BaselineRow], float | None]) -> Metric:
    def nanoseconds(row: BaselineRow) -> float | None:
        value_us = value_of(row)
        return None if value_us is None else value_us * 1000

    return Metric(key=key, unit=Unit.NANOSECONDS, value_of=nanoseconds, is_higher_better=False,
                  is_factor=True, least=_LEAST_RATIO)  # fmt: skip


METRICS: Final = (
    _latency("p50", lambda row: row.p50_us),
    _latency("p95", lambda row: row.p95_us),
    _latency("p99", lambda row: row.p99_us),
    Metric(key="throughput", unit=Unit.PER_SECOND, value_of=lambda row: row.throughput_per_s,
           is_higher_better=True, is_factor=True, least=_LEAST_RATIO),
    Metric(key="error_ratio", unit=Unit.RATIO, value_of=lambda row: row.error_ratio,
           is_higher_better=False, is_factor=False, least=_LEAST_ERROR_RATIO),
)  # fmt: skip


class State(Enum):
    """What a series has to say."""

    CHANGED = "changed"
    STEADY = "no change"
    TOO_FEW = "too few runs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One run's value in the metric's unit."""

    run_id: str
    unix_ns: int
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change point: `first` is the first run of the new level.

    `before` and `after` are medians of the two levels; `size` is their ratio less 1, or their
    difference (`Metric.is_factor`). `p_value` is that of the split, of this series alone.
    """

    first: Point
    before: float
    after: float
    size: float
    p_value: float
    runs_after: int
    is_worse: bool

    @property
    def is_strong(self) -> bool:
        """Whether a nightly look would meet with it by chance in less than 1 of 100 nights."""
        return self.p_value <= STRONG_EVIDENCE


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesTrend:
    """One stage and metric; `noise` and `detectable` are in the unit of `Change.size`.

    `missing` runs had no value that may be relied on (n too small). `detectable` is the
    smallest shift that is found within three nights nine times in ten.
    """

    stage: str
    metric: Metric
    points: tuple[Point, ...]
    missing: int
    state: State
    noise: float | None
    detectable: float | None
    changes: tuple[Change, ...]

    def levels(self) -> tuple[tuple[int, int, float], ...]:
        """The stretches between changes: first and last position, median."""
        starts = [0, *(self.points.index(change.first) for change in self.changes)]
        ends = [*starts[1:], len(self.points)]
        return tuple(
            (start, end - 1, _median([point.value for point in self.points[start:end]]))
            for start, end in zip(starts, ends, strict=True)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """All series of a history."""

    history: History
    significance: float
    series: tuple[SeriesTrend, ...]

    @property
    def has_enough_runs(self) -> bool:
        """Whether any series has the runs that a statement needs."""
        return any(one.state is not State.TOO_FEW for one in self.series)


def _median(values: list[float]) -> float:
    return float(np.median(values))


def _points(history: History, stage: str, metric: Metric) -> tuple[tuple[Point, ...], int]:
    points, missing = [], 0
    for run in history.runs:
        row = next((row for row in run.rows if row.stage == stage), None)
        value = None if row is None else metric.value_of(row)
        if value is None or not math.isfinite(value) or (metric.is_factor and value <= 0):
            missing += 1
        else:
            points.append(Point(run_id=run.run_id, unix_ns=run.created_unix_ns, value=value))
    return tuple(points), missing


def _size(metric: Metric, before: float, after: float) -> float:
    return after / before - 1 if metric.is_factor else after - before


def _changes(
    metric: Metric, points: tuple[Point, ...], splits: list[tuple[int, float]]
) -> tuple[Change, ...]:
    """The change points that are large enough; a level ends at the next of them."""
    values = [point.value for point in points]
    kept = list(splits)
    while True:
        edges = [0, *(at for at, _ in kept), len(values)]
        medians = [_median(values[a:b]) for a, b in pairwise(edges)]
        sizes = [_size(metric, a, b) for a, b in pairwise(medians)]
        small = min(range(len(kept)), key=lambda i: abs(sizes[i]), default=None)
        if small is None or abs(sizes[small]) >= metric.least:
            break
        del kept[small]  # its neighbours' levels grow: look again
    return tuple(
        Change(
            first=points[at],
            before=medians[i],
            after=medians[i + 1],
            size=sizes[i],
            p_value=p_value,
            runs_after=edges[i + 2] - at,
            is_worse=(sizes[i] > 0) is not metric.is_higher_better,
        )
        for i, (at, p_value) in enumerate(kept)
    )


def build_series(history: History, stage: str, metric: Metric, significance: float) -> SeriesTrend:
    """One series, its noise and its changes."""
    points, missing = _points(history, stage, metric)
    values: NDArray[np.float64] = np.array([point.value for point in points], dtype=np.float64)
    if len(points) < LEAST_RUNS:
        return SeriesTrend(
            stage=stage,
            metric=metric,
            points=points,
            missing=missing,
            state=State.TOO_FEW,
            noise=None,
            detectable=None,
            changes=(),
        )
    scale = np.log(values) if metric.is_factor else values
    found = find_change_points(scale, significance)
    changes = _changes(metric, points, [(one.index, one.p_value) for one in found])
    noise = noise_of(scale, [points.index(change.first) for change in changes])
    return SeriesTrend(
        stage=stage,
        metric=metric,
        points=points,
        missing=missing,
        state=State.CHANGED if changes else State.STEADY,
        noise=noise,
        detectable=max(metric.least, SHIFT_TO_NOISE * noise),
        changes=changes,
    )


def _stages(history: History) -> Iterator[str]:
    yield from (row.stage for row in history.runs[-1].rows) if history.runs else ()


def build_trend(
    history: History, significance: float, progress: Callable[[str], None] = lambda _: None
) -> Trend:
    """Every stage of the newest run with every metric; `progress` hears what is looked at."""
    series: list[SeriesTrend] = []
    for stage in _stages(history):
        progress(stage)
        series.extend(build_series(history, stage, metric, significance) for metric in METRICS)
    return Trend(history=history, significance=significance, series=tuple(series))
