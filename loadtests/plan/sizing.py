"""Hosts of each type that a rate takes, what they need and cost: ranges of what was measured.

    engines = lambda * CPU seconds of a request / 0.9           as in `engines.py`
    hosts   = the most of  engines / cores (low: one a core; high: one core is left to the
              agent and the kernel's network work, and the dearer cost of a request counts)
              and  bits on the wire / the type's sustained bandwidth, each way
    ports   = connections of a host to the heaviest node; addresses = ports / those of one address
    wire    = bytes of requests and answers + 90 bytes a segment: Ethernet's 38 with preamble,
              check sum and gap (IEEE 802.3), 20 of IPv4, 32 of TCP with its timestamps
              (RFC 791, 9293, 7323). Low: full segments of 1,448 bytes; high: a segment for
              each message and an acknowledgement of its own for each segment
    cost    = hosts and a master * (length of the run + what is beside it) * price of an hour

What it does not know it does not say: TLS's bytes and CPU, packets a second that a cloud
allows, whether a core of the type is as fast as a core that was calibrated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from loadtests.clock import NS_PER_S
from loadtests.plan.engines import engines_for
from loadtests.plan.feasibility import RESERVED_DESCRIPTORS
from loadtests.plan.host_types import HostType, HostTypes, MasterLoad
from loadtests.plan.spread import Spread, exactly

SEGMENT_BYTES: Final = 1448  # of a 1,500-byte packet, less 20 of IP and 32 of TCP
SEGMENT_OVERHEAD_BYTES: Final = 90
_NS_PER_H: Final = 3600 * NS_PER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What requests are made of, measured: engine CPU and bytes each way, of one."""

    request_ns: Spread
    sent_bytes: Spread | None  # None: nobody has measured them
    received_bytes: Spread | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What is to be sent: `to_one_node` connections share the heaviest address and port."""

    per_s: float
    length_ns: int
    in_flight: float | None  # by Little's law at the limits; None without a limit
    connections: int
    to_one_node: int
    traffic: Traffic


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSize:
    """Hosts of one type for a demand; `limit` is what asks for the most of them."""

    type_name: str
    limit: str
    engines: Spread
    hosts: Spread
    engines_per_host: Spread
    connections_per_host: Spread
    ports_per_host_and_node: Spread
    addresses_per_host: Spread
    descriptors_per_engine: Spread
    sent_bits_per_s: Spread | None  # of one host
    received_bits_per_s: Spread | None
    master_ratio: Spread | None  # of one core; None beyond what was measured
    run_cost: Spread
    month_cost: Spread


def wire_bytes(message_bytes: Spread, answer_bytes: Spread) -> Spread:
    """Bytes on the wire one way for a message, with the acknowledgements of what comes back."""
    full = message_bytes.low / SEGMENT_BYTES * SEGMENT_OVERHEAD_BYTES
    segments = max(1, math.ceil(message_bytes.high / SEGMENT_BYTES))
    acknowledgements = max(1, math.ceil(answer_bytes.high / SEGMENT_BYTES))
    alone = (segments + acknowledgements) * SEGMENT_OVERHEAD_BYTES
    return Spread(low=message_bytes.low + full, high=message_bytes.high + alone)


def wire_of(traffic: Traffic) -> tuple[Spread, Spread] | None:
    """Bytes on the wire of one request, out and in; None where its bytes are not known."""
    sent, received = traffic.sent_bytes, traffic.received_bytes
    if sent is None or received is None:
        return None
    return wire_bytes(sent, received), wire_bytes(received, sent)


def master_load(points: Sequence[MasterLoad], agents: Spread) -> Spread | None:
    """Part of a core; between two measured numbers of agents on a line, below the least at most it.

    None beyond the largest, and where nothing was measured.
    """
    if not points or agents.high > points[-1].agents:
        return None
    low = _on_line([(one.agents, one.ratio.low) for one in points], agents.low)
    high = _on_line([(one.agents, one.ratio.high) for one in points], agents.high)
    return Spread(low=0.0 if agents.low < points[0].agents else low, high=high)


def _on_line(points: Sequence[tuple[int, float]], x: float) -> float:
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 <= x <= x1:
            return y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    return points[0][1] if x < points[0][0] else points[-1][1]


def _hosts(
    demand: Demand, kind: HostType, engines: Spread, wire: tuple[Spread, Spread] | None
) -> tuple[Spread, str]:
    """Hosts, and what asks for the most of them at the high end."""
    low = [math.ceil(engines.low / kind.cores)]
    high = [("CPU", math.ceil(engines.high / (kind.cores - 1)))]
    for name, each in zip(("network, sent", "network, received"), wire or (), strict=False):
        bits = each * (8 * demand.per_s / kind.bits_per_s)
        low.append(math.ceil(bits.low))
        high.append((name, math.ceil(bits.high)))
    limit, most = max(high, key=lambda one: one[1])
    return Spread(low=max(1, *low), high=max(1, most)), limit


def size_for(demand: Demand, kind: HostType, types: HostTypes) -> FleetSize:
    """Hosts of one type; the ends of a range belong together (few hosts: much on each)."""
    engines = demand.traffic.request_ns.through(lambda ns: engines_for(demand.per_s, ns))
    wire = wire_of(demand.traffic)
    hosts, limit = _hosts(demand, kind, engines, wire)

    def on_each(total: float) -> Spread:
        """The part of one host, whole: many hosts have less each."""
        return Spread(low=math.ceil(total / hosts.high), high=math.ceil(total / hosts.low))

    engines_per_host = Spread(low=kind.cores - 1, high=kind.cores)
    connections, ports = on_each(demand.connections), on_each(demand.to_one_node)
    each_engine = Spread(
        low=math.ceil(connections.low / engines_per_host.high),
        high=math.ceil(connections.high / engines_per_host.low),
    )
    run_cost = (hosts + exactly(1)) * _price(kind, demand.length_ns, types)
    bits = None if wire is None else [one * (8 * demand.per_s) for one in wire]
    return FleetSize(
        type_name=kind.name,
        limit=limit,
        engines=engines,
        hosts=hosts,
        engines_per_host=engines_per_host,
        connections_per_host=connections,
        ports_per_host_and_node=ports,
        addresses_per_host=ports.through(lambda n: max(1, math.ceil(n / types.limits.ports))),
        descriptors_per_engine=each_engine + exactly(RESERVED_DESCRIPTORS),
        sent_bits_per_s=None if bits is None else _each(bits[0], hosts),
        received_bits_per_s=None if bits is None else _each(bits[1], hosts),
        master_ratio=master_load(types.master, hosts),
        run_cost=run_cost,
        month_cost=run_cost * types.nights_per_month,
    )


def _each(total: Spread, hosts: Spread) -> Spread:
    return Spread(low=total.low / hosts.high, high=total.high / hosts.low)


def _price(kind: HostType, length_ns: int, types: HostTypes) -> float:
    """What one host costs for one run."""
    billed_ns = max(types.minimum_ns, length_ns + types.beside_ns)
    return kind.per_hour * billed_ns / _NS_PER_H


def size_fleets(demand: Demand, types: HostTypes) -> tuple[FleetSize, ...]:
    """One size for each type, in the file's order."""
    return tuple(size_for(demand, kind, types) for kind in types.hosts)
