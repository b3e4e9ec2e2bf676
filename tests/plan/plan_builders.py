"""Good plans that a test mutates one thing of."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from loadtests.clock import NS_PER_MS, NS_PER_S
from loadtests.plan.call import SINGLE, Protocol
from loadtests.plan.model import (
    ArrivalProcess,
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
    name: str = "n1", *, weight: float = 1.0, port: int = 9003, host: str = "127.0.0.1"
) -> Node:
    """A plain loopback node."""
    return Node(
        name=name, scheme="http", host=host, port=port, base_path="", weight=weight, grpc=None
    )


def request(name: str = "health", *, weight: float = 1.0) -> Request:
    """A GET without checks."""
    return Request(
        name=name,
        method="GET",
        path="/q/health",
        headers=(),
        body=None,
        weight=weight,
        expected_statuses=(),
        checks=(),
        timeout_ns=2 * NS_PER_S,
        protocol=Protocol.HTTP1,
        call=None,
    )


def stages(*shapes: tuple[str, float, Profile]) -> tuple[Stage, ...]:
    """Stages one after the other from (name, seconds, profile)."""
    built: list[Stage] = []
    start_ns = 0
    for name, seconds, profile in shapes:
        end_ns = start_ns + round(seconds * NS_PER_S)
        built.append(
            Stage(
                name=name,
                start_ns=start_ns,
                end_ns=end_ns,
                profile=profile,
                is_judged=name != "warm-up",
            )
        )
        start_ns = end_ns
    return tuple(built)


def good_plan(
    *,
    of_stages: Sequence[Stage] = stages(("hold", 10.0, Hold(level=100.0))),
    **changes: object,
) -> Plan:
    """An open plan of one node and one request: 100 arrivals/s for 10 s."""
    plan = Plan(
        scenario_name="good",
        scenario_text="",
        description="",
        scale=1.0,
        seed=7,
        load_model=LoadModel.OPEN,
        arrival_process=ArrivalProcess.CONSTANT,
        nodes=(node(),),
        tls=None,
        requests=(request(),),
        feeds=(),
        stages=tuple(of_stages),
        connections=16,
        in_flight_limit=16,
        backlog_limit=100,
        pipelining=1,
        multiplexing=SINGLE,
        descriptors=b"",
        think_time_ns=0,
        max_rate_per_s=1e7,
        response_limit_bytes=1 << 20,
        connect_timeout_ns=500 * NS_PER_MS,
        connects_per_s=1000.0,
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
