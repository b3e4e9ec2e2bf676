"""The injector of a run, as the master sees it: a process to feed, and what it says.

It undoes everything when its control pipe closes, so ending it is closing that pipe and
waiting. One that was killed is followed by another, which finds the ledger and undoes what
is in it. Reads in a greenlet; writing never holds the master up.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import gevent
import msgspec

from loadtests.clock import NS_PER_S
from loadtests.errors import HarnessError, TargetError
from loadtests.failover.messages import (
    MODULE,
    Began,
    Ended,
    Happened,
    InjectOrder,
    Ready,
    Refused,
    Second,
    ToInjector,
    ToMaster,
    decode_to_master,
    encode_line,
    encode_order,
)
from loadtests.plan.model import Plan
from loadtests.record.event import Event
from loadtests.swarm.children import Child, own_pid

_MOST_WAITING: Final = 10_000
_POLL_S: Final = 0.02
_START_S: Final = 30.0  # beyond the time that undoing what is left may take
_END_S: Final = 15.0  # beyond the time limits of the faults
REPAIR: Final = "headroom failover undo"


class InjectorProcess:
    """A process that injects a plan's faults, from construction until `finish`."""

    def __init__(self, plan: Plan) -> None:
        assert plan.failover is not None, "a plan with faults"
        self._plan, self._failover = plan, plan.failover
        timeouts_ns = [fault.settings.timeout_ns for fault in plan.failover.faults]
        if plan.failover.rollout is not None:
            timeouts_ns.append(plan.failover.rollout.timeout_ns)
        self._patience_s = sum(timeouts_ns) / NS_PER_S
        self._said: deque[ToMaster] = deque()
        self._ended: Ended | None = None
        self._is_lost_told = False
        self._start()

    def _start(self) -> None:
        order = InjectOrder(failover=self._failover, seed=self._plan.seed, folder="")
        descriptor = os.memfd_create("inject-order")
        control, self._control = os.pipe()
        os.set_blocking(self._control, False)
        try:
            os.write(descriptor, encode_order(order))
            os.lseek(descriptor, 0, os.SEEK_SET)
            words = ["--order-fd", str(descriptor), "--control-fd", str(control)]
            self._child = Child(
                MODULE,
                [*words, "--parent", own_pid()],
                pass_fds=(descriptor, control),
                has_output=True,
            )
        finally:
            os.close(descriptor)
            os.close(control)
        self._reader = gevent.spawn(self._read)

    def wait_ready(self) -> None:
        """Return when it holds the lock and nothing is left in force of an earlier run.

        TargetError when another failover is under way, HarnessError when it cannot begin.
        """
        self._until_said(Ready, self._patience_s + _START_S)
        for message in list(self._said):
            if isinstance(message, Refused):
                family = TargetError if message.is_guard else HarnessError
                raise family(where=message.where, seen=message.seen, expected=message.expected)
        if not any(isinstance(message, Ready) for message in self._said):
            self.abandon()
            raise HarnessError(
                where="failover", seen=self._child.how_it_ended(), expected="an injector"
            )

    def _until_said(self, kind: type[ToMaster], seconds: float) -> None:
        waited_s = 0.0
        while waited_s < seconds and not any(isinstance(one, kind) for one in self._said):
            if self._reader.ready():  # its output has closed
                return
            gevent.sleep(_POLL_S)
            waited_s += _POLL_S

    def begin(self, t0_ns: int, t0_unix_ns: int) -> None:
        """T0, or another one when it had to be moved."""
        self._send(Began(t0_ns=t0_ns, t0_unix_ns=t0_unix_ns))

    def see(self, until_ns: int, *, holds: bool, reason: str, conditions: Sequence[str]) -> None:
        """What a second of the run was like."""
        second = Second(
            until_ns=until_ns, holds=holds, reason=reason[:500], conditions=tuple(conditions)
        )
        self._send(second)

    def _send(self, message: ToInjector) -> None:
        with suppress(OSError):  # full, because it hangs, or closed: `newly_lost` tells of it
            os.write(self._control, encode_line(message))

    def take(self) -> list[ToMaster]:
        """What it said since the last call."""
        said = list(self._said)
        self._said.clear()
        self._ended = next((one for one in said if isinstance(one, Ended)), self._ended)
        return said

    def newly_lost(self) -> str | None:
        """How it ended, told once, when it did so before it was asked to."""
        if self._child.is_alive or self._is_lost_told:
            return None
        self._is_lost_told = True
        return self._child.how_it_ended()

    def finish(self) -> tuple[list[Event], str]:
        """Have everything undone and wait for it: events, and what may still be in force."""
        events = self._end()
        if self._ended is None:
            # It was killed, or hangs: what it left is in the ledger. Another one undoes it.
            self._start()
            events += self._end()
        if self._ended is None:
            return events, f"{self._child.how_it_ended()}; undo with: {REPAIR}"
        wrong = self._ended.wrong
        return events, f"{wrong}; repair it, then: {REPAIR}" if wrong else ""

    def _end(self) -> list[Event]:
        os.close(self._control)
        if not self._child.wait(self._patience_s + _END_S):
            self._child.kill()
        self._reader.join(timeout=1.0)
        said = self.take()
        self._child.end()
        return [message.event for message in said if isinstance(message, Happened)]

    def abandon(self) -> None:
        """Close its pipe and wait, as after an error: it undoes what it has done."""
        with suppress(OSError):
            os.close(self._control)
        self._child.wait(self._patience_s + _END_S)
        self._child.end()

    def _read(self) -> None:
        buffer = b""
        for piece in self._child.output():
            *lines, buffer = (buffer + piece).split(b"\n")
            with suppress(msgspec.MsgspecError):  # another version's: it is our own module
                self._said.extend(decode_to_master(line) for line in lines)
            if len(self._said) > _MOST_WAITING or len(buffer) > _MOST_WAITING:
                return
