"""The parts of the benchmark: how long each runs, and what it returns.

The settings keep the whole under 30 minutes with the ten minutes of the leak check in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import peers
from benchmarks.bins import BinsFigures, PlanAtRate, measure_bins
from benchmarks.cost import interleaved
from benchmarks.engine import engine
from benchmarks.fan_in import curve_pairs, fan_in_samples, growth_sample
from benchmarks.generators import Contestant, hey, locust, wrk
from benchmarks.grpc_part import GRPC_OFFER, GrpcSettings, measure_grpc
from benchmarks.grpc_plans import open_unique
from benchmarks.grpc_servers import running_nghttpd
from benchmarks.machine import (
    GENERATOR_CORE,
    SERVER_CORE,
    Machine,
    describe_machine,
    stolen_ns,
    wait_quiet,
)
from benchmarks.memory import leak_samples, memory_samples
from benchmarks.million import MILLION
from benchmarks.page import page_sample, with_compare
from benchmarks.peers import versions
from benchmarks.process import ROOT
from benchmarks.results import (
    BinsPart,
    CostPart,
    CurvePart,
    FanInPart,
    GrowthPart,
    GrpcPart,
    LagPart,
    LeakPart,
    MemoryPart,
    PagePart,
    Part,
    ShowPart,
    Stamp,
)
from benchmarks.saturation import OPEN_LEVEL, OPEN_LEVELS, at_rate, saturation_per_s
from benchmarks.send_lag import (
    REST_OFFER,
    LagSettings,
    closed_plan,
    lag_samples,
    open_plan,
)
from benchmarks.server import Server, running_server
from benchmarks.show import show_sample
from benchmarks.whole import whole_generator
from loadtests.record.facts import git_commit

_DAY_S = 86_400
_QUIET_RATIO = 0.05
_QUIET_PATIENCE_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Lengths of all parts."""

    scratch: Path
    is_quick: bool
    rounds: int
    warm_s: float
    seconds: float  # interval of one cost sample
    bins_s: float  # the same with bins and without
    lag_rounds: int
    lag_s: float
    ticker_s: float
    memory_s: float
    connections: tuple[int, ...]
    leak_s: float
    agents: tuple[int, ...]
    fan_in_s: float
    many_agents: tuple[int, ...]  # to find what one master holds
    growth_s: float
    curve_rounds: int
    archive_s: int
    shows: int
    soak: Path | None  # where the archive of a day is kept; None: none is reported
    grpc_rounds: int
    grpc_warm_s: float
    grpc_s: float
    grpc_lag_s: float
    grpc_ticker_s: float
    grpc_requests: int


def settings_for(scratch: Path, *, is_quick: bool, soak: Path | None) -> Settings:
    """The full lengths, or those of a smoke test; with `soak` a day is reported as well."""
    if is_quick:
        return Settings(
            scratch=scratch,
            is_quick=True,
            rounds=2,
            warm_s=0.5,
            seconds=1.0,
            bins_s=1.0,
            lag_rounds=1,
            lag_s=4.0,
            ticker_s=1.0,
            memory_s=3.0,
            connections=(1_000, 10_000),
            leak_s=15.0,
            agents=(100,),
            fan_in_s=5.0,
            many_agents=(),
            growth_s=10.0,
            curve_rounds=1,
            archive_s=120,
            shows=1,
            soak=None,
            grpc_rounds=1,
            grpc_warm_s=0.5,
            grpc_s=1.0,
            grpc_lag_s=4.0,
            grpc_ticker_s=1.0,
            grpc_requests=100_000,
        )
    return Settings(
        scratch=scratch,
        is_quick=False,
        rounds=6,
        warm_s=1.0,
        seconds=4.0,
        bins_s=3.0,
        lag_rounds=3,
        lag_s=7.0,
        ticker_s=3.0,
        memory_s=6.0,
        connections=(1_000, 10_000),
        leak_s=605.0,
        agents=(100, 300, 1_000),
        fan_in_s=20.0,
        many_agents=(2_000, 3_000),
        growth_s=3_600.0,
        curve_rounds=4,
        archive_s=3_600,
        shows=3,
        soak=soak,
        grpc_rounds=3,
        grpc_warm_s=0.7,
        grpc_s=2.0,
        grpc_lag_s=6.0,
        grpc_ticker_s=2.0,
        grpc_requests=MILLION,
    )


