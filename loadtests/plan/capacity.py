"""Totals of a run: connections, channels, requests in flight, backlog, the rate's ceiling.

Little's law ties the totals of open load to its rate, so they scale with it: rounded up,
never below 4 connections a node or what the author asked for. Streams of a channel belong
to a server's settings and `target.max_rate` is a guard: neither scales.

HTTP/1.1 has connections, HTTP/2 and gRPC have channels of many streams each. What carries
no request has none: a level, limit or key for it is refused. The levels of closed load are
users, with a connection or a stream each, so its requests are all of one protocol.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from loadtests.plan.call import SINGLE, Multiplexing, Protocol
from loadtests.plan.model import LoadModel, Request, Stage
from loadtests.plan.objectives import RateReference
from loadtests.plan.spec import LoadSpec, TargetSpec
from loadtests.plan.stages import Levels, peak_level
from loadtests.plan.values import Mistakes, shown

_CLOSED_CEILING_PER_S: Final = 1e7  # closed load has no planned rate to derive a ceiling from
_FEWEST_CONNECTIONS_PER_NODE: Final = 4
# Keys that a mistake rests on: where one of them is wrong itself, nothing else is known.
_KINDS: Final = ("load.model", "target.protocol", "requests")
_CARRYING: Final = (
    *("load.model", "load.connections", "load.pipelining", "load.channels", "load.streams"),
    *_KINDS,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """Totals over the run, scaled."""

    connections: int
    multiplexing: Multiplexing
    in_flight: int
    backlog: int
    max_rate_per_s: float


def _scaled_total(total: int, scale: float, nodes: int) -> int:
    least = min(total, _FEWEST_CONNECTIONS_PER_NODE * max(1, nodes))
    return max(least, math.ceil(round(total * scale, 6)))


def _multiplexing(load: LoadSpec, target: TargetSpec, channels: int) -> Multiplexing:
    if not channels:
        return SINGLE
    return Multiplexing(
        connections=channels,
        streams=load.streams,
        keepalive_ns=target.keepalive or 0,
        authority=target.authority,
    )


def _closed(
    load: LoadSpec,
    target: TargetSpec,
    *,
    users: int,
    nodes: int,
    protocols: frozenset[Protocol],
    mistakes: Mistakes,
) -> Capacity:
    is_multiplexed = bool(protocols) and Protocol.HTTP1 not in protocols
    if len(protocols) > 1:
        seen = " and ".join(protocol.spelled for protocol in Protocol if protocol in protocols)
        expected = "requests of one protocol in closed load, whose users wait for their answers"
        mistakes.add("requests", seen, expected, rests_on=("load.model", "target.protocol"))
    channels = 0
    if is_multiplexed:
        channels = load.channels or max(1, nodes, math.ceil(users / load.streams))
        if channels * load.streams < users:
            expected = f"channels x streams for {users} users at least"
            mistakes.add("load.channels", f"{channels * load.streams} streams", expected)
    return Capacity(
        connections=0 if is_multiplexed else users,
        multiplexing=_multiplexing(load, target, channels),
        in_flight=users,
        backlog=1,
        max_rate_per_s=target.max_rate or _CLOSED_CEILING_PER_S,
    )


def _open(
    load: LoadSpec,
    target: TargetSpec,
    *,
    scale: float,
    nodes: int,
    protocols: frozenset[Protocol],
    mistakes: Mistakes,
) -> tuple[int, Multiplexing, int]:
    """Connections, channels and requests in flight of open load."""
    connections = channels = 0
    if Protocol.HTTP1 in protocols or not protocols:
        connections = load.connections or 0
        if not connections:
            expected = "how many connections open load may use"
            mistakes.add("load.connections", "nothing", expected, rests_on=("load.model",))
    if protocols - {Protocol.HTTP1}:
        channels = load.channels or _FEWEST_CONNECTIONS_PER_NODE * max(1, nodes)
    carried = connections * load.pipelining + channels * load.streams
    in_flight = (load.in_flight or carried) if carried else 1
    if in_flight > max(1, carried):
        expected = f"at most connections x pipelining + channels x streams = {carried}"
        mistakes.add("load.in_flight", str(in_flight), expected, rests_on=_CARRYING)
    channels = _scaled_total(channels, scale, nodes)
    return (
        _scaled_total(connections, scale, nodes),
        _multiplexing(load, target, channels),
        in_flight,
    )


def build_capacity(
    levels: Levels,
    target: TargetSpec,
    stages: Sequence[Stage],
    *,
    nodes: int,
    requests: Sequence[Request],
    mistakes: Mistakes,
) -> Capacity:
    """Totals at the levels' scale for the stages' peak and the requests, over `nodes` nodes."""
    load, scale = levels.load, levels.scale
    peak = max((peak_level(stage.profile) for stage in stages), default=0.0)
    protocols = frozenset(request.protocol for request in requests)
    _check_kinds(load, protocols, mistakes)
    if load.model is LoadModel.CLOSED:
        users = max(1, round(peak))
        return _closed(
            load, target, users=users, nodes=nodes, protocols=protocols, mistakes=mistakes
        )
    connections, multiplexing, in_flight = _open(
        load, target, scale=scale, nodes=nodes, protocols=protocols, mistakes=mistakes
    )
    if target.max_rate is not None and peak > target.max_rate:
        mistakes.add("target.max_rate", f"{target.max_rate:g} rps", f"at least the peak, {peak:g}")
    # Twice the peak lets a queue drain after a stall, and a Poisson crowd through, in the
    # shortest interval that the ceiling is kept in (100 ms).
    return Capacity(
        connections=connections,
        multiplexing=multiplexing,
        in_flight=_scaled_total(in_flight, scale, nodes),
        backlog=_scaled_total(load.backlog or in_flight, scale, nodes),
        max_rate_per_s=target.max_rate or max(2 * peak, peak + 1000.0),
    )


def _check_kinds(load: LoadSpec, protocols: frozenset[Protocol], mistakes: Mistakes) -> None:
    """Keys of a kind of connection that no request uses."""
    if not protocols:
        return
    is_open = load.model is LoadModel.OPEN
    if Protocol.HTTP1 not in protocols:
        if is_open and load.connections is not None:
            expected = "nothing: no request uses HTTP/1.1; HTTP/2 has channels"
            mistakes.add("load.connections", str(load.connections), expected, rests_on=_KINDS)
        if load.pipelining != 1:
            expected = "1: HTTP/2 has streams instead"
            mistakes.add("load.pipelining", str(load.pipelining), expected, rests_on=_KINDS)
    if protocols == {Protocol.HTTP1} and load.channels is not None:
        expected = "nothing: no request uses HTTP/2"
        mistakes.add("load.channels", str(load.channels), expected, rests_on=_KINDS)


def check_load(load: LoadSpec, reference: RateReference, mistakes: Mistakes) -> None:
    """What the keys of `[load]` say about each other and about `[baselines]`."""
    if load.baseline is not None:
        mistakes.attempt("load.baseline", load.baseline, lambda: reference.per_s(100.0, None))
    if load.model is LoadModel.CLOSED:
        for key, value in (("rate", load.rate), ("in_flight", load.in_flight)):
            if value is not None:
                mistakes.add(f"load.{key}", shown(value), "nothing: closed load follows answers")
        if load.pipelining != 1:
            mistakes.add("load.pipelining", str(load.pipelining), "1: closed load waits")
    elif load.think_time:
        expected = 'nothing, or model = "closed"'
        mistakes.add("load.think_time", "a think time", expected, rests_on=("load.model",))
