"""Carries out a rollout: weights through HAProxy and the ledger, looks at nodes of both versions.

The weights of all nodes are one fault called `rollout`: written to the ledger before the first of
them is moved, moved on from phase to phase, and undone together, the new version's first. Every
look at a version is told with what it saw. After the end looks go on: whether the version before
keeps well is a part of the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from loadtests.errors import HarnessError
from loadtests.failover.actions import TRAFFIC, action_of
from loadtests.failover.balancer import server_states, tell_haproxy
from loadtests.failover.ledger import Ledger
from loadtests.failover.looking import Look, Watch
from loadtests.failover.rollout import Gap, Move, Opinion, Passed, RollBack, RolloutClock
from loadtests.failover.strike import FaultError, Strike
from loadtests.failover.striking import Tell, apply_strike, undo_strikes, verify_in_force
from loadtests.failover.timeline import Step
from loadtests.plan.failover import Chosen, Failover, Fault, FaultNode, Rollout, Selector, Settings
from loadtests.plan.rollout import Weights, weights_for
from loadtests.record.event import EventValue
from loadtests.record.fault_events import ROLLOUT, FaultEvent

_P95: Final = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Hands:
    """What a rollout has of its injector: its clock, its threads, its ledger, its voice."""

    now_ns: Callable[[], int]
    start: Callable[[Callable[[], None]], None]  # work in a thread
    put: Callable[[Callable[[], list[Step]]], None]  # its outcome, on the injector's own thread
    settled: Callable[[int], list[Step]]  # nothing more is to be done since then
    failed: Callable[[str], list[Step]]
    strike: Callable[[Fault, FaultNode], Strike]
    event: Callable[[FaultEvent, int, str, dict[str, EventValue]], None]
    tell: Tell
    ledger: Ledger


class RolloutDriver:
    """One rollout, from `begin` on; ticked and told of outcomes on the injector's thread."""

    def __init__(self, failover: Failover, rollout: Rollout, hands: Hands) -> None:
        self._failover, self._rollout, self._hands = failover, rollout, hands
        self._clock = RolloutClock(rollout)
        self._old, self._new = (failover.nodes_of(is_new=is_new) for is_new in (False, True))
        self._watches = {False: Watch(self._old, rollout), True: Watch(self._new, rollout)}
        self._strikes: list[Strike] = []
        self._next_look_ns: int | None = None
        self._is_looking = False

    def tick(self, now_ns: int) -> None:
        """Begin, or look when it is time to."""
        if self._next_look_ns is None:
            self._next_look_ns = now_ns
            for step in self._clock.begin():
                self._carry_out(step)
        if now_ns >= self._next_look_ns and not self._is_looking:
            self._is_looking = True
            self._next_look_ns += self._rollout.every_ns
            self._next_look_ns = max(self._next_look_ns, now_ns)
            self._hands.start(self._look)

    # ---- in threads -------------------------------------------------------------------

    def _look(self) -> None:
        try:
            down = self._down()
            looks = {
                is_new: watch.look(self._hands.now_ns(), down)
                for is_new, watch in self._watches.items()
            }
        except Exception as error:  # noqa: BLE001 - of whatever a node may say
            reason = f"{ROLLOUT}: {type(error).__name__}: {error}"
            self._hands.put(lambda: self._hands.failed(reason))
            return
        self._hands.put(lambda: self._looked(looks))

    def _down(self) -> frozenset[str] | None:
        """Nodes that HAProxy does not use; None when it does not say."""
        haproxy = self._failover.haproxy
        assert haproxy is not None, "a rollout is through HAProxy"
        try:
            states = server_states(tell_haproxy(haproxy.admin, "show servers state"))
        except (OSError, ValueError):
            return None
        return frozenset(
            node.name
            for node in self._failover.nodes
            if any(name in states and states[name].operational == 0 for name in node.servers)
        )

    def _move(self, move: Move) -> None:
        weights = weights_for(move.phase.traffic_ratio, len(self._old), len(self._new))
        try:
            self._strikes = self._set_weights(weights)
            taken = [verify_in_force(strike, self._hands.tell) for strike in self._strikes]
            if not all(taken):
                raise FaultError(where=ROLLOUT, seen="weights as before", expected="those set")
        except HarnessError as error:
            reason = str(error)
            self._hands.put(lambda: self._hands.failed(reason))
            return
        at_ns = self._hands.now_ns()
        self._hands.put(lambda: self._moved(move, weights, at_ns))

    def _set_weights(self, weights: Weights) -> list[Strike]:
        """All nodes struck for the first time, the new ones last; or moved on."""
        if self._strikes:
            moved = [self._weighted(strike, weights) for strike in self._strikes]
            for strike in moved:
                action_of(TRAFFIC).apply(strike)
            return moved
        fault = _fault(self._rollout)
        strikes = [
            self._weighted(self._hands.strike(fault, node), weights)
            for node in (*self._old, *self._new)
        ]
        self._refuse_moved(strikes)
        return [apply_strike(strike, self._hands.ledger, self._hands.tell) for strike in strikes]

    def _weighted(self, strike: Strike, weights: Weights) -> Strike:
        weight = weights.new if strike.node.version == self._rollout.to else weights.old
        settings = replace(strike.settings, server_weight=weight)
        return msgspec.structs.replace(strike, settings=settings)

    def _refuse_moved(self, strikes: Sequence[Strike]) -> None:
        """The new version has no traffic yet, and the nodes of the other one are equal."""
        found: dict[bool, set[str]] = {True: set(), False: set()}
        for strike in strikes:
            is_new = strike.node.version == self._rollout.to
            found[is_new] |= set(action_of(TRAFFIC).prepare(strike).values())
        if found[True] != {"0"}:
            seen = f"weights {', '.join(sorted(found[True]))} of version {self._rollout.to}"
            raise FaultError(where=ROLLOUT, seen=seen, expected="0: no traffic before the rollout")
        if len(found[False]) > 1:
            seen = f"weights {', '.join(sorted(found[False]))} of the version before"
            raise FaultError(where=ROLLOUT, seen=seen, expected="one weight of all its nodes")

    def _take_back(self) -> None:
        wrong = undo_strikes(tuple(reversed(self._strikes)), self._hands.ledger, self._hands.tell)
        at_ns, reason = self._hands.now_ns(), "; ".join(wrong)
        if wrong:
            self._hands.put(lambda: self._hands.failed(reason))
        else:
            self._hands.put(lambda: self._hands.settled(at_ns))

    # ---- on the injector's thread -----------------------------------------------------

    def _moved(self, move: Move, weights: Weights, at_ns: int) -> list[Step]:
        for watch in self._watches.values():
            watch.restart()
        self._clock.moved(at_ns)
        share = weights.share(len(self._old), len(self._new))
        text = f"phase {move.number + 1}: {share:.1%} of the traffic to version {self._rollout.to}"
        fields: dict[str, EventValue] = {"phase": move.number + 1, "traffic_ratio": share}
        self._hands.event(FaultEvent.ROLLOUT_PHASE, at_ns, text, fields)
        return []

    def _looked(self, looks: dict[bool, Look]) -> list[Step]:
        self._is_looking = False
        opinion, steps = self._clock.looked(looks[True])
        self._tell_look(looks[False], None)
        self._tell_look(looks[True], opinion)
        return [after for step in steps for after in self._carry_out(step)]

    def _tell_look(self, look: Look, opinion: Opinion | None) -> None:
        between = look.counted and look.counted.quantile_ns(_P95)
        fields: dict[str, EventValue] = {
            "is_new": opinion is not None,
            "requests": None if look.counted is None else look.counted.requests,
            "errors": None if look.counted is None else look.counted.errors,
            "p95_above_ns": between[0] if between else None,
            "p95_up_to_ns": between[1] if between and between[1] != float("inf") else None,
            "down": None if look.down is None else ", ".join(look.down),
            "unread": ", ".join(look.unread),
            "says": "" if opinion is None else opinion.says.value,
        }
        which = "the version before" if opinion is None else f"version {self._rollout.to}"
        text = f"{which}: {opinion.says.value} {opinion.reason}".strip() if opinion else which
        self._hands.event(FaultEvent.ROLLOUT_LOOK, look.at_ns, text, fields)

    def _carry_out(self, step: Move | Gap | RollBack | Passed) -> list[Step]:
        now_ns = self._hands.now_ns()
        match step:
            case Move():
                self._hands.start(lambda: self._move(step))
            case Gap():
                text = f"nothing known of version {self._rollout.to}: {step.reason}"
                self._hands.event(FaultEvent.ROLLOUT_GAP, now_ns, text, {"since_ns": step.since_ns})
            case RollBack():
                fields: dict[str, EventValue] = {"phase": step.number + 1}
                self._hands.event(FaultEvent.ROLLBACK_DECIDED, now_ns, step.reason, fields)
                self._hands.start(self._take_back)
            case Passed():
                text = f"version {self._rollout.to} was held in every phase"
                self._hands.event(FaultEvent.ROLLOUT_PASSED, now_ns, text, {})
                return self._hands.settled(now_ns)
        return []


def _fault(rollout: Rollout) -> Fault:
    """The fault that moved weights are: it is begun once, and undone at the end at the latest."""
    return Fault(
        name=ROLLOUT,
        action=TRAFFIC,
        on=Selector(chosen=Chosen.ALL, name="", count=1),
        at_ns=0,
        after=None,
        undo_after_ns=None,
        settings=Settings(
            latency_ns=0,
            bytes_per_s=0,
            weight_percent=0,
            command=(),
            undo_command=(),
            verify_command=(),
            timeout_ns=rollout.timeout_ns,
        ),
    )
