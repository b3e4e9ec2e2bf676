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
from benchmarks.cost import CostSample, interleaved
from benchmarks.engine import engine
from benchmarks.generators import Contestant
from benchmarks.grpc_generators import h2load, python_client
from benchmarks.grpc_plans import CONNECTIONS, SHAPES, STREAMS, closed_for, open_unique, shape_name
from benchmarks.grpc_servers import build_go_server, running_go, running_nghttpd
from benchmarks.machine import GENERATOR_CORE, SERVER_CORE
from benchmarks.million import MillionSample, million_sample
from benchmarks.saturation import OPEN_LEVEL, OPEN_LEVELS, Offer, at_rate, saturation_per_s
from benchmarks.send_lag import LagSample, LagSettings, lag_samples
from benchmarks.server import Server
from loadtests.errors import HarnessError

LAG_LEVEL = 0.5
USUAL = shape_name(CONNECTIONS, STREAMS)
GRPC_OFFER = Offer(closed=closed_for(CONNECTIONS, STREAMS), open=open_unique, from_ratio=0.3)
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
    title = f"Headroom open, unique transactions, {CONNECTIONS} x {STREAMS}, at"
    opened = [
        engine(
            key,
            f"{title} {ratio:.0%}, engine",
            at_rate(open_unique, ratio * saturation),
            scratch=scratch,
            **_WHERE,
        )
        for key, ratio in OPEN_LEVELS.items()
    ]
    return [
        *_against_h2load(scratch),
        *opened,
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


def measure_grpc(settings: GrpcSettings) -> GrpcFigures:
    """Run the whole part."""
    peers.install_missing(peers.GRPC)
    scratch = settings.scratch
    with running_nghttpd(core=SERVER_CORE, scratch=scratch) as server:
        saturation = saturation_per_s(server, GRPC_OFFER, seconds=settings.seconds, scratch=scratch)
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
