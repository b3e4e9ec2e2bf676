"""CPU per request, side by side, in interleaved rounds.

Every round runs every generator once against the same server, in an order that turns from
round to round, so that a slow minute of the machine meets all of them. The first seconds
of each run are left out; then, over the same interval,

    cost = (CPU ns of the generator's processes) / (requests that the server counted)

A ratio is taken within its round only. A neighbour on the same physical core makes the
code of all generators slower for seconds at a time, by up to a factor of two, and no
hypervisor says when: so each sample is also read in slices of half a second, and a
generator's *undisturbed* cost is the lower quartile of its slices over all rounds. What a
neighbour adds is never negative, so the low end is the generator's own; and a bare loop of
Python before each sample shows how much the core itself varied meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from benchmarks.generators import Contestant, Running
from benchmarks.machine import GENERATOR_CORE, bare_loop_us, stolen_ns
from benchmarks.process import cpu_ns
from benchmarks.server import Server
from benchmarks.spread import undisturbed
from loadtests.errors import HarnessError

_LOAD_START_S = 20.0
_LOAD_PER_S = 200.0  # a generator that does this has left its start-up behind
_TAIL_S = 1.0
_SLICE_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class CostSample:
    """One generator in one round; `slices_us` are the costs of its half seconds."""

    key: str
    round_number: int
    seconds: float  # the interval
    requests: int  # the server's count in it
    generator_cpu_ns: int
    beside_cpu_ns: int  # what only drives the generator (0 for peers)
    server_cpu_ns: int
    stolen_ns: int  # by the hypervisor, all cores
    own_count: int  # what the generator says it completed in its whole run
    server_count: int  # what the server answered in that run
    slices_us: tuple[float, ...]
    loop_us: float  # a bare loop of Python on the generator's core, just before

    @property
    def cost_us(self) -> float:
        """CPU microseconds of the generator per request."""
        return self.generator_cpu_ns / self.requests / 1000

    @property
    def whole_cost_us(self) -> float:
        """The same with what drives it included."""
        return (self.generator_cpu_ns + self.beside_cpu_ns) / self.requests / 1000

    @property
    def rate_per_s(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds

    @property
    def utilisation_ratio(self) -> float:
        """Part of its core that the generator used."""
        return self.generator_cpu_ns / self.seconds / 1e9

    @property
    def server_utilisation_ratio(self) -> float:
        """Part of its core that the server used."""
        return self.server_cpu_ns / self.seconds / 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """All counters at one moment."""

    monotonic_ns: int
    requests: int
    generator_cpu_ns: int
    beside_cpu_ns: int
    server_cpu_ns: int
    stolen_ns: int


def read(server: Server, running: Running) -> Reading:
    """Read the server's counters and the CPU clocks, as close together as can be.

    HarnessError when a process of the generator has ended: its clock is gone with it.
    """
    status = server.status()
    try:
        return Reading(
            monotonic_ns=status.monotonic_ns,
            requests=status.requests,
            generator_cpu_ns=sum(cpu_ns(pid) for pid in running.pids),
            beside_cpu_ns=sum(cpu_ns(pid) for pid in running.beside),
            server_cpu_ns=server.cpu_ns(),
            stolen_ns=stolen_ns(),
        )
    except ProcessLookupError as error:
        running.child.require_alive()
        raise HarnessError(
            where=running.child.name, seen=str(error), expected="all its processes alive"
        ) from None


def wait_loaded(server: Server, running: Running) -> None:
    """Wait until requests arrive; HarnessError when they do not, or the generator ends."""
    deadline = time.monotonic() + _LOAD_START_S
    before = server.status()
    while True:
        time.sleep(0.1)
        running.child.require_alive()
        now = server.status()
        seconds = (now.monotonic_ns - before.monotonic_ns) / 1e9
        if (now.requests - before.requests) / seconds > _LOAD_PER_S:
            return
        if time.monotonic() > deadline:
            raise HarnessError(
                where=running.child.name,
                seen=f"no load after {_LOAD_START_S:g} s: {running.child.complaint()}",
                expected=f"more than {_LOAD_PER_S:g} requests/s",
            )
        before = now


def _readings(server: Server, running: Running, seconds: float) -> list[Reading]:
    """Readings half a second apart, over `seconds`."""
    readings = [read(server, running)]
    for _ in range(max(1, round(seconds / _SLICE_S))):
        time.sleep(min(_SLICE_S, seconds))
        readings.append(read(server, running))
    return readings


def _slices_us(readings: Sequence[Reading]) -> tuple[float, ...]:
    """Cost of each slice in which anything was answered."""
    return tuple(
        (after.generator_cpu_ns - before.generator_cpu_ns) / requests / 1000
        for before, after in pairwise(readings)
        if (requests := after.requests - before.requests) > 0
    )


def measure(
    contestant: Contestant, server: Server, *, round_number: int, warm_s: float, seconds: float
) -> CostSample:
    """Run one generator once and take its sample."""
    loop_us = bare_loop_us(GENERATOR_CORE)
    first = server.status()
    with contestant.start(server, warm_s + seconds + _TAIL_S) as running:
        wait_loaded(server, running)
        time.sleep(warm_s)
        readings = _readings(server, running, seconds)
        own_count = running.finish()
    last = server.status()
    before, after = readings[0], readings[-1]
    return CostSample(
        key=contestant.key,
        round_number=round_number,
        seconds=(after.monotonic_ns - before.monotonic_ns) / 1e9,
        requests=after.requests - before.requests,
        generator_cpu_ns=after.generator_cpu_ns - before.generator_cpu_ns,
        beside_cpu_ns=after.beside_cpu_ns - before.beside_cpu_ns,
        server_cpu_ns=after.server_cpu_ns - before.server_cpu_ns,
        stolen_ns=after.stolen_ns - before.stolen_ns,
        own_count=own_count,
        server_count=last.requests - first.requests,
        slices_us=_slices_us(readings),
        loop_us=loop_us,
    )


def interleaved(
    contestants: Sequence[Contestant], server: Server, *, rounds: int, warm_s: float, seconds: float
) -> list[CostSample]:
    """Run all rounds; the order turns by one each round, so nobody is always first."""
    samples = []
    for round_number in range(1, rounds + 1):
        turn = round_number % len(contestants)
        for contestant in (*contestants[turn:], *contestants[:turn]):
            sample = measure(
                contestant, server, round_number=round_number, warm_s=warm_s, seconds=seconds
            )
            print(
                f"  round {round_number}/{rounds} {contestant.title:<34}"
                f" {sample.cost_us:8.2f} us/request {sample.rate_per_s:10,.0f} requests/s"
                f" generator {sample.utilisation_ratio:4.0%}"
                f" server {sample.server_utilisation_ratio:4.0%}",
                flush=True,
            )
            samples.append(sample)
    return samples


def ratios_to(
    samples: Sequence[CostSample], key: str, reference: str, *, is_whole: bool = False
) -> list[float]:
    """Cost of `key` over the cost of `reference`, round by round."""
    references = {s.round_number: s.cost_us for s in samples if s.key == reference}
    return [
        (s.whole_cost_us if is_whole else s.cost_us) / references[s.round_number]
        for s in samples
        if s.key == key
    ]


def undisturbed_us(samples: Sequence[CostSample], key: str) -> float:
    """Lower quartile of the slices of `key` over all rounds, in microseconds per request."""
    slices = [cost for sample in samples if sample.key == key for cost in sample.slices_us]
    return undisturbed(slices)


def undisturbed_ratio(samples: Sequence[CostSample], key: str, reference: str) -> float:
    """Undisturbed cost of `key` over that of `reference`."""
    return undisturbed_us(samples, key) / undisturbed_us(samples, reference)
