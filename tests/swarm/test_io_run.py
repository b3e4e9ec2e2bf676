"""`headroom run` with real agents, engines and a cluster, through its ends, good and bad."""

from __future__ import annotations

import json
import signal
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from swarm_rig import (
    Job,
    complete_runs,
    free_port,
    is_under_load,
    job,
    only_run,
    partial_runs,
    wait_until,
    write_scenario,
)

from loadtests.cluster.launch import Cluster
from loadtests.record.archive import Run, load_run, verify
from loadtests.record.manifest import LostRequests, Outcome
from loadtests.record.window import Count

pytestmark = pytest.mark.system

ROOM_FOR_ONE_TABLE_BYTES = 24_000


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two nodes on free ports."""
    with Cluster.start(nodes=2) as started:
        started.wait_ready(30)
        yield started


def command(cluster: Cluster, folder: Path, *rest: str, seconds: int, **how: object) -> list[str]:
    """`headroom run` of a rig scenario against the cluster."""
    scenario = write_scenario(folder, seconds=seconds, **how)  # type: ignore[arg-type]  # by name
    targets = [word for node in cluster.nodes for word in ("--target", node.url)]
    results = ["--results", str(folder / "results")]
    return [
        "headroom",
        "run",
        str(scenario),
        *targets,
        *results,
        "--force",
        "--engines",
        "1",
        *rest,
    ]


def accepted(cluster: Cluster) -> int:
    """Requests that the cluster has answered, by its own count."""
    total = 0
    for node in cluster.nodes:
        with urllib.request.urlopen(f"{node.url}/q/metrics", timeout=5) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith("http_server_requests_seconds_count") and (
                    "/q/metrics" not in line and "/info" not in line
                ):
                    total += int(float(line.rsplit(" ", 1)[1]))
    return total


def archived(run: Run, count: Count) -> int:
    """Sum of a column over the archive's windows."""
    return int(run.windows[count.name.lower()].sum())


def event_of(run: Run, *kinds: str) -> int:
    """Unix time in ns of the first event of these kinds."""
    times = [event.at_unix_ns for event in run.events if event.kind in kinds]
    assert times, [event.kind for event in run.events]
    return times[0]


def wait_for_load(started: Job, folder: Path) -> None:
    """Until a second of load has gone by."""
    wait_until(
        lambda: is_under_load(folder / "results") or started.process.poll() is not None, "load"
    )
    assert started.process.poll() is None, started.text()
    started.remember()


def test_two_agents_run_a_plan_to_its_end(cluster: Cluster, tmp_path: Path) -> None:
    """The archive holds every planned arrival, as many answers as the target gave, and no more."""
    before = accepted(cluster)
    logs = ["--log-level", "info", "--log-format", "json"]
    with job(tmp_path, *command(cluster, tmp_path, "--workers", "2", *logs, seconds=3)) as started:
        wait_for_load(started, tmp_path)
        code = started.wait()
        assert started.survivors() == []
        output = started.text()
    run = only_run(tmp_path / "results")
    logged = [json.loads(line) for line in output.splitlines() if line.startswith('{"time"')]
    told = [line for line in logged if "event" in line]
    assert [(line["event"], line["who"]) for line in told] == [(e.kind, e.who) for e in run.events]
    assert {line["run_id"] for line in told} == {run.manifest.run_id}
    assert code in {0, 3}, output  # the verdict of a noisy machine may be INCONCLUSIVE
    assert verify(run.path) == ()
    assert run.manifest.outcome is Outcome.COMPLETE
    assert archived(run, Count.PLANNED) == 300
    assert archived(run, Count.SENT) + archived(run, Count.DROPPED) == 300
    assert archived(run, Count.OK) == accepted(cluster) - before
    assert run.manifest.lost_windows == ()
    assert run.manifest.lost_requests == LostRequests(in_flight=0, in_backlog=0)
    assert [agent.has_final for agent in run.manifest.agents] == [True, True]
    assert all(abs(agent.clock_offset_ns or 0) < 10_000_000 for agent in run.manifest.agents)
    assert "embedded" in (run.manifest.target_version or "")
    assert set(run.hiccups["agent"]) == {"agent-1"}
    assert len(run.hiccups) >= 2


