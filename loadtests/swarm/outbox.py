"""What the coordinator says: actions in order, one method for each message to an agent.

Nothing is decided here. Times in messages are converted to the agent's own clock, texts
of foreign origin are cut, and a grant is noted on the member before it leaves, so that
the longest lease an agent can hold is always known.
"""

from __future__ import annotations

from typing import Final

from loadtests.plan.codec import plan_hash
from loadtests.record.window import Window
from loadtests.swarm.actions import Finished, Journal, MasterAction, Record, Release, Send
from loadtests.swarm.chronicle import Chronicle
from loadtests.swarm.membership import Member
from loadtests.swarm.messages import (
    PROTOCOL,
    Ack,
    Assign,
    Batch,
    Begin,
    Lease,
    Ping,
    Prepare,
    Quit,
    Refuse,
    Stop,
    TakeOver,
    ToAgent,
)
from loadtests.swarm.recollection import BatchNote
from loadtests.swarm.run_state import RunSetup
from loadtests.swarm.timing import Timing

_REASON: Final = 1000


class Outbox:
    """Collects actions until they are taken."""

    __slots__ = ("_actions", "_setup", "_timing", "chronicle", "sha256")

    def __init__(self, setup: RunSetup, timing: Timing) -> None:
        self._setup, self._timing = setup, timing
        self._actions: list[MasterAction] = []
        self.chronicle = Chronicle(setup.unix_minus_monotonic_ns)
        self.sha256 = plan_hash(setup.plan_bytes)

    def take(self) -> list[MasterAction]:
        """Everything said since the last call, in order."""
        actions, self._actions = self._actions, []
        return actions

    def add(self, action: MasterAction) -> None:
        """Say something that is no message."""
        self._actions.append(action)

    def tell(self, kind: str, who: str, text: str, now_ns: int) -> None:
        """Record an event."""
        self._actions.append(Record(event=self.chronicle.tell(kind, who, text, now_ns)))

    def noise(self, kind: str, who: str, text: str, now_ns: int) -> None:
        """Record an event of a kind that a peer could repeat without end."""
        event = self.chronicle.noise(kind, who, text, now_ns)
        if event is not None:
            self._actions.append(Record(event=event))

    def journal(self, member: Member, window: Window, batch: Batch) -> None:
        """Make a batch durable: its window as the bytes that it came in."""
        self._actions.append(
            Journal(
                source=f"{member.agent}@{member.incarnation}",
                window=window,
                packed=batch.window,
                note=BatchNote(batch.number, batch.progress),
            )
        )

    def release(self, window: Window, *, is_late: bool) -> None:
        """Hand out a merged window."""
        self._actions.append(Release(window=window, is_late=is_late))

    def finish(self, finished: Finished) -> None:
        """The last action."""
        self._actions.append(finished)

    def _send(self, member: Member, message: ToAgent) -> None:
        self._actions.append(Send(peer=member.peer, message=message))

    def refuse(self, peer: str, incarnation: str, reason: str) -> None:
        """Tell a stranger that it has no part."""
        message = Refuse(
            run_id=self._setup.run_id, incarnation=incarnation, reason=reason[:_REASON]
        )
        self._actions.append(Send(peer=peer, message=message))

    def ping(self, member: Member, now_ns: int) -> None:
        """Ask for a pong."""
        message = Ping(run_id=self._setup.run_id, incarnation=member.incarnation, sent_ns=now_ns)
        self._send(member, message)

    def prepare(self, member: Member) -> None:
        """Give the plan."""
        message = Prepare(
            run_id=self._setup.run_id,
            incarnation=member.incarnation,
            protocol=PROTOCOL,
            plan=self._setup.plan_bytes,
            plan_sha256=self.sha256,
            lease_ns=self._timing.lease_ns,
        )
        self._send(member, message)

    def assign(self, member: Member, of_engines: int) -> None:
        """Give the shares."""
        message = Assign(
            run_id=self._setup.run_id,
            incarnation=member.incarnation,
            first_index=member.first_index,
            of_engines=of_engines,
        )
        self._send(member, message)

    def begin(self, member: Member, attempt: int, t0_ns: int) -> None:
        """Tell T0, given on the master's clock."""
        message = Begin(
            run_id=self._setup.run_id,
            incarnation=member.incarnation,
            attempt=attempt,
            t0_ns=t0_ns + member.clock.offset_ns,
            t0_unix_ns=t0_ns + self._setup.unix_minus_monotonic_ns,
        )
        self._send(member, message)

    def _granted(self, member: Member, attempt: int, now_ns: int) -> Lease:
        """Make a lease from now on, and note it."""
        member.sent_ns["lease"] = now_ns
        member.granted_until_ns = now_ns + self._timing.lease_ns
        return Lease(
            run_id=self._setup.run_id,
            incarnation=member.incarnation,
            attempt=attempt,
            sent_ns=now_ns,
            until_ns=member.granted_until_ns + member.clock.offset_ns,
        )

    def renew(self, member: Member, attempt: int, now_ns: int) -> None:
        """Grant a lease from now on."""
        self._send(member, self._granted(member, attempt, now_ns))

    def acknowledge(self, member: Member, attempt: int | None, now_ns: int) -> None:
        """Acknowledge what has been journalled; with a lease, if of an `attempt`."""
        message = Ack(
            run_id=self._setup.run_id,
            incarnation=member.incarnation,
            batch=member.ledger.contiguous,
            lease=None if attempt is None else self._granted(member, attempt, now_ns),
        )
        self._send(member, message)

    def take_over(self, member: Member, now_ns: int) -> None:
        """Tell all parts of lost shares that it holds."""
        member.sent_ns["take_over"] = now_ns
        message = TakeOver(
            run_id=self._setup.run_id,
            incarnation=member.incarnation,
            parts=tuple(member.takeovers),
        )
        self._send(member, message)

    def stop(self, member: Member, reason: str) -> None:
        """End its load."""
        message = Stop(
            run_id=self._setup.run_id,
            incarnation=member.incarnation,
            grace_ns=self._setup.plan.grace_ns,
            reason=reason[:_REASON],
        )
        self._send(member, message)

    def quit(self, member: Member, reason: str, now_ns: int) -> None:
        """End its process; repeated, but not for one that has gone."""
        if member.has_quit or not member.is_due("quit", self._timing.urgent_ns, now_ns):
            return
        message = Quit(
            run_id=self._setup.run_id, incarnation=member.incarnation, reason=reason[:_REASON]
        )
        self._send(member, message)
