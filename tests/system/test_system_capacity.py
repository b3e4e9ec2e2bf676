"""Real searches of the embedded cluster (`make test-capacity`): a known limit, and a Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from analysis.capacity.search.decide import Ending
from analysis.capacity.search.result import SearchResult, load_result
from analysis.capacity.search.trials import TrialState
from analysis.judging import State
from analysis.verdict import judge
from loadtests.cluster.behaviour import parse_behaviour
from loadtests.cluster.launch import Cluster
from loadtests.record.archive import load_run

pytestmark = [pytest.mark.capacity, pytest.mark.timeout(600)]

LIMIT_PER_S = 800.0  # the node answers 429 above it, with a burst of a tenth of a second
TRIAL_S = 5.0
# At most 1 % of a trial's requests may be rejected; the burst is spent once in its seconds.
TRUTH_PER_S = (LIMIT_PER_S / 0.99, (LIMIT_PER_S + LIMIT_PER_S / 10 / TRIAL_S) / 0.99)
STATES = {State.PASS: TrialState.HELD, State.FAIL: TrialState.MISSED}
SCENARIO = """
version = 1
name = "limited"
[target]
nodes = ["http://127.0.0.1:9003"]
[load]
connections = 512
grace = "1 s"
[[requests]]
name = "info"
path = "/api/v11/info"
timeout = "2 s"
[[stages]]
name = "steady"
duration = "5 s"
rate = "1000 rps"
[criteria]
objectives = ["p95 < 400 ms", "p99 < 500 ms", "error_ratio < 1 %"]
"""
OPTIONS = ("--trial-duration", f"{TRIAL_S:g}", "--warm-up", "1", "--settle", "0.5")
RATES = ("--min-rate", "200", "--max-rate", "1600", "--precision", "10", "--no-critical")


@pytest.fixture
def url() -> Iterator[str]:
    """A node of the embedded cluster with a limit that is known."""
    behaviour = parse_behaviour(f"max-rate={LIMIT_PER_S:g}")
    with Cluster.start(nodes=1, grpc_port=None, behaviours=behaviour) as cluster:
        cluster.wait_ready(20)
        yield cluster.nodes[0].url


def start(folder: Path, url: str, *options: str) -> subprocess.Popen[str]:
    """A search as a user starts it."""
    path = folder / "limited.toml"
    path.write_text(SCENARIO, encoding="utf-8")
    headroom = str(Path(sys.executable).parent / "headroom")
    command = [headroom, "capacity", "search", str(path), "--target", url, "--results"]
    return subprocess.Popen(
        [*command, str(folder / "results"), *OPTIONS, *RATES, *options],
        env={**os.environ, "HOME": str(folder), "XDG_STATE_HOME": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def only_search(folder: Path) -> SearchResult:
    """The one search in a results folder."""
    (path,) = (folder / "results" / "searches").glob("*.json")
    return load_result(path)


def test_a_known_limit_lies_between_the_bounds(tmp_path: Path, url: str) -> None:
    """Every bound can be traced to runs, and every trial is what its run's verdict says."""
    with start(tmp_path, url, "--max-trials", "16") as search:
        text, _ = search.communicate()
    result = only_search(tmp_path)
    lower, upper = result.objectives.lower, result.objectives.upper
    assert "limited, stage steady (1,000 requests/s in the scenario): trials from 200.0" in text
    assert "SCALED" not in text
    assert lower is not None, text
    assert upper is not None, text
    assert lower.rate_per_s <= TRUTH_PER_S[1], text
    assert upper.rate_per_s >= TRUTH_PER_S[0], text
    assert search.returncode == (0 if result.is_found else 3)
    for trial in result.trials:
        run = load_run(tmp_path / "results" / "runs" / trial.run_id)
        assert STATES.get(judge(run).state, TrialState.VOID) is trial.state
        assert run.manifest.scale == pytest.approx(trial.rate_per_s / 1000)
        assert run.manifest.seed == result.subject.seed + trial.number
    page = tmp_path / "results" / "searches" / f"{result.search_id}.md"
    for said in (text, page.read_text(encoding="utf-8")):
        assert "this machine has no calibration" in said
        assert "headroom calibrate" in said


def wait_for_runs(folder: Path, number: int) -> None:
    """Until so many runs have been begun."""
    runs = folder / "results" / "runs"
    until = time.monotonic() + 120
    while not runs.is_dir() or len(list(runs.iterdir())) < number:
        assert time.monotonic() < until, "the run never began"
        time.sleep(0.1)


def test_ctrl_c_loses_nothing_and_can_be_taken_up(tmp_path: Path, url: str) -> None:
    """Exit 4 with the bounds so far; what was measured counts when it goes on."""
    with start(tmp_path, url, "--max-trials", "3") as search:
        wait_for_runs(tmp_path, 2)
        search.send_signal(signal.SIGINT)
        text, _ = search.communicate()
    stopped = only_search(tmp_path)
    assert search.returncode == 4, text
    assert stopped.ending is Ending.INTERRUPTED
    assert [trial.number for trial in stopped.trials] == [1]
    assert "stopped by the user" in text
    with start(tmp_path, url, "--max-trials", "3", "--resume", stopped.search_id) as search:
        text, _ = search.communicate()
    result = only_search(tmp_path)
    assert result.ending is Ending.TRIALS_USED, text
    assert [trial.number for trial in result.trials] == [1, 2, 3]
    assert result.trials[0] == stopped.trials[0]