def test_one_signal_ends_a_run_in_order(cluster: Cluster, tmp_path: Path) -> None:
    """SIGINT once: load drains, the archive is complete and says who stopped it; exit 4."""
    with job(tmp_path, *command(cluster, tmp_path, seconds=60)) as started:
        wait_for_load(started, tmp_path)
        started.process.send_signal(signal.SIGINT)
        assert started.wait(20) == 4, started.text()
        assert started.survivors() == []
    run = only_run(tmp_path / "results")
    assert run.manifest.outcome is Outcome.ABORTED
    assert "SIGINT" in run.manifest.outcome_reason
    assert run.manifest.agents[0].has_final
    sums = run.manifest.total_sums
    assert sums is not None
    assert sums.planned == sums.sent + sums.dropped == archived(run, Count.PLANNED)
    assert sums.sent == sums.done + sums.in_flight_at_stop


def test_two_signals_end_a_run_at_once(cluster: Cluster, tmp_path: Path) -> None:
    """SIGTERM twice: nothing is waited for, and what was handed over is readable; exit 4."""
    with job(tmp_path, *command(cluster, tmp_path, seconds=60)) as started:
        wait_for_load(started, tmp_path)
        time.sleep(1.5)  # a window must have been handed over
        started.process.send_signal(signal.SIGTERM)
        started.process.send_signal(signal.SIGINT)
        assert started.wait(10) == 4, started.text()
        assert started.survivors() == []
    (path,) = partial_runs(tmp_path / "results")
    run = load_run(path)
    assert not run.is_complete
    assert archived(run, Count.OK) > 0


def test_a_killed_engine_is_noticed_within_a_second(cluster: Cluster, tmp_path: Path) -> None:
    """The event of the loss is at most 1 s after the kill, and under `abort` the run ends."""
    with job(tmp_path, *command(cluster, tmp_path, "--workers", "2", seconds=60)) as started:
        wait_for_load(started, tmp_path)
        killed_unix_ns = time.time_ns()
        started.engines()[0].kill()
        assert started.wait(20) == 4, started.text()
        assert started.survivors() == []
    run = only_run(tmp_path / "results")
    noticed_ns = event_of(run, "engine_lost") - killed_unix_ns
    assert 0 <= noticed_ns <= 1_000_000_000
    assert run.manifest.outcome is Outcome.ABORTED
    assert 0 < sum(lost.planned for lost in run.manifest.lost_windows) <= 100  # 50/s, 2 windows


def test_a_killed_agent_leaves_a_run_that_says_so(cluster: Cluster, tmp_path: Path) -> None:
    """Under `continue` the other agent goes on, and the loss is in the archive within 3 s."""
    how = {"seconds": 6, "policy": "continue"}
    with job(tmp_path, *command(cluster, tmp_path, "--workers", "2", **how)) as started:  # type: ignore[arg-type]  # by name
        wait_for_load(started, tmp_path)
        killed_unix_ns = time.time_ns()
        started.agents()[0].kill()
        assert started.wait(40) == 3, started.text()
        assert started.survivors() == []
    run = only_run(tmp_path / "results")
    assert event_of(run, "agent_lost") - killed_unix_ns <= 3_000_000_000
    assert run.manifest.lost_windows
    assert sorted(agent.has_final for agent in run.manifest.agents) == [False, True]
    sums, lost = run.manifest.total_sums, run.manifest.lost_requests
    assert sums is not None
    assert lost is not None
    assert sums.planned == sums.sent + sums.dropped + lost.in_backlog
    ended = [engine.sums for engine in run.manifest.engine_sums if engine.has_final]
    assert sums.in_flight_at_stop - lost.in_flight == sum(s.in_flight_at_stop for s in ended)


def test_nothing_outlives_a_killed_master(cluster: Cluster, tmp_path: Path) -> None:
    """Kill -9 of the master: its local agents, their engines and tickers die with it."""
    with job(tmp_path, *command(cluster, tmp_path, "--workers", "2", seconds=60)) as started:
        wait_for_load(started, tmp_path)
        assert len(started.engines()) == 2
        started.process.kill()
        started.process.wait()
        wait_until(lambda: not started.survivors(), "the end of all children", 3)
    (path,) = partial_runs(tmp_path / "results")
    assert not load_run(path).is_complete


def test_load_ends_by_lease_when_a_remote_master_dies(cluster: Cluster, tmp_path: Path) -> None:
    """Workers of a killed master send nothing later than its lease of 10 s and one second."""
    port = free_port()
    expect = ["--expect-workers", "1", "--bind", f"127.0.0.1:{port}"]
    (tmp_path / "worker").mkdir()
    worker = ["headroom", "worker", "--master", f"127.0.0.1:{port}", "--engines", "1"]
    with (
        job(tmp_path, *command(cluster, tmp_path, *expect, seconds=60)) as master,
        job(tmp_path / "worker", *worker) as agent,
    ):
        wait_for_load(master, tmp_path)
        agent.remember()
        master.process.kill()
        master.process.wait()
        time.sleep(11.2)
        after_lease = accepted(cluster)
        time.sleep(1.5)
        assert accepted(cluster) == after_lease
        assert agent.wait(30) == 4, agent.text()
        assert agent.survivors() == []


