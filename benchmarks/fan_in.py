"""A master with many agents: how busy it is, and how late its windows are.

`curve_pairs` does it with and without CURVE in turn, to tell what encryption costs.

The master is real and runs pinned to one core; the agents (`simulated_agents`) share the
other. All of them together stand for the largest profile of the project, 1,550,000
requests a second over twenty endpoints, whatever their number: more agents hand over more,
smaller histograms. CPU is read over the seconds in which every agent reports.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise, starmap
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.machine import GENERATOR_CORE, SERVER_CORE
from benchmarks.memory import theil_sen
from benchmarks.plans import build_plan, mix_of_five
from benchmarks.process import Child, cpu_ns, resident_bytes, spawn
from benchmarks.server import free_port
from benchmarks.simulated_agents import Fleet, FleetKeys
from benchmarks.spread import undisturbed
from benchmarks.synthetic import MASTER_ENDPOINTS, endpoint_names
from loadtests.errors import HarnessError
from loadtests.plan.codec import encode_plan
from loadtests.plan.model import LoadModel, LossPolicy, Plan
from loadtests.record.manifest import Outcome

_RATE_PER_S = 1_550_000
_FLEETS = 2  # processes that the agents live in
_START_S = 120.0
_END_S = 60.0
_SKIP_S = 2  # the first windows, while agents fall into step
_SLICE_S = 2
# Every minute a master spools its rows and gives freed memory back; the next windows take it
# again within seconds. The lowest of two minutes' readings is what it keeps.
_FLOOR_S = 120
_FEWEST_FLOORS = 5
_KEPT = 100  # readings of memory that are stored
_S = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class FanInSample:
    """One run of a real master with simulated agents."""

    agents: int
    seconds: float  # over which the CPU was read
    snapshot_bytes: int  # of one agent and second, median
    received_per_s: int  # bytes per second that the master took in, whole run
    master_cpu_ratio: float
    master_cpu_slices: tuple[float, ...]  # of each two seconds
    master_resident_bytes: int  # highest
    resident_bytes: tuple[int, ...] = ()  # some of the readings, two seconds apart and more
    kept_bytes: tuple[int, ...] = ()  # lowest of each two minutes
    slope_bytes_per_h: float = 0.0  # of these, see `Usage`
    windows: int
    windows_missing: int
    age_p50_s: float  # archived, less the end of the window's second
    age_max_s: float
    requests_sent: int  # by all agents, in the run
    requests_archived: int
    outcome: str  # of the run, and why it ended

    @property
    def is_whole(self) -> bool:
        """All agents handed over all seconds: none was lost, however the run went on."""
        each = _per_endpoint(self.agents) * self.agents * MASTER_ENDPOINTS
        is_all = self.requests_archived == self.requests_sent == each * self.windows
        return is_all and not self.windows_missing


@dataclass(frozen=True, slots=True, kw_only=True)
class Archived:
    """A window that the master archived."""

    label_s: int
    archived_unix_ns: int
    ok: int

    @property
    def age_s(self) -> float:
        """Seconds between the end of the window's second and its archiving."""
        return self.archived_unix_ns / _S - (self.label_s + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What the master used in the middle of a run."""

    seconds: float
    cpu_ratio: float
    cpu_slices: tuple[float, ...]  # the same, of each two seconds
    resident_bytes: tuple[int, ...]  # after each two seconds

    @property
    def kept_bytes(self) -> tuple[int, ...]:
        """The lowest reading of each two minutes."""
        readings, each = self.resident_bytes, _FLOOR_S // _SLICE_S
        whole = range(0, len(readings) - each + 1, each)
        return tuple(min(readings[at : at + each]) for at in whole)

    @property
    def slope_bytes_per_h(self) -> float:
        """Growth of what is kept, the first third left out; 0 for too short a run.

        What a master keeps of each agent's last minutes (clock samples: six) fills up first.
        """
        settled = self.kept_bytes[len(self.kept_bytes) // 3 :]
        if len(settled) < _FEWEST_FLOORS:
            return 0.0
        hours = [number * _FLOOR_S / 3600 for number in range(len(settled))]
        return theil_sen(hours, settled)


def _per_endpoint(agents: int) -> int:
    """Requests a second that one agent makes to one endpoint."""
    return _RATE_PER_S // agents // MASTER_ENDPOINTS


def _plan(agents: int, seconds: int, loss_policy: LossPolicy) -> Plan:
    get = mix_of_five()[0]
    requests = tuple(
        dataclasses.replace(get, name=name, path=f"/{number}", weight=1.0)
        for number, name in enumerate(endpoint_names(MASTER_ENDPOINTS))
    )
    plan = build_plan(
        port=9,
        model=LoadModel.OPEN,
        requests=requests,
        level=_per_endpoint(agents) * agents * MASTER_ENDPOINTS,
        seconds=seconds,
        connections=10_000,
    )
    return dataclasses.replace(plan, loss_policy=loss_policy)


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePair:
    """The same run one after the other: in the clear, and with a key for each agent."""

    plain: FanInSample
    curve: FanInSample

    @property
    def cpu_ratio(self) -> float:
        """What CURVE makes of the master's CPU, neighbours of its core left out."""
        plain = undisturbed(self.plain.master_cpu_slices)
        return undisturbed(self.curve.master_cpu_slices) / plain


def curve_pairs(
    agents: int, *, rounds: int, seconds: float, scratch: Path
) -> tuple[CurvePair, ...]:
    """Rounds of both, in turn: what a neighbour does for minutes, he does to both."""
    length, pairs = round(seconds) + _SKIP_S, []
    for number in range(rounds):
        runs = {}
        for is_secured in (False, True) if number % 2 == 0 else (True, False):
            keys = FleetKeys.make(agents) if is_secured else None
            runs[is_secured] = _one_run(agents, length, scratch / f"curve-{number}", keys)
        pair = CurvePair(plain=runs[False], curve=runs[True])
        print(f"  {agents:,} agents: CURVE costs {pair.cpu_ratio:.2f} x plain", flush=True)
        pairs.append(pair)
    return tuple(pairs)


def fan_in_samples(
    levels: Sequence[int], perhaps: Sequence[int], *, seconds: float, scratch: Path
) -> tuple[tuple[FanInSample, ...], str]:
    """One run for each number of agents, then for those that a master perhaps holds.

    The text says which it did not hold, and how that ended.
    """
    samples: list[FanInSample] = []
    for agents in (*levels, *perhaps):
        try:
            sample = _one_run(agents, round(seconds) + _SKIP_S, scratch)
        except HarnessError as error:
            if agents not in perhaps:
                raise
            print(f"  {agents:,} agents: not held: {error}", flush=True)
            why = error.seen.strip().splitlines()[-1]  # the master's last word
            return tuple(samples), f"{agents:,} agents were not held: {why}."
        print(
            f"  {agents:,} agents: master {sample.master_cpu_ratio:.0%} of a core,"
            f" age of windows p50 {sample.age_p50_s:.2f} s, max {sample.age_max_s:.2f} s,"
            f" {sample.received_per_s / 1e6:.1f} MB/s",
            flush=True,
        )
        samples.append(sample)
    return tuple(samples), ""


def growth_sample(agents: int, *, seconds: float, scratch: Path) -> FanInSample:
    """One long run, for what the master's memory does in it.

    An agent that is lost does not end it: a virtual machine stands still for seconds, once in
    some hours.
    """
    length = round(seconds) + _SKIP_S
    sample = _one_run(agents, length, scratch, loss_policy=LossPolicy.CONTINUE)
    slope_mib = sample.slope_bytes_per_h / (1 << 20)
    print(f"  {agents:,} agents: {slope_mib:+.2f} MiB/h", flush=True)
    return sample


@contextmanager
def _swarm(
    agents: int, plan: Plan, scratch: Path, keys: FleetKeys | None
) -> Iterator[tuple[Child, list[Child]]]:
    """Start a master and its fleets."""
    port = free_port()
    scratch.mkdir(parents=True, exist_ok=True)
    file = []
    if keys is not None:
        path = scratch / "keys.json"
        path.write_bytes(msgspec.json.encode(keys))
        file = [str(path)]
    plan_path = scratch / f"fan-in-{agents}.plan"
    plan_path.write_bytes(encode_plan(plan))
    results = scratch / f"fan-in-{agents}"
    with ExitStack() as stack:
        module = [sys.executable, "-m", "benchmarks.fan_in_master"]
        command = [*module, str(port), str(agents), str(plan_path), str(results), *file]
        master = stack.enter_context(
            spawn(f"master of {agents}", command, core=GENERATOR_CORE, scratch=scratch)
        )
        fleets, first = [], 0
        for number in range(_FLEETS):
            count = agents * (number + 1) // _FLEETS - first
            module = [sys.executable, "-m", "benchmarks.simulated_agents"]
            command = [*module, *map(str, (port, first, count, _per_endpoint(agents))), *file]
            fleet = spawn(f"fleet {number}", command, core=SERVER_CORE, scratch=scratch)
            fleets.append(stack.enter_context(fleet))
            first += count
        yield master, fleets


def _archived(master: Child) -> list[Archived]:
    lines = [line for line in master.output().splitlines() if line.startswith('{"label_s"')]
    return [Archived(**json.loads(line)) for line in lines if line.endswith("}")]


def _watch(master: Child, seconds: int) -> Usage:
    """Wait for the first windows, then read the master's CPU until shortly before the end."""
    deadline = time.monotonic() + _START_S
    while len(_archived(master)) < _SKIP_S:
        master.require_alive()
        if time.monotonic() > deadline:
            raise HarnessError(
                where=master.name,
                seen=f"no windows after {_START_S:g} s: {master.complaint()}",
                expected="windows every second",
            )
        time.sleep(0.1)
    readings, resident = [(time.monotonic_ns(), cpu_ns(master.pid))], []
    began_s = time.monotonic()
    for number in range(1, (seconds - _SKIP_S - 1) // _SLICE_S + 1):
        # In step with the windows to the end: memory rises and falls with them.
        time.sleep(max(0.0, began_s + number * _SLICE_S - time.monotonic()))
        master.require_alive()
        resident.append(resident_bytes(master.pid))
        readings.append((time.monotonic_ns(), cpu_ns(master.pid)))
    return Usage(
        seconds=(readings[-1][0] - readings[0][0]) / _S,
        cpu_ratio=_ratio(readings[0], readings[-1]),
        cpu_slices=tuple(starmap(_ratio, pairwise(readings))),
        resident_bytes=tuple(resident),
    )


def _ratio(before: tuple[int, int], after: tuple[int, int]) -> float:
    """Part of a core between two readings of clock and CPU time."""
    return (after[1] - before[1]) / (after[0] - before[0])


def require_whole(outcome: str, agents: int) -> None:
    """Refuse a run that its master gave up, also when that was shortly before its end."""
    if not outcome.startswith(Outcome.COMPLETE.value):
        raise HarnessError(
            where=f"fan-in of {agents:,} agents", seen=outcome, expected="a complete run"
        )


def _one_run(
    agents: int,
    seconds: int,
    scratch: Path,
    keys: FleetKeys | None = None,
    *,
    loss_policy: LossPolicy = LossPolicy.ABORT,
) -> FanInSample:
    plan = _plan(agents, seconds, loss_policy)
    with _swarm(agents, plan, scratch, keys) as (master, children):
        usage = _watch(master, seconds)
        output = master.wait_success(_END_S)
        fleets = [msgspec.json.decode(child.wait_success(_END_S), type=Fleet) for child in children]
    archived = _archived(master)
    refused = sorted({reason for fleet in fleets for reason in fleet.refused})
    if refused or sum(fleet.sent_home for fleet in fleets) != agents:
        raise HarnessError(
            where=f"fan-in of {agents} agents",
            seen=f"{fleets}, master: {output.splitlines()[-1:]}, {master.complaint()}",
            expected="every agent sent home by the master after its FINAL",
        )
    last = output.splitlines()[-1]
    if loss_policy is LossPolicy.ABORT:
        require_whole(last, agents)
    ages = [window.age_s for window in archived]
    return FanInSample(
        agents=agents,
        seconds=usage.seconds,
        snapshot_bytes=max(fleet.snapshot_bytes for fleet in fleets),
        received_per_s=sum(fleet.sent_bytes for fleet in fleets) // seconds,
        master_cpu_ratio=usage.cpu_ratio,
        master_cpu_slices=usage.cpu_slices,
        master_resident_bytes=max(usage.resident_bytes),
        resident_bytes=usage.resident_bytes[:: max(1, len(usage.resident_bytes) // _KEPT)],
        kept_bytes=usage.kept_bytes,
        slope_bytes_per_h=usage.slope_bytes_per_h,
        windows=len({window.label_s for window in archived}),
        windows_missing=seconds - len({window.label_s for window in archived}),
        age_p50_s=float(np.median(ages)),
        age_max_s=max(ages),
        requests_sent=sum(fleet.requests for fleet in fleets),
        requests_archived=sum(window.ok for window in archived),
        outcome=last,
    )
