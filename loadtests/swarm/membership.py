"""Who takes part: the master's record of one agent's incarnation.

Membership is frozen at the barrier. A member that is lost stays in the books (what it
hands over later still counts), but never takes part again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import msgspec

from loadtests.swarm.lease import ClockEstimate
from loadtests.swarm.merge import Ledger
from loadtests.swarm.messages import AgentPhase, EngineState, Hello, SharePart, Snapshot
from loadtests.swarm.run_state import AgentStatus


class Standing(Enum):
    """What the master thinks of a member."""

    ALIVE = "alive"
    LOST = "lost"  # silent, gone or without a FINAL


@dataclass(slots=True, kw_only=True)
class Member:
    """One incarnation; times are the master's clock."""

    peer: str
    hello: Hello
    clock: ClockEstimate
    heard_ns: int
    ledger: Ledger  # of no engine until the barrier
    standing: Standing = Standing.ALIVE
    first_index: int = 0
    snapshot: Snapshot | None = None  # the one with the highest sequence
    complete_through_s: int | None = None
    granted_until_ns: int | None = None  # the last lease, delivered or not
    lost_ns: int | None = None
    sent_ns: dict[str, int] = field(default_factory=dict)  # last time, by kind of message
    takeovers: list[SharePart] = field(default_factory=list)
    has_quit: bool = False

    @property
    def agent(self) -> str:
        """Name of the agent."""
        return self.hello.agent

    @property
    def incarnation(self) -> str:
        """Name of its process."""
        return self.hello.incarnation

    @property
    def is_alive(self) -> bool:
        """True unless it was given up."""
        return self.standing is Standing.ALIVE

    @property
    def phase(self) -> AgentPhase:
        """As it said last."""
        return AgentPhase.JOINING if self.snapshot is None else self.snapshot.phase

    @property
    def engine_states(self) -> tuple[EngineState, ...]:
        """As it said last; empty before the barrier."""
        return () if self.snapshot is None else self.snapshot.engines

    @property
    def has_handed_over(self) -> bool:
        """True if its FINAL and every batch are in."""
        snapshot = self.snapshot
        return (
            snapshot is not None
            and snapshot.phase is AgentPhase.FINAL
            and self.ledger.contiguous >= snapshot.last_batch
        )

    @property
    def is_working(self) -> bool:
        """True while it is alive and something of it is still to come."""
        return self.is_alive and not self.has_handed_over

    def status(self, now_ns: int, lease_ns: int) -> AgentStatus:
        """For displays; `lease_ns` is how long a lease is granted for."""
        until_ns = self.granted_until_ns
        return AgentStatus(
            agent=self.agent,
            is_alive=self.is_alive,
            silence_ns=max(0, now_ns - self.heard_ns),
            lease_age_ns=None if until_ns is None else max(0, now_ns + lease_ns - until_ns),
        )

    def is_settled(self, pinged_ns: int, renewed_ns: int) -> bool:
        """Tell that nothing has to be said again: pinged and renewed since, no share taken over.

        Said of nearly every one of 1,000 members, ten times a second.
        """
        sent_ns = self.sent_ns
        return (
            sent_ns.get("ping", pinged_ns) > pinged_ns
            and sent_ns.get("lease", renewed_ns) > renewed_ns
            and self.standing is Standing.ALIVE
            and not self.takeovers
        )

    def is_due(self, kind: str, every_ns: int, now_ns: int) -> bool:
        """Tell whether a repeated message should go out, and note that it does."""
        last_ns = self.sent_ns.get(kind)
        if last_ns is not None and now_ns - last_ns < every_ns:
            return False
        self.sent_ns[kind] = now_ns
        return True

    def adopt(self, snapshot: Snapshot) -> bool:
        """Take a state that is newer; False for a repeated or overtaken one."""
        if self.snapshot is not None and snapshot.sequence <= self.snapshot.sequence:
            return False
        # Not the batches: they are in the ledger, and must not be kept twice.
        self.snapshot = msgspec.structs.replace(snapshot, batches=())
        return True

    def note_watermark(self) -> None:
        """Advance the watermark once every batch that it speaks of is in."""
        snapshot = self.snapshot
        if snapshot is None or snapshot.complete_through_s is None:
            return
        if self.ledger.contiguous >= snapshot.last_batch:
            self.complete_through_s = max(snapshot.complete_through_s, self.complete_through_s or 0)