def test_an_unwritable_results_folder_starts_nothing(cluster: Cluster, tmp_path: Path) -> None:
    """A folder that is a file: exit 5, a sentence that names it, and no agent was started."""
    (tmp_path / "results").write_text("in the way")
    before = accepted(cluster)
    with job(tmp_path, *command(cluster, tmp_path, seconds=3)) as started:
        assert started.wait() == 5
        assert "results" in started.text()
        assert "Traceback" not in started.text()
    assert accepted(cluster) == before


def test_a_full_disk_stops_load_and_keeps_what_there_is(cluster: Cluster, tmp_path: Path) -> None:
    """When the journal cannot grow: load ends, exit 5, the partial archive is readable."""
    limit = ["prlimit", f"--fsize={ROOM_FOR_ONE_TABLE_BYTES}"]
    words = command(cluster, tmp_path, seconds=60, rate=1000)
    with job(tmp_path, *words, before=limit) as started:
        assert started.wait(40) == 5, started.text()
        assert "Traceback" not in started.text(), started.text()
    (path,) = partial_runs(tmp_path / "results")
    assert load_run(path).manifest.t0_unix_ns is not None
    stopped = accepted(cluster)
    time.sleep(0.5)
    assert accepted(cluster) == stopped


def test_a_taken_port_is_said_before_anything_starts(cluster: Cluster, tmp_path: Path) -> None:
    """Exit 5 and a sentence with the port."""
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", 0))
        squatter.listen()
        port = squatter.getsockname()[1]
        for taken in (
            ["--expect-workers", "1", "--bind", f"127.0.0.1:{port}"],
            ["--web", "--web-port", str(port)],
        ):
            with job(tmp_path, *command(cluster, tmp_path, *taken, seconds=3)) as started:
                assert started.wait() == 5
                assert str(port) in started.text()
                assert "Traceback" not in started.text(), started.text()
    assert complete_runs(tmp_path / "results") == []


def test_two_runs_share_a_results_folder(cluster: Cluster, tmp_path: Path) -> None:
    """Runs at the same time get their own directories and lose nothing to each other."""
    words = command(cluster, tmp_path, seconds=2)
    with job(tmp_path, *words) as one, job(tmp_path, *words) as other:
        assert one.wait() in {0, 3}, one.text()
        assert other.wait() in {0, 3}, other.text()
    runs = [load_run(path) for path in complete_runs(tmp_path / "results")]
    assert [archived(run, Count.PLANNED) for run in runs] == [200, 200]
    assert len({run.manifest.run_id for run in runs}) == 2


def test_missing_workers_are_given_up_on(cluster: Cluster, tmp_path: Path) -> None:
    """A master that expects two and gets none ends with exit 5 after its wait, and says so."""
    expect = ["--expect-workers", "2", "--bind", f"127.0.0.1:{free_port()}"]
    wait = ["--expect-workers-max-wait", "1"]
    with job(tmp_path, *command(cluster, tmp_path, *expect, *wait, seconds=3)) as started:
        assert started.wait() == 5, started.text()
    assert only_run(tmp_path / "results").manifest.outcome is not Outcome.COMPLETE


def test_the_web_ui_is_served_during_a_run(cluster: Cluster, tmp_path: Path) -> None:
    """With --web, Locust's page and figures are there under load, and gone with the run."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    words = command(cluster, tmp_path, "--web", "--web-port", str(port), seconds=60)
    with job(tmp_path, *words) as started:
        wait_for_load(started, tmp_path)
        with urllib.request.urlopen(f"{address}/", timeout=10) as page:
            assert b"Locust" in page.read()

        def figures() -> dict[str, Any]:
            with urllib.request.urlopen(f"{address}/stats/requests", timeout=10) as answer:
                document: dict[str, Any] = json.load(answer)
                return document

        wait_until(lambda: figures()["stats"][-1]["num_requests"] > 0, "requests in the view")
        assert figures()["state"] == "running"
        assert len(figures()["workers"]) == 1
        started.process.send_signal(signal.SIGTERM)
        assert started.wait() == 4, started.text()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