class _Stamper:
    """Takes the time and the stolen time of a part."""

    def __init__(self, settings: Settings, machine: Machine) -> None:
        self._settings = settings
        self._machine = machine
        self._begin_s = time.monotonic()
        self._stolen_ns = stolen_ns()

    def stamp(self) -> Stamp:
        """Close the part."""
        took_s = time.monotonic() - self._begin_s
        return Stamp(
            machine=self._machine,
            versions=versions(),
            commit=git_commit(ROOT),
            is_quick=self._settings.is_quick,
            took_s=took_s,
            stolen_ratio=(stolen_ns() - self._stolen_ns) / 1e9 / took_s,
        )


@contextmanager
def _stamped(settings: Settings) -> Iterator[_Stamper]:
    """Wait a while for a quiet machine (not in a quick run), then time the part."""
    busy = wait_quiet(_QUIET_RATIO, 0.0 if settings.is_quick else _QUIET_PATIENCE_S)
    if busy > _QUIET_RATIO:
        print(f"  note: others use {busy:.0%} of this machine", flush=True)
    yield _Stamper(settings, describe_machine(busy))


def _contestants(settings: Settings, saturation_per_s: float) -> list[Contestant]:
    scratch, core, title = settings.scratch, GENERATOR_CORE, "Headroom open, mix of 5, at"
    where = {"core": core, "driver_core": SERVER_CORE}
    loads = {key: at_rate(open_plan, part * saturation_per_s) for key, part in OPEN_LEVELS.items()}
    return [
        wrk(core=core, scratch=scratch),
        engine("closed", "Headroom closed, engine", closed_plan, scratch=scratch, **where),
        *(
            engine(key, f"{title} {part:.0%}, engine", loads[key], scratch=scratch, **where)
            for key, part in OPEN_LEVELS.items()
        ),
        whole_generator(
            "whole", f"{title} {OPEN_LEVEL:.0%}, agent + engine", loads["open"], scratch
        ),
        hey(core=core, scratch=scratch),
        locust("Fast", "Locust FastHttpUser", core=core, scratch=scratch),
        locust("Plain", "Locust HttpUser", core=core, scratch=scratch),
    ]


def _rest_saturation_per_s(server: Server, settings: Settings) -> float:
    scratch = settings.scratch
    return saturation_per_s(server, REST_OFFER, seconds=settings.seconds, scratch=scratch)


def run_cost(settings: Settings) -> CostPart:
    """CPU per request of all contestants."""
    with (
        _stamped(settings) as stamper,
        running_server(core=SERVER_CORE, scratch=settings.scratch) as server,
    ):
        saturation = _rest_saturation_per_s(server, settings)
        contestants = _contestants(settings, saturation)
        samples = interleaved(
            contestants,
            server,
            rounds=settings.rounds,
            warm_s=settings.warm_s,
            seconds=settings.seconds,
        )
        return CostPart(
            stamp=stamper.stamp(),
            titles={contestant.key: contestant.title for contestant in contestants},
            seconds=settings.seconds,
            open_rate_per_s=OPEN_LEVEL * saturation,
            saturation_per_s=saturation,
            samples=tuple(samples),
        )


def run_bins(settings: Settings) -> BinsPart:
    """CPU per request with bins and without, of both protocols."""
    peers.install_missing(peers.GRPC)
    scratch, seconds = settings.scratch, settings.bins_s

    def measured(server: Server, plan_at: PlanAtRate, saturation: float) -> BinsFigures:
        return measure_bins(
            server,
            plan_at,
            saturation,
            rounds=2 * settings.rounds,
            warm_s=settings.warm_s,
            seconds=seconds,
            scratch=scratch,
        )

    with _stamped(settings) as stamper:
        with running_server(core=SERVER_CORE, scratch=scratch) as server:
            saturation = _rest_saturation_per_s(server, settings)
            rest = measured(server, open_plan, saturation)
        with running_nghttpd(core=SERVER_CORE, scratch=scratch) as peer:
            saturation = saturation_per_s(
                peer, GRPC_OFFER, seconds=settings.grpc_s, scratch=scratch
            )
            grpc = measured(peer, open_unique, saturation)
        return BinsPart(stamp=stamper.stamp(), seconds=seconds, rest=rest, grpc=grpc)


