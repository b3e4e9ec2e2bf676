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
from pathlib import Path
from typing import Final

import gevent

from loadtests.plan.model import Node

CONNECT_TIMEOUT_S: Final = 3.0
_PORT_RANGE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_PORTS_BY_DEFAULT: Final = (32768, 60999)  # Linux's default, ip(7)


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
