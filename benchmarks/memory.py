"""Resident memory of the engine at 1,000 and 10,000 connections, and whether it grows.

Every connection is used: closed load with a think time, so that all of them together
make a moderate rate. The leak check runs two engines on one core for its whole length,
one with 10,000 connections, one with open load and unique POST bodies, because growth
could come from connections or from requests.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.engine import EngineRun, running_engine
from benchmarks.generators import CONNECTIONS
from benchmarks.machine import GENERATOR_CORE, SERVER_CORE
from benchmarks.plans import build_plan, mix_of_five, mix_with_posts
from benchmarks.process import resident_bytes
from benchmarks.server import Server, running_server
from loadtests.errors import HarnessError
from loadtests.plan.model import LoadModel, Plan

_RATE_PER_S = 10_000.0
_S = 1_000_000_000
_END_S = 60.0
_SAMPLE_S = 1.0
_SETTLED_RATIO = 0.1  # of the leak check: caches and pools fill first


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySample:
    """One engine with so many connections open."""

    connections: int  # that nginx counted, the question's own left out
    rate_per_s: float
    resident_bytes: int
    idle_bytes: int  # of the same engine with 64 connections


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakSample:
    """Resident bytes of one engine over time."""

    title: str
    seconds: float
    requests: int
    first_bytes: int  # median of the first minute after settling
    last_bytes: int  # median of the last minute
    slope_bytes_per_min: float  # Theil-Sen: median of all pairwise slopes
    highest_bytes: int
    resident_bytes: tuple[int, ...]  # every ten seconds, settling included

    @property
    def growth_bytes(self) -> float:
        """What the slope makes in ten minutes."""
        return self.slope_bytes_per_min * 10


def spread_plan(server: Server, connections: int, seconds: float) -> Plan:
    """Closed load over all connections, about `_RATE_PER_S` together."""
    return build_plan(
        port=server.port,
        model=LoadModel.CLOSED,
        requests=mix_of_five(),
        level=connections,
        seconds=seconds,
        connections=connections,
        think_time_ns=round(connections / _RATE_PER_S * _S),
    )


def posting_plan(server: Server, seconds: float) -> Plan:
    """Open load with unique bodies at a moderate rate."""
    return build_plan(
        port=server.port,
        model=LoadModel.OPEN,
        requests=mix_with_posts(),
        level=_RATE_PER_S,
        seconds=seconds,
        connections=CONNECTIONS,
    )


@contextmanager
def _engine(plan: Plan, name: str, scratch: Path) -> Iterator[EngineRun]:
    with running_engine(
        plan, name=name, core=GENERATOR_CORE, driver_core=SERVER_CORE, scratch=scratch
    ) as run:
        yield run


def memory_samples(
    levels: Sequence[int], *, seconds: float, scratch: Path
) -> tuple[MemorySample, ...]:
    """One engine for each number of connections, and one with 64 as the floor."""
    idle_bytes = _one_level(CONNECTIONS, seconds, 0, scratch).resident_bytes
    samples = []
    for connections in levels:
        sample = _one_level(connections, seconds, idle_bytes, scratch)
        print(
            f"  {sample.connections:,} connections at {sample.rate_per_s:,.0f} requests/s:"
            f" {sample.resident_bytes / 1e6:.1f} MB resident",
            flush=True,
        )
        samples.append(sample)
    return tuple(samples)


def _one_level(connections: int, seconds: float, idle_bytes: int, scratch: Path) -> MemorySample:
    with running_server(core=SERVER_CORE, scratch=scratch) as server:
        plan = spread_plan(server, connections, seconds + 2)
        with _engine(plan, f"{connections} connections", scratch) as run:
            time.sleep(max(0.0, run.t0_unix_s - time.time()) + 1)
            before = server.status()
            highest, end = 0, time.monotonic() + seconds
            while time.monotonic() < end:
                highest = max(highest, resident_bytes(run.pid))
                time.sleep(0.25)
            after = server.status()
            final = run.finish(_END_S)
    opened = after.connections - 1
    if opened < connections or final.failed:
        raise HarnessError(
            where=f"memory at {connections} connections",
            seen=f"{opened} open, {final}",
            expected="all open and no failed request",
        )
    passed_s = (after.monotonic_ns - before.monotonic_ns) / _S
    return MemorySample(
        connections=opened,
        rate_per_s=(after.requests - before.requests) / passed_s,
        resident_bytes=highest,
        idle_bytes=idle_bytes,
    )


def theil_sen(times: Sequence[float], values: Sequence[float]) -> float:
    """Median slope over all pairs of points: a few outliers cannot move it."""
    x, y = np.asarray(times, dtype=np.float64), np.asarray(values, dtype=np.float64)
    first, second = np.triu_indices(x.size, k=1)
    return float(np.median((y[second] - y[first]) / (x[second] - x[first])))


def leak_samples(
    *, seconds: float, connections: int, scratch: Path
) -> tuple[LeakSample, LeakSample]:
    """Run both engines side by side and watch their resident memory."""
    with running_server(core=SERVER_CORE, scratch=scratch) as server:
        plans = (spread_plan(server, connections, seconds), posting_plan(server, seconds))
        with (
            _engine(plans[0], "leak connections", scratch) as many,
            _engine(plans[1], "leak requests", scratch) as posting,
        ):
            times, values = _watch((many, posting), seconds)
            requests = (many.finish(_END_S).ok, posting.finish(_END_S).ok)
    titles = (f"{connections:,} connections", "open load, 40 % unique POST bodies")
    return (
        _leak_sample(titles[0], times, values[0], requests[0]),
        _leak_sample(titles[1], times, values[1], requests[1]),
    )


def _watch(
    runs: tuple[EngineRun, EngineRun], seconds: float
) -> tuple[list[float], tuple[list[int], list[int]]]:
    time.sleep(max(0.0, max(run.t0_unix_s for run in runs) - time.time()) + 1)
    begin, times = time.monotonic(), []
    values: tuple[list[int], list[int]] = ([], [])
    while (passed := time.monotonic() - begin) < seconds - 5:
        times.append(passed)
        for run, series in zip(runs, values, strict=True):
            run.child.require_alive()
            series.append(resident_bytes(run.pid))
        if len(times) % 60 == 0:
            now = ", ".join(f"{series[-1] / 1e6:.1f} MB" for series in values)
            print(f"  leak check {passed:.0f} of {seconds:.0f} s: {now}", flush=True)
        time.sleep(_SAMPLE_S)
    return times, values


def _leak_sample(title: str, times: list[float], values: list[int], requests: int) -> LeakSample:
    settled = int(len(times) * _SETTLED_RATIO)
    minute = min(60, (len(times) - settled) // 2)
    return LeakSample(
        title=title,
        seconds=times[-1],
        requests=requests,
        first_bytes=int(np.median(values[settled : settled + minute])),
        last_bytes=int(np.median(values[-minute:])),
        slope_bytes_per_min=60 * theil_sen(times[settled:], values[settled:]),
        highest_bytes=max(values),
        resident_bytes=tuple(values[::10]),
    )
