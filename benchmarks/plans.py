"""The plans that Headroom's engine runs in the benchmark, as values.

Closed: 64 connections, one GET, the peers' own task. Open: a mix of five requests at a
constant rate, intended times kept, no checks. Limits are wide, so that what is measured
is the engine and not a guard.
"""

from __future__ import annotations

from loadtests.plan.call import SINGLE, Protocol
from loadtests.plan.model import (
    ArrivalProcess,
    Hold,
    LoadModel,
    LossPolicy,
    Node,
    Plan,
    Request,
    Stage,
)

_S = 1_000_000_000
_MIX = (
    ("/api/v11/health", 40.0),
    ("/api/v11/info", 20.0),
    ("/api/v11/blockchain/transactions?limit=20&offset=0", 20.0),
    ("/api/v11/blockchain/latest", 15.0),
    ("/api/v11/consensus/status", 5.0),
)
_TRANSACTION = b'{"transactionId":"${uuid}","amount":${int:1:100000}}'


def _request(name: str, path: str, weight: float, body: bytes | None) -> Request:
    return Request(
        name=name,
        method="GET" if body is None else "POST",
        path=path,
        headers=() if body is None else (("Content-Type", "application/json"),),
        body=body,
        weight=weight,
        expected_statuses=(),
        checks=(),
        timeout_ns=30 * _S,
        protocol=Protocol.HTTP1,
        call=None,
    )


def single_get() -> tuple[Request, ...]:
    """What every peer does."""
    return (_request("get", "/", 1.0, None),)


def mix_of_five() -> tuple[Request, ...]:
    """Five GETs with the paths and weights of a REST service."""
    return tuple(
        _request(f"get {number}", path, weight, None)
        for number, (path, weight) in enumerate(_MIX, start=1)
    )


def mix_with_posts() -> tuple[Request, ...]:
    """Four of the GETs, and two requests in five are POSTs of unique transactions."""
    post = _request("submit", "/api/v11/blockchain/transactions", 40.0, _TRANSACTION)
    return (post, *mix_of_five()[1:])


def build_plan(
    *,
    port: int,
    model: LoadModel,
    requests: tuple[Request, ...],
    level: float,
    seconds: float,
    connections: int,
    think_time_ns: int = 0,
) -> Plan:
    """Build one stage of `level` (arrivals per second, or connections) for so many seconds."""
    node = Node(
        name="nginx",
        scheme="http",
        host="127.0.0.1",
        port=port,
        base_path="",
        weight=1.0,
        grpc=None,
    )
    stage = Stage(
        name="hold",
        start_ns=0,
        end_ns=int(seconds * _S),
        profile=Hold(level=level),
        is_judged=True,
    )
    return Plan(
        scenario_name=f"benchmark-{model.value}",
        scenario_text="# built by the benchmark",
        description="benchmark",
        scale=1.0,
        seed=1,
        load_model=model,
        arrival_process=ArrivalProcess.CONSTANT,
        nodes=(node,),
        tls=None,
        requests=requests,
        feeds=(),
        stages=(stage,),
        connections=connections,
        in_flight_limit=connections if model is LoadModel.CLOSED else 100_000,
        backlog_limit=100_000,
        pipelining=1,
        multiplexing=SINGLE,
        descriptors=b"",
        think_time_ns=think_time_ns,
        # As a scenario has it without `target.max_rate`: a ceiling is kept in open load.
        max_rate_per_s=2 * level if model is LoadModel.OPEN else 1e7,
        response_limit_bytes=1 << 20,
        connect_timeout_ns=10 * _S,
        connects_per_s=5_000.0,
        grace_ns=2 * _S,
        loss_policy=LossPolicy.ABORT,
        objectives=(),
        alerts=(),
        aborts=(),
        version_path=None,
        baselines=(),
        load_percent=None,
    )
