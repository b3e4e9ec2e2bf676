"""Send lag at 25, 50 and 75 % of saturation, between two runs of a bare ticker.

Each level runs alone on its core with a ticker just before and just after it
on the same core; the two tickers are pooled. A virtual machine wakes nobody on time
always: the difference to the ticker is the engine's part. Both are read a second at a time,
so that seconds in which a neighbour took the core can be told from the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.engine import running_engine
from benchmarks.generators import CONNECTIONS
from benchmarks.machine import GENERATOR_CORE, SERVER_CORE
from benchmarks.plans import build_plan, mix_of_five, single_get
from benchmarks.saturation import Offer, OpenPlan
from benchmarks.server import Server
from benchmarks.spread import undisturbed
from benchmarks.ticker import Lateness, lateness_of, run_ticker
from loadtests.errors import HarnessError
from loadtests.plan.model import LoadModel, Plan
from loadtests.record.histogram import Histogram
from loadtests.record.window import Count, Kind, Window, histogram_of, merge_windows

LEVELS = (0.25, 0.5, 0.75)
_WARM_WINDOWS = 2
_END_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LagSettings:
    """How long and how often."""

    rounds: int
    seconds: float  # of one level, warm-up windows included
    ticker_s: float
    scratch: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class LagSample:
    """One level in one round; latencies in microseconds."""

    level_ratio: float  # of saturation
    round_number: int
    planned_per_s: float
    n: int
    p50_us: float
    p99_us: float
    max_us: float
    p50_slices_us: tuple[float, ...]  # of each judged second
    p99_slices_us: tuple[float, ...]
    engine_utilisation_ratio: float
    ticker: Lateness

    @property
    def above_ticker_us(self) -> float:
        """Send lag p99 less the ticker's p99."""
        return self.p99_us - self.ticker.p99_ns / 1000


def undisturbed_above_ticker_us(samples: Sequence[LagSample]) -> float:
    """Send lag p99 less the ticker's p99, each in its undisturbed seconds."""
    lag_us = undisturbed([value for s in samples for value in s.p99_slices_us])
    ticker_ns = undisturbed([value for s in samples for value in s.ticker.p99_slices_ns])
    return lag_us - ticker_ns / 1000


def closed_plan(server: Server, seconds: float) -> Plan:
    """Build the peers' task."""
    return build_plan(
        port=server.port,
        model=LoadModel.CLOSED,
        requests=single_get(),
        level=CONNECTIONS,
        seconds=seconds,
        connections=CONNECTIONS,
    )


def open_plan(server: Server, seconds: float, rate_per_s: float) -> Plan:
    """Build the mix of five at a constant rate."""
    return build_plan(
        port=server.port,
        model=LoadModel.OPEN,
        requests=mix_of_five(),
        level=rate_per_s,
        seconds=seconds,
        connections=CONNECTIONS,
    )


# An engine makes more in closed load, where answers and requests alternate.
REST_OFFER = Offer(closed=closed_plan, open=open_plan, from_ratio=0.6)


def lag_samples(
    server: Server,
    saturation: float,
    settings: LagSettings,
    *,
    open_for: OpenPlan = open_plan,
    levels: Sequence[float] = LEVELS,
) -> list[LagSample]:
    """Ticker, level, ticker, level ... ticker, in each round."""
    samples = []
    for round_number in range(1, settings.rounds + 1):
        before = _ticker(settings)
        for level in levels:
            plan = open_for(server, settings.seconds, level * saturation)
            windows = _run_level(plan, level, settings)
            after = _ticker(settings)
            lag = _lag_of(merge_windows(0, windows), plan)
            slices = [_lag_of(window, plan) for window in windows]
            sample = LagSample(
                level_ratio=level,
                round_number=round_number,
                planned_per_s=level * saturation,
                n=lag.n,
                p50_us=lag.quantile_us(0.5),
                p99_us=lag.quantile_us(0.99),
                max_us=lag.max_us(),
                p50_slices_us=tuple(part.quantile_us(0.5) for part in slices),
                p99_slices_us=tuple(part.quantile_us(0.99) for part in slices),
                engine_utilisation_ratio=_utilisation(windows),
                ticker=lateness_of([*before, *after]),
            )
            before = after
            print(
                f"  round {round_number}/{settings.rounds} at {level:.0%}"
                f" ({sample.planned_per_s:,.0f}/s):"
                f" send lag p50 {sample.p50_us:.0f} p99 {sample.p99_us:.0f} us,"
                f" ticker p50 {sample.ticker.p50_ns / 1000:.0f}"
                f" p99 {sample.ticker.p99_ns / 1000:.0f} us",
                flush=True,
            )
            samples.append(sample)
    return samples


def _ticker(settings: LagSettings) -> list[int]:
    return run_ticker(settings.ticker_s, core=GENERATOR_CORE, scratch=settings.scratch)


def _lag_of(window: Window, plan: Plan) -> Histogram:
    return histogram_of(window, Kind.SEND_LAG, range(len(plan.slots)))


def _utilisation(windows: Sequence[Window]) -> float:
    """Part of its core that the engine used."""
    health = [one for window in windows for one in window.health]
    return sum(one.cpu_ns for one in health) / sum(one.wall_ns for one in health)


def _run_level(plan: Plan, level: float, settings: LagSettings) -> list[Window]:
    """Run one level; its windows after the warm-up, one a second."""
    seconds = plan.duration_ns // 10**9
    with running_engine(
        plan,
        name=f"lag at {level:.0%}",
        core=GENERATOR_CORE,
        driver_core=SERVER_CORE,
        scratch=settings.scratch,
    ) as run:
        final = run.finish(seconds + _END_S)
    windows = run.windows()
    lags = sum(_lag_of(window, plan).n for window in windows)
    planned = sum(window.total(Count.PLANNED) for window in windows)
    if final.dropped or final.failed or lags != planned:
        raise HarnessError(
            where=f"send lag at {level:.0%}",
            seen=f"{final}, {lags} lags of {planned} planned",
            expected="all planned requests sent, none dropped or failed",
        )
    first = run.t0_unix_s + _WARM_WINDOWS
    return [w for w in windows if first <= w.start_s < run.t0_unix_s + seconds]
