"""Ratios of counts: exact intervals, and exact ones that honour dependence between windows.

Clopper and Pearson (1934), "The use of confidence or fiducial limits illustrated in the case
of the binomial", Biometrika 26: exact where every request fails on its own. Errors come in
bursts, so each is worth less than one independent request; Korn and Graubard (1998),
"Confidence intervals for proportions with small expected number of positive counts estimated
from survey data", Survey Methodology 24(2), keep the exact interval and shrink n and x to
what they are worth: by the design effect (variance of the ratio over windows against the
binomial one) and by the degrees of freedom that blocks of windows leave.

Differences: Newcombe (1998), "Interval estimation for the difference between independent
proportions", Statistics in Medicine 17, as generalised by Donner and Zou (2012, MOVER), from
the two intervals; Fisher's exact test for the p-value, on the same shrunk counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import special

from analysis.statistics.block_bootstrap import t_factor
from analysis.statistics.cells import block_of, cells_of
from analysis.statistics.interval import CONFIDENCE, Interval, TooSmall
from analysis.statistics.totals import total_error

EXACT: Final = "Clopper-Pearson"
DEPENDENT: Final = "Korn-Graubard over blocks of windows"


@dataclass(frozen=True, slots=True, kw_only=True)
class Worth:
    """Counts as independent ones: `hits` of `trials`, not whole numbers."""

    hits: float
    trials: float
    windows: int
    block_windows: float

    @property
    def ratio(self) -> float:
        """Hits of trials (0-1)."""
        return self.hits / self.trials


def clopper_pearson(hits: float, trials: float, confidence: float) -> tuple[float, float]:
    """Exact interval of a ratio (0-1); `trials` > 0. Counts may be fractions."""
    tail = (1 - confidence) / 2
    low = 0.0 if hits <= 0 else float(special.betaincinv(hits, trials - hits + 1, tail))
    high = 1.0 if hits >= trials else float(special.betaincinv(hits + 1, trials - hits, 1 - tail))
    return low, high


def worth_of(
    hits: NDArray[np.int64], trials: NDArray[np.int64], confidence: float = CONFIDENCE
) -> Worth | TooSmall:
    """What counts of windows are worth; windows without a trial are left out.

    Without a hit, or with nothing but hits, bursts cannot be seen: the counts stand as they
    are. `TooSmall` where there are hits and too few windows to know how they gather.
    """
    hits, trials = hits[trials > 0], trials[trials > 0]
    x, n = int(hits.sum()), int(trials.sum())
    if n == 0:
        return TooSmall(have=0, need=1, what="requests that ended")
    if x in (0, n):
        return Worth(hits=float(x), trials=float(n), windows=hits.size, block_windows=1.0)
    cells = cells_of(hits.size)
    if isinstance(cells, TooSmall):
        return cells
    deviation = cells.sums(hits) - (x / n) * cells.sums(trials)
    block = block_of(cells, deviation)
    if isinstance(block, TooSmall):
        return block
    effect = total_error(deviation, block) ** 2 / (n * (x / n) * (1 - x / n))
    degrees = cells.count / block - 1
    effect *= (t_factor(confidence, degrees) / t_factor(confidence, n - 1)) ** 2
    shrink = 1 / max(1.0, effect)
    return Worth(
        hits=x * shrink,
        trials=n * shrink,
        windows=hits.size,
        block_windows=block * cells.rows_per_cell,
    )


def ratio_interval(
    hits: NDArray[np.int64], trials: NDArray[np.int64], *, confidence: float = CONFIDENCE
) -> Interval | TooSmall:
    """Confidence interval of a ratio (0-1) that honours dependence between windows."""
    worth = worth_of(hits, trials, confidence)
    return worth if isinstance(worth, TooSmall) else interval_of(worth, confidence, DEPENDENT)


def exact_ratio_interval(hits: int, trials: int, *, confidence: float = CONFIDENCE) -> Interval:
    """Confidence interval of a ratio (0-1) of independent requests."""
    worth = Worth(hits=float(hits), trials=float(trials), windows=1, block_windows=1.0)
    return interval_of(worth, confidence, EXACT)


def interval_of(worth: Worth, confidence: float, method: str) -> Interval:
    """The exact interval of what counts are worth."""
    low, high = clopper_pearson(worth.hits, worth.trials, confidence)
    return Interval(
        value=worth.ratio,
        low=low,
        high=high,
        confidence=confidence,
        windows=worth.windows,
        block_windows=worth.block_windows,
        method=method,
    )


def ratio_difference(before: Interval, after: Interval) -> tuple[float, float]:
    """Interval of after - before from the intervals of two independent ratios (MOVER)."""
    difference = after.value - before.value
    low = math.hypot(after.value - after.low, before.high - before.value)
    high = math.hypot(after.high - after.value, before.value - before.low)
    return difference - low, difference + high


def fisher_p(before: Worth, after: Worth) -> float:
    """Two-sided p-value of equal ratios, of counts rounded to whole numbers."""
    if before.hits == after.hits == 0:
        return 1.0
    from scipy import stats  # noqa: PLC0415 - a second and a half that no other command should pay

    table = np.array(
        [
            [round(worth.hits), max(0, round(worth.trials) - round(worth.hits))]
            for worth in (before, after)
        ]
    )
    return float(stats.fisher_exact(table).pvalue)


def detectable_ratio(before: Worth, after: Worth, alpha: float, power: float) -> float:
    """Smallest rise of a ratio that these counts could have shown, as a difference (0-1).

    Cohen (1988), "Statistical Power Analysis", 6.2: differences of arcsines of square roots
    have a standard error of sqrt(1 / n + 1 / m).
    """
    reach = float(special.ndtri(1 - alpha / 2) + special.ndtri(power))
    pooled = (before.hits + after.hits) / (before.trials + after.trials)
    angle = math.asin(math.sqrt(pooled))
    angle += reach / 2 * math.sqrt(1 / before.trials + 1 / after.trials)
    return math.sin(min(angle, math.pi / 2)) ** 2 - pooled
