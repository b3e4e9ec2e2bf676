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

from loadtests.plan.failover import (
    ACTIONS,
    Chosen,
    Condition,
    ConditionKind,
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
)
from loadtests.plan.fault_checks import (
    FILLED,
    Names,
    check_after,
    check_front,
    check_needs,
    check_nodes,
    check_sections,
    check_selector,
    check_time,
    check_when,
)
from loadtests.plan.model import Node
from loadtests.plan.objectives import parse_condition
from loadtests.plan.rollout import build_rollout
from loadtests.plan.spec import FailoverSpec, FaultNodeSpec, FaultSpec, HaproxySpec, LeaderSpec
from loadtests.plan.units import UnitError
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


def parse_selector(text: str) -> Selector:
    """Whom a fault strikes; UnitError otherwise."""
    match = _SELECTOR.fullmatch(text)
    if match is None:
        raise UnitError(SELECTOR_EXPECTED)
    if match["kind"]:
        return Selector(chosen=Chosen(match["kind"]), name=match["name"], count=1)
    word = match["word"] or match["one"]
    return Selector(chosen=Chosen(word), name="", count=int(match["count"] or 1))


def parse_when(text: str) -> Condition:
    """What a fault waits for; UnitError otherwise."""
    words = text.split()
    for kind in (ConditionKind.LEADER, ConditionKind.RECOVERED):
        *verb, name = words or [""]
        if " ".join(verb) == kind.value:
            return Condition(text=" ".join(words), kind=kind, name=name, sustain_ns=0)
    try:
        measure = parse_condition(text)
    except UnitError as error:
        expected = f'"recovered FAULT", "leader is NODE", or a measure: {error.expected}'
        raise UnitError(expected) from error
    return Condition(
        text=measure.objective.text, kind=ConditionKind.MEASURE, name="",
        sustain_ns=measure.sustain_ns,
    )  # fmt: skip


def known_actions() -> tuple[str, ...]:
    """Built-in actions, then those of installed packages."""
    own = sorted({point.name for point in entry_points(group=ENTRY_POINTS)} - ACTIONS.keys())
    return (*ACTIONS, *own)


def build_failover(
    spec: FailoverSpec | None,
    targets: Sequence[Node],
    names: Names,
    *,
    duration_ns: int,
    mistakes: Mistakes,
) -> Failover | None:
    """The failover of a run of `duration_ns`; None where the scenario has none."""
    if spec is None:
        return None
    nodes = tuple(_node(one, index, spec.system, mistakes) for index, one in enumerate(spec.nodes))
    check_sections(spec, mistakes)
    if spec.system is System.EMBEDDED:
        check_front(targets, mistakes)
    failover = Failover(
        system=spec.system,
        quorum=spec.quorum,
        election_ns=spec.election,
        health_path=spec.health or "",
        steady=SteadyState(hold_ns=spec.steady_state.for_, within_ns=spec.steady_state.within),
        leader=_leader(spec.leader),
        haproxy=_haproxy(spec.haproxy),
        nodes=nodes,
        faults=tuple(
            fault
            for index, one in enumerate(spec.faults)
            if (fault := _fault(one, index, nodes, spec, names=names, mistakes=mistakes))
            is not None
        ),
        rollout=build_rollout(spec, nodes, duration_ns=duration_ns, mistakes=mistakes),
    )
    for index, one in enumerate(spec.faults):
        check_time(
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
    for key in FILLED if system is System.EMBEDDED else ():
        if getattr(spec, key):
            mistakes.add(f"{where}.{key}", "a value", "nothing: the harness starts this node")
    if system is System.OWN and spec.behaviour:
        mistakes.add(f"{where}.behaviour", "a value", "nothing: only embedded nodes misbehave")
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
        version=spec.version or "",
        behaviour=spec.behaviour,
    )


def _leader(spec: LeaderSpec | None) -> LeaderQuery | None:
    if spec is None:
        return None
    return LeaderQuery(
        method=spec.method, path=spec.path, body=spec.body, pointer=spec.pointer, own=spec.own
    )


def _settings(spec: FaultSpec) -> Settings:
    return Settings(
        latency_ns=spec.latency or 0,
        bytes_per_s=spec.bandwidth or 0,
        weight_percent=spec.weight or 0,
        command=spec.command,
        undo_command=spec.undo_command,
        verify_command=spec.verify_command,
        timeout_ns=spec.timeout,
    )


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


def _fault(
    spec: FaultSpec,
    index: int,
    nodes: Sequence[FaultNode],
    failover: FailoverSpec,
    *,
    names: Names,
    mistakes: Mistakes,
) -> Fault | None:
    where = f"failover.faults[{index}]"
    actions = known_actions()
    if not can_name(spec.action, actions):
        mistakes.add(f"{where}.action", shown(spec.action), one_of(spec.action, actions))
    needs = ACTIONS.get(spec.action)
    on = mistakes.attempt(f"{where}.on", spec.on, partial(parse_selector, spec.on))
    if on is not None:
        check_selector(on, f"{where}.on", nodes, failover, mistakes)
    if needs is not None:
        check_needs(spec, needs, where, mistakes)
        struck = () if on is None else static_choice(on, nodes)
        check_nodes(spec.action, needs, where, struck, failover=failover, mistakes=mistakes)
    when = None
    if spec.when is not None:
        when = mistakes.attempt(f"{where}.when", spec.when, partial(parse_when, spec.when))
        check_when(spec, when, where, failover, index=index, names=names, mistakes=mistakes)
    elif spec.after is None and spec.at is None:
        expected = 'when: an offset such as "30 s", after = "FAULT", or a condition'
        mistakes.add(f"{where}.at", "nothing", expected)
    if spec.after is not None:
        check_after(spec, where, failover.faults[:index], mistakes)
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
        settings=_settings(spec),
        when=when,
    )
