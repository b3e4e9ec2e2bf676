"""The README's action of one's own, installed as a package, checked, injected, and undone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from failover_rig import fault
from test_failover_process import said_by, start

from loadtests.clock import NS_PER_S
from loadtests.errors import ExitCode
from loadtests.failover.messages import Ended, Happened
from loadtests.plan.failover import Failover, FaultNode, Quorum, SteadyState, System
from loadtests.record.fault_events import FaultEvent, fault_steps

pytestmark = [pytest.mark.failover, pytest.mark.timeout(120)]

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
HEADROOM = str(Path(sys.executable).parent / "headroom")
SCENARIO = """
version = 1
name = "own-action"
[target]
nodes = ["http://127.0.0.1:9003"]
[load]
rate = "10 rps"
connections = 4
[[requests]]
name = "get"
path = "/"
[[stages]]
name = "load"
duration = "60 s"
[criteria]
objectives = ["error_ratio < 1 %"]
[[failover.nodes]]
name = "node-1"
url = "http://127.0.0.1:9003"
pid_file = "{folder}/node-1.pid"
[[failover.faults]]
name = "marked"
action = "mark-file"
on = "all"
at = "20 s"
"""


def block(language: str, word: str) -> str:
    """The README's fenced block of a language that has a word in it."""
    found = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    (text,) = [one for one in found if word in one]
    return str(text)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder that pip has installed the README's package into, without any network."""
    package, site = tmp_path / "package", tmp_path / "site"
    package.mkdir()
    (package / "my_faults.py").write_text(block("python", "MarkFile"), encoding="utf-8")
    (package / "pyproject.toml").write_text(block("toml", "mark-file"), encoding="utf-8")
    words = ["install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", *words]
    subprocess.run([*pip, "--target", str(site), str(package)], check=True, timeout=60)
    return site


def headroom(site: Path, state: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command with the package on its path."""
    environment = {**os.environ, "PYTHONPATH": str(site), "XDG_STATE_HOME": str(state)}
    return subprocess.run(
        [HEADROOM, *words], check=False, capture_output=True, text=True, env=environment
    )


def a_node(folder: Path) -> FaultNode:
    """One that the action needs nothing of but its pid file's name."""
    return FaultNode(
        name="node-1", zone="", url="", is_voter=True, pid_file=str(folder / "node-1.pid"),
        start=(), servers=(), namespace="", interface="", proxy="", owner_pid=0,
    )  # fmt: skip


def test_an_installed_action_is_known_and_one_that_is_not_is_named(
    installed: Path, tmp_path: Path
) -> None:
    """`check` takes it with the package and refuses it, among the known ones, without."""
    scenario = tmp_path / "own.toml"
    scenario.write_text(SCENARIO.format(folder=tmp_path))
    done = headroom(installed, tmp_path, "check", str(scenario))
    assert done.returncode == ExitCode.PASS, done.stderr
    assert "mark-file" in done.stdout
    without = headroom(tmp_path / "nowhere", tmp_path, "check", str(scenario))
    assert without.returncode == ExitCode.USAGE
    assert 'failover.faults[0].action: saw "mark-file"; expected one of noop' in without.stderr


def test_an_installed_action_goes_the_whole_way_and_back(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Applied, seen, undone, seen to be gone; and after a kill -9 by the command."""
    monkeypatch.setenv("PYTHONPATH", str(installed))
    mark = tmp_path / "node-1.mark"

    def failover(undo_after: float | None) -> Failover:
        return Failover(
            system=System.OWN, quorum=Quorum.NONE, election_ns=0, health_path="",
            steady=SteadyState(hold_ns=NS_PER_S, within_ns=5 * NS_PER_S), leader=None,
            haproxy=None, nodes=(a_node(tmp_path),),
            faults=(fault("marked", "mark-file", "all", at=0.1, undo_after=undo_after),),
        )  # fmt: skip

    said = said_by(start(tmp_path / "whole", failover(0.3), 1.5))
    assert said[-1] == Ended(wrong="")
    steps = fault_steps([one.event for one in said if isinstance(one, Happened)])
    assert [step.kind for step in steps] == [
        FaultEvent.BEGAN, FaultEvent.APPLIED, FaultEvent.VERIFIED, FaultEvent.UNDONE,
        FaultEvent.GONE,
    ]  # fmt: skip
    assert not mark.exists()

    state = tmp_path / "state"
    (state / "headroom").mkdir(parents=True)
    process = start(state / "headroom", failover(None), 30)
    assert process.stdout is not None
    while not mark.exists():
        assert process.poll() is None
    os.killpg(process.pid, 9)
    process.wait()
    process.stdout.close()
    (state / "headroom" / "ledger").rename(state / "headroom" / "failover")
    shown = headroom(installed, state, "failover", "show")
    assert f"by hand: rm {mark}" in shown.stdout
    undone = headroom(installed, state, "failover", "undo")
    assert undone.returncode == ExitCode.PASS, undone.stderr
    assert not mark.exists()
