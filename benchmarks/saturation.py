"""The most that open load makes against a server: what levels and costs are a part of.

Looked for from below, in steps of a tenth, until a rate is made in no try: far above what
it can make an engine spends its time on requests that it drops. A list of rates to offer,
parts of closed load's, ended below what was looked for: all of them were made, the greatest
was called saturation, and "90 %" of it was two thirds.
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
_STEP, _MOST_STEPS = 1.1, 20
_TRIES = 2
_HELD_RATIO = 0.98

# Against a server, for so many seconds, at a rate per second.
OpenPlan = Callable[[Server, float, float], Plan]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """How a protocol's saturation is looked for."""

    closed: PlanFor
    open: OpenPlan
    from_ratio: float  # of the rate of closed load, which is well within reach


def at_rate(plan_for: OpenPlan, rate_per_s: float) -> PlanFor:
    """Fix the rate of an open load."""

    def build(server: Server, seconds: float) -> Plan:
        return plan_for(server, seconds, rate_per_s)

    return build


def climb(made_per_s: Callable[[float], float], from_per_s: float) -> list[tuple[float, float]]:
    """Offer more and more until it is not made in several tries; (offered, made) of each.

    A slow moment of the machine says nothing of what an engine can do, so one try is not
    enough; and it ends in any case.
    """
    tries, offered = [], from_per_s
    for _ in range(_MOST_STEPS):
        for _ in range(_TRIES):
            tries.append((offered, made_per_s(offered)))
            if tries[-1][1] >= _HELD_RATIO * offered:
                break
        else:
            break
        offered *= _STEP
    return tries


def saturation_per_s(server: Server, offer: Offer, *, seconds: float, scratch: Path) -> float:
    """Requests per second that the open load reaches at most, each try as long as `seconds`."""

    def made_per_s(contestant: Contestant) -> float:
        sample = measure(contestant, server, round_number=0, warm_s=_WARM_S, seconds=seconds)
        return sample.rate_per_s

    def made_of(rate_per_s: float) -> float:
        plan_for = at_rate(offer.open, rate_per_s)
        return made_per_s(
            engine("offered", "Headroom offered", plan_for, scratch=scratch, **_WHERE)
        )

    closed = engine("closed", "Headroom closed", offer.closed, scratch=scratch, **_WHERE)
    ceiling = max(made_per_s(closed) for _ in range(_TRIES))
    tries = climb(made_of, offer.from_ratio * ceiling)
    text = ", ".join(f"{made:,.0f} of {offered:,.0f}" for offered, made in tries)
    print(f"  saturation: closed {ceiling:,.0f}, open {text} requests/s", flush=True)
    return max(made for _, made in tries)
