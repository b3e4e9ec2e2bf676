"""What makes two runs comparable: the requests that a plan sends, and when it sends them.

Two runs with equal identities sent the same requests in the same proportions (`mix_sha256`)
in stages of the same names, lengths and rates (`load_sha256`). A digest is over the fields
that decide what the target has to do, spelled out here, so that a field added to a plan by a
later version does not cut the history of a scenario in two.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import msgspec

from loadtests.plan.call import Protocol
from loadtests.plan.model import Plan, Request


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadIdentity:
    """`protocols` and `services` for people, digests (SHA-256, hex) for comparing."""

    protocols: tuple[str, ...]
    services: tuple[str, ...]
    mix_sha256: str
    load_sha256: str


def _sha256(value: object) -> str:
    return hashlib.sha256(msgspec.json.encode(value)).hexdigest()


def _service_of(request: Request) -> str:
    """`TransactionService` of `io.aurigraph.v11.grpc.TransactionService/SubmitTransaction`."""
    method = "" if request.call is None else request.call.method
    return method.strip("/").split("/")[0].rsplit(".", 1)[-1]


def load_identity_of(plan: Plan) -> LoadIdentity:
    """The identity of a plan's load; scale is in its rates, seed and targets are not in it."""
    total = sum(request.weight for request in plan.requests)
    mix = [
        (
            request.name,
            request.method,
            request.path,
            request.headers,
            request.body,
            None if request.call is None else request.call.message,
            round(request.weight / total, 9),
            request.timeout_ns,
            request.protocol.value,
        )
        for request in plan.requests
    ]
    stages = [
        (stage.name, stage.start_ns, stage.end_ns, stage.profile, stage.is_judged)
        for stage in plan.stages
    ]
    calls = [request for request in plan.requests if request.protocol is Protocol.GRPC]
    protocols = ["REST"] * (len(calls) < len(plan.requests)) + ["gRPC"] * bool(calls)
    return LoadIdentity(
        protocols=tuple(protocols),
        services=tuple(dict.fromkeys(_service_of(request) for request in calls)),
        mix_sha256=_sha256(mix),
        load_sha256=_sha256([plan.load_model.value, plan.arrival_process.value, stages]),
    )
