"""Samples of a good benchmark; each test changes one thing."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.bins import BINS, PLAIN, BinsFigures
from benchmarks.cost import CostSample
from benchmarks.fan_in import CurvePair, FanInSample
from benchmarks.grpc_part import GrpcFigures
from benchmarks.machine import Machine
from benchmarks.memory import LeakSample, MemorySample
from benchmarks.million import MILLION, MillionSample
from benchmarks.page import PageSample
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
    Results,
    ShowPart,
    Stamp,
)
from benchmarks.send_lag import LagSample
from benchmarks.show import ShowSample
from benchmarks.ticker import Lateness

COST_US = {"wrk": 10.0, "closed": 12.0, "open": 15.0, "high": 14.0, "Fast": 140.0}
AGAINST_H2LOAD_US = {
    **{f"h2load {shape}": 4.0 for shape in ("8x100", "8x1", "64x1")},
    "8x100": 3.5,
    "8x1": 5.0,
    "64x1": 5.1,
}
GRPC_US = {**AGAINST_H2LOAD_US, "open": 5.0, "high": 4.5, "aio": 100.0, "gevent": 200.0}
ROUNDS = 5


def cost_sample(key: str, round_number: int, cost_us: float) -> CostSample:
    """One second of 10,000 requests."""
    return CostSample(
        key=key,
        round_number=round_number,
        seconds=1.0,
        requests=10_000,
        generator_cpu_ns=round(cost_us * 1000 * 10_000),
        beside_cpu_ns=0,
        server_cpu_ns=10**8,
        stolen_ns=0,
        own_count=20_000,
        server_count=20_010,
        slices_us=(cost_us, cost_us),
        loop_us=100_000.0,
    )


def good_stamp() -> Stamp:
    """A quiet machine."""
    return Stamp(
        machine=Machine(
            date_utc="2026-11-23 12:00 UTC",
            processor="test",
            cores=2,
            memory_bytes=2**34,
            kernel="6",
            hypervisor="bare metal",
            python="CPython 3",
            descriptors=20_000,
            busy_ratio=0.0,
        ),
        versions={"wrk": "4"},
        commit="0123",
        is_quick=False,
        took_s=1.0,
        stolen_ratio=0.0,
    )


def lag_sample(level_ratio: float) -> LagSample:
    """60 us at the median, 20 us above the ticker at p99."""
    return LagSample(
        level_ratio=level_ratio,
        round_number=1,
        planned_per_s=10_000.0,
        n=50_000,
        p50_us=60.0,
        p99_us=120.0,
        max_us=900.0,
        p50_slices_us=(60.0, 60.0),
        p99_slices_us=(120.0, 120.0),
        engine_utilisation_ratio=0.3,
        ticker=Lateness(
            ticks=1000,
            p50_ns=50_000,
            p99_ns=100_000,
            max_ns=500_000,
            p99_slices_ns=(100_000, 100_000),
        ),
    )


def good_grpc() -> GrpcFigures:
    """Every figure of gRPC within its limit: 130,000 requests/s on a full core."""

    def samples(costs_us: dict[str, float]) -> tuple[CostSample, ...]:
        return tuple(
            replace(
                cost_sample(key, number, cost_us),
                requests=130_000,
                generator_cpu_ns=10**9,
            )
            for number in range(1, ROUNDS + 1)
            for key, cost_us in costs_us.items()
        )

    return GrpcFigures(
        titles={key: key for key in GRPC_US},
        seconds=1.0,
        saturation_per_s=100_000.0,
        open_rate_per_s=70_000.0,
        nghttpd=samples(GRPC_US),
        grpc_go=samples(AGAINST_H2LOAD_US),
        lag=(lag_sample(0.5),),
        million=MillionSample(
            wanted=MILLION,
            seconds=20,
            planned=MILLION,
            sent=MILLION,
            ok=MILLION,
            failed=0,
            windows_ok=MILLION,
            server_count=MILLION + 300,
            resident_bytes=(50_000_000,) * 38,
        ),
    )


def good_bins() -> BinsFigures:
    """4 % more."""
    samples = tuple(
        cost_sample(key, number, cost_us)
        for number in range(1, ROUNDS + 1)
        for key, cost_us in ((PLAIN, 10.0), (BINS, 10.4))
    )
    return BinsFigures(rate_per_s=7_000.0, samples=samples)


def good_results() -> Results:
    """Every part measured, every claim met."""
    stamp = good_stamp()
    samples = tuple(
        cost_sample(key, number, cost_us)
        for number in range(1, ROUNDS + 1)
        for key, cost_us in COST_US.items()
    )
    leak = LeakSample(
        title="10,000 connections",
        seconds=600.0,
        requests=6_000_000,
        first_bytes=100_000_000,
        last_bytes=100_000_000,
        slope_bytes_per_min=0.0,
        highest_bytes=100_000_000,
        resident_bytes=(100_000_000,),
    )
    memory = MemorySample(
        connections=10_000, rate_per_s=10_000.0, resident_bytes=100_000_000, idle_bytes=50_000_000
    )
    fan_in = FanInSample(
        agents=1_000,
        seconds=20.0,
        snapshot_bytes=45_000,
        received_per_s=45_000_000,
        master_cpu_ratio=0.4,
        master_cpu_slices=(0.4, 0.4),
        master_resident_bytes=300_000_000,
        windows=20,
        windows_missing=0,
        age_p50_s=0.8,
        age_max_s=1.5,
        requests_sent=30_800_000,  # 77 of each agent to each of 20 endpoints
        requests_archived=30_800_000,
        outcome="complete",
    )
    show = ShowSample(
        windows=3_600,
        endpoints=10,
        requests=72_000_000,
        archive_bytes=50_000_000,
        write_s=40.0,
        show_s=(2.0, 2.1, 2.2),
        exit_code=0,
    )
    hour = PageSample(
        windows=3_600,
        archive_bytes=112_000_000,
        report_s=(6.0, 6.1, 6.5),
        resident_bytes=480_000_000,
        page_bytes=450_000,
        compare_s=(9.0, 9.5, 10.0),
        compare_resident_bytes=700_000_000,
    )
    day = replace(hour, windows=86_400, report_s=(50.0,), resident_bytes=600_000_000)
    return Results(
        cost=CostPart(
            stamp=stamp,
            titles={key: key for key in COST_US},
            seconds=1.0,
            open_rate_per_s=7_000.0,
            saturation_per_s=10_000.0,
            samples=samples,
        ),
        lag=LagPart(
            stamp=stamp,
            seconds=7.0,
            saturation_per_s=10_000.0,
            samples=tuple(lag_sample(level) for level in (0.25, 0.5, 0.75)),
        ),
        memory=MemoryPart(stamp=stamp, samples=(memory,)),
        leak=LeakPart(stamp=stamp, samples=(leak, leak)),
        fan_in=FanInPart(stamp=stamp, samples=(fan_in,)),
        growth=GrowthPart(
            stamp=stamp, sample=replace(fan_in, seconds=3_600.0, resident_bytes=(300_000_000,) * 99)
        ),
        curve=CurvePart(
            stamp=stamp,
            pairs=(CurvePair(plain=fan_in, curve=replace(fan_in, master_cpu_slices=(0.6, 0.6))),),
        ),
        show=ShowPart(stamp=stamp, sample=show),
        page=PagePart(stamp=stamp, samples=(hour, day)),
        grpc=GrpcPart(stamp=stamp, figures=good_grpc()),
        bins=BinsPart(stamp=stamp, seconds=1.0, rest=good_bins(), grpc=good_bins()),
    )
