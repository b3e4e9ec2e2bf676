"""How different the two sides of a split of a series are: the energy statistic.

    Q(t, k) = t m / (t + m) * (2 B / (t m) - W1 / t^2 - W2 / m^2),    m = k - t

for the first t values of a series against the m after them, with B, W1, W2 the sums of
|x - y| over all pairs between the sides, within the first and within the second. In brackets
stands Szekely and Rizzo's energy distance, on which the E-divisive method rests (Matteson and
James, JASA 109, 2014, with exponent 1; MongoDB, Hunter and Apache Otava hunt regressions
with it). It assumes no distribution and sees any difference, of level most of all. k = n asks
whether the series has two parts; k < n finds a change that did not last.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def split_statistics(values: Floats, orders: NDArray[np.int64], least: int) -> Floats:
    """Q of `values` in each order, sides of at least `least` values.

    Shape (orders, t, k): t = least .. n - least, k = 2 least .. n; 0 where a side is too short.
    """
    n = len(values)
    apart = np.abs(values[:, None] - values[None, :])
    sums = np.zeros((len(orders), n + 1, n + 1))  # [i, j]: over the pairs of the first i and j
    np.cumsum(apart[orders[:, :, None], orders[:, None, :]], axis=1, out=sums[:, 1:, 1:])
    np.cumsum(sums[:, 1:, 1:], axis=2, out=sums[:, 1:, 1:])
    t, k = np.arange(least, n - least + 1)[:, None], np.arange(2 * least, n + 1)[None, :]
    first, both = sums[:, t, t], sums[:, k, k]
    between = sums[:, t, k] - first
    second = both - 2 * between - first
    is_long = k - t >= least
    m = np.where(is_long, k - t, 1)
    distance = 2 * between / (t * m) - first / (t * t) - second / (m * m)
    return np.where(is_long, t * m / (t + m) * distance, 0.0)
