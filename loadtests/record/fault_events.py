"""Kinds of the events that a failover leaves in `events.jsonl`, and how they are read back.

Who injects writes them, who measures reads them; this module is what both agree on. Each
step of a fault on one node is one event. Its time is on the run's clock: `at_ns` from T0,
the moment at which the step was known to be done, `began_ns` the moment before it was begun;
what was done became true between the two. A fault of several nodes (a zone) has its steps
once for each of them.

    prediction            what is expected, before anything is done
    steady_state_reached  every objective held for the stated time; `phase` before or after
    steady_state_missed   it was not so in time; before: nothing is injected
    fault_began           it is in the ledger and is about to be applied
    fault_applied         the action returned: the fault's acknowledged time
    fault_verified        seen to be in force
    fault_not_in_force    not seen to be in force in time: the fault did not take hold
    fault_undone          the undo returned
    fault_gone            seen to be gone
    fault_never_due       what it waits for never came: it was not begun
    fault_undo_failed     it may still be in force; `repair` is the command that removes it
    failover_ended        nothing is left to be done; `reason` says how it ended

Of a rollout, whose moved weights are one fault called `rollout` on every node:

    rollout_phase         the new version has this part of the traffic; `traffic_ratio`
    rollout_look          what a version did since the last looks; `is_new`, `says`, `down`
    rollout_gap           nothing was known of the new version for longer than is forgiven
    rollback_decided      a trigger held for long enough: from here on the rollback counts
    rollout_passed        the last phase was held: traffic stays until the run ends
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from loadtests.record.event import Event, EventValue

INJECTOR = "failover"  # `who` of the events that are about no node
ROLLOUT = "rollout"  # the fault that a rollout's moved weights are


class FaultEvent(Enum):
    """Kinds of events, as written."""

    PREDICTION = "prediction"
    STEADY_REACHED = "steady_state_reached"
    STEADY_MISSED = "steady_state_missed"
    BEGAN = "fault_began"
    APPLIED = "fault_applied"
    VERIFIED = "fault_verified"
    NOT_IN_FORCE = "fault_not_in_force"
    UNDONE = "fault_undone"
    GONE = "fault_gone"
    UNDO_FAILED = "fault_undo_failed"
    NEVER_DUE = "fault_never_due"
    ENDED = "failover_ended"
    ROLLOUT_PHASE = "rollout_phase"
    ROLLOUT_LOOK = "rollout_look"
    ROLLOUT_GAP = "rollout_gap"
    ROLLBACK_DECIDED = "rollback_decided"
    ROLLOUT_PASSED = "rollout_passed"


STEPS = frozenset(
    {
        FaultEvent.BEGAN,
        FaultEvent.APPLIED,
        FaultEvent.VERIFIED,
        FaultEvent.NOT_IN_FORCE,
        FaultEvent.UNDONE,
        FaultEvent.GONE,
        FaultEvent.UNDO_FAILED,
    }
)
_OF_KIND = {kind.value: kind for kind in FaultEvent}


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultStep:
    """One step of one fault on one node; times in ns from T0 (negative: before it)."""

    kind: FaultEvent
    fault: str  # its name in the scenario
    action: str
    node: str
    zone: str  # "" where the node is in none
    began_ns: int
    at_ns: int


def step_event(step: FaultStep, *, t0_unix_ns: int, text: str, repair: str = "") -> Event:
    """The event of a step; `repair` is the command of an undo that failed."""
    fields: dict[str, EventValue] = {
        "fault": step.fault,
        "action": step.action,
        "node": step.node,
        "zone": step.zone,
        "began_ns": step.began_ns,
        "at_ns": step.at_ns,
        **({"repair": repair} if repair else {}),
    }
    return Event(
        at_unix_ns=t0_unix_ns + step.at_ns,
        kind=step.kind.value,
        who=step.node or INJECTOR,
        text=text,
        fields=fields,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What was said of a fault before it; `unavailable_ns` None: as long as it is in force."""

    fault: str
    text: str
    unavailable_ns: int | None


def predictions(events: Iterable[Event]) -> tuple[Prediction, ...]:
    """Of each fault; what was said of the placement of all nodes is none."""
    return tuple(
        Prediction(
            fault=str(event.fields["fault"]),
            text=event.text.removeprefix(f"{event.fields['fault']}: "),
            unavailable_ns=None if most_ns is None else int(most_ns),
        )
        for event in events
        if event.kind == FaultEvent.PREDICTION.value and "fault" in event.fields
        for most_ns in (event.fields["unavailable_ns"],)
    )


def fault_steps(events: Iterable[Event]) -> tuple[FaultStep, ...]:
    """The steps of all faults, in the order in which they were written."""
    return tuple(
        FaultStep(
            kind=kind,
            fault=str(event.fields["fault"]),
            action=str(event.fields["action"]),
            node=str(event.fields["node"]),
            zone=str(event.fields["zone"]),
            began_ns=int(event.fields["began_ns"] or 0),
            at_ns=int(event.fields["at_ns"] or 0),
        )
        for event in events
        if (kind := _OF_KIND.get(event.kind)) in STEPS and kind is not None
    )
