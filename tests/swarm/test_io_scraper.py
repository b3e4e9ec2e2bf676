"""The target's own metrics in real runs: read, archived, judged, and never the run's undoing."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from metrics_server import answer, metrics_server
from swarm_rig import (
    Job,
    children_of,
    complete_runs,
    is_under_load,
    job,
    only_run,
    partial_runs,
    wait_until,
    write_scenario,
)

from analysis.judging import State
from analysis.server_side.series import build_server_side
from analysis.verdict import Verdict, judge, plan_of
from loadtests.cluster.launch import Cluster
from loadtests.record.archive import Run, load_run, verify
from loadtests.record.manifest import Outcome
from loadtests.record.server import SCRAPE

pytestmark = pytest.mark.system

SCRAPER = "loadtests.scrape.process"
MEASURES = {"cpu", "host_cpu", "memory", "disk", "requests", "request_seconds"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two nodes on free ports."""
    with Cluster.start(nodes=2) as started:
        started.wait_ready(30)
        yield started


def command(cluster: Cluster, folder: Path, *, seconds: int, server: str = "") -> list[str]:
    """A run that asks every second, with limits on CPU and memory."""
    path = write_scenario(folder, seconds=seconds)
    text = path.read_text().replace("[load]", f'[server]\nevery = "1 s"\n{server}\n[load]')
    limits = '"error_ratio < 1 %", "server.cpu < 100 %", "server.memory < 512 MB"'
    path.write_text(text.replace('"error_ratio < 1 %"', limits))
    targets = [word for node in cluster.nodes for word in ("--target", node.url)]
    where = ["--results", str(folder / "results")]
    return ["headroom", "run", str(path), *targets, *where, "--force", "--engines", "1"]


def scrapers(run: Job) -> int:
    """Living scrapers of a run."""
    return len(children_of(run.pid, SCRAPER))


def limits_on_the_server(verdict: Verdict) -> dict[str, State]:
    """States of the objectives on the target's own metrics."""
    return {
        result.objective: result.state
        for result in verdict.objectives
        if result.objective.startswith("server.")
    }


def test_a_run_reads_what_its_nodes_say(cluster: Cluster, tmp_path: Path) -> None:
    """Every node, every second, every measure; totals are the requests that were sent to it."""
    with job(tmp_path, *command(cluster, tmp_path, seconds=7)) as started:
        wait_until(lambda: is_under_load(tmp_path / "results"), "load")
        assert scrapers(started) == 1
        started.remember()
        started.wait()
        assert started.survivors() == []
        text = started.text()
    run = only_run(tmp_path / "results")
    assert verify(run.path) == ()
    frame = run.server
    known = frame[frame["value"].notna()]
    assert set(known["measure"].unique()) == {*MEASURES, SCRAPE}
    for node in run.manifest.nodes:
        own = known[known["node"] == node]
        counts = own[own["measure"] == "requests"].set_index("at_unix_ns")["value"]
        assert len(counts) >= 6
        assert counts.is_monotonic_increasing
        sent = run.windows[run.windows["node"] == node]["sent"].sum()
        assert 0.7 * sent <= counts.iloc[-1] - counts.iloc[0] <= sent + 2 * len(counts)
        assert own[own["measure"] == "cpu"]["value"].max() > 0.001
        assert 1e7 < own[own["measure"] == "memory"]["value"].iloc[-1] < 512e6
    t0_ns = run.manifest.t0_unix_ns
    assert t0_ns is not None
    assert frame["at_unix_ns"].min() < t0_ns + 10**9
    assert frame["at_unix_ns"].max() > t0_ns + 6 * 10**9
    assert "Server side" in text
    assert "What saturated first" in text
    assert_judged(run)


def assert_judged(run: Run) -> None:
    """A sound server is a PASS, or not judged because this machine was short of CPU."""
    verdict = judge(run)
    side = build_server_side(run, plan_of(run))
    assert side is not None
    for result in verdict.objectives:
        if result.objective.startswith("server."):
            is_excused = "generator-limited" in result.reason or "sample" in result.reason
            assert result.state is State.PASS or is_excused, result.reason
            assert result.reading.value is not None


@pytest.mark.faults
def test_a_scraper_that_dies_is_an_event_and_no_more(cluster: Cluster, tmp_path: Path) -> None:
    """Load goes on to its end; the limits that it would have served are INCONCLUSIVE."""
    with job(tmp_path, *command(cluster, tmp_path, seconds=8)) as started:
        wait_until(lambda: is_under_load(tmp_path / "results"), "load")
        (scraper,) = children_of(started.pid, SCRAPER)
        scraper.kill()
        code = started.wait()
        assert "Traceback" not in started.text()
    run = only_run(tmp_path / "results")
    assert (code, run.manifest.outcome) == (3, Outcome.COMPLETE)
    (event,) = [event for event in run.events if event.kind == "scraper_lost"]
    assert "signal 9" in event.text
    sums = run.manifest.total_sums
    assert sums is not None
    assert sums.planned == 800
    assert set(limits_on_the_server(judge(run)).values()) == {State.INCONCLUSIVE}


@pytest.mark.faults
def test_a_killed_master_leaves_what_was_scraped(cluster: Cluster, tmp_path: Path) -> None:
    """Rows so far are in the partial run, and nobody goes on asking."""
    results = tmp_path / "results"
    with job(tmp_path, *command(cluster, tmp_path, seconds=60)) as started:

        def has_rows() -> bool:
            (path,) = partial_runs(results)
            return len(load_run(path).server) > 20

        wait_until(lambda: is_under_load(results) and has_rows(), "rows")
        started.remember()
        started.process.send_signal(signal.SIGKILL)
        started.process.wait()
        wait_until(lambda: not started.survivors(), "children to die")
    (path,) = partial_runs(results)
    run = load_run(path)
    assert not run.is_complete
    assert {SCRAPE, "cpu", "memory"} <= set(run.server["measure"].unique())
    assert judge(run).state is State.INCONCLUSIVE


def test_hostile_pages_do_not_disturb_a_run(cluster: Cluster, tmp_path: Path) -> None:
    """Nothing but garbage where metrics should be: rows say so, every request is answered."""
    pages = {"/q/metrics": answer(b"process_cpu_usage{" + b"x" * 4_000 + b"\n")}
    with metrics_server(pages) as hostile:
        words = command(cluster, tmp_path, seconds=5, server=f"port = {hostile.port}")
        with job(tmp_path, *words) as started:
            code = started.wait()
    run = only_run(tmp_path / "results")
    assert code == 3
    assert set(run.server["failure"].astype(str).unique()) == {"format"}
    assert len(run.server) >= 2 * 5
    sums = run.manifest.total_sums
    assert sums is not None
    assert sums.ok == sums.planned == 500
    verdict = json.loads((complete_runs(tmp_path / "results")[0] / "verdict.json").read_text())
    assert verdict["state"] == "INCONCLUSIVE"
    assert set(limits_on_the_server(judge(run)).values()) == {State.INCONCLUSIVE}
