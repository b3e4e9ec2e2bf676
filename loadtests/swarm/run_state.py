"""The words of a run at its master: what it is set up with, how far it is, why it ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum

from loadtests.plan.model import Plan


class EndCause(Enum):
    """Whose doing the end of a run was."""

    PLAN = "plan"  # the last stage is over
    USER = "user"  # request_stop
    GUARD = "guard"  # an abort condition of the scenario
    LOSS = "loss"  # the loss policy, or nobody left
    TARGET = "target"  # an agent's preflight: not reachable, not authorised
    SCENARIO = "scenario"  # an agent cannot use the plan
    HARNESS = "harness"  # agents did not come, engines did not start


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
    code: Mapping[str, str]  # digests of what this master runs; agents of other code are refused
    is_named_by_key: bool  # an agent is called as the key of its connection, or refused
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
class AgentStatus:
    """How one agent stands; ages in ns on the master's clock."""

    agent: str
    is_alive: bool
    silence_ns: int  # since it was heard
    lease_age_ns: int | None  # since its last lease was granted; None before the first


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """What the master knows of a run at the moment that somebody looks."""

    status: Status
    unix_ns: int  # of that moment, on the clock that labels windows
    stage: str | None
    agents: list[AgentStatus]
    refused: Mapping[str, int]  # messages not acted on, by reason


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """Why and when a run is being ended; times on the master's clock."""

    cause: EndCause
    reason: str
    at_ns: int
    deadline_ns: int  # FINALs that are not in by then are missing

    @property
    def is_natural(self) -> bool:
        """True if nobody cut the plan short."""
        return self.cause is EndCause.PLAN
