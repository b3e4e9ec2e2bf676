"""What a failover is expected to do, said before anything is done. Pure arithmetic.

Quorum: of n voters a majority is floor(n / 2) + 1 (Raft, section 5.1 of "In Search of an
Understandable Consensus Algorithm"). Of the nodes that a fault can strike the worst are
taken: as many voters as there are among them, and the leader.

Detection by HAProxy's checks (configuration manual 2.6, section 5.2, "fall", "inter",
"fastinter"): a server is down after `fall` failed checks in a row. The first one comes up to
`inter` after the fault, the others `fastinter` apart, because the server's state is in doubt
by then. A process that is gone refuses at once; one that hangs, or a cut network, costs each
check its timeout. So

    least = (fall - 1) * fastinter + wait
    most  = inter + (fall - 1) * fastinter + fall * wait      wait = 0 or check_timeout

where `wait` of the least is one timeout: the first check may have been under way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from loadtests.plan.failover import (
    Chosen,
    Failover,
    Fault,
    FaultNode,
    Haproxy,
    Quorum,
    static_choice,
    struck_count,
)
from loadtests.plan.rollout import weights_for
from loadtests.plan.units import format_duration

# Actions after which a node answers nothing, and whether its port refuses at once.
_REFUSES: Final = frozenset({"kill", "stop", "restart", "reset"})
_HANGS: Final = frozenset({"pause", "cut", "black-hole", "half-open"})
_ORDERLY: Final = frozenset({"drain", "maintenance", "weight", "noop"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """Of one fault. `detection_ns` is least and most, None where no check would notice.

    `unavailable_ns` is the most that requests fail for: None means as long as the fault is
    in force (which `text` says), 0 that none should fail.
    """

    fault: str
    struck: tuple[str, ...]  # all that it can strike
    lost: int  # nodes
    has_quorum: bool
    detection_ns: tuple[int, int] | None
    unavailable_ns: int | None
    text: str


def predict(failover: Failover) -> tuple[Expected, ...]:
    """What each fault is expected to do, on its own."""
    return tuple(_expected(fault, failover) for fault in failover.faults)


def majority_of(voters: int) -> int:
    """Voters that must agree."""
    return voters // 2 + 1


def lost_voters(fault: Fault, nodes: Sequence[FaultNode]) -> int:
    """Voters that a fault takes at the worst."""
    struck = static_choice(fault.on, nodes)
    return min(struck_count(fault.on, nodes), sum(node.is_voter for node in struck))


def detection_ns(action: str, haproxy: Haproxy) -> tuple[int, int] | None:
    """Least and most time until HAProxy sends the node no more requests."""
    if action not in _REFUSES | _HANGS:
        return None
    wait_ns = haproxy.check_timeout_ns if action in _HANGS else 0
    more_ns = (haproxy.fall - 1) * haproxy.fastinter_ns
    return more_ns + wait_ns, haproxy.inter_ns + more_ns + haproxy.fall * wait_ns


def _expected(fault: Fault, failover: Failover) -> Expected:
    nodes = failover.nodes
    voters = sum(node.is_voter for node in nodes)
    lost = lost_voters(fault, nodes)
    stops = fault.action in _REFUSES | _HANGS
    has_quorum = failover.quorum is Quorum.NONE or not stops or voters - lost >= majority_of(voters)
    found = None if failover.haproxy is None else detection_ns(fault.action, failover.haproxy)
    unavailable_ns = _unavailable_ns(fault, failover, has_quorum=has_quorum, found=found)
    return Expected(
        fault=fault.name,
        struck=tuple(node.name for node in static_choice(fault.on, nodes)),
        lost=struck_count(fault.on, nodes),
        has_quorum=has_quorum,
        detection_ns=found,
        unavailable_ns=unavailable_ns,
        text=_text(fault, failover, lost, has_quorum=has_quorum, found=found),
    )


def _can_strike_leader(fault: Fault) -> bool:
    return fault.on.chosen is not Chosen.FOLLOWER


def _unavailable_ns(
    fault: Fault, failover: Failover, *, has_quorum: bool, found: tuple[int, int] | None
) -> int | None:
    if not has_quorum:
        return None
    if fault.action in _ORDERLY:
        return 0
    if found is None:
        return None
    election_ns = failover.election_ns if _can_strike_leader(fault) else 0
    return max(found[1], election_ns)


def _quorum_text(failover: Failover, lost: int, *, has_quorum: bool) -> str:
    voters = sum(node.is_voter for node in failover.nodes)
    need = majority_of(voters)
    word = "quorum is kept" if has_quorum else "NO QUORUM"
    return f"{word}: {voters - lost} of {voters} voters are left, {need} are needed"


def _text(
    fault: Fault,
    failover: Failover,
    lost: int,
    *,
    has_quorum: bool,
    found: tuple[int, int] | None,
) -> str:
    """One sentence after the other, for a person."""
    parts = []
    if failover.quorum is Quorum.MAJORITY and fault.action in _REFUSES | _HANGS:
        parts.append(_quorum_text(failover, lost, has_quorum=has_quorum))
    if not has_quorum:
        until = (
            "until the end of the run"
            if fault.undo_after_ns is None
            else f"for the {format_duration(fault.undo_after_ns)} that it lasts, and an election"
        )
        parts.append(f"what needs consensus fails {until}")
        return "; ".join(parts)
    if fault.action == "noop":
        parts.append("nothing is done to the nodes")
    elif fault.action in _ORDERLY:
        parts.append("no request should fail")
    elif found is not None:
        least, most = map(format_duration, found)
        parts.append(f"HAProxy's checks take {least} to {most} to notice")
        if _can_strike_leader(fault) and failover.election_ns:
            parts.append(f"a new leader takes up to {format_duration(failover.election_ns)}")
    else:
        parts.append("nothing is known here of who would notice")
    return "; ".join(parts)


def rollout_text(failover: Failover) -> str:
    """How traffic will be moved, and what moves it back how soon at the latest."""
    rollout = failover.rollout
    assert rollout is not None, "of a rollout alone"
    old, new = (len(failover.nodes_of(is_new=is_new)) for is_new in (False, True))
    phases = ", then ".join(
        f"{weights_for(one.traffic_ratio, old, new).share(old, new):.1%} for "
        f"{format_duration(one.hold_ns)}"
        for one in rollout.phases
    )
    after_ns = rollout.sustain_ns + rollout.every_ns
    return (
        f"rollout: version {rollout.to} gets {phases} of the traffic; a trigger that holds for "
        f"{format_duration(rollout.sustain_ns)} rolls back, {format_duration(after_ns)} after it "
        "is first seen at the latest"
    )


def placement_text(failover: Failover) -> str:
    """Nodes by zone, and the zones whose loss leaves no quorum."""
    zones: dict[str, list[FaultNode]] = {}
    for node in failover.nodes:
        zones.setdefault(node.zone or "no zone", []).append(node)
    placed = "; ".join(
        f"{zone}: {', '.join(node.name for node in nodes)}" for zone, nodes in zones.items()
    )
    if failover.quorum is Quorum.NONE:
        return f"{placed}; one node is enough to serve"
    voters = sum(node.is_voter for node in failover.nodes)
    need = majority_of(voters)
    fatal = [
        zone
        for zone, nodes in zones.items()
        if voters - sum(node.is_voter for node in nodes) < need
    ]
    said = f"{voters} voters need {need}"
    loss = f"the loss of {' or '.join(fatal)} halts it" if fatal else "any one zone may be lost"
    return f"{placed}; {said}: {loss}"
