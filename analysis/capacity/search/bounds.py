"""Bounds of a goal's limit: rates that were tried, with the trials that carry them.

A lower bound is the highest rate r that was tried and held, of which two trials or more say
that it holds (held at r or above) and of which all trials together say, with a probability
of `CONFIDENCE`, that the limit is not below. An upper bound likewise: the lowest rate that
was missed, with two misses at it or below. Both at once are right with 1 - 2 * (1 - 0.99) =
98 %. A rate that has only void or too short trials can be neither.

One miss at least must have met a target known to be well, because the trial before it held:
misses alone could be the long end of one overload.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from analysis.capacity.search.belief import Belief, believe
from analysis.capacity.search.settings import Goal, Settings
from analysis.capacity.search.trials import Trial, TrialState, evidence, fresh

CONFIDENCE: Final = 0.99
FEWEST_AGREEING: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A tried rate; `trials` are the numbers of those at this very rate that count.

    `agreeing` counts the trials that say so at this rate or beyond; `probability` that the
    limit is on the right side of it.
    """

    rate_per_s: float
    held: int
    missed: int
    trials: tuple[int, ...]
    agreeing: int
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Of one goal; None: there is none. `scatter_ratio` is the noise from trial to trial."""

    goal: Goal
    lower: Bound | None
    upper: Bound | None
    scatter_ratio: float

    @property
    def width_ratio(self) -> float | None:
        """How far the upper bound is above the lower one; None where one is missing."""
        if self.lower is None or self.upper is None:
            return None
        return self.upper.rate_per_s / self.lower.rate_per_s - 1

    @property
    def is_precise(self) -> bool:
        """Whether they are as near each other as was asked for."""
        width = self.width_ratio
        return width is not None and width <= self.goal.width_ratio + 1e-3  # four-digit rates


def _bound(
    valid: Sequence[Trial], goal: str, rate: float, *, is_lower: bool, belief: Belief
) -> Bound:
    at_rate = [t for t in valid if t.rate_per_s == rate]
    wanted = TrialState.HELD if is_lower else TrialState.MISSED
    beyond = [t for t in valid if (t.rate_per_s >= rate if is_lower else t.rate_per_s <= rate)]
    below = belief.below(rate)
    return Bound(
        rate_per_s=rate,
        held=sum(t.states[goal] is TrialState.HELD for t in at_rate),
        missed=sum(t.states[goal] is TrialState.MISSED for t in at_rate),
        trials=tuple(t.number for t in at_rate),
        agreeing=sum(t.states[goal] is wanted for t in beyond),
        probability=1 - below if is_lower else below,
    )


def _is_probable(bound: Bound) -> bool:
    return bound.agreeing >= FEWEST_AGREEING and bound.probability >= CONFIDENCE


def _first_fresh_miss_per_s(trials: Sequence[Trial], valid: Sequence[Trial], goal: str) -> float:
    """The lowest rate that a target known to be well has missed; infinite without one."""
    numbers = fresh(trials)
    return min(
        (
            trial.rate_per_s
            for trial in valid
            if trial.number in numbers and trial.states[goal] is TrialState.MISSED
        ),
        default=math.inf,
    )


def find_bounds(
    settings: Settings, trials: Sequence[Trial], goal: Goal, belief: Belief | None = None
) -> Bounds:
    """The bounds that the trials so far can carry; `belief` where it is known already."""
    belief = believe(settings, trials, goal.name) if belief is None else belief
    valid = evidence(trials, goal.name, settings.trial_s)
    rates = sorted({trial.rate_per_s for trial in valid})
    lowers = [_bound(valid, goal.name, r, is_lower=True, belief=belief) for r in rates]
    uppers = [_bound(valid, goal.name, r, is_lower=False, belief=belief) for r in rates]
    fresh_per_s = _first_fresh_miss_per_s(trials, valid, goal.name)
    claimed = [b for b in uppers if b.missed and b.rate_per_s >= fresh_per_s]
    return Bounds(
        goal=goal,
        lower=next((b for b in reversed(lowers) if b.held and _is_probable(b)), None),
        upper=next((b for b in claimed if _is_probable(b)), None),
        scatter_ratio=belief.scatter_ratio,
    )
