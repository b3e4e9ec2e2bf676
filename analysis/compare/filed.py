"""What the file of a promoted baseline allows, when its archive is gone.

Points of each judged stage, all requests together. Without windows there is no interval, so
nothing is decided on them; an error ratio alone has its counts, and an exact test.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from analysis.baseline_types import BaselineRow
from analysis.compare.contrasts import Contrast, Size, contrast_of, missing
from analysis.compare.estimates import Part, build_part, error_worth
from analysis.compare.measures import ComparedMeasure, MeasureKind
from analysis.compare.subject import AnySubject, FiledSubject, Subject
from analysis.figures import OVERALL
from analysis.statistics.ratios import Worth
from loadtests.plan.objectives import required_samples

GONE: Final = "the baseline's archive is gone: its file has no windows"
_PERCENTILES: Final = {0.5: "p50_us", 0.95: "p95_us", 0.99: "p99_us", 0.999: "p999_us"}


def filed_contrasts(
    before: AnySubject, after: AnySubject, measures: Sequence[ComparedMeasure]
) -> Iterator[Contrast]:
    """All stages of both, at least one of which is a file."""
    names = [_stages_of(subject) for subject in (before, after)]
    for stage in dict.fromkeys(name for side in names for name in side):
        for measure in measures:
            if all(stage in side for side in names):
                yield _contrast(measure, stage, (before, after))
            else:
                yield missing(measure, stage, OVERALL, "not in every run")


def _stages_of(subject: AnySubject) -> list[str]:
    if isinstance(subject, FiledSubject):
        return [row.stage for row in subject.baseline.rows]
    return [name for name, figures in subject.stages.items() if figures.span.seconds]


def _contrast(
    measure: ComparedMeasure, stage: str, subjects: tuple[AnySubject, AnySubject]
) -> Contrast:
    points = [_point(measure, stage, subject) for subject in subjects]
    size: Size = GONE
    if measure.kind is MeasureKind.ERROR_RATIO:
        before, after = (_worth(stage, subject) for subject in subjects)
        is_known = isinstance(before, Worth) and isinstance(after, Worth)
        size = (before, after) if is_known else str(before if isinstance(before, str) else after)  # type: ignore[assignment]  # checked together
    (value, samples), (other, other_samples) = points
    return Contrast(
        stage=stage,
        request=OVERALL,
        measure=measure,
        before=value,
        after=other,
        samples_before=samples,
        samples_after=other_samples,
        size=size,
        method="Fisher" if measure.kind is MeasureKind.ERROR_RATIO else "",
    )


def _row(stage: str, subject: FiledSubject) -> BaselineRow:
    return next(row for row in subject.baseline.rows if row.stage == stage)


def _point(measure: ComparedMeasure, stage: str, subject: AnySubject) -> tuple[float | None, int]:
    """Value and sample size."""
    if isinstance(subject, Subject):
        found = contrast_of(
            measure, stage, OVERALL, (*_alone(subject, stage),), is_paired=False, rank_alpha=None
        )
        return found.before, found.samples_before
    row = _row(stage, subject)
    match measure.kind:
        case MeasureKind.PERCENTILE:
            return _kept_us(row, measure.quantile or 0.0), row.n
        case MeasureKind.THROUGHPUT:
            return row.throughput_per_s, row.n
        case MeasureKind.ERROR_RATIO:
            return row.error_ratio, row.n


def _kept_us(row: BaselineRow, quantile: float) -> float | None:
    """Any percentile where the file has the histogram, else one of those that it names."""
    if row.response is None:
        name = _PERCENTILES.get(quantile)
        return None if name is None else getattr(row, name)
    histogram = row.response.histogram()
    return histogram.quantile_us(quantile) if histogram.n >= required_samples(quantile) else None


def _alone(subject: Subject, stage: str) -> tuple[list[Part], list[Part]]:
    part = build_part(subject, stage, OVERALL)
    return [part], [part]


def _worth(stage: str, subject: AnySubject) -> Worth | str:
    if isinstance(subject, Subject):
        return error_worth([build_part(subject, stage, OVERALL)])
    row = _row(stage, subject)
    hits = float(round(row.error_ratio * row.n))
    return Worth(hits=hits, trials=float(row.n), windows=row.duration_s, block_windows=1.0)
