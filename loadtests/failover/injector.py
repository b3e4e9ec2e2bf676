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
from functools import partial
from queue import SimpleQueue

from loadtests.errors import HarnessError
from loadtests.failover.choosing import choose_nodes
from loadtests.failover.ledger import Ledger
from loadtests.failover.messages import Halt, Happened, ToMaster
from loadtests.failover.prediction import placement_text, predict
from loadtests.failover.processes import identity_of
from loadtests.failover.strike import Strike
from loadtests.failover.striking import Told, apply_strike, undo_strikes, verify_in_force
from loadtests.failover.timeline import Apply, Steady, Step, StopRun, Timeline, Undo
from loadtests.plan.failover import Failover, Fault, FaultNode
from loadtests.record.event import Event
from loadtests.record.fault_events import INJECTOR, FaultEvent, FaultStep, step_event

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
        self._pool = ThreadPoolExecutor(max_workers=max(4, 2 * len(failover.faults)))
        self._under_way: set[Future[None]] = set()
        self._outcomes: SimpleQueue[Outcome] = SimpleQueue()

    def predict(self) -> None:
        """Tell what is expected."""
        self._event(FaultEvent.PREDICTION, 0, placement_text(self._failover))
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

    def observe(self, until_ns: int, *, holds: bool, reason: str) -> None:
        """Take what the master saw of one second."""
        self._carry_out(self._timeline.observe(until_ns, holds=holds, reason=reason))

    def tick(self) -> None:
        """Do what is due now."""
        while not self._outcomes.empty():
            self._carry_out(self._outcomes.get()())
        self._carry_out(self._timeline.tick(self._now_ns()))

    def finish(self, reason: str) -> str:
        """Undo everything; what could not be undone, "" when all was."""
        self._carry_out(self._timeline.missed_after(self._now_ns()))
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

    def _event(
        self, kind: FaultEvent, at_ns: int, text: str, **fields: str | int | bool | None
    ) -> None:
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
