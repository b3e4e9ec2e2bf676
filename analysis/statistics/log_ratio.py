"""The difference of two sides as a ratio: logarithms, a standard error, Student's t.

Of positive measurements (latencies, rates) what is asked is "by how many percent", so sides
are compared by the difference of their logarithms. Three ways to its standard error:

- one run a side, unpaired: each side's own, added up in squares; Welch's degrees of freedom
  over the number of blocks.
- one run a side, paired: the same blocks of windows drawn on both sides, where the load of a
  window depends on its place in the stage and so is the same on both by design.
- several runs: the runs are the units (Welch 1947), because a restart changes more than an
  hour of windows can tell. A side of a single run is taken to vary like the other side
  (Student's t with a pooled variance). Never below what windows alone say.

The smallest effect that a pair could have shown is that which a test at `alpha` finds with
a probability of `power`: (t_alpha/2 + t_power) standard errors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import special

from analysis.statistics.block_bootstrap import t_factor

POWER: Final = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class LogValue:
    """One run's measurement as a logarithm, with its standard error and k - 1 of its blocks.

    `floor` is how far rounding to a bucket can move it.
    """

    log: float
    error: float
    degrees: float
    floor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRatio:
    """log(after / before) with its standard error and degrees of freedom; `floor` of rounding."""

    log: float
    error: float
    degrees: float
    floor: float

    @property
    def change(self) -> float:
        """The difference as a ratio: 0.05 is 5 % more."""
        return math.expm1(self.log)

    def bounds(self, confidence: float) -> tuple[float, float]:
        """Confidence interval of `change`."""
        reach = self.reach(confidence)
        return _expm1(self.log - reach), _expm1(self.log + reach)

    def reach(self, confidence: float) -> float:
        """Half of the interval's width, of the logarithm."""
        return t_factor(confidence, self.degrees) * self.error + self.floor

    @property
    def p_value(self) -> float:
        """Two-sided p-value of no difference, beyond what rounding explains."""
        beyond = max(0.0, abs(self.log) - self.floor)
        if beyond == 0 or not math.isfinite(self.error):
            return 1.0
        if self.error == 0:
            return 0.0
        return float(2 * special.stdtr(self.degrees, -beyond / self.error))

    def detectable(self, alpha: float, power: float = POWER) -> float:
        """Smallest `change` upwards that this pair could have shown."""
        reach = t_factor(1 - alpha, self.degrees) + float(special.stdtrit(self.degrees, power))
        return _expm1(reach * self.error + self.floor)


def _expm1(value: float) -> float:
    """exp(value) - 1, infinite instead of an overflow."""
    return math.expm1(value) if value < 700 else math.inf  # noqa: PLR2004 - exp(709) overflows


def unpaired(before: LogValue, after: LogValue) -> LogRatio:
    """One run a side."""
    parts = (spread_of([before]), spread_of([after]))
    return _ratio(before.log, after.log, parts, max(before.floor, after.floor))


def spread_of(side: Sequence[LogValue]) -> tuple[float, float]:
    """Variance of a side's mean, with its degrees of freedom; several runs are the units."""
    if len(side) == 1:
        return side[0].error ** 2, side[0].degrees
    return max(_between(side) / len(side), _own(side)), len(side) - 1.0


def of_runs(before: Sequence[LogValue], after: Sequence[LogValue]) -> LogRatio:
    """Several runs on at least one side."""
    means = [float(np.mean([value.log for value in side])) for side in (before, after)]
    floor = max(value.floor for value in (*before, *after))
    if min(len(before), len(after)) == 1:
        return _with_single(before, after, means, floor)
    return _ratio(means[0], means[1], (spread_of(before), spread_of(after)), floor)


def _with_single(
    before: Sequence[LogValue], after: Sequence[LogValue], means: Sequence[float], floor: float
) -> LogRatio:
    """One side has a single run: the spread of the other's runs is all that is known of both."""
    several = max((before, after), key=len)
    between = _between(several) * (1 + 1 / len(several))
    error = math.sqrt(max(between, _own(before) + _own(after)))
    return LogRatio(log=means[1] - means[0], error=error, degrees=len(several) - 1.0, floor=floor)


def _own(side: Sequence[LogValue]) -> float:
    """Variance of a side's mean by its windows alone."""
    return sum(value.error**2 for value in side) / len(side) ** 2


def _between(side: Sequence[LogValue]) -> float:
    """Variance between the runs of a side."""
    return float(np.var([value.log for value in side], ddof=1))


def _ratio(
    before: float, after: float, parts: Sequence[tuple[float, float]], floor: float
) -> LogRatio:
    """Welch and Satterthwaite's degrees of freedom of a sum of variances."""
    variance = sum(part for part, _ in parts)
    degrees = min(degrees for _, degrees in parts)
    if 0 < variance < math.inf:
        degrees = variance**2 / sum(part**2 / own for part, own in parts)
    return LogRatio(log=after - before, error=math.sqrt(variance), degrees=degrees, floor=floor)
