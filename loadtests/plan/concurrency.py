"""Requests in flight that a plan needs, by what carries them: connections or channels.

    L = lambda * W     Little's law: requests in flight = arrivals/s * seconds each takes

HTTP/1.1 carries `connections * pipelining` requests at a time, HTTP/2 and gRPC carry
`channels * streams`. Each kind gets the part of the arrivals that its requests' weights
say, at its own p95 limit: a mixed plan needs room for both at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from loadtests.clock import NS_PER_S
from loadtests.plan.call import Protocol
from loadtests.plan.model import MeasureKind, Objective, Plan, Stage
from loadtests.plan.stages import peak_level

_MEDIAN: Final = 0.5
_P95: Final = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Carrier:
    """One kind of connection of a plan: the requests it carries and how many at a time."""

    requests: frozenset[str]
    part_ratio: float  # of the arrivals
    available: int
    text: str  # "64 connections with pipelining 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Concurrency:
    """What a stage's peak needs in flight on one carrier when answers take `limit_ns`."""

    carrier: Carrier
    per_s: float
    limit_ns: float
    in_flight: float


def carriers(plan: Plan) -> tuple[Carrier, ...]:
    """The kinds that requests of the plan use: one or two."""
    multiplexing = plan.multiplexing
    pairs = (
        (
            [r for r in plan.requests if r.protocol is Protocol.HTTP1],
            plan.connections * plan.pipelining,
            f"{plan.connections:,} connections with pipelining {plan.pipelining}",
        ),
        (
            [r for r in plan.requests if r.protocol is not Protocol.HTTP1],
            multiplexing.connections * multiplexing.streams,
            f"{multiplexing.connections:,} channels x {multiplexing.streams:,} streams",
        ),
    )
    total = sum(request.weight for request in plan.requests)
    return tuple(
        Carrier(
            requests=frozenset(request.name for request in requests),
            part_ratio=sum(request.weight for request in requests) / total,
            available=available,
            text=text,
        )
        for requests, available, text in pairs
        if requests
    )


def applies(objective: Objective, stage: Stage) -> bool:
    """True when the objective judges this stage."""
    return stage.is_judged and objective.stage in {None, stage.name}


def latency_limit_ns(plan: Plan, stage: Stage, requests: frozenset[str]) -> float | None:
    """Limit of the stage's response p95, else of its lowest percentile from p50 to p95; or None.

    An objective over all requests counts before those of single ones of `requests`.
    Percentiles above p95 say nothing about the mean that Little's law is about.
    """
    limits = [
        (
            objective.request is not None,
            objective.measure.quantile != _P95,
            objective.measure.quantile or 1.0,
            -objective.limit,
        )
        for objective in plan.objectives
        if objective.measure.kind is MeasureKind.RESPONSE_QUANTILE
        and _MEDIAN <= (objective.measure.quantile or 0.0) <= _P95
        and applies(objective, stage)
        and (objective.request is None or objective.request in requests)
    ]
    return -min(limits)[3] if limits else None


def concurrencies(plan: Plan, stage: Stage) -> Iterator[Concurrency]:
    """What each carrier with a latency limit needs, at the peak of a stage of open load."""
    for carrier in carriers(plan):
        limit_ns = latency_limit_ns(plan, stage, carrier.requests)
        if limit_ns is not None:
            per_s = peak_level(stage.profile) * carrier.part_ratio
            yield Concurrency(
                carrier=carrier,
                per_s=per_s,
                limit_ns=limit_ns,
                in_flight=per_s * limit_ns / NS_PER_S,
            )
