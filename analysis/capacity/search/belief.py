"""What trials say of a goal's limit: a probability for each place where it could be.

A trial at rate r meets the target at a capacity of its own, scattered around the limit L:

    P(held at r) = FLUKE + (1 - LAPSE - FLUKE) * Phi((ln L - ln r) / s)

L is the rate that holds in half of the trials; s, the scatter from trial to trial as a
ratio, is not known and is found with it. LAPSE: a trial far below the limit may miss by some
accident; FLUKE: one far above it hardly ever holds. Bayes' rule on a grid of (s, ln L): every
ln L is as probable as any other before the first trial, and s is taken to be 2.5 %, give or
take a factor of 2.5 (log-normal). What is asked for is the marginal of L. This is how
thresholds are measured from yes-or-no answers elsewhere (Kontsevich and Tyler 1999, Vision
Research 39: 2729; QUEST of Watson and Pelli). The tests simulate how often its bounds hold,
with scatters that are not normal as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from analysis.capacity.search.settings import Settings
from analysis.capacity.search.trials import Trial, TrialState, evidence

LAPSE: Final = 0.02
FLUKE: Final = 0.005
SCATTERS: Final = np.array(
    [0.003, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.07, 0.1, 0.15, 0.2]
)
USUAL_SCATTER: Final = 0.025  # of runs on shared machines
USUAL_SPREAD: Final = 0.9  # ln
BEYOND: Final = 0.25  # ln: the limit may lie so far outside the rates that can be tried
CELLS: Final = 20  # of the grid to a precision

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Belief:
    """Probabilities (sum 1) of the limit at each `log_limits` (ln of a rate) and each scatter."""

    log_limits: Numbers
    weights: Numbers  # scatters x limits

    @property
    def scatter_ratio(self) -> float:
        """The mean of the scatter from trial to trial."""
        return float(SCATTERS @ self.weights.sum(axis=1))

    def below(self, rate_per_s: float) -> float:
        """Probability that the limit is below a rate."""
        until = int(np.searchsorted(self.log_limits, math.log(rate_per_s)))
        return float(self.weights[:, :until].sum())

    def quantile_per_s(self, ratio: float) -> float:
        """The rate below which the limit is with this probability (0-1)."""
        cumulated = np.cumsum(self.weights.sum(axis=0))
        at = min(int(np.searchsorted(cumulated, ratio)), len(self.log_limits) - 1)
        return math.exp(float(self.log_limits[at]))

    def holds(self, rate_per_s: float) -> float:
        """Probability that a trial at this rate holds."""
        chances = held_chances(math.log(rate_per_s), self.log_limits)
        return float((self.weights * chances).sum())


def held_chances(log_rate: float, log_limits: Numbers) -> Numbers:
    """The formula of the module's head for every scatter (rows) and limit."""
    deviations = (log_limits[None, :] - log_rate) / SCATTERS[:, None]
    chances: Numbers = FLUKE + (1 - LAPSE - FLUKE) * ndtr(deviations)
    return chances


@lru_cache(maxsize=16)
def _grid(min_per_s: float, max_per_s: float, precision_ratio: float) -> Numbers:
    step = math.log1p(precision_ratio) / CELLS
    grid = np.arange(math.log(min_per_s) - BEYOND, math.log(max_per_s) + BEYOND, step)
    grid.flags.writeable = False
    return grid


@lru_cache(maxsize=512)
def _log_chances(rate_per_s: float, space: tuple[float, float, float]) -> tuple[Numbers, Numbers]:
    """Logarithms of P(held) and P(missed) at a rate; computed once, few rates are ever tried."""
    chances = held_chances(math.log(rate_per_s), _grid(*space))
    return np.log(chances), np.log1p(-chances)


def believe(settings: Settings, trials: Sequence[Trial], goal: str) -> Belief:
    """What all evidence for a goal says together; its order does not matter."""
    space = (settings.min_per_s, settings.max_per_s, settings.precision_ratio)
    log_limits = _grid(*space)
    prior = -0.5 * ((np.log(SCATTERS) - math.log(USUAL_SCATTER)) / USUAL_SPREAD) ** 2
    logs = np.tile(prior[:, None], len(log_limits))
    for trial in evidence(trials, goal, settings.trial_s):
        held, missed = _log_chances(trial.rate_per_s, space)
        logs += held if trial.states[goal] is TrialState.HELD else missed
    weights = np.exp(logs - logs.max())
    return Belief(log_limits=log_limits, weights=weights / weights.sum())