def run_lag(settings: Settings) -> LagPart:
    """Send lag at three levels."""
    with (
        _stamped(settings) as stamper,
        running_server(core=SERVER_CORE, scratch=settings.scratch) as server,
    ):
        saturation = _rest_saturation_per_s(server, settings)
        lag_settings = LagSettings(
            rounds=settings.lag_rounds,
            seconds=settings.lag_s,
            ticker_s=settings.ticker_s,
            scratch=settings.scratch,
        )
        samples = lag_samples(server, saturation, lag_settings)
        return LagPart(
            stamp=stamper.stamp(),
            seconds=settings.lag_s,
            saturation_per_s=saturation,
            samples=tuple(samples),
        )


def run_memory(settings: Settings) -> MemoryPart:
    """Resident memory at each number of connections."""
    with _stamped(settings) as stamper:
        samples = memory_samples(
            settings.connections, seconds=settings.memory_s, scratch=settings.scratch
        )
        return MemoryPart(stamp=stamper.stamp(), samples=samples)


def run_leak(settings: Settings) -> LeakPart:
    """Growth of resident memory."""
    with _stamped(settings) as stamper:
        samples = leak_samples(
            seconds=settings.leak_s, connections=max(settings.connections), scratch=settings.scratch
        )
        return LeakPart(stamp=stamper.stamp(), samples=samples)


def run_fan_in(settings: Settings) -> FanInPart:
    """A master with many agents."""
    with _stamped(settings) as stamper:
        samples, limit = fan_in_samples(
            settings.agents,
            settings.many_agents,
            seconds=settings.fan_in_s,
            scratch=settings.scratch,
        )
        return FanInPart(stamp=stamper.stamp(), samples=samples, limit=limit)


def run_growth(settings: Settings) -> GrowthPart:
    """The largest of the usual masters for an hour."""
    with _stamped(settings) as stamper:
        sample = growth_sample(
            max(settings.agents), seconds=settings.growth_s, scratch=settings.scratch
        )
        return GrowthPart(stamp=stamper.stamp(), sample=sample)


def run_curve(settings: Settings) -> CurvePart:
    """The largest of these masters, with keys and without."""
    with _stamped(settings) as stamper:
        pairs = curve_pairs(
            max(settings.agents),
            rounds=settings.curve_rounds,
            seconds=settings.fan_in_s,
            scratch=settings.scratch,
        )
        return CurvePart(stamp=stamper.stamp(), pairs=pairs)


def run_show(settings: Settings) -> ShowPart:
    """`headroom show` of an hour."""
    with _stamped(settings) as stamper:
        sample = show_sample(
            seconds=settings.archive_s, rounds=settings.shows, scratch=settings.scratch
        )
        return ShowPart(stamp=stamper.stamp(), sample=sample)


def run_page(settings: Settings) -> PagePart:
    """`headroom report` and `compare` of an hour, a report of a day where that was asked for."""
    hour, rounds, scratch = settings.scratch / "hour", settings.shows, settings.scratch
    with _stamped(settings) as stamper:
        samples = [page_sample(hour, seconds=settings.archive_s, rounds=rounds, scratch=scratch)]
        samples[0] = with_compare(samples[0], hour, rounds=rounds)
        if settings.soak is not None:
            soak = settings.soak
            samples.append(page_sample(soak, seconds=_DAY_S, rounds=rounds, scratch=scratch))
        return PagePart(stamp=stamper.stamp(), samples=tuple(samples))


def run_grpc(settings: Settings) -> GrpcPart:
    """All of gRPC."""
    with _stamped(settings) as stamper:
        lag = LagSettings(
            rounds=settings.lag_rounds,
            seconds=settings.grpc_lag_s,
            ticker_s=settings.grpc_ticker_s,
            scratch=settings.scratch,
        )
        figures = measure_grpc(
            GrpcSettings(
                rounds=settings.grpc_rounds,
                warm_s=settings.grpc_warm_s,
                seconds=settings.grpc_s,
                lag=lag,
                requests=settings.grpc_requests,
                scratch=settings.scratch,
            )
        )
        return GrpcPart(stamp=stamper.stamp(), figures=figures)


# Half an hour each: measured when asked for by name.
LONG = frozenset({"growth"})
PARTS: dict[str, Callable[[Settings], Part]] = {
    "cost": run_cost,
    "bins": run_bins,
    "lag": run_lag,
    "grpc": run_grpc,
    "memory": run_memory,
    "fan_in": run_fan_in,
    "growth": run_growth,
    "curve": run_curve,
    "show": run_show,
    "page": run_page,
    "leak": run_leak,
}
