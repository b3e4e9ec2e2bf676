"""An agent's look at its host and the target before load begins.

Reads limits and authorisation of this host and opens one TCP connection to every node,
which is closed again at once. It raises the soft limit of descriptors to the hard one
(children inherit it) and changes nothing else. A finding is a sentence for the archive's
warnings or for a refusal; whether it ends the run is the coordinator's to decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import gevent
from gevent import socket

from loadtests.errors import TargetError
from loadtests.plan.authorisation import Configuration, refuse_unauthorised
from loadtests.plan.host import ephemeral_ports, raise_descriptor_limit
from loadtests.plan.model import Node, Plan

CONNECT_TIMEOUT_S: Final = 3.0
_OWN_DESCRIPTORS: Final = 64  # of an engine besides its connections


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
        reason = (error.strerror or "no connection in time").lower()
        name = "" if node.name == node.authority else f"node {node.name} at "
        return f"{name}{node.scheme}://{node.authority}: {reason}"


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
        return Findings(warnings=(), failure=("target", _silence(silent)))
    warnings = tuple(f"not reachable: {sentence}" for sentence in silent)
    return Findings(warnings=warnings + _limits(plan), failure=None)


def _silence(sentences: Sequence[str]) -> str:
    return f"the target does not answer at {'; '.join(sentences)}; is it running?"


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
