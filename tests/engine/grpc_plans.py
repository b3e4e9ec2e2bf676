"""Good gRPC plans for engine tests: a test changes one thing."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from driver import EngineDriver, RunResult
from engine_plans import plan_for, request, stage

from loadtests.clock import NS_PER_S
from loadtests.engine.messages import Ready, Stop
from loadtests.plan.call import (
    Call,
    CallShape,
    Compression,
    FieldEquals,
    Multiplexing,
    Part,
    Protocol,
    Raw,
)
from loadtests.plan.model import Hold, LoadModel, Plan, Request
from loadtests.record.window import Count, Kind


def multiplexing(
    connections: int = 2,
    streams: int = 50,
    keepalive_ns: int = 0,
    authority: str | None = None,
) -> Multiplexing:
    """A few connections with many streams."""
    return Multiplexing(
        connections=connections, streams=streams, keepalive_ns=keepalive_ns, authority=authority
    )


def call(
    method: str,
    message: bytes | tuple[Part, ...] = b"hello",
    *,
    name: str | None = None,
    service: str = "test.Service",
    shape: CallShape = CallShape.UNARY,
    messages: int = 1,
    pace_ns: int = 0,
    compression: Compression = Compression.IDENTITY,
    expected_codes: tuple[int, ...] = (0,),
    checks: tuple[FieldEquals, ...] = (),
    response_type: str = "",
    timeout_ns: int = 2 * NS_PER_S,
    weight: float = 1.0,
    headers: tuple[tuple[str, str], ...] = (),
) -> Request:
    """A request named after its method."""
    path = f"/{service}/{method}"
    parts = (Raw(data=message),) if isinstance(message, bytes) else message
    return dataclasses.replace(
        request(path, name=name or method, method="POST", timeout_ns=timeout_ns, weight=weight),
        headers=headers,
        protocol=Protocol.GRPC,
        call=Call(
            method=path[1:],
            shape=shape,
            message=parts,
            messages=messages,
            pace_ns=pace_ns,
            compression=compression,
            expected_codes=expected_codes,
            checks=checks,
            response_type=response_type,
        ),
    )


def http2(made: Request) -> Request:
    """The same REST request over HTTP/2."""
    return dataclasses.replace(made, protocol=Protocol.HTTP2)


def grpc_plan(
    port: int,
    requests: Sequence[Request],
    *,
    level: float = 200.0,
    seconds: float = 1.0,
    **changes: object,
) -> Plan:
    """Open load over two connections; any field of the plan can be changed."""
    usual: dict[str, object] = {
        "connections": 0,
        "in_flight_limit": 100,
        "multiplexing": multiplexing(),
    }
    return plan_for(port, requests, level=level, seconds=seconds, **(usual | changes))


def run_many(port: int, requests: Sequence[Request], *, least: int, **changes: Any) -> RunResult:
    """400 users on eight connections, until so many requests are ok and the others answered."""
    plan = grpc_plan(
        port,
        [dataclasses.replace(request, timeout_ns=60 * NS_PER_S) for request in requests],
        load_model=LoadModel.CLOSED,
        multiplexing=multiplexing(connections=8, streams=50),
        stages=(stage(Hold(level=400), seconds=380),),
        **changes,
    )
    with EngineDriver(plan) as driver:
        assert isinstance(driver.configure(), Ready)
        driver.start()
        ok = 0
        while ok < least:
            ok += driver.wait_window(30).total(Count.OK)
        driver.send(Stop(grace_ns=60 * NS_PER_S, reason="enough"))
        result = driver.finish(90)
    result.check_conservation()
    assert result.final.ok == result.final.sent >= least
    assert result.final.in_flight_at_stop == 0
    assert result.histogram(Kind.CONNECT).n == 8
    return result
