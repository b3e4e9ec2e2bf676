"""A target that freezes and a generator that is slow: whose fault it was must not be guessed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from system_rig import (
    Fleet,
    Load,
    Started,
    fleet,
    only_run,
    target,
    unix_minus_monotonic_ns,
    wait_for_answers,
)

from analysis.verdict import judge
from loadtests.clock import NS_PER_S
from loadtests.plan.codec import decode_plan
from loadtests.record.archive import Run
from loadtests.record.histogram import Histogram
from loadtests.record.window import Kind

pytestmark = pytest.mark.system

FROZEN = Load(
    seconds=7, rate=200, connections=4, backlog=1000, objectives=("p95 < 500 ms", "p99 < 800 ms")
)
FREEZE_S = 1.0
READ_LATE_US = 30_000  # an answer waits for the engine's turn on a machine that is shared
QUICK = Load(seconds=7, rate=500, connections=16, objectives=("p95 < 20 ms",))
SPIN = "while True: pass"


def histogram(run: Run, kind: Kind) -> Histogram:
    """All samples of a kind over the whole run."""
    parts = [part for key, part in run.totals(judged=False).items() if key[3] is kind]
    return sum(parts, start=Histogram.empty())


def test_a_freeze_is_in_the_response_time_and_not_in_the_service_time(tmp_path: Path) -> None:
    """1 s without an answer at 200/s: the tail is what a hand computes; the gap is printed."""
    with (
        target(tmp_path, "--freeze-at-s", "3", "--freeze-s", str(FREEZE_S)) as counted,
        fleet(tmp_path) as started,
    ):
        scenario = FROZEN.write(tmp_path, counted.url)
        run = started.run(scenario, "--workers", "2", "--engines", "1", "--json")
        code = run.wait()
        offset_ns = unix_minus_monotonic_ns()
        requests = counted.end().sort_values("number")
        shown = started.start("show", "latest", "--results", "results")
        shown.wait()
        page = shown.text()
    archive = only_run(started.results)
    response, service = histogram(archive, Kind.RESPONSE), histogram(archive, Kind.SERVICE)
    assert response.n == service.n == FROZEN.arrivals

    # By the target's own log: answer i left at a time, and was due from T0 + i / rate.
    assert archive.manifest.t0_unix_ns is not None
    due_ns = requests["number"].to_numpy() * (NS_PER_S // FROZEN.rate)
    truth_us = np.sort(
        (requests["replied_ns"].to_numpy() + offset_ns - archive.manifest.t0_unix_ns - due_ns) / 1e3
    )
    # An answer left just before it was logged, and was read when the engine had its turn.
    for quantile in (0.9, 0.95, 0.99, 0.999):
        true_us = truth_us[int(np.ceil(quantile * truth_us.size)) - 1]
        seen_us = response.quantile_us(quantile)
        assert true_us * 0.998 - 2_000 <= seen_us <= true_us * 1.002 + READ_LATE_US, quantile

    # By hand: arrivals of the freeze wait from 1 s down to 0, evenly; more of them wait only
    # if the target was slow to answer those that had queued, which its log shows.
    for wait_us in (0.2e6, 0.4e6, 0.6e6, 0.8e6):
        fewest = FROZEN.rate * (FREEZE_S - wait_us / 1e6)
        most = max(fewest, int((truth_us > wait_us - READ_LATE_US).sum()))
        seen = response.share_above(wait_us) * response.n
        assert fewest - 2 <= seen <= most + 2, f"above {wait_us / 1e6} s"
    assert FREEZE_S * 1e6 - 10_000 <= response.max_us() <= truth_us[-1] * 1.002 + READ_LATE_US

    # The service time knows only of those that were on the wire.
    assert service.share_above(0.5e6) * service.n <= FROZEN.connections
    assert service.quantile_us(0.99) < 0.2e6 < response.quantile_us(0.95)
    document = json.loads(run.text()[run.text().index("{") :])
    (gap, *_) = document["tables"]["coordinated_omission_gap"]
    assert gap["p99_us"] > 0.7e6
    assert "Coordinated-omission gap" in page
    # The target's fault; only a machine that was itself too slow to tell may leave it open.
    assert code == 1 or (code == 3 and document["is_generator_limited"]), run.text()


def _verdict_is_open(started: Fleet, run: Started) -> None:
    """INCONCLUSIVE, and the generator is named as the limit."""
    assert run.wait() == 3, run.text()
    verdict = judge(only_run(started.results))
    assert decode_plan(only_run(started.results).plan_bytes).objectives
    assert verdict.is_generator_limited, verdict.reasons
    assert all(result.state.value == "INCONCLUSIVE" for result in verdict.objectives)


def test_an_engine_stopped_in_bursts_neither_passes_nor_fails_the_target(tmp_path: Path) -> None:
    """SIGSTOP of 300 ms again and again, a target that answers at once: INCONCLUSIVE."""
    with target(tmp_path) as counted, fleet(tmp_path) as started:
        run = started.run(QUICK.write(tmp_path, counted.url), "--engines", "1")
        wait_for_answers(counted, QUICK.rate, run)
        engine = run.engine()
        for _ in range(6):
            engine.send_signal(signal.SIGSTOP)
            time.sleep(0.3)  # the burst itself
            engine.send_signal(signal.SIGCONT)
            time.sleep(0.3)
        _verdict_is_open(started, run)


def test_an_engine_without_a_core_neither_passes_nor_fails_the_target(tmp_path: Path) -> None:
    """One core, spinners on it, the engine last in the queue: INCONCLUSIVE."""
    core = max(os.sched_getaffinity(0))
    spinners: list[subprocess.Popen[bytes]] = []
    with target(tmp_path) as counted, fleet(tmp_path) as started:
        run = started.run(QUICK.write(tmp_path, counted.url), "--engines", "1")
        wait_for_answers(counted, QUICK.rate, run)
        engine = run.engine()
        engine.nice(19)
        # Where sessions are scheduled as groups, a nice value counts within its own only.
        if (group := Path(f"/proc/{engine.pid}/autogroup")).exists():
            group.write_text("19")
        engine.cpu_affinity([core])
        try:
            for _ in range(3):
                spinner = subprocess.Popen([sys.executable, "-S", "-c", SPIN])
                spinners.append(spinner)
                psutil.Process(spinner.pid).cpu_affinity([core])
            time.sleep(4)  # how long the core is taken
        finally:
            for spinner in spinners:
                spinner.kill()
                spinner.wait()
        _verdict_is_open(started, run)
