"""Types from the target itself: server reflection, asked before the plan is built.

Only nodes that may be loaded are asked, the first that answers. The client is grpcio's, in
a process of its own (`reflection_client.py`): its threads and fork handlers have no place
beside Locust, which patches threads, nor in a process that starts engines.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

import msgspec

from loadtests.errors import TargetError
from loadtests.plan.authorisation import Configuration, authorisation_of, authorised_hosts
from loadtests.plan.call import Endpoint
from loadtests.plan.model import Node, Tls

TIMEOUT_S: Final = 20.0
NODES_ASKED: Final = 3
EXPECTED: Final = "server reflection (or protos, or a descriptor_set, in [grpc])"

Reflect = Callable[[Sequence[Node], Tls | None], bytes]


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What the client process is told: where to ask, and how."""

    endpoint: Endpoint
    tls: Tls | None
    authorised: tuple[str, ...]  # besides loopback; what the name resolves to is held against it


def _ask(question: Question) -> tuple[bytes, str]:
    """The descriptor set, or what was seen instead of one."""
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "loadtests.plan.reflection_client"],
            input=msgspec.json.encode(question),
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return b"", f"no end after {TIMEOUT_S:g} s"
    if ended.returncode == 0:
        return ended.stdout, ""
    lines = ended.stderr.decode(errors="replace").strip().splitlines()
    return b"", lines[-1] if lines else f"exit code {ended.returncode}"


def reflector(configuration: Configuration, now: datetime) -> Reflect:
    """Asks nodes that `configuration` allows at `now` (with a zone); TargetError otherwise."""

    def reflect(nodes: Sequence[Node], tls: Tls | None) -> bytes:
        for node in nodes:
            for host in node.foreign_hosts:
                authorisation_of(host, configuration, now)
        seen, allowed = [], authorised_hosts(configuration, now)
        for node in nodes[:NODES_ASKED]:
            own = Endpoint(scheme=node.scheme, host=node.host, port=node.port)
            data, failure = _ask(Question(endpoint=node.grpc or own, tls=tls, authorised=allowed))
            if not failure:
                return data
            seen.append(f"{node.name}: {failure}")
        raise TargetError(where="grpc.reflection", seen="; ".join(seen), expected=EXPECTED)

    return reflect
