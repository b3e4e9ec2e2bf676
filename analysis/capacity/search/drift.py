"""Whether the limit moved while it was looked for: a target that gets worse, or better.

The belief's formula with one term more, ln L + d * (t - 1/2), t from 0 at the first trial to
1 at the last: d is the change over the whole search. The likelihood at its best d against
that of d = 0 (both at their best L and s) is a likelihood ratio test with one degree of
freedom: 2 ln ratio > 6.63 happens by chance in 1 of 100 searches (Wilks; the tests simulate it).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from analysis.capacity.search.belief import SCATTERS, held_chances
from analysis.capacity.search.settings import Settings
from analysis.capacity.search.trials import OBJECTIVES, Trial, TrialState, evidence

CHI_SQUARE_99: Final = 6.635  # one degree of freedom
CHANGES: Final = np.linspace(-0.7, 0.7, 29)  # of ln L over the search: half to double
NEAR: Final = 1.0  # ln: trials further away than this from the middle say nothing of a change
FEWEST_TRIALS: Final = 8


def find_drift_ratio(settings: Settings, trials: Sequence[Trial]) -> float | None:
    """By how much the limit changed over the search (-0.2: it fell by 20 %); None: not seen to."""
    valid = evidence(trials, OBJECTIVES, settings.trial_s)
    states = {trial.state for trial in valid}
    if len(valid) < FEWEST_TRIALS or len(states) == 1:
        return None
    fits = [_best_fit(valid, change) for change in CHANGES.tolist()]
    best = int(np.argmax(fits))
    still = fits[len(CHANGES) // 2]
    return math.expm1(CHANGES[best]) if 2 * (fits[best] - still) > CHI_SQUARE_99 else None


def _best_fit(valid: Sequence[Trial], change: float) -> float:
    """The highest log likelihood over limits and scatters at one change."""
    first, last = valid[0].number, valid[-1].number
    logs = np.array([math.log(trial.rate_per_s) for trial in valid])
    middle = float(np.median(logs))
    log_limits = np.linspace(middle - NEAR, middle + NEAR, 401)
    total = np.zeros((len(SCATTERS), len(log_limits)))
    for trial, log_rate in zip(valid, logs.tolist(), strict=True):
        moved = log_rate - change * ((trial.number - first) / (last - first) - 0.5)
        held = held_chances(moved, log_limits)
        total += np.log(held if trial.state is TrialState.HELD else 1 - held)
    return float(total.max())
