"""Mann-Whitney: whether one side's values tend to be higher, whatever their distribution.

As in golang/perf's benchmath: the exact test for small samples without ties, and the number
of values below which no outcome at all could be significant.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from analysis.statistics.interval import TooSmall
from analysis.statistics.log_ratio import POWER, LogRatio

_EXACT_UP_TO: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """A ratio of two sides with its interval, and the p-value of a rank test in its place."""

    ratio: LogRatio
    p_value: float

    @property
    def change(self) -> float:
        """The difference as a ratio."""
        return self.ratio.change

    def bounds(self, confidence: float) -> tuple[float, float]:
        """Confidence interval of `change`."""
        return self.ratio.bounds(confidence)

    def detectable(self, alpha: float, power: float = POWER) -> float:
        """Smallest `change` upwards that the ratio could have shown."""
        return self.ratio.detectable(alpha, power)


def mann_whitney(before: Sequence[float], after: Sequence[float], alpha: float) -> float | TooSmall:
    """Two-sided p-value of the same distribution; `TooSmall` where it could not fall to alpha."""
    from scipy import stats  # noqa: PLC0415 - a second and a half that no other command should pay

    fewest = min(len(before), len(after))
    if fewest == 0 or 2 / math.comb(len(before) + len(after), fewest) > alpha:
        return TooSmall(have=fewest, need=least_values(alpha), what="values a side")
    if len({*before, *after}) == 1:
        return 1.0  # a constant rate: no order at all
    has_ties = len({*before, *after}) < len(before) + len(after)
    is_exact = not has_ties and max(len(before), len(after)) <= _EXACT_UP_TO
    if is_exact:
        return float(stats.mannwhitneyu(before, after, method="exact").pvalue)
    return float(stats.mannwhitneyu(before, after, method="asymptotic").pvalue)


def least_values(alpha: float) -> int:
    """Values a side below which Mann-Whitney cannot reach alpha."""
    n = 1
    while 2 / math.comb(2 * n, n) > alpha:
        n += 1
    return n


def shift_of_logs(before: Sequence[float], after: Sequence[float]) -> float:
    """Hodges and Lehmann's shift: the median of all differences of logarithms."""
    logs = np.log(np.asarray(after))[:, None] - np.log(np.asarray(before))[None, :]
    return float(np.median(logs))
