"""When faults are applied and undone: a pure state machine on the run's clock.

           steady            at / after            undo_after           gone
    WAITING ----> each fault: DUE ----> APPLYING ----> IN_FORCE ----> UNDOING ----> OVER
       | not in time before the first fault                              |
       +--> nothing is injected, the run is stopped                      +-> steady again?

Times and observations go in, steps come out; no clock, no thread. The target is watched in
seconds: an observation says until when (ns from T0) and whether every objective held. Laws:
nothing is applied before the steady state was reached; a fault that waits for another waits
until that one is gone and the target has been steady since; one that waits for a condition waits
until that was seen, after the steady state; after `stop` nothing begins.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from loadtests.clock import NS_PER_S
from loadtests.plan.failover import ConditionKind, Failover, Fault

_GAP_NS: Final = NS_PER_S  # seconds follow each other without a hole


class Phase(Enum):
    """Of one fault."""

    DUE = "due"
    APPLYING = "applying"
    IN_FORCE = "in force"
    UNDOING = "undoing"
    OVER = "over"


@dataclass(frozen=True, slots=True, kw_only=True)
class Apply:
    """Choose the nodes and apply the fault; then `applied` or `failed`."""

    fault: Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Undo:
    """Undo the fault; then `gone` or `failed`."""

    fault: Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Steady:
    """The steady state was reached, or missed; `is_before` the first fault."""

    is_reached: bool
    is_before: bool
    at_ns: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRun:
    """End the run: what it is for cannot be done."""

    reason: str


Step = Apply | Undo | Steady | StopRun


@dataclass(slots=True)
class _Progress:
    phase: Phase = Phase.DUE
    applied_ns: int = 0
    gone_ns: int = 0


class Timeline:
    """One failover."""

    def __init__(self, failover: Failover) -> None:
        assert failover.faults or failover.rollout, "a plan has checked that there are faults"
        self._has_rollout = failover.rollout is not None
        self._rollout_ns: int | None = None  # when nothing more was to be done about it
        self._true_since_ns: dict[str, int] = {}  # conditions of faults, by the second
        self._true_until_ns: dict[str, int] = {}
        self._met_ns: dict[str, int] = {}
        self._steady = failover.steady
        self._faults: Sequence[Fault] = failover.faults
        self._progress = {fault.name: _Progress() for fault in failover.faults}
        self._good_since_ns: int | None = None
        self._good_until_ns = 0
        self._reason = "nothing was measured"
        self._has_been_steady = False
        self._is_told_after = False
        self._is_stopped = False

    # ---- what comes in ----------------------------------------------------------------

    def observe(
        self, until_ns: int, *, holds: bool, reason: str, conditions: Collection[str] = ()
    ) -> list[Step]:
        """One second of the run, which ended at `until_ns`; whose conditions were true in it."""
        start_ns = until_ns - NS_PER_S
        if self._has_been_steady:
            self._observe_conditions(start_ns, until_ns, conditions)
        if not holds:
            self._good_since_ns, self._reason = None, reason
            return []
        if self._good_since_ns is None or start_ns > self._good_until_ns + _GAP_NS // 2:
            self._good_since_ns = start_ns
        self._good_until_ns = until_ns
        steps = self._look_steady(until_ns)
        self._observe_recoveries(until_ns)
        return steps

    def leads(self, node: str, at_ns: int) -> None:
        """A node was seen to lead."""
        if not self.has_been_steady:
            return
        for name in self._waiting_for(ConditionKind.LEADER):
            if self._condition_name(name) == node:
                self._met_ns[name] = at_ns

    def rollout_settled(self, at_ns: int) -> list[Step]:
        """The rollout came to its end, here or back."""
        self._rollout_ns = at_ns
        return []

    @property
    def has_been_steady(self) -> bool:
        """Whether faults may begin."""
        return self._has_been_steady and not self._is_stopped

    @property
    def asks_for_leader(self) -> bool:
        """Whether a fault waits for a node to lead."""
        return self.has_been_steady and bool(self._waiting_for(ConditionKind.LEADER))

    def applied(self, name: str, at_ns: int) -> list[Step]:
        """The fault is in force on all its nodes since `at_ns`."""
        self._move(name, Phase.IN_FORCE).applied_ns = at_ns
        return []

    def gone(self, name: str, at_ns: int) -> list[Step]:
        """The fault was seen to be gone from all its nodes."""
        self._move(name, Phase.OVER).gone_ns = at_ns
        return []

    def failed(self, name: str, reason: str) -> list[Step]:
        """It could not be applied, or did not take hold: the run has lost its meaning."""
        progress = self._progress.get(name)  # none of a rollout
        if self._is_stopped or (progress is not None and progress.phase is Phase.OVER):
            return []
        self._is_stopped = True
        return [StopRun(reason=reason)]

    def stop(self) -> None:
        """Begin nothing any more."""
        self._is_stopped = True

    def tick(self, now_ns: int) -> list[Step]:
        """What is due at `now_ns` from T0."""
        if self._is_stopped:
            return []
        if not self._has_been_steady:
            return self._give_up(now_ns)
        steps: list[Step] = []
        for fault in self._faults:
            progress = self._progress[fault.name]
            if progress.phase is Phase.DUE and self._is_due(fault, now_ns):
                progress.phase = Phase.APPLYING
                steps.append(Apply(fault=fault))
            elif progress.phase is Phase.IN_FORCE and self._is_enough(fault, progress, now_ns):
                progress.phase = Phase.UNDOING
                steps.append(Undo(fault=fault))
        return steps

    # ---- what comes of it -------------------------------------------------------------

    def _move(self, name: str, phase: Phase) -> _Progress:
        self._progress[name].phase = phase
        return self._progress[name]

    def _look_steady(self, now_ns: int) -> list[Step]:
        assert self._good_since_ns is not None
        if not self._has_been_steady:
            if now_ns - max(0, self._good_since_ns) < self._steady.hold_ns:
                return []
            self._has_been_steady = True
            return [self._told(is_before=True, at_ns=now_ns)]
        settled_ns = [self._settled_ns(fault) for fault in self._faults]
        if self._has_rollout:
            settled_ns.append(self._rollout_ns)
        if self._is_told_after or None in settled_ns:
            return []
        if not self._is_steady_since(max(ns for ns in settled_ns if ns is not None)):
            return []
        self._is_told_after = True
        return [self._told(is_before=False, at_ns=now_ns)]

    def _settled_ns(self, fault: Fault) -> int | None:
        """When nothing more was to be done about it: gone, or applied for the run's rest."""
        progress = self._progress[fault.name]
        if progress.phase is Phase.OVER:
            return progress.gone_ns
        is_to_stay = fault.undo_after_ns is None and progress.phase is Phase.IN_FORCE
        return progress.applied_ns if is_to_stay else None

    def _told(self, *, is_before: bool, at_ns: int) -> Steady:
        text = f"every objective held for {self._steady.hold_ns / NS_PER_S:g} s"
        return Steady(is_reached=True, is_before=is_before, at_ns=at_ns, text=text)

    def _is_steady_since(self, since_ns: int) -> bool:
        """Whether it has been steady, for the stated time, since something was over."""
        if self._good_since_ns is None:
            return False
        held_ns = self._good_until_ns - max(self._good_since_ns, since_ns)
        return held_ns >= self._steady.hold_ns

    def _waiting_for(self, kind: ConditionKind) -> list[str]:
        """Faults whose condition of this kind has not been met."""
        return [
            fault.name
            for fault in self._faults
            if fault.when is not None and fault.when.kind is kind and fault.name not in self._met_ns
        ]

    def _condition_name(self, fault: str) -> str:
        return next(one.when.name for one in self._faults if one.name == fault and one.when)

    def _observe_conditions(self, start_ns: int, until_ns: int, true: Collection[str]) -> None:
        """A condition is met when it was true for its time in seconds on end."""
        sustain_ns = {f.name: f.when.sustain_ns for f in self._faults if f.when is not None}
        for name in self._waiting_for(ConditionKind.MEASURE):
            if name not in true:
                self._true_since_ns.pop(name, None)
                continue
            is_on_end = start_ns <= self._true_until_ns.get(name, start_ns) + _GAP_NS // 2
            if name not in self._true_since_ns or not is_on_end:
                self._true_since_ns[name] = start_ns
            self._true_until_ns[name] = until_ns
            if until_ns - self._true_since_ns[name] >= sustain_ns[name]:
                self._met_ns[name] = until_ns

    def _observe_recoveries(self, until_ns: int) -> None:
        """A fault was recovered from when it was steady again since, undone or not."""
        for name in self._waiting_for(ConditionKind.RECOVERED):
            other = self._progress[self._condition_name(name)]
            is_applied = other.phase not in {Phase.DUE, Phase.APPLYING}
            if is_applied and self._is_steady_since(other.applied_ns):
                self._met_ns[name] = until_ns

    def _is_due(self, fault: Fault, now_ns: int) -> bool:
        if fault.when is not None:
            met_ns = self._met_ns.get(fault.name)
            return met_ns is not None and now_ns >= met_ns + fault.at_ns
        if fault.after is None:
            return now_ns >= fault.at_ns
        other = self._progress[fault.after]
        if other.phase is not Phase.OVER or now_ns < other.gone_ns + fault.at_ns:
            return False
        return self._is_steady_since(other.gone_ns)

    def _is_enough(self, fault: Fault, progress: _Progress, now_ns: int) -> bool:
        if fault.undo_after_ns is None:
            return False
        return now_ns >= progress.applied_ns + fault.undo_after_ns

    def _give_up(self, now_ns: int) -> list[Step]:
        """The first fault is due, or patience is at its end, and it was never steady."""
        first_ns = min(
            (one.at_ns for one in self._faults if one.after is None and one.when is None), default=0
        )
        # A second is known to have been good only when it is merged, some moments after it.
        if now_ns < max(self._steady.within_ns, first_ns):
            return []
        self._is_stopped = True
        text = f"the target was not steady before the first fault: {self._reason}"
        missed = Steady(is_reached=False, is_before=True, at_ns=now_ns, text=text)
        return [missed, StopRun(reason=f"{text}; nothing was injected")]

    def never_due(self) -> tuple[str, ...]:
        """Faults that what they waited for never came for; none of a run that was stopped."""
        if not self.has_been_steady:
            return ()
        return tuple(name for name, one in self._progress.items() if one.phase is Phase.DUE)

    def missed_after(self, now_ns: int) -> list[Step]:
        """At the end of the run: say so, if it did not become steady again."""
        if self._is_told_after or not self._has_been_steady or self._is_stopped:
            return []
        text = f"not every objective held for {self._steady.hold_ns / NS_PER_S:g} s before the end"
        return [Steady(is_reached=False, is_before=False, at_ns=now_ns, text=text)]
