"""The master's state machine: membership, barrier, T0, leases, merge, loss policy, end.

Pure: messages, ticks and times go in, actions come out; no clock, no socket, no thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from loadtests.plan.model import Plan, Share
from loadtests.record.manifest import AgentFacts, EngineSums, LostWindow, Sums
from loadtests.swarm.actions import MasterAction
from loadtests.swarm.messages import ToMaster
from loadtests.swarm.timing import Timing

# `plan.schedule.Schedule(plan).planned`: arrivals of a share in [from_ns, to_ns) from T0.
PlannedCount = Callable[[Share, int, int], int]


class RunPhase(IntEnum):
    """How far a run has come; it never goes back."""

    GATHERING = 0  # agents join and are checked
    SPAWNING = 1  # membership is frozen, engines start
    ARMING = 2  # T0 is told and confirmed
    RUNNING = 3  # leases are renewed
    STOPPING = 4  # engines drain, FINALs come in
    LINGERING = 5  # everything is in; Quit is repeated
    ENDED = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSetup:
    """What a coordinator is made for."""

    run_id: str
    plan: Plan
    plan_bytes: bytes  # `encode_plan(plan)`
    agents: int  # exactly so many take part
    version: str  # of the package; agents of another one are refused
    boot_id: str  # of this kernel; equal ids share CLOCK_MONOTONIC
    unix_minus_monotonic_ns: int  # of the master: labels only
    join_wait_ns: int  # until the agents must have come


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """For progress displays."""

    phase: RunPhase
    agents_joined: int
    agents_alive: int
    engines: int
    engines_alive: int
    elapsed_ns: int | None  # since T0, negative before it; None before the barrier
    t0_ns: int | None
    events: int
    stop_reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The run's books, for `run.json`. `breaches` empty: every conservation law holds."""

    agents: tuple[AgentFacts, ...]
    engine_sums: tuple[EngineSums, ...]
    total_sums: Sums
    lost_windows: tuple[LostWindow, ...]
    lost_in_flight: int  # sent by dead engines, outcome unknown
    breaches: tuple[str, ...]
    warnings: tuple[str, ...]  # breaches, missing FINALs and losses as sentences


class Coordinator:
    """One run. Every method returns actions that the caller carries out in order."""

    def __init__(self, *, setup: RunSetup, timing: Timing, planned: PlannedCount) -> None:
        raise NotImplementedError

    def receive(self, peer: str, message: ToMaster, now_ns: int) -> list[MasterAction]:
        """Take a decoded message; `peer` is the transport's name for its sender."""
        raise NotImplementedError

    def malformed(self, peer: str, error: str, now_ns: int) -> list[MasterAction]:
        """Count bytes that `decode_to_master` refused."""
        raise NotImplementedError

    def left(self, peer: str, now_ns: int) -> list[MasterAction]:
        """The transport says that a peer is gone for good (quit, connection closed)."""
        raise NotImplementedError

    def request_stop(self, reason: str, now_ns: int) -> list[MasterAction]:
        """End gracefully on the user's wish; further calls change nothing."""
        raise NotImplementedError

    def tick(self, now_ns: int) -> list[MasterAction]:
        """Call about every 100 ms: renews, repeats, notices silence, releases windows."""
        raise NotImplementedError

    def status(self, now_ns: int) -> Status:
        """Figures for a progress display."""
        raise NotImplementedError

    def account(self) -> Account:
        """The books as they stand; final after `Finished`."""
        raise NotImplementedError
