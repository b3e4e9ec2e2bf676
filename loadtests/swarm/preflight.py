"""What a host can do, looked at before load begins: cores, descriptors, ports, the target.

Reads the host and opens one TCP connection to every node, which is closed again at once.
It raises the soft limit of descriptors to the hard one (children inherit it) and changes
nothing else. A finding is a sentence for the archive's warnings or for a refusal; whether
it ends the run is the coordinator's to decide.
"""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import gevent

from loadtests.errors import TargetError
from loadtests.plan.authorisation import (
    Configuration,
    find_configuration,
    load_configuration,
    refuse_unauthorised,
)
from loadtests.plan.model import Node, Plan

CONNECT_TIMEOUT_S: Final = 3.0
_OWN_DESCRIPTORS: Final = 64  # of an engine besides its connections
_PORT_RANGE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_PORTS_BY_DEFAULT: Final = (32768, 60999)  # Linux's default, ip(7)


def own_configuration() -> Configuration:
    """The configuration of this host's user; ScenarioError when it is not valid."""
    return load_configuration(find_configuration(os.environ, folder=Path.cwd(), home=Path.home()))


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0))


def engine_count(engines: int | None, *, beside_master: bool) -> int:
    """Engines of an agent: as told, else one a core, less one for the master on its host."""
    if engines is not None:
        return engines
    return max(1, usable_cores() - 1) if beside_master else usable_cores()


def raise_descriptor_limit() -> int:
    """Raise the soft RLIMIT_NOFILE to the hard one and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def ephemeral_ports() -> int:
    """Local ports that the kernel may give to outgoing connections, to one address and port."""
    try:
        low, high = map(int, _PORT_RANGE.read_text(encoding="ascii").split())
    except (OSError, ValueError):
        low, high = _PORTS_BY_DEFAULT
    return high - low + 1


def unreachable_nodes(nodes: Sequence[Node]) -> tuple[str, ...]:
    """Try a TCP connection to every node, all at a time; one sentence for each that fails."""
    attempts = [gevent.spawn(_connect, node) for node in nodes]
    gevent.joinall(attempts)
    return tuple(attempt.value for attempt in attempts if attempt.value is not None)


def _connect(node: Node) -> str | None:
    try:
        with socket.create_connection((node.host, node.port), timeout=CONNECT_TIMEOUT_S):
            return None
    except OSError as error:
        return f"node {node.name} at {node.authority}: {error}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What preflight found; `failure` is (family, sentence) and keeps the run from starting."""

    warnings: tuple[str, ...]
    failure: tuple[str, str] | None


def check_host(plan: Plan, configuration: Configuration) -> Findings:
    """Check this host and the target for a plan, by this host's own configuration.

    A target of which no node answers is a failure; a single silent node is a warning,
    because a degraded cluster may be the very thing to measure.
    """
    try:
        refuse_unauthorised(plan, configuration, datetime.now(UTC))
    except TargetError as error:
        return Findings(warnings=(), failure=("target", str(error)))
    silent = unreachable_nodes(plan.nodes)
    if len(silent) == len(plan.nodes):
        return Findings(warnings=(), failure=("target", f"not reachable: {'; '.join(silent)}"))
    warnings = tuple(f"not reachable: {sentence}" for sentence in silent)
    return Findings(warnings=warnings + _limits(plan), failure=None)


def _limits(plan: Plan) -> tuple[str, ...]:
    warnings: list[str] = []
    descriptors = raise_descriptor_limit()
    if plan.connections + _OWN_DESCRIPTORS > descriptors:
        warnings.append(
            f"{descriptors} descriptors allowed, the plan's {plan.connections} connections may"
            " not fit on this host alone"
        )
    heaviest = max(node.weight for node in plan.nodes) / sum(node.weight for node in plan.nodes)
    ports = ephemeral_ports()
    if plan.connections * heaviest > ports:
        warnings.append(
            f"{ports} ephemeral ports, the plan opens up to"
            f" {round(plan.connections * heaviest)} connections to one node"
        )
    return tuple(warnings)
