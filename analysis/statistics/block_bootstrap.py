"""Circular block bootstrap (Politis and Romano 1992) over rows of windows.

A replicate is made of blocks of consecutive rows, each beginning anywhere, the series closed
to a circle: within a block the dependence of neighbours is kept. What a replicate holds is a
weight for each row, so that any sum over rows is one product of matrices.

A percentile interval of few blocks is too narrow, for two reasons that do not depend on the
data: the variance of a replicate is short by (k - 1) / k, and the quantiles are those of a
normal distribution where a t would be right. Both are put right by taking more extreme
percentiles: the expanded percentile interval of Hesterberg (2015), "What Teachers Should
Know About the Bootstrap", The American Statistician 69(4), with k blocks as the sample size.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

REPLICATES: Final = 2000
LEAST_BLOCKS: Final = 4


def block_weights(
    rows: int, block: int, seed: int, replicates: int = REPLICATES
) -> NDArray[np.float64]:
    """How often each row is in each replicate: (replicates, rows), each adding up to `rows`."""
    blocks = -(-rows // block)
    begins = np.random.default_rng(seed).integers(0, rows, (replicates, blocks))
    lengths = np.full(blocks, block)
    lengths[-1] = rows - block * (blocks - 1)
    width = 2 * rows + 1
    base = np.arange(replicates)[:, None] * width
    size = replicates * width
    changes = np.bincount((base + begins).ravel(), minlength=size) - np.bincount(
        (base + begins + lengths).ravel(), minlength=size
    )
    covered = np.cumsum(changes.reshape(replicates, width), axis=1)
    weights: NDArray[np.float64] = (covered[:, :rows] + covered[:, rows : 2 * rows]).astype(float)
    return weights


def expanded_level(confidence: float, blocks: float) -> float:
    """Lower tail of the expanded percentile interval, for k = `blocks` (> 1)."""
    t = float(stats.t.ppf((1 - confidence) / 2, blocks - 1))
    return float(stats.norm.cdf(t * np.sqrt(blocks / (blocks - 1))))


def percentile_bounds(
    replicates: NDArray[np.float64], confidence: float, blocks: float
) -> tuple[float, float]:
    """Both ends of the expanded percentile interval."""
    tail = expanded_level(confidence, blocks)
    low, high = np.quantile(replicates, [tail, 1 - tail], method="inverted_cdf")
    return float(low), float(high)


def standard_error(replicates: NDArray[np.float64], blocks: float) -> float:
    """Spread of replicates, with the shortfall of few blocks made up for; `inf` with infinities."""
    if not np.isfinite(replicates).all():
        return float("inf")
    return float(replicates.std(ddof=1) * np.sqrt(blocks / (blocks - 1)))
