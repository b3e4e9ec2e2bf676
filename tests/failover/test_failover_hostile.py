"""What goes wrong around a failover, from the command line: loud, with its exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from system_rig import wait_until
from test_failover_embedded import ledger, only_run, start

from loadtests.cluster.behaviour import parse_behaviour
from loadtests.cluster.launch import Cluster
from loadtests.errors import ExitCode
from loadtests.record.fault_events import FaultEvent, fault_steps
from loadtests.record.manifest import Outcome

pytestmark = [pytest.mark.failover, pytest.mark.timeout(180)]

HEADROOM = str(Path(sys.executable).parent / "headroom")
SCENARIO = """
version = 1
name = "hostile"
[target]
nodes = ["{url}"]
[load]
rate = "40 rps"
connections = 16
[[requests]]
name = "stats"
path = "/api/v11/blockchain/transactions/stats"
[[stages]]
name = "load"
duration = "{seconds} s"
[criteria]
objectives = ["error_ratio < 5 %"]
[failover.steady_state]
for = "2 s"
within = "5 s"
[[failover.nodes]]
name = "node-1"
url = "{url}"
[[failover.faults]]
name = "stuck"
action = "exec"
on = "all"
at = "3 s"
undo_after = "1 s"
timeout = "1 s"
command = ["touch", "{stuck}"]
undo_command = ["sh", "-c", "test ! -e {stuck} || exit 7"]
verify_command = ["test", "-e", "{stuck}"]
"""


@pytest.fixture(scope="module")
def node() -> Iterator[str]:
    """The URL of one node that is well."""
    with Cluster.start(nodes=1, grpc_port=None) as cluster:
        cluster.wait_ready(20)
        yield cluster.nodes[0].url


def scenario(folder: Path, url: str, seconds: int = 8) -> Path:
    """A fault whose undo fails as long as a file is there."""
    path = folder / "hostile.toml"
    path.write_text(SCENARIO.format(url=url, stuck=folder / "stuck", seconds=seconds))
    return path


def headroom(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Another command of the same user."""
    environment = {**os.environ, "XDG_STATE_HOME": str(folder / "state")}
    return subprocess.run(
        [HEADROOM, *words], check=False, capture_output=True, text=True, env=environment
    )


def test_an_undo_that_fails_is_exit_5_of_the_run_and_bars_the_next(
    node: str, tmp_path: Path
) -> None:
    """The archive is whole, the ledger keeps it, the command is printed; repaired, it is gone."""
    path = scenario(tmp_path, node)
    process = start(tmp_path, path, target=node)
    text, _ = process.communicate()
    assert process.returncode == ExitCode.HARNESS, text
    assert "headroom failover undo" in text
    assert b'"stuck"' in ledger(tmp_path)
    run = only_run(tmp_path)
    failed = [e for e in run.events if e.kind == FaultEvent.UNDO_FAILED.value]
    assert failed
    assert "test ! -e" in str(failed[0].fields["repair"])
    (tmp_path / "again").mkdir()
    again = start(tmp_path, path, target=node)
    text, _ = again.communicate()
    assert again.returncode == ExitCode.HARNESS, text
    assert "faults of an earlier run that cannot be undone" in text
    (tmp_path / "stuck").unlink()
    done = headroom(tmp_path, "failover", "undo")
    assert done.returncode == ExitCode.PASS, done.stderr
    assert ledger(tmp_path) == b""


def test_a_target_that_is_not_well_at_the_start_is_not_struck(tmp_path: Path) -> None:
    """Every third request fails: nothing is injected, and the run ends as a guard's doing."""
    behaviour = parse_behaviour("errors=0.33:503")
    with Cluster.start(nodes=1, grpc_port=None, behaviours=behaviour) as cluster:
        cluster.wait_ready(20)
        url = cluster.nodes[0].url
        process = start(tmp_path, scenario(tmp_path, url, seconds=60), target=url)
        text, _ = process.communicate()
    assert process.returncode == ExitCode.ABORTED, text
    run = only_run(tmp_path)
    assert run.manifest.outcome is Outcome.ABORTED
    assert "nothing was injected" in text
    assert any(e.kind == FaultEvent.STEADY_MISSED.value for e in run.events)
    assert not fault_steps(run.events)
    assert not (tmp_path / "stuck").exists()


def test_a_second_failover_run_is_refused_while_the_first_goes_on(
    node: str, tmp_path: Path
) -> None:
    """Exit code 4 with the pid of the one; which ends as if nothing had been."""
    text = SCENARIO.replace(
        '["sh", "-c", "test ! -e {stuck} || exit 7"]', '["rm", "-f", "{stuck}"]'
    )
    path = tmp_path / "hostile.toml"
    path.write_text(text.format(url=node, stuck=tmp_path / "stuck", seconds=10))
    first = start(tmp_path, path, target=node)
    lock = tmp_path / "state" / "headroom" / "failover" / "lock"
    wait_until(lambda: lock.exists() and lock.read_text().strip() != "", "the lock", seconds=60)
    second = headroom(
        tmp_path, "run", str(path), "--target", node, "--force",
        "--results", str(tmp_path / "others"),
    )  # fmt: skip
    assert second.returncode == ExitCode.ABORTED, second.stderr
    assert f"another failover that is under way (pid {lock.read_text().strip()})" in second.stderr
    said, _ = first.communicate()
    run = only_run(tmp_path)
    assert run.manifest.outcome is Outcome.COMPLETE, said
    assert {step.kind for step in fault_steps(run.events)} >= {FaultEvent.APPLIED, FaultEvent.GONE}
    assert not (tmp_path / "stuck").exists()
