"""The nouns of a search: what is looked for, what a trial was, which trials count.

A *goal* is a set of limits that a rate can hold: the scenario's objectives, or a limit on
p99. A *trial* is one run at one rate. For each goal it was HELD, MISSED or VOID: void is
everything that says nothing of the target (the generator was the limit, too few samples, a
broken law, a run cut short) and neither raises nor lowers a bound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import Final

OBJECTIVES: Final = "objectives"  # the goal that is always there, and first
EDGES_S: Final = 2.0  # a stage is judged in whole seconds: up to one is lost at either edge


class TrialState(Enum):
    """What a trial says of a goal."""

    HELD = "held"
    MISSED = "missed"
    VOID = "void"


class Purpose(Enum):
    """Why a trial was made."""

    PROBE = "probe"  # to find the limit
    RECOVERY = "recovery"  # to see whether the target is well again; never evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One run at one rate. None: not known; latencies are response times in ns.

    `states` has every goal of the search. `reason` is of the objectives' state.
    """

    number: int  # from 1
    purpose: Purpose
    rate_per_s: float
    judged_s: float  # how long was judged
    states: Mapping[str, TrialState]
    reason: str
    is_generator_limited: bool
    run_id: str
    p95_ns: float | None
    p99_ns: float | None
    error_ratio: float | None
    goodput_per_s: float | None

    @property
    def state(self) -> TrialState:
        """What it says of the objectives."""
        return self.states[OBJECTIVES]


def counts(trial: Trial, goal: str, trial_s: float) -> bool:
    """Whether a trial is evidence: a probe, not void, and held only over its whole length.

    A miss is one however early it was seen.
    """
    state = trial.states[goal]
    if trial.purpose is Purpose.RECOVERY or state is TrialState.VOID:
        return False
    return state is TrialState.MISSED or trial.judged_s > trial_s - EDGES_S


def not_recovered(trials: Sequence[Trial]) -> frozenset[int]:
    """Numbers of probes that met a target still ill: a low rate, tried right after, missed too.

    The first miss of such a row is the overload itself and counts; what those after it missed
    was the recovery, not their own rate.
    """
    ill: set[int] = set()
    row: list[int] = []
    for trial in trials:
        if trial.purpose is Purpose.PROBE:
            row = [] if trial.state is TrialState.HELD else [*row, trial.number]
        elif trial.state is TrialState.MISSED:
            ill.update(row[1:])
        elif trial.state is TrialState.HELD:
            row = []
    return frozenset(ill)


def fresh(trials: Sequence[Trial]) -> frozenset[int]:
    """Numbers of trials that met a target known to be well: the one before held, or none was."""
    numbers = [trial.number for trial in trials[:1]]
    for before, after in pairwise(trials):
        if before.state is TrialState.HELD:
            numbers.append(after.number)
    return frozenset(numbers)


def evidence(trials: Sequence[Trial], goal: str, trial_s: float) -> tuple[Trial, ...]:
    """The trials that may raise or lower a bound of a goal, in their order."""
    ill = not_recovered(trials)
    return tuple(t for t in trials if counts(t, goal, trial_s) and t.number not in ill)
