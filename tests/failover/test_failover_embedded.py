"""The embedded cluster in zones behind HAProxy: started by `headroom run`, struck, and gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from failover_rig import HAPROXY
from system_rig import free_port, wait_until

from analysis.judging import State
from analysis.verdict import judge
from loadtests.record.archive import Run, load_run
from loadtests.record.fault_events import FaultEvent, fault_steps
from loadtests.record.manifest import Outcome

SCENARIOS = Path(__file__).resolve().parents[2] / "scenarios"
MARK = "HEADROOM_EMBEDDED_TEST"
HEADROOM = str(Path(sys.executable).parent / "headroom")

pytestmark = [
    pytest.mark.failover,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not Path(HAPROXY).exists(), reason="needs HAProxy"),
]


def shortened(folder: Path, name: str, **instead: str) -> Path:
    """A shipped scenario with shorter times, as (old, new) texts of its lines."""
    text = (SCENARIOS / f"{name}.toml").read_text(encoding="utf-8")
    text = text.replace("../protos", str(SCENARIOS.parent / "protos"))
    text = text.replace('mixed = "400 rps"', 'mixed = "60 rps"')
    for old, new in (
        ('name = "before"\nduration = "15 s"', 'name = "before"\nduration = "5 s"'),
        ('name = "warm-up"\nduration = "5 s"', 'name = "warm-up"\nduration = "2 s"'),
        ('for = "10 s"', 'for = "3 s"'),
        *instead.items(),
    ):
        assert old in text, old
        text = text.replace(old, new)
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


def start(
    folder: Path,
    scenario: Path,
    environment: Mapping[str, str] | None = None,
    target: str = "",
) -> subprocess.Popen[str]:
    """`headroom run` on free ports, or on what there is, everything of it marked."""
    target = target or f"http://127.0.0.1:{free_port()},grpc=http://127.0.0.1:{free_port()}"
    words = [HEADROOM, "run", str(scenario), "--target", target, "--force"]
    inherited = {k: v for k, v in os.environ.items() if k != "LOCUST_SKIP_MONKEY_PATCH"}
    return subprocess.Popen(
        [*words, "--results", str(folder / "results")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        cwd=folder,
        env={
            **inherited,
            "XDG_STATE_HOME": str(folder / "state"),
            MARK: str(folder),
            **(environment or {}),
        },
        start_new_session=True,
    )


def survivors(folder: Path) -> list[str]:
    """Living processes of a run."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            is_ours = process.environ().get(MARK) == str(folder)
            if is_ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
    return found


def only_run(folder: Path) -> Run:
    """The one archive."""
    (path,) = (folder / "results" / "runs").glob("*Z_*")
    return load_run(path)


def ledger(folder: Path) -> bytes:
    """What is left in the undo ledger."""
    return (folder / "state" / "headroom" / "failover" / "undo.jsonl").read_bytes()


def assert_no_write_is_lost(run: Run) -> None:
    """Acknowledged and there, on two nodes: the audit of the shipped scenario says so."""
    found = {one.objective: one for one in judge(run).objectives}
    for text in ("lost_writes == 0", "resurrected_writes == 0"):
        assert found[text].state is State.PASS, found[text].reason
    assert run.read_back is not None
    assert len(run.read_back) > 100
    assert all(len(names.split(", ")) == 2 for names in run.read_back["node"])


def test_a_zone_is_lost_and_the_rest_serves(tmp_path: Path) -> None:
    """Both nodes of zone-a die and stay dead; requests go on; nothing is left at the end."""
    scenario = shortened(
        tmp_path,
        "zone-failure",
        **{'at = "22 s"': 'at = "8 s"', 'duration = "60 s"': 'duration = "14 s"'},
    )
    process = start(tmp_path, scenario)
    text, _ = process.communicate()
    run = only_run(tmp_path)
    assert run.manifest.outcome is Outcome.COMPLETE, text
    steps = fault_steps(run.events)
    for kind in (FaultEvent.APPLIED, FaultEvent.VERIFIED, FaultEvent.UNDONE, FaultEvent.GONE):
        assert {step.node for step in steps if step.kind is kind} == {"node-1", "node-2"}, text
    applied = max(step.at_ns for step in steps if step.kind is FaultEvent.APPLIED) / 1e9
    rows = run.windows
    since = rows["window_s"] - (run.manifest.t0_unix_ns or 0) // 10**9
    during = rows[(since >= applied + 5) & (since < 20) & (rows["request"] != "connection")]
    assert int(during["ok"].sum()) > 0
    assert_no_write_is_lost(run)
    assert ledger(tmp_path) == b""
    wait_until(lambda: not survivors(tmp_path), "nothing left")


