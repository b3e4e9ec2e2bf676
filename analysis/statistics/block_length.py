"""How many consecutive windows belong together: the block length of a bootstrap.

Automatic choice of Politis and White (2004), "Automatic Block-Length Selection for the
Dependent Bootstrap", Econometric Reviews 23(1), as corrected by Patton, Politis and White
(2009), Econometric Reviews 28(4), for the circular block bootstrap. Their rules of thumb:
the flat-top lag window ends at twice the first lag from which K_n autocorrelations in a row
are within 2 sqrt(log10(n) / n), K_n = max(5, sqrt(log10 n)).

Their choice makes the *variance* of a bootstrap as accurate as it can be; what it leaves is a
bias to the narrow side, and an interval that is too narrow is noticed by nobody. So blocks
are three times as long, and never below 3 n^(1/3), the order that they must grow with, because on a
short series the choice is too small by chance. With these, and Student's t for the number of
blocks, the simulated coverage is what it says (tests/analysis/test_coverage.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

_SIGNIFICANCE: Final = 2.0
_LEAST_LAGS: Final = 5
_LONGER: Final = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Memory:
    """How a series remembers: variances of one value and of a sum (per value), and how far."""

    alone: float  # R(0)
    long_run: float  # g(0) = sum of lambda(k) R(k)
    reach: float  # G = sum of lambda(k) |k| R(k)


def block_length(*series: NDArray[np.float64]) -> int:
    """Rows a block that the dependence in each of some series of equal length asks for.

    Windows that even each other out, such as those of arrivals at a constant rate, ask for
    nothing: there a short block makes an interval wide, not narrow.
    """
    lengths = [_length(values.size, memory) for values in series
               if (memory := _memory(values)).long_run > memory.alone]  # fmt: skip
    return max(1, round(_LONGER * max(math.cbrt(series[0].size), *lengths, 0.0)))


def politis_white(series: NDArray[np.float64]) -> float:
    """Block length of the circular bootstrap of a mean; 1 for a series that does not vary."""
    return _length(series.size, _memory(series))


def _length(n: int, memory: _Memory) -> float:
    if memory.long_run <= 0:
        return 1.0
    longest = math.ceil(min(3 * math.sqrt(n), n / 3))
    best = math.cbrt(2 * memory.reach**2 / (4 / 3 * memory.long_run**2) * n)
    return float(min(max(1.0, best), longest))


def _memory(series: NDArray[np.float64]) -> _Memory:
    n = series.size
    lags = max(_LEAST_LAGS, math.ceil(math.sqrt(math.log10(n)))) if n > 1 else 0
    most = min(math.ceil(math.sqrt(n)) + lags, n - 1)
    covariances = _autocovariances(series, most)
    if most < 1 or covariances[0] <= 0:
        return _Memory(alone=0.0, long_run=0.0, reach=0.0)
    band = _SIGNIFICANCE * math.sqrt(math.log10(n) / n)
    width = min(2 * _half_width(np.abs(covariances / covariances[0]) >= band, lags), most)
    at = np.abs(np.arange(-width, width + 1))
    window = np.minimum(1.0, 2 * (1 - at / width)) * covariances[at]
    return _Memory(
        alone=float(covariances[0]), long_run=float(window.sum()), reach=float((at * window).sum())
    )


def _autocovariances(series: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    """Autocovariances of lags 0 .. most, divided by n."""
    centred = series - series.mean() if series.size else series
    sums = [float(centred[: series.size - lag] @ centred[lag:]) for lag in range(most + 1)]
    return np.array(sums) / max(1, series.size)


def _half_width(significant: NDArray[np.bool_], lags: int) -> int:
    """The first lag from which `lags` in a row are insignificant, 1 or more; else the last lag."""
    run = 0
    for lag in range(1, significant.size):
        run = 0 if significant[lag] else run + 1
        if run == lags:
            return lag - lags + 1
    return significant.size - 1
