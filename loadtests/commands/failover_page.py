"""What a plan will do to its target, printed before it does: for `check` and `run`."""

from __future__ import annotations

from rich.table import Table

from loadtests.commands.terminal import Terminal
from loadtests.failover.prediction import Expected, placement_text, predict, rollout_text
from loadtests.plan.failover import Failover, Fault
from loadtests.plan.model import Plan
from loadtests.plan.units import format_duration


def when_text(fault: Fault) -> str:
    """When a fault begins and how long it stays."""
    at = format_duration(fault.at_ns)
    if fault.when is not None:
        begins = f"when {fault.when.text}" + (f" + {at}" if fault.at_ns else "")
    elif fault.after is None:
        begins = f"at {at}"
    else:
        begins = f"after {fault.after}" + (f" + {at}" if fault.at_ns else "")
    if fault.undo_after_ns is None:
        return f"{begins}, until the end"
    return (
        f"{begins}, for {format_duration(fault.undo_after_ns)}" if fault.undo_after_ns else begins
    )


def failover_table(failover: Failover) -> Table:
    """Faults in order, each with what is expected of it."""
    table = Table(title="Failover")
    for heading in ("fault", "action", "on", "when", "expected"):
        table.add_column(heading)
    for fault, expected in zip(failover.faults, predict(failover), strict=True):
        table.add_row(fault.name, fault.action, str(fault.on), when_text(fault), expected.text)
    return table


def print_failover(terminal: Terminal, plan: Plan) -> None:
    """The whole of it to standard output."""
    if plan.failover is None:
        return
    if plan.failover.faults:
        terminal.out.print(failover_table(plan.failover))
    if plan.failover.rollout is not None:
        terminal.out.print(rollout_text(plan.failover), soft_wrap=True)
    terminal.out.print(f"placement: {placement_text(plan.failover)}", soft_wrap=True)
    terminal.out.print(f"steady state: {steady_text(plan.failover)}", soft_wrap=True)


def steady_text(failover: Failover) -> str:
    """What must hold before the first fault."""
    steady = failover.steady
    return (
        f"every latency and error objective for {format_duration(steady.hold_ns)} on end, within "
        f"{format_duration(steady.within_ns)}; else nothing is injected and the run ends"
    )


def say_prediction(terminal: Terminal, plan: Plan) -> None:
    """The prediction alone, to standard error, before a run."""
    if plan.failover is None:
        return
    terminal.say(f"placement: {placement_text(plan.failover)}")
    if plan.failover.rollout is not None:
        terminal.say(rollout_text(plan.failover))
    for fault, expected in zip(plan.failover.faults, predict(plan.failover), strict=True):
        terminal.say(
            f"fault {fault.name}: {fault.action} on {fault.on}, {when_text(fault)}; "
            f"expected: {expected.text}"
        )


def failover_document(plan: Plan) -> dict[str, object] | None:
    """The same for machines."""
    if plan.failover is None:
        return None
    expected: tuple[Expected, ...] = predict(plan.failover)
    return {
        "placement": placement_text(plan.failover),
        "steady": plan.failover.steady,
        "faults": plan.failover.faults,
        "rollout": plan.failover.rollout,
        "expected": expected,
    }
