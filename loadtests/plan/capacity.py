"""Totals of a run: connections, requests in flight, backlog, the hard ceiling of the rate.

Little's law ties the totals of open load to its rate, so they scale with it: rounded up,
never below 4 connections a node or what the author asked for. `target.max_rate` is a
guard and does not scale.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from loadtests.plan.model import LoadModel, Stage
from loadtests.plan.objectives import RateReference
from loadtests.plan.spec import LoadSpec, TargetSpec
from loadtests.plan.stages import Levels, peak_level
from loadtests.plan.values import Mistakes, shown

_CLOSED_CEILING_PER_S: Final = 1e7  # closed load has no planned rate to derive a ceiling from
_FEWEST_CONNECTIONS_PER_NODE: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """Totals over the run, scaled."""

    connections: int
    in_flight: int
    backlog: int
    max_rate_per_s: float


def _scaled_total(total: int, scale: float, nodes: int) -> int:
    least = min(total, _FEWEST_CONNECTIONS_PER_NODE * max(1, nodes))
    return max(least, math.ceil(round(total * scale, 6)))


def _check_open(load: LoadSpec, target: TargetSpec, peak: float, mistakes: Mistakes) -> None:
    if load.connections is None:
        expected = "how many connections open load may use"
        mistakes.add("load.connections", "nothing", expected, rests_on=("load.model",))
    elif load.in_flight is not None and load.in_flight > load.connections * load.pipelining:
        mistakes.add(
            "load.in_flight",
            str(load.in_flight),
            f"at most connections x pipelining = {load.connections * load.pipelining}",
            rests_on=("load.model", "load.connections", "load.pipelining"),
        )
    if target.max_rate is not None and peak > target.max_rate:
        mistakes.add("target.max_rate", f"{target.max_rate:g} rps", f"at least the peak, {peak:g}")


def build_capacity(
    levels: Levels, target: TargetSpec, stages: Sequence[Stage], nodes: int, mistakes: Mistakes
) -> Capacity:
    """Totals at the levels' scale for the stages' peak, over `nodes` nodes."""
    load, scale = levels.load, levels.scale
    peak = max((peak_level(stage.profile) for stage in stages), default=0.0)
    if load.model is LoadModel.CLOSED:
        connections = max(1, round(peak))
        ceiling = target.max_rate or _CLOSED_CEILING_PER_S
        return Capacity(
            connections=connections, in_flight=connections, backlog=1, max_rate_per_s=ceiling
        )
    _check_open(load, target, peak, mistakes)
    connections = load.connections or 1
    in_flight = load.in_flight or connections * load.pipelining
    backlog = load.backlog or in_flight
    # Twice the peak lets a queue drain after a stall, and a Poisson crowd through, in the
    # shortest interval that the ceiling is kept in (100 ms).
    return Capacity(
        connections=_scaled_total(connections, scale, nodes),
        in_flight=_scaled_total(in_flight, scale, nodes),
        backlog=_scaled_total(backlog, scale, nodes),
        max_rate_per_s=target.max_rate or max(2 * peak, peak + 1000.0),
    )


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
