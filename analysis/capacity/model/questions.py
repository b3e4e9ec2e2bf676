"""What people ask of a capacity model: how many nodes for a rate, and with what to spare.

Every answer is a range. With runs at several node counts it is what the law's replicates
say. With one node count nothing is known of more nodes but that they do not add more than
their share (N nodes carry at most N times what one does): the low end alone is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from analysis.capacity.model.intervals import Range, Replicates
from analysis.capacity.model.loads import Load
from analysis.capacity.model.usl import Usl

EXTRAPOLATION_RATIO: Final = 1.5  # of the largest N that was measured
_MOST_NODES: Final = 100_000


class Spare(Enum):
    """What may fail without the rate being missed."""

    NOTHING = "none to spare"
    ONE_NODE = "one node (N+1)"
    ONE_ZONE = "one zone"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodesNeeded:
    """Nodes for a rate; `high` None: not known, infinite: no number of nodes carries it."""

    per_s: float
    spare: Spare
    low: float
    high: float | None
    is_extrapolated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstBreak:
    """Where a target of one size first broke: between two measured loads.

    `holds_per_s` is the largest goodput below at which all held (0: none did), `breaks_per_s`
    the smallest planned rate that broke (None: none did), `broken` what broke there, each
    with its value and limit in words.
    """

    nodes: int
    holds_per_s: float
    breaks_per_s: float | None
    broken: tuple[str, ...]
    where: str


def lost_nodes(nodes: int, spare: Spare, zones: int) -> int:
    """How many of `nodes` may be gone; evenly spread, the fullest zone has the most."""
    match spare:
        case Spare.NOTHING:
            return 0
        case Spare.ONE_NODE:
            return 1
        case Spare.ONE_ZONE:
            return -(-nodes // zones)


def nodes_with_spare(needed: float, spare: Spare, zones: int) -> float:
    """The smallest number of nodes of which `needed` are left; infinite stays infinite."""
    if not needed <= _MOST_NODES:
        return math.inf
    left = math.ceil(needed - 1e-9)  # a root may lie a rounding above a whole number
    nodes = left
    while nodes - lost_nodes(nodes, spare, zones) < left:
        nodes += 1
    return nodes


def nodes_of_law(replicates: Replicates, per_s: float) -> Range:
    """Whole nodes for a rate, none lost."""
    return replicates.range_of(lambda law: _whole(law, per_s))


def _whole(law: Usl, per_s: float) -> float:
    needed = law.n_for(per_s)
    return math.inf if math.isinf(needed) else math.ceil(needed - 1e-9)


def answers(
    rates: Sequence[float],
    zones: int,
    nodes_for: Callable[[float], tuple[float, float | None]],
    largest: float,
) -> tuple[NodesNeeded, ...]:
    """Every rate with everything that may be spared; `largest` is the largest N measured."""
    found = []
    for per_s in rates:
        low, high = nodes_for(per_s)
        for spare in Spare:
            least = nodes_with_spare(low, spare, zones)
            most = None if high is None else nodes_with_spare(high, spare, zones)
            beyond = max(low, 0 if high is None else high) > EXTRAPOLATION_RATIO * largest
            found.append(NodesNeeded(per_s=per_s, spare=spare, low=least, high=most,
                                     is_extrapolated=beyond))  # fmt: skip
    return tuple(found)


def first_break(loads: Sequence[Load], words: Callable[[Load], tuple[str, ...]]) -> FirstBreak:
    """Where the runs at one node count first broke; `words` says what a load broke."""
    broken = [load for load in loads if load.holds is False]
    first = min(broken, key=lambda load: load.planned_per_s, default=None)
    held = [
        load.goodput_per_s
        for load in loads
        if load.holds and (first is None or load.planned_per_s < first.planned_per_s)
    ]
    return FirstBreak(
        nodes=loads[0].nodes,
        holds_per_s=max(held, default=0.0),
        breaks_per_s=None if first is None else first.planned_per_s,
        broken=() if first is None else words(first),
        where="" if first is None else f"{first.run_id}, stage {first.stage}",
    )
