"""Plans of calls to the servers of conformance.proto: a test changes one thing.

An order says to the letter what the server shall do, so every test knows beforehand what
both sides must have counted.
"""

from __future__ import annotations

import base64
import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

from conformance import SERVICE, descriptors, order
from driver import RunResult, run_plan
from grpc_plans import call, grpc_plan
from servers import Seen, Server
from test_engine_tls import Authority

from loadtests.clock import NS_PER_S
from loadtests.plan.call import CallShape, FieldEquals
from loadtests.plan.model import Plan, Request, Tls
from loadtests.record.window import Count, Kind, histogram_of

MEGABYTE = 1_000_000
SHAPES = {
    "Unary": CallShape.UNARY,
    "Download": CallShape.SERVER_STREAM,
    "Upload": CallShape.CLIENT_STREAM,
    "Talk": CallShape.BIDIRECTIONAL,
}


def answer_of(size_bytes: int) -> FieldEquals:
    """The payload of every answer is so many times "x", to the byte."""
    return FieldEquals(path="payload", value=base64.b64encode(b"x" * size_bytes).decode())


def ordered(method: str, fields: dict[str, object] | None = None, **changes: Any) -> Request:
    """A call of a method with an order; its name is the method's unless another is given."""
    return call(
        method,
        **{
            "message": order(**(fields or {})),
            "service": SERVICE,
            "shape": SHAPES[method],
            "response_type": "headroom.interop.Reply",
            "timeout_ns": 20 * NS_PER_S,
            **changes,
        },
    )


def conformance_plan(port: int, requests: Sequence[Request], **changes: Any) -> Plan:
    """Open load of a second over two connections; the answers of 1 MB fit."""
    usual: dict[str, Any] = {
        "descriptors": descriptors(),
        "grace_ns": 20 * NS_PER_S,
        "response_limit_bytes": 2 * MEGABYTE,
    }
    return grpc_plan(port, requests, **(usual | changes))


def over_tls(plan: Plan, authority: Authority) -> Plan:
    """The same plan over TLS to a server whose certificate the authority has issued."""
    tls = Tls(
        verify=True,
        ca_pem=authority.pem,
        client_certificate_path=None,
        client_key_path=None,
        server_name=None,
    )
    nodes = tuple(dataclasses.replace(node, scheme="https") for node in plan.nodes)
    return dataclasses.replace(plan, nodes=nodes, tls=tls)


def carry_out(server: Server, plan: Plan, *, timeout_s: float = 60.0) -> tuple[RunResult, Seen]:
    """Run a plan on one engine; what it counted, by its own laws, and what the server did."""
    server.seen()
    result = run_plan(plan, timeout_s=timeout_s)
    result.check_conservation()
    return result, server.seen()


def counts_of(result: RunResult, count: Count) -> dict[str, int]:
    """Sums of a counter by request, those of 0 left out."""
    found: Counter[str] = Counter()
    space, merged = result.plan.slots, result.merged
    for slot, row in zip(merged.slots.tolist(), merged.counters.tolist(), strict=True):
        found[space.requests[space.indices(slot)[1]]] += row[count]
    return dict(+found)


def kinds_of(result: RunResult) -> dict[str, dict[str, int]]:
    """Error kinds with their counts, by request."""
    found: dict[str, dict[str, int]] = {}
    space = result.plan.slots
    for (slot, kind), count in result.merged.errors.items():
        kinds = found.setdefault(space.requests[space.indices(slot)[1]], {})
        kinds[kind] = kinds.get(kind, 0) + count
    return found


def latencies_of(result: RunResult, name: str, kind: Kind) -> int:
    """How many latencies of a kind a request has."""
    space = result.plan.slots
    slots = [slot for slot in range(len(space)) if space.requests[space.indices(slot)[1]] == name]
    return histogram_of(result.merged, kind, slots).n
