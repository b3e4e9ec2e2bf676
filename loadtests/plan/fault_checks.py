"""What the keys of `[failover]` say about each other: names, needs of actions, times."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from loadtests.plan.criteria import repeated
from loadtests.plan.failover import (
    ACTIONS,
    ActionNeeds,
    Chosen,
    Condition,
    ConditionKind,
    FaultNode,
    Selector,
    System,
    struck_count,
)
from loadtests.plan.model import Node
from loadtests.plan.objectives import parse_condition
from loadtests.plan.spec import FailoverSpec, FaultSpec
from loadtests.plan.units import format_duration
from loadtests.plan.values import Mistakes, can_name, one_of, shown
from loadtests.record.fault_events import ROLLOUT

# What the harness fills in for nodes that it starts itself.
FILLED: Final = ("url", "pid_file", "start", "servers", "proxy")
_SETTINGS: Final = (
    "latency", "bandwidth", "weight", "command", "undo_command", "verify_command",
)  # fmt: skip


def check_front(targets: Sequence[Node], mistakes: Mistakes) -> None:
    """HAProxy of an embedded system listens where the one target is: on this host."""
    if len(targets) > 1:
        expected = "one: where HAProxy of the embedded system listens"
        mistakes.add("target.nodes", f"{len(targets)} nodes", expected)
    for index, node in enumerate(targets):
        schemes = {node.scheme} if node.grpc is None else {node.scheme, node.grpc.scheme}
        if node.foreign_hosts or schemes != {"http"}:
            expected = "http:// on loopback: the harness listens there"
            mistakes.add(f"target.nodes[{index}]", shown(node.name), expected)


def check_sections(spec: FailoverSpec, mistakes: Mistakes) -> None:
    """Something to strike with something, each under a name of its own."""
    if not spec.nodes:
        mistakes.add("failover.nodes", "none", "at least one [[failover.nodes]]")
    if not spec.faults and spec.rollout is None:
        expected = "at least one [[failover.faults]], or [failover.rollout]"
        mistakes.add("failover.faults", "none", expected)
    if spec.rollout is not None and any(fault.name == ROLLOUT for fault in spec.faults):
        expected = f"another name: {ROLLOUT} is what moved weights are called"
        mistakes.add("failover.faults", shown(ROLLOUT), expected)
    for section, names in (
        ("nodes", [node.name for node in spec.nodes]),
        ("faults", [fault.name for fault in spec.faults]),
    ):
        for index in repeated(names):
            where = f"failover.{section}[{index}].name"
            mistakes.add(where, shown(names[index]), "a name not used before")
    if spec.haproxy is not None and not re.fullmatch(r"/.+|.+:\d{1,5}", spec.haproxy.admin):
        is_embedded = spec.system is System.EMBEDDED
        if not (is_embedded and not spec.haproxy.admin):
            expected = "the path of its runtime socket, or host:port"
            mistakes.add("failover.haproxy.admin", shown(spec.haproxy.admin), expected)


def check_selector(
    on: Selector,
    where: str,
    nodes: Sequence[FaultNode],
    failover: FailoverSpec,
    mistakes: Mistakes,
) -> None:
    """A node or zone that is there, a leader that can be asked for, enough nodes."""
    known = {Chosen.NODE: "name", Chosen.ZONE: "zone"}.get(on.chosen)
    if known is not None:
        names = tuple(dict.fromkeys(getattr(node, known) for node in nodes))
        if not can_name(on.name, [name for name in names if name]):
            mistakes.add(where, shown(str(on)), one_of(on.name, names, f"the {on.chosen.value}s"))
        return
    if on.chosen in {Chosen.LEADER, Chosen.FOLLOWER} and failover.leader is None:
        mistakes.add(where, shown(str(on)), "[failover.leader], which says how to ask who leads")
    most = len(nodes) - (on.chosen is Chosen.FOLLOWER)
    if nodes and struck_count(on, nodes) > most:
        mistakes.add(where, shown(str(on)), f"at most {most} nodes: it would match fewer")


def check_needs(spec: FaultSpec, needs: ActionNeeds, where: str, mistakes: Mistakes) -> None:
    """The settings that an action takes, all of them and no other."""
    for key in _SETTINGS:
        is_given = bool(getattr(spec, key)) or (key == "weight" and spec.weight is not None)
        if is_given and key not in (*needs.settings, *needs.optional):
            mistakes.add(f"{where}.{key}", "a value", f"nothing: {spec.action} takes none")
        if not is_given and key in needs.settings:
            mistakes.add(f"{where}.{key}", "nothing", f"this key: {spec.action} needs it")


def check_nodes(
    action: str,
    needs: ActionNeeds,
    where: str,
    struck: Sequence[FaultNode],
    *,
    failover: FailoverSpec,
    mistakes: Mistakes,
) -> None:
    """What an action must know of every node that it can strike."""
    is_embedded = failover.system is System.EMBEDDED
    if needs.haproxy and failover.haproxy is None and not is_embedded:
        mistakes.add(f"{where}.action", shown(action), "[failover.haproxy] with its admin socket")
    for key in needs.node:
        if is_embedded and key in FILLED:
            continue
        lacking = [node.name for node in struck if not getattr(node, key)]
        if lacking:
            names = ", ".join(lacking)
            mistakes.add(f"{where}.action", shown(action), f"{key} of every node, also of {names}")


def check_after(
    spec: FaultSpec, where: str, before: Sequence[FaultSpec], mistakes: Mistakes
) -> None:
    """A fault that stands before and ends before the run does."""
    earlier = {str(fault.name): fault for fault in before}
    names = tuple(earlier)
    if not can_name(spec.after or "", names):
        expected = one_of(spec.after or "", names, "faults that stand before")
        mistakes.add(f"{where}.after", shown(spec.after), expected)
        return
    other = earlier.get(spec.after or "")
    needs = None if other is None else ACTIONS.get(other.action)
    is_momentary = needs is not None and needs.is_momentary
    if other is not None and other.undo_after is None and not is_momentary:
        expected = f"undo_after of {other.name}: it would stay until the end of the run"
        mistakes.add(f"{where}.after", shown(spec.after), expected)


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What a condition on a measure may be about."""

    requests: Sequence[str]
    stages: Sequence[str]


