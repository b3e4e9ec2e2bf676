"""When traffic moves to another version and when it moves back: a pure state machine.

    begin          moved            good for `hold`         good for `hold`
    IDLE ---> MOVING(0) ---> WATCHING(0) ---> MOVING(1) ---> ... ---> WATCHING(last), passed
                                | a trigger holds for `sustain`, at any time
                                +---> BACK

Looks and times go in, steps come out; no clock, no thread. Laws: the phase's clock runs only
over time of which something is known, with holes of at most `gap`; what is not known never moves
traffic on; a trigger that is not known to hold all the time has not been sustained; a rollout
that was rolled back stays so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from loadtests.clock import NS_PER_S
from loadtests.failover.looking import Counted, Look, judge_trigger
from loadtests.plan.failover import Rollout, RolloutPhase, Trigger


class Says(Enum):
    """What a look at the new version says."""

    GOOD = "good"
    BAD = "bad"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """Of one look; `reason` is what is bad or not known."""

    says: Says
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Give the new version the traffic of a phase; then `moved`."""

    number: int
    phase: RolloutPhase


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Nothing is known since `since_ns`: the phase's clock stands still."""

    since_ns: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RollBack:
    """Decided: take the traffic off the new version."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """The last phase was held to its end."""


RolloutStep = Move | Gap | RollBack | Passed


class _State(Enum):
    IDLE = "idle"
    MOVING = "moving"
    WATCHING = "watching"
    BACK = "back"


class RolloutClock:
    """One rollout."""

    def __init__(self, rollout: Rollout) -> None:
        self._rollout = rollout
        self._state = _State.IDLE
        self._number = 0
        self._held_ns = 0
        self._known_ns = 0
        self._bad_since_ns: int | None = None
        self._is_gap_told = False
        self._is_passed = False

    @property
    def phase(self) -> RolloutPhase:
        """The one under way."""
        return self._rollout.phases[self._number]

    def begin(self) -> list[RolloutStep]:
        """The steady state was reached: the first phase."""
        if self._state is not _State.IDLE:
            return []
        return self._move(0)

    def moved(self, at_ns: int) -> None:
        """The phase's weights are in force since `at_ns`."""
        self._state, self._held_ns, self._known_ns = _State.WATCHING, 0, at_ns
        self._bad_since_ns, self._is_gap_told = None, False

    def looked(self, look: Look) -> tuple[Opinion, list[RolloutStep]]:
        """What a look at the new version means, and what follows from it."""
        opinion = judge_look(look, self.phase.triggers)
        if self._state is not _State.WATCHING:
            return opinion, []
        if opinion.says is Says.UNKNOWN:
            return opinion, self._unknown(look.at_ns, opinion.reason)
        return opinion, self._known(look.at_ns, opinion)

    def _move(self, number: int) -> list[RolloutStep]:
        self._state, self._number = _State.MOVING, number
        return [Move(number=number, phase=self.phase)]

    def _unknown(self, at_ns: int, reason: str) -> list[RolloutStep]:
        if at_ns - self._known_ns <= self._rollout.gap_ns:
            return []
        self._bad_since_ns = None
        if self._is_gap_told:
            return []
        self._is_gap_told = True
        return [Gap(since_ns=self._known_ns, reason=reason)]

    def _known(self, at_ns: int, opinion: Opinion) -> list[RolloutStep]:
        passed_ns = at_ns - self._known_ns
        if passed_ns <= self._rollout.gap_ns:
            self._held_ns += passed_ns
        else:
            self._bad_since_ns = None
        self._known_ns, self._is_gap_told = at_ns, False
        if opinion.says is Says.BAD:
            return self._bad(at_ns, opinion.reason)
        self._bad_since_ns = None
        if self._held_ns < self.phase.hold_ns or self._is_passed:
            return []
        if self._number + 1 < len(self._rollout.phases):
            return self._move(self._number + 1)
        self._is_passed = True
        return [Passed()]

    def _bad(self, at_ns: int, reason: str) -> list[RolloutStep]:
        if self._bad_since_ns is None:
            self._bad_since_ns = at_ns
        if at_ns - self._bad_since_ns < self._rollout.sustain_ns:
            return []
        self._state = _State.BACK
        return [RollBack(number=self._number, reason=reason)]


def judge_look(look: Look, triggers: Sequence[Trigger]) -> Opinion:
    """Bad when a node is down or a trigger is pulled; unknown when that cannot be said."""
    if look.down is None:
        return Opinion(says=Says.UNKNOWN, reason="the load balancer did not answer")
    if look.down:
        return Opinion(says=Says.BAD, reason=f"{', '.join(look.down)} is down")
    if look.counted is None:
        return Opinion(says=Says.UNKNOWN, reason=f"{', '.join(look.unread)} did not answer")
    pulled = [(trigger, judge_trigger(trigger, look.counted)) for trigger in triggers]
    for trigger, is_pulled in pulled:
        if is_pulled:
            reason = f"{trigger.text}: {_seen(trigger, look.counted)}"
            return Opinion(says=Says.BAD, reason=reason)
    for trigger, is_pulled in pulled:
        if is_pulled is None:
            reason = f"{trigger.text} cannot be told of {look.counted.requests} requests"
            return Opinion(says=Says.UNKNOWN, reason=reason)
    return Opinion(says=Says.GOOD, reason="")


def _seen(trigger: Trigger, counted: Counted) -> str:
    if trigger.quantile is None:
        return f"{counted.errors} of {counted.requests} requests failed"
    between = counted.quantile_ns(trigger.quantile)
    assert between is not None, "it was compared with its limit"
    above, up_to = (f"{bound / NS_PER_S:g} s" for bound in between)
    return f"between {above} and {up_to} of {counted.requests} requests"
