"""Faults of a run, as its events tell: when each was acknowledged, on what, and undone when.

A fault counts from the moment its first node acknowledged it (`fault_applied`). One that was
begun and never acknowledged, or was seen not to be in force, measured nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from loadtests.record.archive import Run
from loadtests.record.fault_events import FaultEvent, FaultStep, fault_steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault on its nodes; times in unix ns.

    `uncertain_ns`: the fault became true so much before its time at the earliest.
    """

    name: str
    action: str
    nodes: tuple[str, ...]
    at_ns: int
    uncertain_ns: int
    gone_ns: int | None  # undone on every node; None: not, or not seen
    problem: str | None  # why it measures nothing

    @property
    def began_ns(self) -> int:
        """Before this time it cannot have been felt."""
        return self.at_ns - self.uncertain_ns


def build_faults(run: Run) -> tuple[Fault, ...]:
    """In the order of their times; a fault's steps are those of one name and action."""
    t0_ns = run.manifest.t0_unix_ns
    if t0_ns is None:
        return ()
    groups: dict[tuple[str, str], list[FaultStep]] = {}
    for step in fault_steps(run.events):
        groups.setdefault((step.fault, step.action), []).append(step)
    faults = [_fault(steps, t0_ns) for steps in groups.values()]
    return tuple(sorted(faults, key=lambda fault: fault.at_ns))


def _fault(steps: list[FaultStep], t0_ns: int) -> Fault:
    def of(kind: FaultEvent) -> list[FaultStep]:
        return [step for step in steps if step.kind is kind]

    applied, refuted = of(FaultEvent.APPLIED), of(FaultEvent.NOT_IN_FORCE)
    undone = of(FaultEvent.GONE) or of(FaultEvent.UNDONE)
    nodes = tuple(dict.fromkeys(step.node for step in steps if step.node))
    first = min(applied or steps, key=lambda step: step.at_ns)
    problem = None if applied else "it was never acknowledged"
    if refuted:
        problem = f"it was not seen to be in force on {', '.join(step.node for step in refuted)}"
    is_gone = applied and len({step.node for step in undone}) == len(nodes)
    return Fault(
        name=first.fault,
        action=first.action,
        nodes=nodes,
        at_ns=t0_ns + first.at_ns,
        uncertain_ns=max(0, first.at_ns - first.began_ns),
        gone_ns=t0_ns + max(step.at_ns for step in undone) if is_gone else None,
        problem=problem,
    )
