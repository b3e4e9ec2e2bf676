"""A rate ceiling in a real run, by the kernel's own times: ramps, stalls, and what follows them.

Among that: an engine that takes over another one's share, and a master that takes up the run
of a dead one, each with a stall in that moment.
"""

from __future__ import annotations

import dataclasses
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
import pytest
from stamping_target import StampingTarget, stamping_target
from system_rig import Fleet, Load, fleet, free_port, only_run, wait_until

from loadtests.clock import NS_PER_MS, NS_PER_S
from loadtests.record.archive import load_run
from loadtests.record.manifest import Outcome

pytestmark = [pytest.mark.system, pytest.mark.faults]

CEILING_PER_S = 440
RAMP = """
[[stages]]
name = "ramp"
shape = "ramp"
duration = "3 s"
from = "50 rps"
to = "400 rps"
"""
LOAD = Load(
    seconds=5,
    rate=400,
    connections=64,
    backlog=2000,
    target=f'max_rate = "{CEILING_PER_S} rps"',
    more=RAMP,
)
STALL_S = 1.2
# One engine's ceiling carries the whole plan, so that it can take it over.
TAKEN_OVER = dataclasses.replace(
    LOAD, seconds=10, policy="redistribute", target=f'max_rate = "{2 * CEILING_PER_S} rps"'
)
TAKEN_UP = dataclasses.replace(LOAD, seconds=15)


def most_in(stamps_ns: np.ndarray, interval_ns: int) -> int:
    """The most requests that any interval of this length holds, wherever it begins."""
    ends = np.searchsorted(stamps_ns, stamps_ns + interval_ns, side="left")
    return int((ends - np.arange(stamps_ns.size)).max())


def stall(engines: Sequence[psutil.Process]) -> None:
    """Stop engines for a while: what they owe piles up."""
    for engine in engines:
        engine.send_signal(signal.SIGSTOP)
    time.sleep(STALL_S)  # the stall itself
    for engine in engines:
        engine.send_signal(signal.SIGCONT)


def stamps_of(stamped: StampingTarget) -> np.ndarray:
    """When each request left, in order (unix ns)."""
    return np.sort(np.array(stamped.stamps_ns))


def check_stall(stamps_ns: np.ndarray) -> None:
    """There was a stall, and what it held back came faster than the plan: as the ceiling lets."""
    gap = int(np.diff(stamps_ns).argmax())
    assert np.diff(stamps_ns)[gap] > 1000 * NS_PER_MS
    after_ns = stamps_ns[gap + 1 :]
    assert (after_ns < after_ns[0] + 1000 * NS_PER_MS).sum() > LOAD.rate


def wait_for_event(started: Fleet, kind: str) -> Path:
    """Until the running archive tells of it; the archive."""
    (path,) = (started.results / "runs").glob("*.partial")
    events = path / "events.jsonl"
    wait_until(lambda: f'"{kind}"' in events.read_text(encoding="utf-8"), kind)
    return path


@pytest.mark.parametrize("engines", [1, 2])
def test_no_100_ms_hold_more_than_the_ceiling(tmp_path: Path, engines: int) -> None:
    """Engines stopped for 1.2 s and continued: 480 arrivals are overdue, and leave as allowed."""
    with stamping_target() as stamped, fleet(tmp_path) as started:
        run = started.run(LOAD.write(tmp_path, stamped.url), "--engines", str(engines))
        wait_until(lambda: len(stamped.stamps_ns) > LOAD.rate, "a second of load")
        stopped = run.engines()
        assert len(stopped) == engines
        before = len(stamped.stamps_ns)
        stall(stopped)
        run.wait()
        stamps_ns = stamps_of(stamped)
    assert stamps_ns.size > before + 480, run.text()
    allowed = engines * int(CEILING_PER_S / engines * 0.1)
    assert most_in(stamps_ns, 100 * NS_PER_MS) <= allowed
    check_stall(stamps_ns)


def test_an_engine_that_takes_over_a_share_keeps_its_ceiling(tmp_path: Path) -> None:
    """It stands still in the moment of the takeover, and then owes arrivals of both shares."""
    with stamping_target() as stamped, fleet(tmp_path) as started:
        run = started.run(TAKEN_OVER.write(tmp_path, stamped.url), "--engines", "2")
        wait_until(lambda: len(stamped.stamps_ns) > LOAD.rate, "a second of load")
        killed, survivor = run.engines()
        killed.kill()
        killed.wait(5)
        killed_ns = time.time_ns()
        seen = load_run(wait_for_event(started, "takeover"))
        (event,) = [event for event in seen.events if event.kind == "takeover"]
        assert seen.manifest.t0_unix_ns is not None
        from_ns = seen.manifest.t0_unix_ns + int(event.text.rsplit(" ", 1)[1]) * NS_PER_S
        wait_until(lambda: time.time_ns() > from_ns - NS_PER_S * STALL_S / 2, "the takeover")
        stall([survivor])
        run.wait()
        stamps_ns = stamps_of(stamped)
    of_survivor_ns = stamps_ns[stamps_ns > killed_ns]
    assert most_in(stamps_ns, 100 * NS_PER_MS) <= 2 * CEILING_PER_S * 0.1
    assert most_in(of_survivor_ns, 100 * NS_PER_MS) <= CEILING_PER_S * 0.1
    check_stall(of_survivor_ns)


def test_a_run_that_is_taken_up_keeps_its_ceiling(tmp_path: Path) -> None:
    """Two agents lose their master and get another one, and then their engines stand still."""
    at = f"127.0.0.1:{free_port()}"
    with stamping_target() as stamped, fleet(tmp_path) as started:
        scenario = TAKEN_UP.write(tmp_path, stamped.url)
        master = started.run(scenario, "--expect-workers", "2", "--bind", at)
        workers = [started.start("worker", "--master", at, "--engines", "1") for _ in range(2)]
        wait_until(lambda: len(stamped.stamps_ns) > LOAD.rate, "a second of load")
        master.process.kill()
        master.wait()
        words = ("run", "--resume", "latest", "--results", str(started.results))
        # Python's start alone may outlast a lease on a busy machine.
        resumed = started.start(*words, before=("chrt", "--rr", "1"))
        wait_for_event(started, "master_resumed")
        stall([worker.engine() for worker in workers])
        resumed.wait()
        stamps_ns = stamps_of(stamped)
        assert only_run(started.results).manifest.outcome is Outcome.COMPLETE, resumed.text()
    assert most_in(stamps_ns, 100 * NS_PER_MS) <= CEILING_PER_S * 0.1
    check_stall(stamps_ns)
