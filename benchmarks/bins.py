"""What recording bins of 100 ms costs: the same engine and load, with and without, in turn.

Open load, as failovers have it: the mix of five against nginx and unique transactions against
nghttpd, each at a third of its saturation: an engine that has no time to spare uses its core
whole, whatever a request costs. With bins means what a scenario with faults asks for: counts of
every bin, and two marks of lateness.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from benchmarks.cost import CostSample, interleaved
from benchmarks.engine import engine
from benchmarks.generators import Contestant
from benchmarks.machine import GENERATOR_CORE, SERVER_CORE
from benchmarks.server import Server
from loadtests.plan.model import Binning, LateMark, Plan
from loadtests.record.window import Kind

PLAIN, BINS = "plain", "bins"
OPEN_LEVEL: Final = 1 / 3
BINNING: Final = Binning(
    marks=tuple(LateMark(kind=Kind.RESPONSE, limit_ns=ms * 1_000_000) for ms in (200, 500))
)

PlanAtRate = Callable[[Server, float, float], Plan]  # server, seconds, arrivals per second


@dataclass(frozen=True, slots=True, kw_only=True)
class BinsFigures:
    """Samples of one protocol; the rate is that of the open load."""

    rate_per_s: float
    samples: tuple[CostSample, ...]


def measure_bins(
    server: Server,
    plan_at: PlanAtRate,
    saturation_per_s: float,
    *,
    rounds: int,
    warm_s: float,
    seconds: float,
    scratch: Path,
) -> BinsFigures:
    """Run both in turn, as often as there are rounds."""
    rate = OPEN_LEVEL * saturation_per_s

    def plain(target: Server, length_s: float) -> Plan:
        return plan_at(target, length_s, rate)

    def binned(target: Server, length_s: float) -> Plan:
        return replace(plain(target, length_s), binning=BINNING)

    where = {"core": GENERATOR_CORE, "driver_core": SERVER_CORE}
    contestants: list[Contestant] = [
        engine(PLAIN, "engine without bins", plain, scratch=scratch, **where),
        engine(BINS, "engine with bins of 100 ms", binned, scratch=scratch, **where),
    ]
    samples = interleaved(contestants, server, rounds=rounds, warm_s=warm_s, seconds=seconds)
    return BinsFigures(rate_per_s=rate, samples=tuple(samples))
