"""The kill switch: by command, by file, and for agents that cannot be reached."""

from __future__ import annotations

import io
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from counting_target import ABANDONED
from system_rig import Fleet, Load, Started, Target, fleet, only_run, target, wait_for_answers

from loadtests.clock import NS_PER_S
from loadtests.commands.dispatch import dispatch
from loadtests.errors import ExitCode
from loadtests.record.archive import verify
from loadtests.record.directory import is_being_written
from loadtests.record.manifest import Outcome
from loadtests.record.stop_file import STOP_FILE, ask_to_stop, take_stop_request

LONG = Load(seconds=60, rate=100)
LEASE_NS = 10 * NS_PER_S


def headroom(*words: str) -> tuple[ExitCode, str]:
    """A command in this process: exit code and what it printed."""
    printed = io.StringIO()
    return dispatch(words, printed, printed), printed.getvalue()


@pytest.mark.parametrize("text", ["", "the target pages", "a\n\tb\x1b", "x" * 10_000])
def test_a_request_is_taken_once(tmp_path: Path, text: str) -> None:
    """With its reason, on one line and bounded; then the file is gone."""
    ask_to_stop(tmp_path, text)
    taken = take_stop_request(tmp_path)
    assert taken == " ".join(text.split())[:500]
    assert take_stop_request(tmp_path) is None


def test_touch_is_a_request(tmp_path: Path) -> None:
    """An empty file, and even a folder of that name: somebody meant it."""
    (tmp_path / STOP_FILE).touch()
    assert take_stop_request(tmp_path) == ""
    (tmp_path / STOP_FILE).mkdir()
    assert take_stop_request(tmp_path) is not None


def test_nothing_to_stop_is_a_sentence(tmp_path: Path) -> None:
    """No run, and no run of that name: exit 2."""
    for words in ((), ("20991231",)):
        code, text = headroom("stop", *words, "--results", str(tmp_path))
        assert code is ExitCode.USAGE
        assert "headroom runs" in text


def under_load(started: Fleet, counted: Target) -> Started:
    """A long run that has been answered for a second."""
    run = started.run(LONG.write(started.folder, counted.url), "--engines", "1")
    wait_for_answers(counted, LONG.rate, run)
    return run


@pytest.mark.system
@pytest.mark.faults
@pytest.mark.parametrize("way", ["command", "file"])
def test_a_run_is_stopped_within_a_second(tmp_path: Path, way: str) -> None:
    """No request later than that; the archive is complete, exact, and says why."""
    with target(tmp_path) as counted, fleet(tmp_path) as started:
        run = under_load(started, counted)
        (partial,) = (started.results / "runs").glob("*.partial")
        asked_ns = time.monotonic_ns()
        if way == "command":
            code, text = headroom("stop", "--reason", "it pages", "--results", str(started.results))
            assert code is ExitCode.PASS, text
            assert not partial.exists()
        else:
            (partial / STOP_FILE).touch()
        assert run.wait(30) == 4, run.text()
        assert started.survivors() == []
        requests = counted.end()
    last_ns = int(requests["received_ns"].max()) - asked_ns
    assert last_ns <= NS_PER_S
    archive = only_run(started.results)
    assert verify(archive.path) == ()
    assert archive.manifest.outcome is Outcome.ABORTED
    assert "stop file" in archive.manifest.outcome_reason
    assert ("it pages" in archive.manifest.outcome_reason) == (way == "command")
    sums = archive.manifest.total_sums
    assert sums is not None
    assert sums.sent == len(requests)
    assert sums.ok == int((requests["replied_ns"] != ABANDONED).sum())
    assert not (archive.path / STOP_FILE).exists()


@pytest.mark.system
@pytest.mark.faults
def test_an_agent_that_cannot_be_reached_ends_within_its_lease(tmp_path: Path) -> None:
    """Its agent is stopped, so no word reaches the engine: its lease ends, and its load."""
    with target(tmp_path) as counted, fleet(tmp_path) as started:
        run = under_load(started, counted)
        listed = subprocess.run(
            ["pgrep", "-P", str(run.process.pid), "-f", "loadtests.swarm.agent"],
            capture_output=True, check=True,
        )  # fmt: skip
        agent = psutil.Process(int(listed.stdout.split()[0]))
        agent.send_signal(signal.SIGSTOP)
        asked_ns = time.monotonic_ns()
        (partial,) = (started.results / "runs").glob("*.partial")
        assert is_being_written(partial)
        (partial / STOP_FILE).touch()
        time.sleep((LEASE_NS + NS_PER_S) / NS_PER_S)
        left_ns = int(counted.rows()["received_ns"].max()) - asked_ns
        assert 0 < left_ns <= LEASE_NS + NS_PER_S
        assert run.wait(60) == 4, run.text()
    archive = only_run(started.results)
    assert archive.manifest.outcome is Outcome.ABORTED
    assert archive.manifest.lost_windows, "what the agent had not handed over is named"
