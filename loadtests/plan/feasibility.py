"""Can this plan reach its rate from these hosts? Arithmetic before any request is sent.

    descriptors = connections and channels of an engine + a reserve
    ports = connections from one host to one node

Every result is a finding with its numbers; a REFUSAL means that the plan cannot reach
its rate or that an objective cannot be met whatever the target does, and the run is
refused unless forced. What the plan asks for is computed in `needs.py`, the generator's
CPU in `engines.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from loadtests.plan.call import Protocol
from loadtests.plan.concurrency import carriers
from loadtests.plan.engines import GeneratorCosts, RequestKind, judge_engines
from loadtests.plan.model import Plan
from loadtests.plan.needs import (
    Finding,
    Severity,
    StageNeed,
    finding,
    judge_closed_ceilings,
    judge_concurrency,
    judge_samples,
    judge_throughput,
    judge_timeouts,
    need_of,
)
from loadtests.plan.pool_needs import judge_pool
from loadtests.plan.schedule import Schedule
from loadtests.plan.server_needs import judge_scraping

__all__ = [
    "Feasibility",
    "Finding",
    "GeneratorCosts",
    "HostLimits",
    "RequestKind",
    "Severity",
    "StageNeed",
    "assess",
]

RESERVED_DESCRIPTORS: Final = 64  # of an engine: its socket pair, timer, epoll, files, spare


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLimits:
    """What one host of the generator offers; the smallest where hosts differ."""

    cores: int
    descriptors: int  # hard limit of one process
    ephemeral_ports: int  # for each (address, destination) pair


@dataclass(frozen=True, slots=True, kw_only=True)
class Feasibility:
    """The assessment. Totals are over the run unless named per engine or host.

    `peak_per_s` is None for closed load that neither pauses nor has a limit on response
    time: its rate is the target's to decide.
    """

    stages: tuple[StageNeed, ...]
    peak_per_s: float | None
    in_flight_needed: float | None
    in_flight_available: int
    connections_per_engine: int  # of HTTP/1.1
    channels_per_engine: int
    descriptors_per_engine: int
    ports_per_host_and_node: int
    engines_needed: int | None
    findings: tuple[Finding, ...]

    @property
    def can_reach(self) -> bool:
        """False when any finding is a refusal."""
        return all(one.severity is not Severity.REFUSAL for one in self.findings)


def _descriptors(connections: int, limits: HostLimits) -> Iterator[Finding]:
    needed = connections + RESERVED_DESCRIPTORS
    if needed > limits.descriptors:
        yield finding(
            Severity.REFUSAL,
            f"{needed:,} descriptors per engine, {limits.descriptors:,} allowed: "
            "raise the limit or use more engines",
            descriptors_needed=needed,
            descriptors_available=limits.descriptors,
        )


def _ports(needed: int, limits: HostLimits) -> Iterator[Finding]:
    if needed > limits.ephemeral_ports:
        yield finding(
            Severity.REFUSAL,
            f"{needed:,} connections from one host to one node, {limits.ephemeral_ports:,} "
            "ephemeral ports: use more hosts or widen ip_local_port_range",
            ports_needed=needed,
            ports_available=limits.ephemeral_ports,
        )


def _spread(plan: Plan, engines: int) -> Iterator[Finding]:
    """Whether every engine can have a connection, and one to every node; so for channels."""
    for kind, number in (
        ("connections", plan.connections),
        ("channels", plan.multiplexing.connections),
    ):
        if number == 0:  # no request uses this kind
            continue
        if number < engines:
            severity, text = Severity.REFUSAL, "some would have none"
        elif number < engines * len(plan.nodes):
            severity, text = Severity.WARNING, "not every engine can hold one to every node"
        else:
            continue
        yield finding(
            severity,
            f"{number} {kind} for {engines} engines x {len(plan.nodes)} nodes: {text}",
            connections=number,
            engines=engines,
            nodes=len(plan.nodes),
        )


def _to_one_node(plan: Plan) -> int:
    """Connections that count against one pair of address and port of a node.

    Channels to a gRPC port of its own are apart from connections to the base URL.
    """
    own, multiplexed = plan.connections, plan.multiplexing.connections
    has_grpc_ports = all(node.grpc is not None for node in plan.nodes)
    is_all_grpc = all(r.protocol in {Protocol.HTTP1, Protocol.GRPC} for r in plan.requests)
    return max(own, multiplexed) if has_grpc_ports and is_all_grpc else own + multiplexed


def assess(
    plan: Plan,
    limits: HostLimits,
    costs: GeneratorCosts | None,
    *,
    hosts: int,
    engines: int,
) -> Feasibility:
    """Assess a plan on `hosts` hosts with `engines` engines in all (both 1 or more).

    `costs` is None where nobody has calibrated: a warning, since a guess would be a number.
    """
    if hosts < 1 or engines < 1:
        raise ValueError(f"{hosts} hosts and {engines} engines, expected 1 or more of each")
    totals = Schedule(plan).totals
    needs = tuple(
        need_of(plan, stage, planned) for stage, planned in zip(plan.stages, totals, strict=True)
    )
    carried = sum(carrier.available for carrier in carriers(plan))
    available = min(plan.in_flight_limit, carried)
    rates = [need.ceiling_per_s if need.peak_per_s is None else need.peak_per_s for need in needs]
    peak = max((rate for rate in rates if rate is not None), default=None)
    connections = -(-plan.connections // engines)
    channels = -(-plan.multiplexing.connections // engines)
    heaviest_ratio = max(n.weight for n in plan.nodes) / sum(n.weight for n in plan.nodes)
    ports = math.ceil(round(_to_one_node(plan) * heaviest_ratio / hosts, 6))
    engines_needed, cpu_findings = judge_engines(
        plan, peak, costs, cores=limits.cores * hosts, engines=engines
    )
    in_flights = [need.in_flight for need in needs if need.in_flight is not None]
    return Feasibility(
        stages=needs,
        peak_per_s=peak,
        in_flight_needed=max(in_flights, default=None),
        in_flight_available=available,
        connections_per_engine=connections,
        channels_per_engine=channels,
        descriptors_per_engine=connections + channels + RESERVED_DESCRIPTORS,
        ports_per_host_and_node=ports,
        engines_needed=engines_needed,
        findings=(
            *judge_concurrency(plan, needs, available),
            *judge_closed_ceilings(plan, needs),
            *judge_throughput(plan, needs),
            *judge_samples(plan, needs),
            *judge_timeouts(plan),
            *judge_pool(plan),
            *judge_scraping(plan),
            *_descriptors(connections + channels, limits),
            *_ports(ports, limits),
            *_spread(plan, engines),
            *cpu_findings,
        ),
    )
