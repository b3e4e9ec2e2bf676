"""Carries out a timeline: one thread for each fault that is applied or undone.

Every strike is told to the master as it happens. Threads, because a fault may take seconds
(a restart, a command) while another is due. Law: `finish` returns only when every strike of
this run was undone, or its undo was told to have failed; a fault whose application is under
way then is waited for first.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Final

from loadtests.errors import HarnessError
from loadtests.failover.asking import find_leader
from loadtests.failover.choosing import choose_nodes
from loadtests.failover.ledger import Ledger
from loadtests.failover.messages import Halt, Happened, Second, ToMaster
from loadtests.failover.prediction import placement_text, predict, rollout_text
from loadtests.failover.processes import identity_of
from loadtests.failover.rollout_driver import Hands, RolloutDriver
from loadtests.failover.strike import FaultError, Strike
from loadtests.failover.striking import Told, apply_strike, undo_strikes, verify_in_force
from loadtests.failover.timeline import Apply, Steady, Step, StopRun, Timeline, Undo
from loadtests.plan.failover import Failover, Fault, FaultNode
from loadtests.record.event import Event, EventValue
from loadtests.record.fault_events import INJECTOR, ROLLOUT, FaultEvent, FaultStep, step_event

LEADER_EVERY_NS: Final = 500_000_000  # while a fault waits for a node to lead
Say = Callable[[ToMaster], None]
Outcome = Callable[[], list[Step]]  # what a thread has to say to the timeline


class SafeLedger(Ledger):
    """A ledger for several threads."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]  # the same as of the ledger
        self._turn = threading.Lock()

    def began(self, strike: Strike) -> None:
        """As of the ledger."""
        with self._turn:
            super().began(strike)

    def gone(self, strike: Strike) -> None:
        """As of the ledger."""
        with self._turn:
            super().gone(strike)


