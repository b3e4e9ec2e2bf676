"""The most that open load makes against a server: what levels and costs are a part of.

Offered at several parts of the rate of closed load: far above what it can make an engine
spends its time on requests that it drops, so the most that is offered is not where it makes
the most. All in turns, and the best counts: a slow moment of the machine says nothing of
what the engine can do, and levels taken from one would be lower than their names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cost import measure
from benchmarks.engine import PlanFor, engine
from benchmarks.generators import Contestant
from benchmarks.machine import GENERATOR_CORE, SERVER_CORE
from benchmarks.server import Server
from loadtests.plan.model import Plan

# Parts of it at which costs are measured. The peers run at their saturation, where fewer
# wake-ups make all cheaper; at the higher one an engine is as busy as a run allows.
OPEN_LEVEL = 0.7
HIGH_LEVEL = 0.9
OPEN_LEVELS = {"open": OPEN_LEVEL, "high": HIGH_LEVEL}  # by the key of their contestant

_WHERE = {"core": GENERATOR_CORE, "driver_core": SERVER_CORE}
_WARM_S = 0.5

# Against a server, for so many seconds, at a rate per second.
OpenPlan = Callable[[Server, float, float], Plan]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """How a protocol's saturation is looked for."""

    closed: PlanFor
    open: OpenPlan
    parts: tuple[float, ...]  # of the rate of closed load
    turns: int


def at_rate(plan_for: OpenPlan, rate_per_s: float) -> PlanFor:
    """Fix the rate of an open load."""

    def build(server: Server, seconds: float) -> Plan:
        return plan_for(server, seconds, rate_per_s)

    return build


def saturation_per_s(server: Server, offer: Offer, *, seconds: float, scratch: Path) -> float:
    """Requests per second that the open load reaches at most, each try as long as `seconds`."""

    def rate_per_s(contestant: Contestant) -> float:
        sample = measure(contestant, server, round_number=0, warm_s=_WARM_S, seconds=seconds)
        return sample.rate_per_s

    def offered(rate: float) -> Contestant:
        plan_for = at_rate(offer.open, rate)
        return engine("offered", "Headroom offered", plan_for, scratch=scratch, **_WHERE)

    closed = engine("closed", "Headroom closed", offer.closed, scratch=scratch, **_WHERE)
    ceiling, reached = 0.0, list[float]()
    for _ in range(offer.turns):
        ceiling = max(ceiling, rate_per_s(closed))
        reached += [rate_per_s(offered(part * ceiling)) for part in offer.parts]
    made = ", ".join(f"{rate:,.0f}" for rate in reached)
    print(f"  saturation: closed {ceiling:,.0f}, open {made} requests/s", flush=True)
    return max(reached)
