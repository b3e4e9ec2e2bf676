"""Good plans for engine tests: a test changes one thing."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from loadtests.clock import NS_PER_MS, NS_PER_S
from loadtests.plan.call import SINGLE, Protocol
from loadtests.plan.model import (
    ArrivalProcess,
    Check,
    Hold,
    LoadModel,
    LossPolicy,
    Node,
    Plan,
    Profile,
    Request,
    Stage,
)


def node(
    port: int,
    *,
    name: str = "n1",
    host: str = "127.0.0.1",
    scheme: str = "http",
    weight: float = 1.0,
) -> Node:
    """A node on this host."""
    return Node(
        name=name, scheme=scheme, host=host, port=port, base_path="", weight=weight, grpc=None
    )


def request(
    path: str,
    *,
    name: str | None = None,
    method: str = "GET",
    body: bytes | None = None,
    weight: float = 1.0,
    timeout_ns: int = 2 * NS_PER_S,
    checks: tuple[Check, ...] = (),
    expected_statuses: tuple[int, ...] = (),
    headers: tuple[tuple[str, str], ...] = (),
) -> Request:
    """A request named after its path."""
    return Request(
        name=name or path.lstrip("/"),
        method=method,
        path=path,
        headers=headers,
        body=body,
        weight=weight,
        expected_statuses=expected_statuses,
        checks=checks,
        timeout_ns=timeout_ns,
        protocol=Protocol.HTTP1,
        call=None,
    )


def stage(profile: Profile, *, seconds: float, name: str = "hold", start_s: float = 0.0) -> Stage:
    """A judged stage."""
    start_ns = round(start_s * NS_PER_S)
    return Stage(
        name=name,
        start_ns=start_ns,
        end_ns=start_ns + round(seconds * NS_PER_S),
        profile=profile,
        is_judged=True,
    )


def plan_for(
    port: int,
    requests: Sequence[Request],
    *,
    level: float = 200.0,
    seconds: float = 1.0,
    **changes: object,
) -> Plan:
    """Open load of one stage on one node; any field of the plan can be changed."""
    plan = Plan(
        scenario_name="engine-test",
        scenario_text="",
        description="",
        scale=1.0,
        seed=7,
        load_model=LoadModel.OPEN,
        arrival_process=ArrivalProcess.CONSTANT,
        nodes=(node(port),),
        tls=None,
        requests=tuple(requests),
        feeds=(),
        stages=(stage(Hold(level=level), seconds=seconds),),
        connections=16,
        in_flight_limit=16,
        backlog_limit=10_000,
        pipelining=1,
        multiplexing=SINGLE,
        descriptors=b"",
        think_time_ns=0,
        max_rate_per_s=1e6,
        response_limit_bytes=1 << 20,
        connect_timeout_ns=1000 * NS_PER_MS,
        connects_per_s=2000.0,
        grace_ns=NS_PER_S,
        loss_policy=LossPolicy.ABORT,
        objectives=(),
        alerts=(),
        aborts=(),
        version_path=None,
        baselines=(),
        load_percent=None,
    )
    return dataclasses.replace(plan, **changes)  # type: ignore[arg-type]  # fields by name
