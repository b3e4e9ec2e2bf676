"""Response time against throughput: one point a judged stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from analysis.figures import StageFigures
from loadtests.plan.objectives import required_samples

QUANTILES: Final = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPoint:
    """What a stage reached; a percentile that its sample cannot carry is not in it."""

    stage: str
    throughput_per_s: float
    percentiles_us: Mapping[str, float]


def build_load_points(stages: Sequence[StageFigures]) -> tuple[LoadPoint, ...]:
    """Points in plan order; stages without a judged second or an answer have none."""
    points = []
    for stage in stages:
        response, seconds = stage.overall.tally.response, stage.span.seconds
        if not stage.facts.is_judged or not seconds or not response.n:
            continue
        points.append(
            LoadPoint(
                stage=stage.facts.name,
                throughput_per_s=stage.overall.on_time.answered / seconds,
                percentiles_us={
                    label: response.quantile_us(q)
                    for label, q in QUANTILES
                    if response.n >= required_samples(q)
                },
            )
        )
    return tuple(points)
