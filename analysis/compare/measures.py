"""What is compared: percentiles of the response time, throughput, the error ratio."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from analysis.unit import Unit


class MeasureKind(Enum):
    """How a measure is estimated and which way is worse."""

    PERCENTILE = "percentile"  # of ok requests' response time, from the intended start; up is worse
    THROUGHPUT = "throughput"  # complete responses per second; down is worse
    ERROR_RATIO = "error_ratio"  # (client_error + failed) / done; up is worse


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedMeasure:
    """One measure; `quantile` (0-1) of a percentile, else None."""

    kind: MeasureKind
    quantile: float | None

    @property
    def name(self) -> str:
        """As in objectives: p99.9, throughput, error_ratio."""
        if self.quantile is None:
            return self.kind.value
        return f"p{round(self.quantile * 100, 6):g}"

    @property
    def unit(self) -> Unit:
        """What its values are in, times apart: those are us here."""
        match self.kind:
            case MeasureKind.PERCENTILE:
                return Unit.NANOSECONDS
            case MeasureKind.THROUGHPUT:
                return Unit.PER_SECOND
            case MeasureKind.ERROR_RATIO:
                return Unit.RATIO

    @property
    def up_is_worse(self) -> bool:
        """Whether a higher value is a worse one."""
        return self.kind is not MeasureKind.THROUGHPUT


THROUGHPUT: Final = ComparedMeasure(kind=MeasureKind.THROUGHPUT, quantile=None)
ERROR_RATIO: Final = ComparedMeasure(kind=MeasureKind.ERROR_RATIO, quantile=None)


def measures_of(percentiles: tuple[float, ...]) -> tuple[ComparedMeasure, ...]:
    """These percentiles (0-1), then throughput and error ratio."""
    quantiles = (
        ComparedMeasure(kind=MeasureKind.PERCENTILE, quantile=q) for q in sorted(set(percentiles))
    )
    return (*quantiles, THROUGHPUT, ERROR_RATIO)
