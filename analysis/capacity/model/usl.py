"""The Universal Scalability Law with three parameters, fitted by bounded least squares.

    X(N) = gamma N / (1 + sigma (N - 1) + kappa N (N - 1))

    X      throughput per second at N; N >= 1 is the number of nodes, or of requests in flight
    gamma  throughput at N = 1 (lambda in some texts)
    sigma  contention, 0-1: the part of the work that waits for something shared
    kappa  coherency, >= 0: the cost of keeping pairs consistent; it makes X fall again

N. J. Gunther, Guerrilla Capacity Planning, Springer 2007. R's package `usl` calls sigma and
kappa alpha and beta; its bounds on both are those here.

Throughput of two sizes is wrong by the same part rather than by the same amount, so what is
made small is the sum of (X / X(N) - 1)^2: no point outweighs another because it is large.
That sum is linear in N / X(N) = (a + b) + b (N - 1) + c N (N - 1), with a, b, c >= 0,
gamma = 1 / (a + b), sigma = b / (a + b), kappa = c / (a + b): one non-negative least squares
problem, which has one solution and needs no start. `Errors.ABSOLUTE` makes the sum of
(X - X(N))^2 small instead, as R's `usl` does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Final

import numpy as np
from numpy.typing import NDArray

LEAST_POINTS: Final = 6
PARAMETERS: Final = 3
_LEAST_TIME: Final = 1e-12  # seconds at N = 1: keeps points that no law fits from dividing by 0
Floats = NDArray[np.float64]


class Errors(Enum):
    """What the measured throughput is taken to be wrong by."""

    RELATIVE = "relative"
    ABSOLUTE = "absolute"


@dataclass(frozen=True, slots=True, kw_only=True)
class Usl:
    """A law; see the module's formula for the symbols."""

    gamma: float
    sigma: float
    kappa: float

    def throughput(self, n: Floats) -> Floats:
        """X(N) per second."""
        return self.gamma * n / (1 + self.sigma * (n - 1) + self.kappa * n * (n - 1))

    def at(self, n: float) -> float:
        """X(N) of one N; 0 at 0."""
        return float(self.throughput(np.array([n]))[0])

    @property
    def peak_n(self) -> float:
        """Where X is largest, sqrt((1 - sigma) / kappa); infinite without coherency cost."""
        return math.sqrt((1 - self.sigma) / self.kappa) if self.kappa > 0 else math.inf

    @property
    def peak_per_s(self) -> float:
        """The largest X; without coherency cost Amdahl's asymptote gamma / sigma, or infinite."""
        if math.isinf(self.peak_n):
            return self.gamma / self.sigma if self.sigma > 0 else math.inf
        return self.at(max(1.0, self.peak_n))

    @property
    def knee_n(self) -> float:
        """The knee, 1 / sigma: where the line gamma N meets Amdahl's asymptote gamma / sigma.

        Beyond it more N brings less than it costs. Infinite without contention; never beyond
        the peak.
        """
        return min(1 / self.sigma if self.sigma > 0 else math.inf, self.peak_n)

    def n_for(self, per_s: float) -> float:
        """The smallest N >= 1 that carries a throughput; infinite where none does.

        X(N) = x is kappa x N^2 + (sigma x - kappa x - gamma) N + x (1 - sigma) = 0; its
        smaller root lies on the rising side.
        """
        if per_s <= self.gamma:
            return 1.0
        square = self.kappa * per_s
        linear = (self.sigma - self.kappa) * per_s - self.gamma
        constant = (1 - self.sigma) * per_s
        if linear >= 0:
            return math.inf
        discriminant = linear * linear - 4 * square * constant
        # In this form the small root keeps its digits when kappa is tiny, or 0.
        return 2 * constant / (-linear + math.sqrt(discriminant)) if discriminant >= 0 else math.inf


def _fit_relative(n: Floats, x: Floats) -> Usl:
    from scipy.optimize import nnls  # noqa: PLC0415 - half a second that no other command should pay

    columns = (x / n)[:, None] * np.stack([np.ones_like(n), n, n * (n - 1)], axis=1)
    widths = np.linalg.norm(columns, axis=0)
    widths[widths == 0] = 1.0  # N(N - 1) where every N is 1
    scaled, _ = nnls(columns / widths, np.ones_like(n))
    a, b, c = (float(value) for value in scaled / widths)
    gamma = 1 / max(a + b, _LEAST_TIME)
    return Usl(gamma=gamma, sigma=b * gamma, kappa=c * gamma)


def _fit_absolute(n: Floats, x: Floats) -> Usl:
    from scipy.optimize import least_squares  # noqa: PLC0415 - as above

    start = _fit_relative(n, x)
    scale = float(np.mean(x))

    def residuals(parameters: Floats) -> Floats:
        gamma, sigma, kappa = (float(value) for value in parameters)
        return (Usl(gamma=gamma, sigma=sigma, kappa=kappa).throughput(n) - x) / scale

    def slopes(parameters: Floats) -> Floats:
        gamma, sigma, kappa = parameters
        below = 1 + sigma * (n - 1) + kappa * n * (n - 1)
        steeper = -gamma * n * (n - 1) / below**2
        return np.stack([n / below, steeper, steeper * n], axis=1) / scale

    inside = np.clip([start.gamma, start.sigma, start.kappa], 1e-12, [math.inf, 1 - 1e-9, 1 - 1e-9])
    fitted = least_squares(
        residuals,
        inside,
        jac=slopes,
        bounds=([0, 0, 0], [math.inf, 1, 1]),
        x_scale=np.maximum(inside, 1e-6),
        xtol=1e-10,
        ftol=1e-10,
        gtol=1e-10,
    )
    gamma, sigma, kappa = (float(value) for value in fitted.x)
    return Usl(gamma=gamma, sigma=sigma, kappa=kappa)


def solve(n: Floats, x: Floats, errors: Errors) -> Usl:
    """The law that lies closest to the points (N, X), all above 0, however few they are."""
    return (_fit_relative if errors is Errors.RELATIVE else _fit_absolute)(n, x)


def fit_usl(n: Floats, x: Floats, errors: Errors = Errors.RELATIVE) -> Usl:
    """The same for a law that is to be believed.

    ValueError with fewer than `LEAST_POINTS` points, or fewer than four different N: three
    parameters go through three N whatever was measured.
    """
    distinct = len(np.unique(n))
    if len(n) < LEAST_POINTS or distinct <= PARAMETERS:
        raise ValueError(f"{len(n)} points at {distinct} different N")
    return solve(n, x, errors)
