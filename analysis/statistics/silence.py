"""A rate that is zero on one side: it has no logarithm, and yet nothing could be plainer.

What the other side counted is worth as many independent answers as would scatter as its rate
does, 1 / error^2: never more than there were, and fewer where few blocks are known (Student's
t against the normal distribution, as in `ratios`). Were both rates the same, each of these
answers would have had its share of the time to fall to the silent side: the conditional test
of two Poisson rates (Przyborowski and Wilenski 1940, Biometrika 31), with the interval of
Clopper and Pearson for none of so many.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import special

from analysis.statistics.block_bootstrap import t_factor
from analysis.statistics.interval import CONFIDENCE
from analysis.statistics.log_ratio import POWER, LogRatio, LogValue, spread_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """One side answered, in `share_ratio` (0-1) of the time of both; the other not once.

    `worth`: independent answers, not a whole number. `both`: the ratio of two rates, each with
    the spread of the side that answered: what the pair could have shown.
    """

    worth: float
    share_ratio: float
    is_after: bool  # the silent side
    both: LogRatio

    @property
    def change(self) -> float:
        """How much more after than before, as a ratio: -1 for nothing."""
        return -1.0 if self.is_after else math.inf

    @property
    def p_value(self) -> float:
        """Two-sided p-value of equal rates."""
        return float(min(1.0, 2 * self.share_ratio**self.worth))

    def bounds(self, confidence: float) -> tuple[float, float]:
        """Confidence interval of `change`."""
        seen = ((1 - confidence) / 2) ** (1 / self.worth)  # least share of the side that answered
        rest = self.share_ratio / (1 - self.share_ratio)
        most = (1 - seen) / seen * rest  # of the silent side's rate, as a part of the other's
        if self.is_after:
            return -1.0, most - 1
        return (1 / most - 1 if most > 0 else math.inf), math.inf

    def detectable(self, alpha: float, power: float = POWER) -> float:
        """Smallest `change` upwards that this pair could have shown."""
        return self.both.detectable(alpha, power)


def silence_of(
    answering: Sequence[LogValue],
    answers: int,
    *,
    answering_s: float,
    silent_s: float,
    is_after: bool,
) -> Silence:
    """One or more runs that answered, held against a side that did not; seconds of each side."""
    variance, degrees = spread_of(answering)
    wider = t_factor(CONFIDENCE, degrees) / float(special.ndtri((1 + CONFIDENCE) / 2))
    own = variance * wider**2
    return Silence(
        worth=min(float(answers), 1 / own) if own > 0 else float(answers),
        share_ratio=answering_s / (answering_s + silent_s),
        is_after=is_after,
        both=LogRatio(log=0.0, error=math.sqrt(2 * variance), degrees=degrees, floor=0.0),
    )
