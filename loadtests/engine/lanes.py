"""Lanes: the ways from an engine to its nodes, one for each protocol and node in use.

A mixed plan sends REST to a node's base URL and gRPC to where that node listens for it, on
pools of their own. Pure: which lanes a plan has, where each leads, and how many of the
engine's connections belong to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loadtests.engine.shares import connections_per_node
from loadtests.plan.call import Endpoint, Protocol
from loadtests.plan.model import Node, Plan


def endpoint_of(node: Node, protocol: Protocol) -> Endpoint:
    """Where a node takes requests of a protocol."""
    if protocol is Protocol.GRPC and node.grpc is not None:
        return node.grpc
    return Endpoint(scheme=node.scheme, host=node.host, port=node.port)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lanes:
    """Lane `l * len(nodes) + n` is protocol number l to node number n."""

    protocols: tuple[Protocol, ...]  # those that the requests use, in the order of the enum
    weights: tuple[float, ...]  # of each protocol's requests together
    nodes: tuple[Node, ...]

    @property
    def multiplexed(self) -> tuple[Protocol, ...]:
        """Protocols whose connections carry many requests."""
        return tuple(p for p in self.protocols if p is not Protocol.HTTP1)

    def lane(self, protocol: Protocol, node: int) -> int:
        """Return the lane's number."""
        return self.protocols.index(protocol) * len(self.nodes) + node

    def connections(self, single: int, multiplexed: int, turn: int) -> list[int]:
        """Divide both kinds of connections over the lanes; none is left without one."""
        parts: list[int] = []
        for kind, total in ((False, single), (True, multiplexed)):
            weights = [
                weight * node.weight
                for protocol, weight in zip(self.protocols, self.weights, strict=True)
                for node in self.nodes
                if (protocol is not Protocol.HTTP1) == kind
            ]
            if weights:
                parts += connections_per_node(total, weights, turn)
        return parts


def lanes_of(plan: Plan) -> Lanes:
    """Return the lanes that a plan uses."""
    weights = {
        protocol: sum(r.weight for r in plan.requests if r.protocol is protocol)
        for protocol in Protocol
    }
    used = tuple(protocol for protocol in Protocol if _uses(plan, protocol))
    return Lanes(
        protocols=used,
        weights=tuple(weights[protocol] or 1.0 for protocol in used),
        nodes=plan.nodes,
    )


def _uses(plan: Plan, protocol: Protocol) -> bool:
    return any(request.protocol is protocol for request in plan.requests)


def lanes_of_slots(plan: Plan, lanes: Lanes) -> list[int]:
    """Return the lane of every slot; the rows of connections have the first lane to their node."""
    slots = plan.slots
    protocols: Sequence[Protocol] = [request.protocol for request in plan.requests]
    found = []
    for slot in range(len(slots)):
        _, request, node = slots.indices(slot)
        protocol = protocols[request] if request < len(protocols) else lanes.protocols[0]
        found.append(lanes.lane(protocol, node))
    return found
