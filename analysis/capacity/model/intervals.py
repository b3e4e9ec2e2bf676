"""How far a fitted law may be trusted: bootstrap intervals, and what each point does to it.

Residual bootstrap: each replicate is the fitted law with residuals drawn anew, fitted
again; an interval is between percentiles of the replicates. Three corrections keep it from
being too narrow with few points, n of them and p = 3 parameters:

- residuals are centred and divided by sqrt(1 - p / n), because a fit makes them too small;
- each replicate's residuals are multiplied by sqrt(d / chi^2_d), d = n - p, because their
  spread is itself known from d degrees of freedom only: what makes Student's t of a normal;
- parameters at their bound (no contention, no coherency cost) stay there in the replicates,
  and the interval then ends at the bound.

Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 9 and 13. Coverage is
simulated in the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from analysis.capacity.model.usl import PARAMETERS, Errors, Floats, Usl, solve

REPLICATES: Final = 1000
CONFIDENCE_RATIO: Final = 0.95
_SEED: Final = 20_26_11  # any fixed number: the same runs give the same interval
STABLE_RATIO: Final = 0.25  # a knee that one point moves by more is not known


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A 95 % interval; `high` may be infinite."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicates:
    """Laws that could as well have been fitted."""

    laws: tuple[Usl, ...]

    def range_of(self, value: Callable[[Usl], float]) -> Range:
        """The interval of anything that a law says."""
        values = np.sort([value(law) for law in self.laws])
        tail = (1 - CONFIDENCE_RATIO) / 2
        last = len(values) - 1  # no interpolation: between a number and infinity there is none
        return Range(
            low=float(values[int(np.floor(tail * last))]),
            high=float(values[int(np.ceil((1 - tail) * last))]),
        )


def bootstrap(
    law: Usl, n: Floats, x: Floats, errors: Errors, replicates: int = REPLICATES
) -> Replicates:
    """Fit so many replicates of the points."""
    random, fitted = np.random.default_rng(_SEED), law.throughput(n)
    freedom = len(n) - PARAMETERS
    is_relative = errors is Errors.RELATIVE
    residuals = x / fitted - 1 if is_relative else x - fitted
    residuals = (residuals - residuals.mean()) / np.sqrt(1 - PARAMETERS / len(n))
    unit = fitted if is_relative else np.ones_like(fitted)
    laws = []
    for _ in range(replicates):
        drawn = random.choice(residuals, size=len(n))
        spread = np.sqrt(freedom / random.chisquare(freedom))
        replicate = fitted + unit * drawn * spread
        # A throughput is above 0; a residual that large needs a fit that is no fit.
        laws.append(solve(n, np.maximum(replicate, 0.01 * fitted), errors))
    return Replicates(laws=tuple(laws))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stability:
    """A figure of the law with each point left out in turn: between what it lies.

    `is_stable`: no single point moves it by more than `STABLE_RATIO`.
    """

    low: float
    high: float
    is_stable: bool


def leave_one_out(n: Floats, x: Floats, errors: Errors) -> tuple[Usl, ...]:
    """A law without each point; () where what is left is too little for a law."""
    laws = []
    for at in range(len(n)):
        kept = np.arange(len(n)) != at
        if len(np.unique(n[kept])) <= PARAMETERS:
            return ()
        laws.append(solve(n[kept], x[kept], errors))
    return tuple(laws)


def stability_of(law: Usl, others: Sequence[Usl], value: Callable[[Usl], float]) -> Stability:
    """How one figure fares when points are left out; without `others` nothing is stable."""
    values = [value(law), *map(value, others)]
    low, high, own = min(values), max(values), value(law)
    is_near = high <= (1 + STABLE_RATIO) * own and low >= own / (1 + STABLE_RATIO)
    return Stability(low=low, high=high, is_stable=bool(others) and is_near)
