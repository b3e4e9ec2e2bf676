"""Series and histograms with a known truth, for simulations."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from analysis.blocks import Blocks
from loadtests.record.histogram import LENGTH, buckets_of_ns

SIGMA = 0.6  # of the logarithm of latencies within a window


def ar1(seed: int, n: int, phi: float) -> NDArray[np.float64]:
    """An autoregression of order one with unit innovations, begun with one."""
    innovations = np.random.default_rng(seed).standard_normal(n)
    series = np.empty(n)
    series[0] = innovations[0]
    for at in range(1, n):
        series[at] = phi * series[at - 1] + innovations[at]
    return series


def stationary(random: np.random.Generator, n: int, phi: float) -> NDArray[np.float64]:
    """An autoregression of unit variance, stationary from its first value."""
    series: NDArray[np.float64] = random.standard_normal(n) * math.sqrt(1 - phi**2)
    series[0] = random.standard_normal()
    for at in range(1, n):
        series[at] += phi * series[at - 1]
    return series


def blocks_of_ns(values_ns: NDArray[np.float64], windows: int) -> Blocks:
    """Histograms of so many windows with equally many latencies each."""
    buckets = buckets_of_ns(values_ns.astype(np.int64)).reshape(windows, -1)
    keys = (np.arange(windows)[:, None] * LENGTH + buckets).ravel()
    hit, counts = np.unique(keys, return_counts=True)
    starts = np.searchsorted(hit, np.arange(windows + 1) * LENGTH)
    return Blocks(
        step_s=1,
        window_s=np.arange(windows),
        starts=starts,
        buckets=(hit % LENGTH).astype(np.uint16),
        counts=counts.astype(np.uint16),
    )


def windows_of(
    random: np.random.Generator,
    *,
    windows: int,
    each: int,
    phi: float,
    spread: float,
    factor: float = 1.0,
) -> Blocks:
    """Log-normal latencies around 8 ms whose windows rise and fall together.

    The logarithm of a window's median is an autoregression with standard deviation `spread`.
    """  # fmt: skip
    centre = np.repeat(spread * stationary(random, windows, phi), each)
    values_ns = 8e6 * factor * np.exp(centre + SIGMA * random.standard_normal(centre.size))
    return blocks_of_ns(values_ns, windows)


def true_quantile_us(normal_quantile: float, spread: float) -> float:
    """The percentile of all such runs."""
    return 8e3 * float(np.exp(np.hypot(spread, SIGMA) * normal_quantile))