def check_when(
    spec: FaultSpec,
    when: Condition | None,
    where: str,
    failover: FailoverSpec,
    *,
    index: int,
    names: Names,
    mistakes: Mistakes,
) -> None:
    """A condition alone, on something that there is and that can be seen."""
    if spec.after is not None:
        mistakes.add(f"{where}.after", shown(spec.after), "after or when, not both")
    where = f"{where}.when"
    if when is None:
        return
    match when.kind:
        case ConditionKind.RECOVERED:
            known = tuple(str(fault.name) for fault in failover.faults[:index])
            _check_known(when.name, known, "faults that stand before", where, mistakes)
        case ConditionKind.LEADER:
            known = tuple(str(node.name) for node in failover.nodes)
            _check_known(when.name, known, "the nodes", where, mistakes)
            if failover.leader is None:
                expected = "[failover.leader], which says how to ask who leads"
                mistakes.add(where, shown(when.text), expected)
        case ConditionKind.MEASURE:
            condition = parse_condition(when.text).objective
            if condition.request is not None:
                _check_known(condition.request, names.requests, "the requests", where, mistakes)
            if condition.stage is not None:
                _check_known(condition.stage, names.stages, "the stages", where, mistakes)


def _check_known(
    name: str, known: Sequence[str], what: str, where: str, mistakes: Mistakes
) -> None:
    if not can_name(name, known):
        mistakes.add(where, shown(name), one_of(name, known, what))


def check_time(
    spec: FaultSpec, where: str, *, hold_ns: int, duration_ns: int, mistakes: Mistakes
) -> None:
    """An offset lies within the run, behind the time that the steady state needs."""
    if spec.at is None or spec.after is not None or spec.when is not None:
        return
    if spec.at < hold_ns:
        expected = f"{format_duration(hold_ns)} or later: the steady state is watched for so long"
        mistakes.add(f"{where}.at", format_duration(spec.at), expected)
    if spec.at + (spec.undo_after or 0) >= duration_ns:
        expected = f"applied and undone before the run ends at {format_duration(duration_ns)}"
        mistakes.add(f"{where}.at", format_duration(spec.at), expected, rests_on=("stages",))
