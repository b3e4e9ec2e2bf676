"""Decide, then act: from the trials so far to the next one, or to the end.

1. A target that may still be ill is not asked for its limit: when the misses in a row at the
   end are together less probable than 5 %, a low rate that held before is tried, after ever
   longer pauses, until it holds again or the search gives up.
2. A void trial is made again, after ever longer pauses: its reason may pass. A rate that was
   void three times, with nothing valid at it or above, is a ceiling: it cannot be measured
   from here, and the search goes on half-way down to what held.
3. The first goal whose bounds are not near enough gets the next trial; the objectives first.

The first trial is at the lowest rate, the next ones at most at four times what held: the
limit is met from below. While it may be anywhere, the next rate is the median of the belief,
or the goodput of the overload just met, which often is the capacity. Near the limit it is the
belief's 5 % or 95 % quantile, on the side where the bound is further away: a trial there
says most, whatever the noise.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import takewhile
from typing import Final

from analysis.capacity.search.belief import Belief, believe
from analysis.capacity.search.bounds import Bounds, find_bounds
from analysis.capacity.search.settings import Settings
from analysis.capacity.search.trials import (
    OBJECTIVES,
    Purpose,
    Trial,
    TrialState,
    counts,
    evidence,
)

MOST_VOID_RATIO: Final = 0.4  # of the trials allowed
VOIDS_OF_A_CEILING: Final = 3
MOST_DOUBLINGS: Final = 3  # of the pause
CHANCE_OF_ILLNESS: Final = 0.05
MOST_CHECKS: Final = 4  # pauses of 1, 2, 4, 8 times the settling time
HIGHEST_STEP: Final = 4.0
NEAR_RATIO: Final = 1.35  # range of the belief (5 % to 95 %) below which the limit is near
SAME_RATIO: Final = 0.02
LOW_SIDE: Final = 0.05
HIGH_SIDE: Final = 0.95


class Ending(Enum):
    """Why a search ended."""

    PRECISE = "the bounds are as near as was asked for"
    TRIALS_USED = "all trials are used up"
    MAX_HOLDS = "the highest rate allowed holds"
    MIN_MISSED = "the lowest rate does not hold"
    GENERATOR_LIMITED = "the generator is the limit"
    UNMEASURABLE = "higher rates cannot be judged"
    TOO_MANY_VOID = "too many trials were void"
    NOT_RECOVERED = "the target does not recover from overload"
    INTERRUPTED = "stopped by the user"
    TARGET_LOST = "the target could not be loaded any more"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The next trial: `pause_s` to wait before it."""

    rate_per_s: float
    purpose: Purpose
    pause_s: float


def decide(settings: Settings, trials: Sequence[Trial]) -> Step | Ending:
    """What to do next; a pure function, the same trials give the same answer."""
    if len(trials) >= settings.max_trials:
        return Ending.TRIALS_USED
    if (check := _check_recovery(settings, trials)) is not None:
        return check
    ceiling = ceiling_per_s(settings, trials)
    rates = tuple(rate for rate in settings.ladder if ceiling is None or rate < ceiling)
    if not rates or _void_count(trials) > settings.max_trials * MOST_VOID_RATIO:
        return _limited(trials, Ending.TOO_MANY_VOID)
    return _probe(settings, trials, rates)


def _probe(settings: Settings, trials: Sequence[Trial], rates: Sequence[float]) -> Step | Ending:
    """Rule 3 of the module's list."""
    for goal in settings.goals:
        belief = believe(settings, trials, goal.name)
        bounds = find_bounds(settings, trials, goal, belief)
        if _is_below(bounds, rates) and goal.name == OBJECTIVES:
            return Ending.MIN_MISSED
        is_outside = _is_below(bounds, rates) or _is_above(bounds, rates, settings)
        if not (bounds.is_precise or is_outside):
            rate = _aim(settings, trials, bounds, belief, rates)
            pause_s = settings.settle_s * 2 ** min(_voids_in_a_row(trials), MOST_DOUBLINGS)
            return Step(rate_per_s=rate, purpose=Purpose.PROBE, pause_s=pause_s)
    return _ending(settings, trials, rates)


def _is_below(bounds: Bounds, rates: Sequence[float]) -> bool:
    """Whether the limit is below all that may be tried."""
    return bounds.upper is not None and bounds.upper.rate_per_s <= rates[0]


def _is_above(bounds: Bounds, rates: Sequence[float], settings: Settings) -> bool:
    """Whether the limit is above all that may be tried; below a ceiling, nearly all."""
    spare = 1.0 if rates[-1] == settings.ladder[-1] else 1 + bounds.goal.width_ratio
    return bounds.lower is not None and bounds.lower.rate_per_s * spare >= rates[-1]


def _ending(settings: Settings, trials: Sequence[Trial], rates: Sequence[float]) -> Ending:
    bounds = find_bounds(settings, trials, settings.goals[0])
    if bounds.is_precise or not _is_above(bounds, rates, settings):
        return Ending.PRECISE
    if rates[-1] == settings.ladder[-1]:
        return Ending.MAX_HOLDS
    return _limited(trials, Ending.UNMEASURABLE)


def _voids(trials: Sequence[Trial]) -> list[Trial]:
    return [t for t in trials if t.purpose is Purpose.PROBE and t.state is TrialState.VOID]


def _void_count(trials: Sequence[Trial]) -> int:
    return sum(trial.state is TrialState.VOID for trial in trials)


