"""Outages of a real server, measured through a whole `headroom run`, against its own record.

A run whose own figures say that they are not known to a bin (an engine that stood still beside
other processes of this machine), or whose server stood still by its own record, is repeated.
One that claims to know must be right within a bin.
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from system_rig import Fleet, Load, fleet, only_run, unix_minus_monotonic_ns

from analysis.recovery.measures import PartRecovery, measure_recoveries
from analysis.verdict import judge, plan_of
from loadtests.clock import NS_PER_MS, NS_PER_S
from loadtests.record.archive import Run, verify
from loadtests.record.bins import BIN_NS
from loadtests.record.fault_events import FaultEvent, FaultStep, step_event

_TARGET = Path(__file__).with_name("outage_target.py")
_ATTEMPTS = 4
_STILL_NS = 30 * NS_PER_MS  # a process that stood still for longer is no measure of 100 ms
_SETTLED_S = 3.0  # of load before an outage
_MORE = """
[[stages]]
name = "after"
duration = "1 s"
rate = "200 rps"
judged = false
"""
OBJECTIVES = ("p99 < 500 ms", "error_ratio < 0.1 %", "unavailability < 60 s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What the server says of one outage, on the clock of the archive's labels."""

    mode: str
    begin_ns: int
    end_ns: int
    stall_ns: int  # of the server itself

    @property
    def length_ns(self) -> int:
        """How long it was."""
        return self.end_ns - self.begin_ns


class OutageTarget:
    """A running `outage_target.py`."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(_TARGET)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}"

    def outage(self, mode: str, seconds: float) -> Truth:
        """Have an outage; returns when it is over."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(mode, seconds, file=self.process.stdin, flush=True)
        said, begin_ns, end_ns, stall_ns = self.process.stdout.readline().split()
        to_unix_ns = unix_minus_monotonic_ns()
        return Truth(
            mode=said,
            begin_ns=int(begin_ns) + to_unix_ns,
            end_ns=int(end_ns) + to_unix_ns,
            stall_ns=int(stall_ns),
        )

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


def with_faults(run: Run, truths: list[Truth]) -> Run:
    """The run as if its faults had been injected by Headroom: each acknowledged as it began."""
    t0_ns = run.manifest.t0_unix_ns
    assert t0_ns is not None
    events = [
        step_event(
            FaultStep(
                kind=FaultEvent.APPLIED, fault=f"{number} {truth.mode}", action="exec", node="n1",
                zone="", began_ns=truth.begin_ns - t0_ns, at_ns=truth.begin_ns - t0_ns,
            ),
            t0_unix_ns=t0_ns,
            text="an outage",
        )
        for number, truth in enumerate(truths)
    ]  # fmt: skip
    return dataclasses.replace(run, events=(*run.events, *events))


def observe(
    folder: Path, outages: list[tuple[str, float]], *, pause_s: float
) -> tuple[Run, list[Truth]]:
    """A run of `headroom` over a server with outages, each followed by a pause."""
    seconds = round(_SETTLED_S + sum(length + pause_s for _, length in outages) + 4)
    load = Load(
        seconds=seconds, rate=200, connections=300, timeout="1 s",
        objectives=OBJECTIVES, more=_MORE,
    )  # fmt: skip
    target = OutageTarget()
    try:
        with fleet(folder) as started:
            path = load.write(folder, target.url)
            command = started.run(path, "--engines", "1")
            wait_for_load(started)
            time.sleep(_SETTLED_S)
            truths = []
            for mode, length_s in outages:
                truths.append(target.outage(mode, length_s))
                time.sleep(pause_s)
            command.wait(seconds + 60)
            run = only_run(started.results)
    finally:
        target.close()
    assert verify(run.path) == ()
    return with_faults(run, truths), truths


def wait_for_load(started: Fleet) -> None:
    """Until the first windows are in the journal."""
    deadline = time.monotonic() + 60
    while not any(
        path.stat().st_size > 0 for path in started.results.glob("runs/*.partial/journal.bin")
    ):
        assert time.monotonic() < deadline, started.started[0].text()
        time.sleep(0.02)


def check(part: PartRecovery, truth: Truth) -> None:
    """The figures are those of the server's own record, within one bin."""
    outage, length_ns = part.outage, truth.length_ns
    assert abs(outage.unavailable_ns - length_ns) <= BIN_NS, (outage, truth)
    assert abs(outage.longest_ns - length_ns) <= BIN_NS, (outage, truth)
    assert part.recovered is not None
    assert part.recovered.after_ns is not None, (part, truth)
    assert abs(part.recovered.after_ns - length_ns) <= BIN_NS, (part.recovered, truth)
    if truth.mode == "error":
        assert outage.first_bad_ns is not None
        assert outage.first_bad_ns <= BIN_NS
        assert abs(outage.failed - 200 * length_ns / NS_PER_S) <= 200 * BIN_NS / NS_PER_S


def measured(folder: Path, outages: list[tuple[str, float]], *, hold_s: float) -> Run:
    """A run whose figures agree with the server's record; those that claim nothing are repeated."""
    doubts: list[str] = []
    for attempt in range(_ATTEMPTS):
        run, truths = observe(folder / str(attempt), outages, pause_s=hold_s + 1)
        found = measure_recoveries(run, plan_of(run), hold_ns=round(hold_s * NS_PER_S))
        assert found is not None
        doubts = [*found.doubts]
        for recovery, truth in zip(found.faults, truths, strict=True):
            stall_ns = max(truth.stall_ns, recovery.whole.resolution_ns - BIN_NS)
            if stall_ns > _STILL_NS:
                doubts.append(f"engine or server stood still for {stall_ns / 1e6:.0f} ms")
        if not doubts:
            for recovery, truth in zip(found.faults, truths, strict=True):
                check(recovery.whole, truth)
            return run
    raise AssertionError(f"{_ATTEMPTS} runs claimed nothing: {doubts}")


@pytest.mark.failover
def test_known_outages_are_measured_within_one_bin(tmp_path: Path) -> None:
    """Three kinds of outage in one run, each as long as the server says, and a verdict on them."""
    outages = [("error", 0.3), ("freeze", 0.4), ("drop", 1.0)]
    run = measured(tmp_path, outages, hold_s=2.0)
    verdict = judge(run)
    (result,) = [one for one in verdict.objectives if one.stage == "(failover)"]
    assert result.reading.value is not None
    assert 1.4 * NS_PER_S < result.reading.value < 2.0 * NS_PER_S


@pytest.mark.failover
@pytest.mark.timeout(900)
@pytest.mark.parametrize("number", range(5))
def test_twenty_known_outages_are_measured_within_one_bin(tmp_path: Path, number: int) -> None:
    """0.3, 1, 5 and 20 s, side by side, five times: 20 of 20, with the whole 30 s of holding."""
    modes = ("error", "drop", "freeze")
    lengths = (0.3, 1.0, 5.0, 20.0)

    def one(index: int) -> Run:
        mode = modes[(number + index) % len(modes)]
        return measured(tmp_path / str(index), [(mode, lengths[index])], hold_s=30.0)

    with ThreadPoolExecutor(len(lengths)) as pool:
        assert len(list(pool.map(one, range(len(lengths))))) == len(lengths)
