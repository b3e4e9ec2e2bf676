"""The figures of a fitted law that are reported, each with how far it may be trusted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from analysis.capacity.model.intervals import (
    Range,
    Replicates,
    Stability,
    leave_one_out,
    stability_of,
)
from analysis.capacity.model.questions import EXTRAPOLATION_RATIO
from analysis.capacity.model.usl import Errors, Floats, Usl


class Figure(Enum):
    """What is reported of the law, each with its interval."""

    GAMMA = "gamma"
    SIGMA = "sigma"
    KAPPA = "kappa"
    KNEE_N = "knee_n"
    KNEE_PER_S = "knee_per_s"
    PEAK_N = "peak_n"
    PEAK_PER_S = "peak_per_s"

    def of(self, law: Usl) -> float:
        """Its value; infinite where the law has no such place."""
        match self:
            case Figure.KNEE_N:
                return law.knee_n
            case Figure.KNEE_PER_S:
                return law.at(law.knee_n) if math.isfinite(law.knee_n) else math.inf
            case Figure.PEAK_N:
                return law.peak_n
            case Figure.PEAK_PER_S:
                return law.peak_per_s
            case _:
                return float(getattr(law, self.value))


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """One figure of the law: fitted, its 95 % interval, and what single points do to it."""

    figure: Figure
    value: float
    interval: Range
    stability: Stability
    is_extrapolated: bool


def estimates_of(
    law: Usl, n: Floats, x: Floats, errors: Errors, replicates: Replicates
) -> tuple[Estimate, ...]:
    """Every figure; one whose place may lie too far beyond the largest N is extrapolated."""
    others = leave_one_out(n, x, errors)
    farthest = EXTRAPOLATION_RATIO * float(n.max())
    knee, peak = (replicates.range_of(f.of).high for f in (Figure.KNEE_N, Figure.PEAK_N))
    places = {Figure.KNEE_N: knee, Figure.KNEE_PER_S: knee,
              Figure.PEAK_N: peak, Figure.PEAK_PER_S: peak}  # fmt: skip
    return tuple(
        Estimate(
            figure=figure,
            value=figure.of(law),
            interval=replicates.range_of(figure.of),
            stability=stability_of(law, others, figure.of),
            is_extrapolated=places.get(figure, 0.0) > farthest,
        )
        for figure in Figure
    )


def has_no_knee(estimates: Sequence[Estimate]) -> bool:
    """Whether the knee is the peak: coherency ends the growth before contention bends it."""
    values = {one.figure: one.value for one in estimates}
    return values[Figure.KNEE_N] == values[Figure.PEAK_N] < math.inf
