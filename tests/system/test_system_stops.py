"""Runs that are stopped, and runs that must wait: nothing is missing at the end."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest
from counting_target import ABANDONED
from system_rig import (
    Fleet,
    Load,
    Started,
    Target,
    fleet,
    only_run,
    send_signal,
    target,
    wait_for_answers,
    wait_until,
)

from loadtests.record.archive import Run, verify
from loadtests.record.manifest import Outcome, Sums

pytestmark = [pytest.mark.system, pytest.mark.faults]

LONG = Load(seconds=60, rate=100)
TWO_WORKERS = ("--workers", "2", "--engines", "1")


def sums_of(run: Run) -> Sums:
    """The run's own totals, which must be those of its windows."""
    sums = run.manifest.total_sums
    assert sums is not None
    for name in ("planned", "sent", "dropped", "ok", "client_error", "failed"):
        assert getattr(sums, name) == int(run.windows[name].sum()), name
    return sums


def under_load(started: Fleet, counted: Target) -> Started:
    """A long run with two agents that has been answered for two seconds."""
    run = started.run(LONG.write(started.folder, counted.url), *TWO_WORKERS)
    wait_for_answers(counted, 2 * LONG.rate, run)
    return run


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name
)
def test_one_signal_stops_gracefully(tmp_path: Path, number: signal.Signals) -> None:
    """Exit 4 with a complete archive that holds exactly what the target has counted."""
    with target(tmp_path) as counted, fleet(tmp_path) as started:
        run = under_load(started, counted)
        send_signal(run.process, number)
        assert run.wait(20) == 4, run.text()
        assert started.survivors() == []
        requests = counted.end()
    archive = only_run(started.results)
    assert verify(archive.path) == ()
    assert archive.manifest.outcome is Outcome.ABORTED
    assert number.name in archive.manifest.outcome_reason
    assert archive.manifest.lost_windows == ()
    sums = sums_of(archive)
    assert sums.sent == len(requests)
    # Due in the very moment of the stop and not yet on the wire: shed, and said.
    assert 0 <= sums.dropped == sums.planned - sums.sent <= 2
    assert sums.ok == int((requests["replied_ns"] != ABANDONED).sum())


def test_a_parents_death_may_be_told_many_times(tmp_path: Path) -> None:
    """The kernel says it once for each thread of the parent: still in order, and complete."""
    with target(tmp_path) as counted, fleet(tmp_path) as started:
        run = under_load(started, counted)
        for _ in range(5):
            run.process.send_signal(signal.SIGHUP)
            time.sleep(0.05)
        assert run.wait(20) == 4, run.text()
        counted.end()
    archive = only_run(started.results)
    assert verify(archive.path) == ()
    assert "SIGHUP" in archive.manifest.outcome_reason


def test_two_signals_stop_at_once(tmp_path: Path) -> None:
    """Exit 4, a partial archive that is readable, holds no more than the truth and cannot pass."""
    with target(tmp_path) as counted, fleet(tmp_path) as started:
        run = under_load(started, counted)
        send_signal(run.process, signal.SIGINT)
        send_signal(run.process, signal.SIGTERM)
        assert run.wait(10) == 4, run.text()
        assert started.survivors() == []
        requests = counted.end()
        archive = only_run(started.results, complete=False)
        ok = int(archive.windows["ok"].sum())
        assert LONG.rate // 2 <= ok <= int((requests["replied_ns"] != ABANDONED).sum())
        shown = started.start("show", archive.manifest.run_id, "--results", "results", "--json")
        assert shown.wait() == 4, shown.text()
        document = json.loads(shown.text())
    assert document["is_complete"] is False
    assert document["state"] == "INCONCLUSIVE"


def test_a_signal_before_the_load_sends_nothing(tmp_path: Path) -> None:
    """SIGINT while workers start: exit 4, an archive that says so, and no request at all."""
    with target(tmp_path) as counted, fleet(tmp_path) as started:
        run = started.run(LONG.write(tmp_path, counted.url), *TWO_WORKERS)
        wait_until(lambda: list(started.results.glob("runs/*.partial/events.jsonl")), "a draft")
        send_signal(run.process, signal.SIGINT)
        assert run.wait(20) == 4, run.text()
        assert "Traceback" not in run.text()
        assert started.survivors() == []
        assert counted.end().empty
    archive = only_run(started.results)
    assert archive.manifest.outcome is Outcome.ABORTED
    assert archive.windows.empty


def test_a_drain_waits_for_slow_answers(tmp_path: Path) -> None:
    """3 s against answers of 1.5 s with a drain of 2 s: every arrival is ok, none is missing."""
    load = Load(seconds=3, rate=40, connections=100, grace="2 s")
    with target(tmp_path, "--delay-s", "1.5") as counted, fleet(tmp_path) as started:
        run = started.run(load.write(tmp_path, counted.url), *TWO_WORKERS)
        code = run.wait()
        requests = counted.end()
    archive = only_run(started.results)
    sums = sums_of(archive)
    assert code in {0, 3}, run.text()  # a busy machine may have been the limit
    assert archive.manifest.outcome is Outcome.COMPLETE
    assert sums.planned == sums.sent == sums.ok == len(requests) == load.arrivals
    assert sums.in_flight_at_stop == 0
    assert sorted(requests["number"]) == list(range(load.arrivals))
    assert (requests["replied_ns"] != ABANDONED).all()


def test_a_short_drain_states_the_rest_exactly(tmp_path: Path) -> None:
    """Answers later than the drain are in flight at stop: as many as the target could not give."""
    load = Load(seconds=3, rate=40, connections=100, grace="500 ms")
    with target(tmp_path, "--delay-s", "1.5") as counted, fleet(tmp_path) as started:
        run = started.run(load.write(tmp_path, counted.url), *TWO_WORKERS)
        code = run.wait()
        requests = counted.end()
    sums = sums_of(only_run(started.results))
    abandoned = int((requests["replied_ns"] == ABANDONED).sum())
    assert code == 3, run.text()
    assert sums.planned == sums.sent == len(requests) == load.arrivals
    assert sums.ok + sums.in_flight_at_stop == load.arrivals
    # Sent in the last second: no answer within 1.5 s, and the drain ends after half of one. One
    # answer an engine may be on its way when the engine stops.
    assert abandoned <= sums.in_flight_at_stop <= abandoned + 2
    assert load.rate * 0.8 <= abandoned <= load.rate * 1.2


def test_a_worker_that_is_told_to_stop_hands_everything_over(tmp_path: Path) -> None:
    """SIGTERM of one of two agents: a loss by policy, but not one request of it is missing."""
    load = Load(seconds=8, rate=100, policy="continue")
    with target(tmp_path) as counted, fleet(tmp_path) as started:
        run = started.run(load.write(tmp_path, counted.url), *TWO_WORKERS)
        wait_for_answers(counted, 2 * load.rate, run)
        listed = subprocess.run(
            ["pgrep", "-P", str(run.process.pid), "-f", "loadtests.swarm.agent"],
            capture_output=True, check=True,
        )  # fmt: skip
        agent = next(p for p in started.survivors() if p.pid == int(listed.stdout.split()[0]))
        agent.send_signal(signal.SIGTERM)
        assert run.wait() == 3, run.text()
        requests = counted.end()
    archive = only_run(started.results)
    sums = sums_of(archive)
    assert sums.sent == len(requests)
    assert sums.ok == int((requests["replied_ns"] != ABANDONED).sum())
    assert sums.planned + sum(lost.planned for lost in archive.manifest.lost_windows) == (
        load.arrivals
    )
