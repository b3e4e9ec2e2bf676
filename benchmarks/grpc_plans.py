"""The gRPC plans of the benchmark: one unary call, closed in three shapes, and open.

Closed: the same 64 bytes every time, as h2load and the Python clients send them. Open: a
transaction of about the same size in which four fields differ between any two requests.
"""

from __future__ import annotations

from dataclasses import replace

from benchmarks.engine import PlanFor
from benchmarks.grpc_servers import METHOD, request_message
from benchmarks.plans import build_plan
from benchmarks.server import Server
from loadtests.plan.call import (
    Call,
    CallShape,
    Compression,
    Delimited,
    Multiplexing,
    Number,
    NumberEncoding,
    Part,
    Protocol,
    Raw,
    Text,
)
from loadtests.plan.model import LoadModel, Plan, Request

CONNECTIONS, STREAMS = 8, 100  # the usual shape; the others are 8 x 1 and 64 x 1
SHAPES = ((CONNECTIONS, STREAMS), (8, 1), (64, 1))
_S = 1_000_000_000
_WIRE_STRING, _WIRE_VARINT = 2, 0


def shape_name(connections: int, streams: int) -> str:
    """8x100 and so on: connections, streams on each."""
    return f"{connections}x{streams}"


def _field(number: int, source: str) -> tuple[Part, ...]:
    tag = Raw(data=bytes([number << 3 | _WIRE_STRING]))
    return (tag, Delimited(parts=(Text(source=source.encode()),)))


def unique_transaction() -> tuple[Part, ...]:
    """Hash, sender, receiver and amount, all of them placeholders."""
    amount = (
        Raw(data=bytes([4 << 3 | _WIRE_VARINT])),
        Number(source=b"${int:1:100000}", encoding=NumberEncoding.VARINT),
    )
    return (
        *_field(1, "${uuid}"),
        *_field(2, "a-${int:100000:999999}"),
        *_field(3, "b-${int:100000:999999}"),
        *amount,
    )


def _call(message: tuple[Part, ...]) -> Request:
    return Request(
        name="say",
        method="POST",
        path=f"/{METHOD}",
        headers=(),
        body=None,
        weight=1.0,
        expected_statuses=(),
        checks=(),
        timeout_ns=30 * _S,
        protocol=Protocol.GRPC,
        call=Call(
            method=METHOD,
            shape=CallShape.UNARY,
            message=message,
            messages=1,
            pace_ns=0,
            compression=Compression.IDENTITY,
            expected_codes=(0,),
            checks=(),
            response_type="",
        ),
    )


def _over_streams(plan: Plan, connections: int, streams: int) -> Plan:
    multiplexing = Multiplexing(
        connections=connections, streams=streams, keepalive_ns=0, authority=None
    )
    return replace(plan, connections=0, multiplexing=multiplexing)


def closed_for(connections: int, streams: int) -> PlanFor:
    """Make the builder of closed load in one shape, every stream in use."""

    def build(server: Server, seconds: float) -> Plan:
        users = connections * streams
        plan = build_plan(
            port=server.port,
            model=LoadModel.CLOSED,
            requests=(_call((Raw(data=request_message()),)),),
            level=users,
            seconds=seconds,
            connections=users,
        )
        return _over_streams(plan, connections, streams)

    return build


def open_unique(server: Server, seconds: float, rate_per_s: float) -> Plan:
    """Build open load of unique transactions at a constant rate, in the usual shape."""
    plan = build_plan(
        port=server.port,
        model=LoadModel.OPEN,
        requests=(_call(unique_transaction()),),
        level=rate_per_s,
        seconds=seconds,
        connections=0,
    )
    return _over_streams(plan, CONNECTIONS, STREAMS)
