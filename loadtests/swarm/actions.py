"""What the two state machines ask their shells to do: values, carried out in order.

Order is the promise that acknowledgement rests on: a `Journal` comes before the `Send` of
its `Ack`, so a shell that fails to write stops there and never acknowledges. A shell carries
out all journals together before all else, and then a `Remember`: nobody is told of a state
that a master which takes over would not know.
"""

from __future__ import annotations

from dataclasses import dataclass

from loadtests.engine.messages import ToEngine
from loadtests.plan.model import Plan
from loadtests.record.event import Event
from loadtests.record.manifest import Outcome
from loadtests.record.window import Window
from loadtests.swarm.messages import ToAgent, ToMaster
from loadtests.swarm.recollection import BatchNote, Checkpoint
from loadtests.swarm.run_state import EndCause


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """Master: send to the transport peer."""

    peer: str
    message: ToAgent


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """Master: make this window of an agent durable before anything that follows."""

    source: str  # "<agent>@<incarnation>"
    window: Window
    packed: bytes  # what `window` was unpacked from
    note: BatchNote


@dataclass(frozen=True, slots=True, kw_only=True)
class Remember:
    """Master: make this state of the run durable before anything else of these actions."""

    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Master: archive this merged window of the run. A label may come again; parts add up."""

    window: Window
    is_late: bool  # an addition to a label released before


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Master: append to the archive's events."""

    event: Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Barrier:
    """Master: membership is frozen and T0 chosen (again, when a T0 had to be moved)."""

    t0_unix_ns: int
    t0_ns: int  # the master's clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """Master: the run is over; `Coordinator.account()` is final. The last action."""

    outcome: Outcome
    cause: EndCause
    reason: str


MasterAction = Send | Journal | Remember | Release | Record | Barrier | Finished


@dataclass(frozen=True, slots=True, kw_only=True)
class SendMaster:
    """Agent: send to the master."""

    message: ToMaster


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPreflight:
    """Agent: check host and target, then call `Agency.checked`."""

    run_id: str
    plan: Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class SpawnEngine:
    """Agent: start engine process number `k` (0, 1 ...) of this agent."""

    k: int
    engine: str  # "<agent>/<k>"


@dataclass(frozen=True, slots=True, kw_only=True)
class SendEngine:
    """Agent: send a frame to engine `k`; errors of a dead one are ignored."""

    k: int
    message: ToEngine


@dataclass(frozen=True, slots=True, kw_only=True)
class KillEngine:
    """Agent: SIGKILL engine `k` if it lives; it is already counted as lost."""

    k: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """Agent: kill what is left of the engines and end the process. The last action."""

    is_ok: bool  # a master's Quit after everything was handed over
    is_refused: bool  # the master would not have it
    reason: str


AgentAction = SendMaster | RunPreflight | SpawnEngine | SendEngine | KillEngine | Exit
