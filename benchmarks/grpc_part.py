"""gRPC beside its peers: what is run against which server, in under six minutes.

Against nghttpd all of it; against grpc-go the comparison with h2load, where Debian's Go can
build that server.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import peers
from benchmarks.cost import CostSample, interleaved, measure
from benchmarks.engine import engine
from benchmarks.generators import Contestant
from benchmarks.grpc_generators import h2load, python_client
from benchmarks.grpc_plans import CONNECTIONS, SHAPES, STREAMS, closed_for, open_unique, shape_name
from benchmarks.grpc_servers import build_go_server, running_go, running_nghttpd
from benchmarks.machine import GENERATOR_CORE, SERVER_CORE
from benchmarks.million import MillionSample, million_sample
from benchmarks.send_lag import LagSample, LagSettings, lag_samples
from benchmarks.server import Server
from loadtests.errors import HarnessError
from loadtests.plan.model import Plan

OPEN_LEVEL = 0.7  # of saturation, for the cost of open load
LAG_LEVEL = 0.5
_OFFERED = (0.3, 0.5, 0.7)  # of the rate of closed load
USUAL = shape_name(CONNECTIONS, STREAMS)
_WHERE = {"core": GENERATOR_CORE, "driver_core": SERVER_CORE}


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcSettings:
    """Lengths of the part."""

    rounds: int
    warm_s: float
    seconds: float
    lag: LagSettings
    requests: int  # of the run that must account for all
    scratch: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcFigures:
    """All that the part measures; samples by server."""

    titles: dict[str, str]
    seconds: float
    saturation_per_s: float
    open_rate_per_s: float
    nghttpd: tuple[CostSample, ...]
    grpc_go: tuple[CostSample, ...]  # empty where it could not be built
    lag: tuple[LagSample, ...]
    million: MillionSample


def _engine(connections: int, streams: int, scratch: Path) -> Contestant:
    name, plan_for = shape_name(connections, streams), closed_for(connections, streams)
    title = f"Headroom closed, {connections} x {streams}, engine"
    return engine(name, title, plan_for, scratch=scratch, **_WHERE)


def _against_h2load(scratch: Path) -> list[Contestant]:
    found = []
    for shape in SHAPES:
        found.append(h2load(*shape, core=GENERATOR_CORE, scratch=scratch))
        found.append(_engine(*shape, scratch))
    return found


def _contestants(saturation: float, scratch: Path) -> list[Contestant]:
    def open_at_rate(server: Server, seconds: float) -> Plan:
        return open_unique(server, seconds, OPEN_LEVEL * saturation)

    title = f"Headroom open, unique transactions, {CONNECTIONS} x {STREAMS}, engine"
    return [
        *_against_h2load(scratch),
        engine("open", title, open_at_rate, scratch=scratch, **_WHERE),
        python_client("aio", "grpc.aio on uvloop", core=GENERATOR_CORE, scratch=scratch),
        python_client("gevent", "grpcio with gevent", core=GENERATOR_CORE, scratch=scratch),
    ]


def _measured(
    contestants: Sequence[Contestant], server: Server, settings: GrpcSettings
) -> tuple[CostSample, ...]:
    return tuple(
        interleaved(
            contestants,
            server,
            rounds=settings.rounds,
            warm_s=settings.warm_s,
            seconds=settings.seconds,
        )
    )


def _against_go(settings: GrpcSettings) -> tuple[CostSample, ...]:
    try:
        program = build_go_server(settings.scratch)
    except (HarnessError, OSError) as error:
        print(f"  grpc-go is left out: {error}", file=sys.stderr, flush=True)
        return ()
    with running_go(program, core=SERVER_CORE, scratch=settings.scratch) as server:
        print("  against grpc-go:", flush=True)
        return _measured(_against_h2load(settings.scratch), server, settings)


def saturation_per_s(server: Server, *, seconds: float, scratch: Path) -> float:
    """The best rate of open load, offered at several parts of the rate of closed load.

    Far above what it can make an engine spends its time on requests that it drops: the most
    that is offered is not where it makes the most.
    """

    def rate_per_s(contestant: Contestant) -> float:
        sample = measure(contestant, server, round_number=0, warm_s=0.5, seconds=seconds)
        return sample.rate_per_s

    def offered(rate: float) -> Contestant:
        def plan_for(target: Server, length_s: float) -> Plan:
            return open_unique(target, length_s, rate)

        return engine("offered", "Headroom offered", plan_for, scratch=scratch, **_WHERE)

    closed = rate_per_s(_engine(CONNECTIONS, STREAMS, scratch))
    reached = [rate_per_s(offered(part * closed)) for part in _OFFERED]
    made = ", ".join(f"{rate:,.0f}" for rate in reached)
    print(f"  saturation: closed {closed:,.0f}, open {made} requests/s", flush=True)
    return max(reached)


def measure_grpc(settings: GrpcSettings) -> GrpcFigures:
    """Run the whole part."""
    peers.install_missing(peers.GRPC)
    scratch = settings.scratch
    with running_nghttpd(core=SERVER_CORE, scratch=scratch) as server:
        saturation = saturation_per_s(server, seconds=settings.seconds, scratch=scratch)
        contestants = _contestants(saturation, scratch)
        nghttpd = _measured(contestants, server, settings)
        lag = lag_samples(
            server, saturation, settings.lag, open_for=open_unique, levels=(LAG_LEVEL,)
        )
        million = million_sample(server, saturation, wanted=settings.requests, scratch=scratch)
    return GrpcFigures(
        titles={contestant.key: contestant.title for contestant in contestants},
        seconds=settings.seconds,
        saturation_per_s=saturation,
        open_rate_per_s=OPEN_LEVEL * saturation,
        nghttpd=nghttpd,
        grpc_go=_against_go(settings),
        lag=tuple(lag),
        million=million,
    )
