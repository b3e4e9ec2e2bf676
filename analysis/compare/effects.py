"""What a contrast means: interval, corrected p-value, smallest detectable effect, decision.

    significant, and at least the threshold, for the worse      regressed
    significant, and at least the threshold, for the better     improved
    else, where an effect as large as the threshold could
    have been found (with 80 % probability)                     same
    else: the noise is larger than the threshold                unstable
    no interval at all                                          n too small

*Significant*: Holm's p-value over the whole comparison is below alpha. The detectable effect
is that of Holm's first step (alpha / tests), the strictest. Latencies and throughput change
by a ratio, error ratios by a difference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Final

from analysis.compare.contrasts import Contrast, Size
from analysis.statistics.log_ratio import POWER, LogRatio
from analysis.statistics.rank_test import Ranked
from analysis.statistics.ratios import (
    DEPENDENT,
    detectable_ratio,
    fisher_p,
    interval_of,
    ratio_difference,
)
from analysis.statistics.silence import Silence

MOST_DETECTABLE: Final = 10.0  # an elevenfold: who could only have seen that, saw nothing


class Decision(Enum):
    """What is said of an effect, and of a whole comparison."""

    REGRESSED = "regressed"
    IMPROVED = "improved"
    SAME = "same"
    UNSTABLE = "unstable"
    TOO_SMALL = "n too small"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When an effect matters (ratios 0-1), and how sure one has to be of it."""

    change: float  # of latencies and throughput, relative
    error_ratio: float  # of the error ratio, a difference
    alpha: float

    @property
    def confidence(self) -> float:
        """Of every interval that is printed."""
        return 1 - self.alpha


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """A contrast and what it means; `change` and its bounds as the module says, None: unknown.

    `detectable` is infinite where no change that anybody would ask about could have been shown.
    """

    contrast: Contrast
    change: float | None
    low: float | None
    high: float | None
    p_value: float | None
    p_adjusted: float | None
    detectable: float | None
    decision: Decision
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """A contrast's numbers before the decision."""

    change: float
    low: float
    high: float
    p_value: float


def p_value_of(contrast: Contrast) -> float | None:
    """Two-sided p-value of no difference; None where nothing can be decided."""
    match contrast.size:
        case LogRatio() | Ranked() | Silence():
            return contrast.size.p_value
        case (before, after):
            return fisher_p(before, after)
        case _:
            return None


def build_effect(
    contrast: Contrast, p_adjusted: float | None, tests: int, limits: Limits
) -> Effect:
    """Decide on one contrast of a family of `tests`."""
    if isinstance(contrast.size, str) or p_adjusted is None:
        return _undecided(contrast, str(contrast.size))
    measured = _measured(contrast, limits.confidence)
    limit = limits.error_ratio if isinstance(contrast.size, tuple) else limits.change
    detectable = _detectable(contrast.size, limits.alpha / tests)
    return Effect(
        contrast=contrast,
        change=measured.change,
        low=measured.low,
        high=measured.high,
        p_value=measured.p_value,
        p_adjusted=p_adjusted,
        detectable=detectable,
        decision=_decision(
            contrast, measured.change, limit, detectable, is_significant=p_adjusted < limits.alpha
        ),
        reason="",
    )


def _decision(
    contrast: Contrast, change: float, limit: float, detectable: float, *, is_significant: bool
) -> Decision:
    if is_significant and abs(change) >= limit:
        is_worse = (change > 0) == contrast.measure.up_is_worse
        return Decision.REGRESSED if is_worse else Decision.IMPROVED
    return Decision.SAME if detectable <= limit else Decision.UNSTABLE


def _measured(contrast: Contrast, confidence: float) -> _Measured:
    match contrast.size:
        case LogRatio() | Ranked() | Silence() as size:
            low, high = size.bounds(confidence)
            return _Measured(change=size.change, low=low, high=high, p_value=size.p_value)
        case (before, after):
            sides = [interval_of(worth, confidence, DEPENDENT) for worth in (before, after)]
            low, high = ratio_difference(*sides)
            change = sides[1].value - sides[0].value
            return _Measured(change=change, low=low, high=high, p_value=fisher_p(before, after))
        case _:
            raise ValueError(f"nothing was measured: {contrast.size}")


def _detectable(size: Size, alpha: float) -> float:
    match size:
        case LogRatio() | Ranked() | Silence():
            found = size.detectable(alpha, POWER)
        case (before, after):
            found = detectable_ratio(before, after, alpha, POWER)
        case _:
            raise ValueError(f"nothing was measured: {size}")
    return found if found <= MOST_DETECTABLE else math.inf


def _undecided(contrast: Contrast, reason: str) -> Effect:
    """The points and their difference, without an opinion."""
    change = None
    if contrast.before is not None and contrast.after is not None and contrast.before > 0:
        change = contrast.after / contrast.before - 1
    return Effect(
        contrast=contrast,
        change=change,
        low=None,
        high=None,
        p_value=None,
        p_adjusted=None,
        detectable=None,
        decision=Decision.TOO_SMALL,
        reason=reason,
    )
