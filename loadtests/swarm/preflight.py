"""An agent's look at its host and the target before load begins.

Reads limits and authorisation of this host and opens one TCP connection to every node,
which is closed again at once. It raises the soft limit of descriptors to the hard one
(children inherit it) and changes nothing else. A finding is a sentence for the archive's
warnings or for a refusal; whether it ends the run is the coordinator's to decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import gevent
from gevent import socket

from loadtests.errors import TargetError
from loadtests.plan.addresses import RefusedAddressError, check_addresses
from loadtests.plan.authorisation import (
    Configuration,
    authorisation_of,
    authorised_hosts,
    refuse_unauthorised,
)
from loadtests.plan.host import ephemeral_ports, raise_descriptor_limit
from loadtests.plan.model import Node, Plan
from loadtests.swarm.target import PROOF_PATH, seen_instead_of

CONNECT_TIMEOUT_S: Final = 3.0
_OWN_DESCRIPTORS: Final = 64  # of an engine besides its connections


def unreachable_nodes(nodes: Sequence[Node], authorised: Sequence[str] = ()) -> tuple[str, ...]:
    """Try a TCP connection to every node, all at a time; one sentence for each that fails."""
    attempts = [gevent.spawn(_connect, node, authorised) for node in nodes]
    gevent.joinall(attempts)
    return tuple(attempt.value for attempt in attempts if attempt.value is not None)


def _connect(node: Node, authorised: Sequence[str]) -> str | None:
    """The same as `plan.connecting.connect`, waiting in the hub."""
    try:
        found = socket.getaddrinfo(node.host, node.port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        check_addresses(node.host, addresses, authorised)
        _connect_first(addresses, node.port)
        return None  # noqa: TRY300 - what can fail stands together
    except RefusedAddressError as error:
        return f"{node.name}: {error}"
    except OSError as error:
        reason = (error.strerror or "no connection in time").lower()
        name = "" if node.name == node.authority else f"node {node.name} at "
        return f"{name}{node.scheme}://{node.authority}: {reason}"


def _connect_first(addresses: Sequence[str], port: int) -> None:
    """Return when one of them accepts; the last one's OSError otherwise."""
    for address in addresses[:-1]:
        with suppress(OSError), socket.create_connection((address, port), CONNECT_TIMEOUT_S):
            return
    with socket.create_connection((addresses[-1], port), CONNECT_TIMEOUT_S):
        return


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
    allowed = authorised_hosts(configuration, datetime.now(UTC))
    silent = unreachable_nodes(plan.nodes, allowed)
    if len(silent) == len(plan.nodes):
        return Findings(warnings=(), failure=("target", _silence(silent)))
    unproven = _unproven(plan, configuration, allowed)
    if unproven is not None:
        return Findings(warnings=(), failure=("target", unproven))
    warnings = tuple(f"not reachable: {sentence}" for sentence in silent)
    return Findings(warnings=warnings + _limits(plan), failure=None)


def _unproven(plan: Plan, configuration: Configuration, allowed: Sequence[str]) -> str | None:
    """A node whose owner's agreement is asked for and not served there, in a sentence."""
    for node in plan.nodes:
        for host in node.foreign_hosts:
            entry = authorisation_of(host, configuration, datetime.now(UTC))
            if entry.proof is None:
                continue
            ask = (entry.proof, node, plan.tls, allowed)
            seen = gevent.get_hub().threadpool.apply(seen_instead_of, ask)  # it blocks
            if seen is not None:
                return (
                    f"node {node.name}: saw {seen} at {PROOF_PATH}; expected the token that"
                    f" {entry.owner} gave (proof of authorised_targets.{entry.host!r})"
                )
    return None


def _silence(sentences: Sequence[str]) -> str:
    return f"the target does not answer at {'; '.join(sentences)}; is it running?"


def _limits(plan: Plan) -> tuple[str, ...]:
    warnings: list[str] = []
    descriptors = raise_descriptor_limit()
    if plan.all_connections + _OWN_DESCRIPTORS > descriptors:
        warnings.append(
            f"{descriptors} descriptors allowed, the plan's {plan.all_connections} connections may"
            " not fit on this host alone"
        )
    heaviest = max(node.weight for node in plan.nodes) / sum(node.weight for node in plan.nodes)
    ports = ephemeral_ports()
    if plan.all_connections * heaviest > ports:
        warnings.append(
            f"{ports} ephemeral ports, the plan opens up to"
            f" {round(plan.all_connections * heaviest)} connections to one node"
        )
    return tuple(warnings)