class Injector:
    """One failover, from T0 on (monotonic ns)."""

    def __init__(
        self,
        failover: Failover,
        seed: int,
        ledger: Ledger,
        say: Say,
        *,
        t0_ns: int,
        t0_unix_ns: int,
    ) -> None:
        self._failover, self._seed = failover, seed
        self._ledger, self._say = ledger, say
        self._t0_ns, self._t0_unix_ns = t0_ns, t0_unix_ns
        self._timeline = Timeline(failover)
        self._struck: dict[str, list[Strike]] = {}
        self._pool = ThreadPoolExecutor(max_workers=4 + 2 * len(failover.faults))
        self._under_way: set[Future[None]] = set()
        self._outcomes: SimpleQueue[Outcome] = SimpleQueue()
        self._ask_leader_ns = 0
        self._rollout = self._build_rollout()

    def _build_rollout(self) -> RolloutDriver | None:
        if self._failover.rollout is None:
            return None
        hands = Hands(
            now_ns=self._now_ns,
            start=self._start,
            put=self._outcomes.put,
            settled=self._timeline.rollout_settled,
            failed=lambda reason: self._timeline.failed(ROLLOUT, reason),
            strike=self._strike,
            event=lambda kind, at_ns, text, fields: self._event(kind, at_ns, text, **fields),
            tell=self.tell,
            ledger=self._ledger,
        )
        return RolloutDriver(self._failover, self._failover.rollout, hands)

    def predict(self) -> None:
        """Tell what is expected."""
        self._event(FaultEvent.PREDICTION, 0, placement_text(self._failover))
        if self._failover.rollout is not None:
            self._event(FaultEvent.PREDICTION, 0, rollout_text(self._failover))
        for expected in predict(self._failover):
            text = f"{expected.fault}: {expected.text}"
            self._event(
                FaultEvent.PREDICTION,
                0,
                text,
                fault=expected.fault,
                has_quorum=expected.has_quorum,
                unavailable_ns=expected.unavailable_ns,
                detection_least_ns=None
                if expected.detection_ns is None
                else expected.detection_ns[0],
                detection_most_ns=None
                if expected.detection_ns is None
                else expected.detection_ns[1],
            )

    def move(self, t0_ns: int, t0_unix_ns: int) -> None:
        """Another T0: the one before had to be given up before it came."""
        self._t0_ns, self._t0_unix_ns = t0_ns, t0_unix_ns

    def observe(self, second: Second) -> None:
        """Take what the master saw of one second."""
        steps = self._timeline.observe(
            second.until_ns,
            holds=second.holds,
            reason=second.reason,
            conditions=second.conditions,
        )
        self._carry_out(steps)

    def tick(self) -> None:
        """Do what is due now."""
        while not self._outcomes.empty():
            self._carry_out(self._outcomes.get()())
        now_ns = self._now_ns()
        self._carry_out(self._timeline.tick(now_ns))
        if self._rollout is not None and self._timeline.has_been_steady:
            self._rollout.tick(now_ns)
        if self._timeline.asks_for_leader and now_ns >= self._ask_leader_ns:
            self._ask_leader_ns = now_ns + LEADER_EVERY_NS
            self._start(self._see_leader)

    def _see_leader(self) -> None:
        """In a thread: who leads; nobody, or nobody who says so, is no leader."""
        query = self._failover.leader
        assert query is not None, "a plan has checked that it can be asked"
        with suppress(FaultError):
            name = find_leader(self._failover.nodes, query).name
            at_ns = self._now_ns()
            self._outcomes.put(lambda: self._leads(name, at_ns))

    def _leads(self, name: str, at_ns: int) -> list[Step]:
        self._timeline.leads(name, at_ns)
        return []

    def finish(self, reason: str) -> str:
        """Undo everything; what could not be undone, "" when all was."""
        self._carry_out(self._timeline.missed_after(self._now_ns()))
        for name in self._timeline.never_due():
            text = f"fault {name} was never due: what it waits for did not come"
            self._event(FaultEvent.NEVER_DUE, self._now_ns(), text, fault=name)
        self._timeline.stop()
        for future in list(self._under_way):
            future.exception()  # waits; what went wrong was told
        self.tick()
        wrong = undo_strikes(self._ledger.left, self._ledger, self.tell)
        self._pool.shutdown()
        text = "; ".join(wrong)
        self._event(FaultEvent.ENDED, self._now_ns(), text or f"everything is undone: {reason}")
        return text

    def tell(self, told: Told) -> None:
        """Tell one step."""
        strike = told.strike
        step = FaultStep(
            kind=told.kind,
            fault=strike.fault,
            action=strike.action,
            node=strike.node.name,
            zone=strike.node.zone,
            began_ns=told.began_ns - self._t0_ns,
            at_ns=told.done_ns - self._t0_ns,
        )
        event = step_event(step, t0_unix_ns=self._t0_unix_ns, text=told.text, repair=told.repair)
        self._say(Happened(event=event))

    def _now_ns(self) -> int:
        return time.monotonic_ns() - self._t0_ns

    def _event(self, kind: FaultEvent, at_ns: int, text: str, **fields: EventValue) -> None:
        event = Event(
            at_unix_ns=self._t0_unix_ns + at_ns,
            kind=kind.value,
            who=INJECTOR,
            text=text,
            fields={"at_ns": at_ns, **fields},
        )
        self._say(Happened(event=event))

    def _carry_out(self, steps: list[Step]) -> None:
        for step in steps:
            match step:
                case Apply(fault=fault):
                    self._start(partial(self._apply, fault))
                case Undo(fault=fault):
                    self._start(partial(self._undo, fault))
                case Steady():
                    kind = (
                        FaultEvent.STEADY_REACHED if step.is_reached else FaultEvent.STEADY_MISSED
                    )
                    phase = "before" if step.is_before else "after"
                    self._event(kind, step.at_ns, step.text, phase=phase)
                case StopRun(reason=reason):
                    self._say(Halt(reason=reason))

    def _start(self, work: Callable[[], None]) -> None:
        future = self._pool.submit(work)
        self._under_way.add(future)
        future.add_done_callback(self._under_way.discard)

    def _apply(self, fault: Fault) -> None:
        """In a thread: all nodes are struck one after the other, then looked at."""
        name = fault.name
        try:
            for node in choose_nodes(fault, self._failover, self._seed):
                strike = apply_strike(self._strike(fault, node), self._ledger, self.tell)
                self._struck.setdefault(name, []).append(strike)
            at_ns = self._now_ns()
            in_force = [verify_in_force(strike, self.tell) for strike in self._struck.get(name, [])]
        except HarnessError as error:
            self._fail(name, str(error))
            return
        except Exception as error:  # noqa: BLE001 - of a user's own action
            self._fail(name, f"{name}: {type(error).__name__}: {error}")
            return
        if all(in_force):
            self._outcomes.put(lambda: self._timeline.applied(name, at_ns))
        else:
            self._fail(name, f"fault {name} did not take hold")

    def _fail(self, name: str, reason: str) -> None:
        self._outcomes.put(lambda: self._timeline.failed(name, reason))

    def _undo(self, fault: Fault) -> None:
        name = fault.name
        struck = tuple(reversed(self._struck.get(name, [])))
        if wrong := undo_strikes(struck, self._ledger, self.tell):
            self._fail(name, "; ".join(wrong))
            return
        at_ns = self._now_ns()
        self._outcomes.put(lambda: self._timeline.gone(name, at_ns))

    def _strike(self, fault: Fault, node: FaultNode) -> Strike:
        haproxy = self._failover.haproxy
        return Strike(
            fault=fault.name,
            action=fault.action,
            node=node,
            settings=fault.settings,
            admin="" if haproxy is None else haproxy.admin,
            health_path=self._failover.health_path,
            owner=identity_of(node.owner_pid) if node.owner_pid else None,
            before={},
        )