def test_a_rolling_restart_behind_drains(tmp_path: Path) -> None:
    """Drained, restarted, taken back: every node is another process, in order."""
    times = {f'at = "{24 + 14 * n} s"': f'at = "{9 + 7 * n} s"' for n in range(4)}
    times |= {f'at = "{22 + 14 * n} s"': f'at = "{8 + 7 * n} s"' for n in range(4)}
    times |= {'undo_after = "11 s"': 'undo_after = "6 s"', 'duration = "85 s"': 'duration = "36 s"'}
    process = start(tmp_path, shortened(tmp_path, "rolling-restart", **times))
    text, _ = process.communicate()
    run = only_run(tmp_path)
    assert run.manifest.outcome is Outcome.COMPLETE, text
    steps = fault_steps(run.events)
    restarted = [s.node for s in steps if s.kind is FaultEvent.VERIFIED and s.action == "restart"]
    assert restarted == ["node-1", "node-2", "node-3", "node-4"], text
    drained = [s.node for s in steps if s.kind is FaultEvent.GONE and s.action == "drain"]
    assert drained == restarted
    assert_no_write_is_lost(run)
    assert ledger(tmp_path) == b""
    wait_until(lambda: not survivors(tmp_path), "nothing left")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_however_a_run_ends_nothing_is_left(tmp_path: Path, number: signal.Signals) -> None:
    """In the middle of a fault: Ctrl-C undoes and archives; kill -9 takes the system along."""
    scenario = shortened(tmp_path, "failover-grey", **{'at = "22 s"': 'at = "8 s"'})
    process = start(tmp_path, scenario)
    path = tmp_path / "state" / "headroom" / "failover" / "undo.jsonl"

    def is_in_force() -> bool:
        return path.exists() and path.stat().st_size > 0

    wait_until(lambda: is_in_force() or process.poll() is not None, "a fault", seconds=120)
    assert process.poll() is None, process.communicate()[0]  # such as: no steady state
    time.sleep(0.5)
    process.send_signal(number)
    text, _ = process.communicate()
    wait_until(lambda: not survivors(tmp_path), f"nothing left of {survivors(tmp_path)}")
    assert ledger(tmp_path) == b""
    if number is signal.SIGINT:
        assert process.returncode == 4, text
        kinds = {step.kind for step in fault_steps(only_run(tmp_path).events)}
        assert FaultEvent.GONE in kinds


def test_without_haproxy_the_client_balances_and_says_so(tmp_path: Path) -> None:
    """The same scenario over the nodes themselves; what needs HAProxy is refused."""
    hidden = {"HEADROOM_HAPROXY": "none"}
    scenario = shortened(
        tmp_path,
        "failover-grey",
        **{
            'at = "22 s"': 'at = "8 s"',
            'undo_after = "20 s"': 'undo_after = "2 s"',
            'duration = "70 s"': 'duration = "8 s"',
        },
    )
    process = start(tmp_path, scenario, hidden)
    text, _ = process.communicate()
    assert "HAProxy is not installed: the run balances over the nodes by itself" in text
    run = only_run(tmp_path)
    assert run.manifest.outcome is Outcome.COMPLETE, text
    assert len(run.manifest.nodes) == 4
    rolling = start(tmp_path, shortened(tmp_path, "rolling-restart"), hidden)
    text, _ = rolling.communicate()
    assert rolling.returncode == 4
    assert "no HAProxy on this host" in text