def _voids_in_a_row(trials: Sequence[Trial]) -> int:
    """How many trials at the end were void."""
    row = takewhile(lambda trial: trial.state is TrialState.VOID, reversed(trials))
    return sum(1 for _ in row)


def _limited(trials: Sequence[Trial], otherwise: Ending) -> Ending:
    """The generator, if it was the reason of at least half of the void trials."""
    voids = [trial for trial in trials if trial.state is TrialState.VOID]
    own = sum(trial.is_generator_limited for trial in voids)
    return Ending.GENERATOR_LIMITED if 2 * own >= len(voids) else otherwise


def ceiling_per_s(settings: Settings, trials: Sequence[Trial]) -> float | None:
    """The lowest rate that cannot be measured from here; None: no such rate is known."""
    valid = [t.rate_per_s for t in trials if counts(t, OBJECTIVES, settings.trial_s)]
    highest = max(valid, default=0.0)
    voids = Counter(trial.rate_per_s for trial in _voids(trials) if trial.rate_per_s > highest)
    rates = [rate for rate, number in voids.items() if number >= VOIDS_OF_A_CEILING]
    return min(rates, default=None)


def _check_recovery(settings: Settings, trials: Sequence[Trial]) -> Step | Ending | None:
    """Rule 1 of the module's list; None: the target is taken to be well."""
    if not trials or trials[-1].state is TrialState.HELD:
        return None
    last = trials[-1]
    if last.purpose is Purpose.RECOVERY:
        checks = _checks_in_a_row(trials)
        if checks >= MOST_CHECKS:
            return Ending.NOT_RECOVERED
        return _recovery(settings, last.rate_per_s, checks)
    rate = _low_rate(settings, trials)
    if rate is None or last.state is not TrialState.MISSED:
        return None
    if _chance_of_row(settings, trials) >= CHANCE_OF_ILLNESS:
        return None
    return _recovery(settings, rate, 0)


def _chance_of_row(settings: Settings, trials: Sequence[Trial]) -> float:
    """How probable the misses since the last hold were, each by the trials before it."""
    chance = 1.0
    for index in range(len(trials) - 1, -1, -1):
        trial = trials[index]
        if trial.state is TrialState.HELD:
            break
        if trial.state is TrialState.MISSED and trial.purpose is Purpose.PROBE:
            chance *= 1 - believe(settings, trials[:index], OBJECTIVES).holds(trial.rate_per_s)
    return chance


def _recovery(settings: Settings, rate: float, checks: int) -> Step:
    pause_s = settings.settle_s * 2**checks
    return Step(rate_per_s=rate, purpose=Purpose.RECOVERY, pause_s=pause_s)


def _checks_in_a_row(trials: Sequence[Trial]) -> int:
    """How many checks at the end did not hold."""
    row = takewhile(
        lambda t: t.purpose is Purpose.RECOVERY and t.state is not TrialState.HELD,
        reversed(trials),
    )
    return sum(1 for _ in row)


def _low_rate(settings: Settings, trials: Sequence[Trial]) -> float | None:
    """The highest rate that held, at most half of the last one; else the lowest that held."""
    last = trials[-1].rate_per_s
    valid = evidence(trials, OBJECTIVES, settings.trial_s)
    held = [t.rate_per_s for t in valid if t.state is TrialState.HELD and t.rate_per_s < last]
    if not held:
        return None
    return max((rate for rate in held if rate <= last / 2), default=min(held))


def _aim(
    settings: Settings,
    trials: Sequence[Trial],
    bounds: Bounds,
    belief: Belief,
    rates: Sequence[float],
) -> float:
    """The rate on the ladder that the next trial of a goal is to have."""
    name = bounds.goal.name
    valid = evidence(trials, name, settings.trial_s)
    held = [t.rate_per_s for t in valid if t.states[name] is TrialState.HELD]
    if belief.quantile_per_s(HIGH_SIDE) <= belief.quantile_per_s(LOW_SIDE) * NEAR_RATIO:
        wanted = _on_wider_side(bounds, belief)
    else:
        wanted = _goodput_of_overload(valid, name, belief) or belief.quantile_per_s(0.5)
    highest = HIGHEST_STEP * max(held) if held else rates[0]
    if held and rates[-1] < settings.ladder[-1]:
        highest = min(highest, math.sqrt(max(held) * rates[-1]))
    return min(rates, key=lambda rate: abs(rate - min(wanted, highest)))


def _goodput_of_overload(valid: Sequence[Trial], goal: str, belief: Belief) -> float | None:
    """What the last trial delivered, if it missed; None where that is not worth trying."""
    if not valid or valid[-1].states[goal] is TrialState.HELD:
        return None
    goodput = valid[-1].goodput_per_s
    is_open = goodput is not None and (
        belief.quantile_per_s(LOW_SIDE) < goodput < belief.quantile_per_s(HIGH_SIDE)
    )
    if goodput is None or not is_open:
        return None
    is_tried = any(abs(t.rate_per_s / goodput - 1) < SAME_RATIO for t in valid)
    return None if is_tried else goodput


def _on_wider_side(bounds: Bounds, belief: Belief) -> float:
    median = belief.quantile_per_s(0.5)
    below = math.inf if bounds.lower is None else median / bounds.lower.rate_per_s
    above = math.inf if bounds.upper is None else bounds.upper.rate_per_s / median
    return belief.quantile_per_s(LOW_SIDE if below > above else HIGH_SIDE)
