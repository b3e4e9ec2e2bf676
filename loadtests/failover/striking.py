"""A strike's way: into the ledger, applied, seen to be in force; undone, seen to be gone.

Every step is told with its time. A strike is struck off the ledger only when it was seen to
be gone, when the process that owns the node has ended and taken it along, or when it was
undone and nothing here can see it: then no step says that it is gone. Strikes are
undone together and looked at afterwards: the first of two dead members of a quorum is not
well before the second is there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from loadtests.errors import HarnessError
from loadtests.failover.actions import action_of
from loadtests.failover.ledger import Ledger
from loadtests.failover.processes import is_running
from loadtests.failover.strike import Sight, Strike
from loadtests.record.fault_events import FaultEvent

POLL_S: Final = 0.02
AGAIN_NS: Final = 500_000_000  # until an undo that failed is tried again


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One step, for whoever listens; times on the monotonic clock."""

    kind: FaultEvent
    strike: Strike
    began_ns: int
    done_ns: int
    text: str
    repair: str = ""  # the command of an undo that failed


Tell = Callable[[Told], None]


def apply_strike(strike: Strike, ledger: Ledger, tell: Tell) -> Strike:
    """Prepare, write down, apply; returns it as it is in the ledger. FaultError, HarnessError.

    What `apply` has begun when it fails is in the ledger, for `undo_strikes`.
    """
    action = action_of(strike.action)
    prepared = msgspec.structs.replace(strike, before=action.prepare(strike))
    ledger.began(prepared)
    began_ns = time.monotonic_ns()
    _tell(tell, FaultEvent.BEGAN, prepared, (began_ns, began_ns), f"{prepared} begins")
    began_ns = time.monotonic_ns()
    action.apply(prepared)
    times = began_ns, time.monotonic_ns()
    _tell(tell, FaultEvent.APPLIED, prepared, times, f"{prepared} was applied")
    return prepared


def _tell(tell: Tell, kind: FaultEvent, strike: Strike, times: tuple[int, int], text: str) -> None:
    tell(Told(kind=kind, strike=strike, began_ns=times[0], done_ns=times[1], text=text))


def verify_in_force(strike: Strike, tell: Tell) -> bool:
    """Wait until it is seen to be in force; False, and told, when it is not in time.

    True also for a fault that nothing here can see: then nothing says that it was verified.
    """
    began_ns = time.monotonic_ns()
    while True:
        sight = _look(strike)
        times = began_ns, time.monotonic_ns()
        if sight.is_in_force:
            _tell(tell, FaultEvent.VERIFIED, strike, times, f"{strike}: {sight.text}")
            return True
        if sight.is_in_force is None:
            return True
        if times[1] - began_ns >= strike.settings.timeout_ns:
            text = f"{strike} did not take hold: {sight.text}"
            _tell(tell, FaultEvent.NOT_IN_FORCE, strike, times, text)
            return False
        time.sleep(POLL_S)


def _look(strike: Strike) -> Sight:
    """What is so; what cannot be asked just now is not seen to be in force."""
    try:
        return action_of(strike.action).look(strike)
    except HarnessError as error:
        return Sight(is_in_force=False, is_gone=False, text=str(error))


class _Undoing:
    """One strike on its way out."""

    def __init__(self, strike: Strike, ledger: Ledger, tell: Tell) -> None:
        self._strike, self._ledger, self._tell = strike, ledger, tell
        self._began_ns = time.monotonic_ns()
        self._undone_ns: int | None = None
        self._again_ns = 0
        self._seen = "not undone yet"
        self.wrong: str | None = None  # "": it is gone; a text: it may still be in force

    def advance(self) -> None:
        """Undo it unless it was; then look. Never raises for what a strike can do wrong."""
        now_ns = time.monotonic_ns()
        try:
            if _is_orphan(self._strike):
                self._strike_off("it ended with its system")
            elif now_ns >= self._again_ns:
                self._try()
        except Exception as error:  # noqa: BLE001 - of a user's own action: the others go on
            self._seen, self._undone_ns = f"{error}", None
            self._again_ns = now_ns + AGAIN_NS
        if self.wrong is None and now_ns - self._began_ns >= self._strike.settings.timeout_ns:
            self._give_up(now_ns)

    def _try(self) -> None:
        action = action_of(self._strike.action)
        if self._undone_ns is None:
            action.undo(self._strike)
            self._undone_ns = time.monotonic_ns()
            times = self._began_ns, self._undone_ns
            _tell(self._tell, FaultEvent.UNDONE, self._strike, times, f"{self._strike} was undone")
        sight = action.look(self._strike)
        self._seen = sight.text
        if sight.is_gone:
            self._strike_off(sight.text)
        elif sight.is_gone is None:  # nothing here can see it: then nothing says that it is gone
            self._ledger.gone(self._strike)
            self.wrong = ""

    def _strike_off(self, text: str) -> None:
        self._ledger.gone(self._strike)
        times = self._began_ns, time.monotonic_ns()
        _tell(self._tell, FaultEvent.GONE, self._strike, times, f"{self._strike} is gone: {text}")
        self.wrong = ""

    def _give_up(self, now_ns: int) -> None:
        self.wrong = f"{self._strike} may still be in force: {self._seen}"
        self._tell(
            Told(
                kind=FaultEvent.UNDO_FAILED,
                strike=self._strike,
                began_ns=self._began_ns,
                done_ns=now_ns,
                text=self.wrong,
                repair=repair_of(self._strike),
            )
        )


def undo_strikes(strikes: Sequence[Strike], ledger: Ledger, tell: Tell) -> tuple[str, ...]:
    """Undo them in this order and wait until all are gone; what stands in the way of which.

    Each is tried again until its timeout: a node that is just being restarted, or a load
    balancer that reloads, is no failed undo.
    """
    under_way = [_Undoing(strike, ledger, tell) for strike in strikes]
    while any(one.wrong is None for one in under_way):
        for one in under_way:
            if one.wrong is None:
                one.advance()
        if any(one.wrong is None for one in under_way):
            time.sleep(POLL_S)
    return tuple(one.wrong for one in under_way if one.wrong)


def repair_of(strike: Strike) -> str:
    """The command for a person, "" for an action that is not installed any more."""
    try:
        return action_of(strike.action).repair(strike)
    except HarnessError:
        return ""


def _is_orphan(strike: Strike) -> bool:
    return strike.owner is not None and not is_running(strike.owner)
