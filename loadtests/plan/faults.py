"""`[failover]` of a scenario into the plan's `Failover`, with every mistake in it.

Names are checked against each other (zones, nodes, faults that others wait for), and each
action against what is known of the nodes that it can strike: a fault that could not be
applied, or not undone, is refused before anything is sent.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from importlib.metadata import entry_points
from typing import Final

from loadtests.plan.criteria import repeated
from loadtests.plan.failover import (
    ACTIONS,
    ActionNeeds,
    Chosen,
    Failover,
    Fault,
    FaultNode,
    Haproxy,
    LeaderQuery,
    Selector,
    Settings,
    SteadyState,
    System,
    static_choice,
    struck_count,
)
from loadtests.plan.model import Node
from loadtests.plan.spec import FailoverSpec, FaultNodeSpec, FaultSpec, HaproxySpec
from loadtests.plan.units import UnitError, format_duration
from loadtests.plan.values import Mistakes, can_name, one_of, shown

ENTRY_POINTS: Final = "headroom.fault_actions"
SELECTOR_EXPECTED: Final = (
    '"leader", "follower", "random", "all", "node NAME", "zone NAME", or a number of them, '
    'such as "2 follower"'
)
_SELECTOR: Final = re.compile(
    r"(?P<kind>node|zone) (?P<name>[A-Za-z0-9][A-Za-z0-9._-]{0,63})"
    r"|(?:(?P<count>[1-9]\d{0,2}) )?(?P<word>follower|random)|(?P<one>leader|all)"
)
_SERVER: Final = re.compile(r"[A-Za-z0-9_.:-]+/[A-Za-z0-9_.:-]+")  # names of HAProxy, section 2.2
_INTERFACE: Final = re.compile(r"[A-Za-z0-9_.-]{1,15}")  # IFNAMSIZ - 1
_NAMESPACE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}|/[\w./-]+")
# What the harness fills in for nodes that it starts itself.
_FILLED: Final = ("url", "pid_file", "start", "servers", "proxy")
_SETTINGS: Final = (
    "latency", "bandwidth", "weight", "command", "undo_command", "verify_command",
)  # fmt: skip


def parse_selector(text: str) -> Selector:
    """Whom a fault strikes; UnitError otherwise."""
    match = _SELECTOR.fullmatch(text)
    if match is None:
        raise UnitError(SELECTOR_EXPECTED)
    if match["kind"]:
        return Selector(chosen=Chosen(match["kind"]), name=match["name"], count=1)
    word = match["word"] or match["one"]
    return Selector(chosen=Chosen(word), name="", count=int(match["count"] or 1))


def known_actions() -> tuple[str, ...]:
    """Built-in actions, then those of installed packages."""
    own = sorted({point.name for point in entry_points(group=ENTRY_POINTS)} - ACTIONS.keys())
    return (*ACTIONS, *own)


def build_failover(
    spec: FailoverSpec | None, targets: Sequence[Node], *, duration_ns: int, mistakes: Mistakes
) -> Failover | None:
    """The failover of a run of `duration_ns`; None where the scenario has none."""
    if spec is None:
        return None
    nodes = tuple(_node(one, index, spec.system, mistakes) for index, one in enumerate(spec.nodes))
    _check_sections(spec, mistakes)
    if spec.system is System.EMBEDDED:
        _check_front(targets, mistakes)
    leader = spec.leader
    failover = Failover(
        system=spec.system,
        quorum=spec.quorum,
        election_ns=spec.election,
        health_path=spec.health or "",
        steady=SteadyState(hold_ns=spec.steady_state.for_, within_ns=spec.steady_state.within),
        leader=None
        if leader is None
        else LeaderQuery(
            method=leader.method,
            path=leader.path,
            body=leader.body,
            pointer=leader.pointer,
            own=leader.own,
        ),
        haproxy=_haproxy(spec.haproxy),
        nodes=nodes,
        faults=tuple(
            fault
            for index, one in enumerate(spec.faults)
            if (fault := _fault(one, index, nodes, spec, mistakes)) is not None
        ),
    )
    for index, one in enumerate(spec.faults):
        _check_time(
            one,
            f"failover.faults[{index}]",
            hold_ns=failover.steady.hold_ns,
            duration_ns=duration_ns,
            mistakes=mistakes,
        )
    return failover


def _node(spec: FaultNodeSpec, index: int, system: System, mistakes: Mistakes) -> FaultNode:
    where = f"failover.nodes[{index}]"
    if system is System.OWN and spec.url is None:
        expected = "its base URL: what a fault strikes must be an authorised host"
        mistakes.add(f"{where}.url", "nothing", expected)
    for key in _FILLED if system is System.EMBEDDED else ():
        if getattr(spec, key):
            mistakes.add(f"{where}.{key}", "a value", "nothing: the harness starts this node")
    for number, server in enumerate(spec.servers):
        if _SERVER.fullmatch(server) is None:
            at = f"{where}.servers[{number}]"
            mistakes.add(at, shown(server), '"backend/server", as HAProxy names it')
    for key, form in (("namespace", _NAMESPACE), ("interface", _INTERFACE)):
        value = getattr(spec, key)
        if value and form.fullmatch(value) is None:
            mistakes.add(f"{where}.{key}", shown(value), f"the name of a network {key}")
    return FaultNode(
        name=spec.name,
        zone=spec.zone or "",
        url=spec.url or "",
        is_voter=spec.voter,
        pid_file=spec.pid_file,
        start=spec.start,
        servers=spec.servers,
        namespace=spec.namespace,
        interface=spec.interface,
        proxy=spec.proxy,
        owner_pid=0,
    )


def _check_front(targets: Sequence[Node], mistakes: Mistakes) -> None:
    """HAProxy of an embedded system listens where the one target is: on this host."""
    if len(targets) > 1:
        expected = "one: where HAProxy of the embedded system listens"
        mistakes.add("target.nodes", f"{len(targets)} nodes", expected)
    for index, node in enumerate(targets):
        schemes = {node.scheme} if node.grpc is None else {node.scheme, node.grpc.scheme}
        if node.foreign_hosts or schemes != {"http"}:
            expected = "http:// on loopback: the harness listens there"
            mistakes.add(f"target.nodes[{index}]", shown(node.name), expected)


def _haproxy(spec: HaproxySpec | None) -> Haproxy | None:
    if spec is None:
        return None
    return Haproxy(
        admin=spec.admin,
        inter_ns=spec.inter,
        fastinter_ns=spec.inter if spec.fastinter is None else spec.fastinter,
        check_timeout_ns=spec.inter if spec.check_timeout is None else spec.check_timeout,
        fall=spec.fall,
        rise=spec.rise,
    )


def _check_sections(spec: FailoverSpec, mistakes: Mistakes) -> None:
    if not spec.nodes:
        mistakes.add("failover.nodes", "none", "at least one [[failover.nodes]]")
    if not spec.faults:
        mistakes.add("failover.faults", "none", "at least one [[failover.faults]]")
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


def _fault(
    spec: FaultSpec,
    index: int,
    nodes: Sequence[FaultNode],
    failover: FailoverSpec,
    mistakes: Mistakes,
) -> Fault | None:
    where = f"failover.faults[{index}]"
    actions = known_actions()
    if not can_name(spec.action, actions):
        mistakes.add(f"{where}.action", shown(spec.action), one_of(spec.action, actions))
    needs = ACTIONS.get(spec.action)
    on = mistakes.attempt(f"{where}.on", spec.on, partial(parse_selector, spec.on))
    if on is not None:
        _check_selector(on, f"{where}.on", nodes, failover, mistakes)
    if needs is not None:
        _check_needs(spec, needs, where, mistakes)
        struck = () if on is None else static_choice(on, nodes)
        _check_nodes(spec.action, needs, where, struck, failover=failover, mistakes=mistakes)
    if spec.after is None and spec.at is None:
        mistakes.add(f"{where}.at", "nothing", 'when: an offset such as "30 s", or after = "FAULT"')
    if spec.after is not None:
        _check_after(spec, where, failover.faults[:index], mistakes)
    if on is None:
        return None
    is_momentary = needs is not None and needs.is_momentary
    undo_after_ns = 0 if spec.undo_after is None and is_momentary else spec.undo_after
    return Fault(
        name=spec.name,
        action=spec.action,
        on=on,
        at_ns=spec.at or 0,
        after=spec.after,
        undo_after_ns=undo_after_ns,
        settings=Settings(
            latency_ns=spec.latency or 0,
            bytes_per_s=spec.bandwidth or 0,
            weight_percent=spec.weight or 0,
            command=spec.command,
            undo_command=spec.undo_command,
            verify_command=spec.verify_command,
            timeout_ns=spec.timeout,
        ),
    )


def _check_selector(
    on: Selector,
    where: str,
    nodes: Sequence[FaultNode],
    failover: FailoverSpec,
    mistakes: Mistakes,
) -> None:
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


def _check_needs(spec: FaultSpec, needs: ActionNeeds, where: str, mistakes: Mistakes) -> None:
    for key in _SETTINGS:
        is_given = bool(getattr(spec, key)) or (key == "weight" and spec.weight is not None)
        if is_given and key not in (*needs.settings, *needs.optional):
            mistakes.add(f"{where}.{key}", "a value", f"nothing: {spec.action} takes none")
        if not is_given and key in needs.settings:
            mistakes.add(f"{where}.{key}", "nothing", f"this key: {spec.action} needs it")


def _check_nodes(
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
        if is_embedded and key in _FILLED:
            continue
        lacking = [node.name for node in struck if not getattr(node, key)]
        if lacking:
            names = ", ".join(lacking)
            mistakes.add(f"{where}.action", shown(action), f"{key} of every node, also of {names}")


def _check_after(
    spec: FaultSpec, where: str, before: Sequence[FaultSpec], mistakes: Mistakes
) -> None:
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


def _check_time(
    spec: FaultSpec, where: str, *, hold_ns: int, duration_ns: int, mistakes: Mistakes
) -> None:
    """An offset lies within the run, behind the time that the steady state needs."""
    if spec.at is None or spec.after is not None:
        return
    if spec.at < hold_ns:
        expected = f"{format_duration(hold_ns)} or later: the steady state is watched for so long"
        mistakes.add(f"{where}.at", format_duration(spec.at), expected)
    if spec.at + (spec.undo_after or 0) >= duration_ns:
        expected = f"applied and undone before the run ends at {format_duration(duration_ns)}"
        mistakes.add(f"{where}.at", format_duration(spec.at), expected, rests_on=("stages",))
