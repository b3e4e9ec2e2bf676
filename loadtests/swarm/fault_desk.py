"""The faults of a run, beside its master: injector fed, events taken, everything undone.

For a plan without faults every method does nothing. Events go to `write`, in the order in
which they came; what has to end the run comes back as its reason.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from loadtests.clock import NS_PER_S
from loadtests.failover.messages import Halt, Happened
from loadtests.plan.model import Plan
from loadtests.record.event import Event
from loadtests.record.fault_events import INJECTOR
from loadtests.record.window import Window
from loadtests.swarm.injector import InjectorProcess
from loadtests.swarm.steadiness import Steadiness

Write = Callable[[Event], None]


class FaultDesk:
    """One run's faults, from `open` to `end` or `abandon`."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._steadiness = Steadiness(plan)
        self._injector: InjectorProcess | None = None
        self._t0_unix_ns = 0

    def open(self) -> None:
        """Before anything else: what an earlier run left in force must not be measured.

        TargetError when another failover is under way, HarnessError when it cannot begin.
        """
        if self._plan.failover is not None:
            self._injector = InjectorProcess(self._plan)
            self._injector.wait_ready()

    def begin(self, t0_ns: int, t0_unix_ns: int) -> None:
        """T0, or another one when it had to be moved."""
        self._t0_unix_ns = t0_unix_ns
        if self._injector is not None:
            self._injector.begin(t0_ns, t0_unix_ns)

    def see(self, window: Window, *, is_late: bool) -> None:
        """A merged second of the run; additions to one come too late to be looked at."""
        if self._injector is None or is_late:
            return
        look = self._steadiness.look(window)
        until_ns = (window.start_s + 1) * NS_PER_S - self._t0_unix_ns
        conditions = self._steadiness.true_conditions(window)
        self._injector.see(until_ns, holds=look.holds, reason=look.reason, conditions=conditions)

    def take(self, write: Write) -> str | None:
        """What was done since the last call; why the run has to end, if it has to."""
        if self._injector is None:
            return None
        reason = None
        for message in self._injector.take():
            if isinstance(message, Happened):
                write(message.event)
            elif isinstance(message, Halt):
                reason = reason or message.reason
        how = self._injector.newly_lost()
        if how is None:
            return reason
        text = f"the injector ended: {how}"
        write(
            Event(
                at_unix_ns=time.time_ns(),
                kind="injector_lost",
                who=INJECTOR,
                text=text,
                fields={},
            )
        )
        return text

    def end(self, write: Write) -> str:
        """Everything undone, and told; what may still be in force, "" when nothing is."""
        injector, self._injector = self._injector, None
        if injector is None:
            return ""
        events, wrong = injector.finish()
        for event in events:
            write(event)
        return wrong

    def abandon(self) -> None:
        """On every way out that did not end it in order: faults are undone all the same."""
        injector, self._injector = self._injector, None
        if injector is not None:
            injector.abandon()
