"""The rollback rehearsal, run: a bad version goes back, a good one does not, and kill -9."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from failover_rig import HAPROXY
from system_rig import free_port, wait_until
from test_failover_embedded import MARK, SCENARIOS, ledger, only_run, start, survivors

from analysis.baselines import promote
from analysis.judging import ObjectiveResult, State
from analysis.report.timeline import build_timeline
from analysis.verdict import judge
from loadtests.cluster.launch import Cluster
from loadtests.commands.dispatch import dispatch
from loadtests.errors import ExitCode
from loadtests.failover.balancer import server_states, tell_haproxy
from loadtests.record.archive import Run
from loadtests.record.event import Event
from loadtests.record.fault_events import ROLLOUT, FaultEvent, fault_steps
from loadtests.record.manifest import Outcome

pytestmark = [
    pytest.mark.failover,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not Path(HAPROXY).exists(), reason="needs HAProxy"),
]

GOOD = ""
ERRORS = "errors=0.2:503,from=4s"  # within its first phase
SOON_OVER = {  # where nothing is asked of what comes after
    'hold = "10 s"': 'hold = "6 s"',
    'duration = "40 s"': 'duration = "22 s"',
    'duration = "20 s"': 'duration = "5 s"',
}
AT_ONCE_OVER = {'duration = "20 s"': 'duration = "5 s"'}
SLOW = "latency=fixed:400ms,from=11s"  # later than its first phase is held


def rehearsal(folder: Path, behaviour: str, **instead: str) -> Path:
    """The shipped scenario over REST alone, with shorter times and another version 2."""
    text = (SCENARIOS / "rollback-rehearsal.toml").read_text(encoding="utf-8")
    text = text.replace("../protos", str(SCENARIOS.parent / "protos"))
    text = re.sub(r"behaviour = .*", f'behaviour = "{behaviour}"', text)
    for old, new in (
        ('mixed = "400 rps"', 'mixed = "150 rps"'),
        ('name = "warm-up"\nduration = "4 s"', 'name = "warm-up"\nduration = "2 s"'),
        ('name = "before"\nduration = "16 s"', 'name = "before"\nduration = "4 s"'),
        ('for = "20 s"', 'for = "6 s"'),
        # A noisy machine may take longer for a good answer, and never for 400 ms on end.
        ('"p95 < 200 ms", "p99 < 500 ms", "error_ratio < 0.1 %"', '"p90 < 350 ms"'),
        ('duration = "45 s"', 'duration = "40 s"'),
        ('duration = "30 s"', 'duration = "20 s"'),
        ('hold = "20 s"', 'hold = "10 s"'),
        ('hold = "15 s"', 'hold = "10 s"'),
        # As many requests as a limit of 5 % takes come in six seconds at this rate.
        ("error_ratio > 1 %", "error_ratio > 5 %"),
        ("error_ratio > 0.5 %", "error_ratio > 5 %"),
        ('window = "15 s"', 'window = "8 s"'),
        ('sustain = "5 s"', 'sustain = "3 s"'),
        ('gap = "15 s"', 'gap = "10 s"'),
        *instead.items(),
    ):
        assert old in text, old
        text = text.replace(old, new)
    path = folder / "rehearsal.toml"
    path.write_text(text, encoding="utf-8")
    return path


def events(run: Run, kind: FaultEvent) -> list[Event]:
    """Events of a kind."""
    return [event for event in run.events if event.kind == kind.value]


def objectives(run: Run) -> dict[str, ObjectiveResult]:
    """Those of the whole run, by their measure."""
    found = judge(run).objectives
    return {one.objective.split()[0]: one for one in found if one.stage == "(failover)"}


def shares(run: Run) -> list[float]:
    """What the new version had, phase by phase."""
    return [float(e.fields["traffic_ratio"] or 0) for e in events(run, FaultEvent.ROLLOUT_PHASE)]


def requests_of_new(run: Run, from_ns: int) -> list[int]:
    """What its nodes had in the window of each look after a time."""
    looks = [e for e in events(run, FaultEvent.ROLLOUT_LOOK) if e.fields["is_new"]]
    return [int(e.fields["requests"] or 0) for e in looks if e.at_unix_ns > from_ns]


def test_a_version_that_goes_bad_in_its_second_phase_is_rolled_back(tmp_path: Path) -> None:
    """By that phase's trigger, which the first would have let pass; measured from the decision."""
    process = start(tmp_path, rehearsal(tmp_path, SLOW))
    text, _ = process.communicate()
    run = only_run(tmp_path)
    assert run.manifest.outcome is Outcome.COMPLETE, text
    assert shares(run) == pytest.approx([0.10, 0.25]), text
    (decided,) = events(run, FaultEvent.ROLLBACK_DECIDED)
    assert decided.fields["phase"] == 2
    assert decided.text.startswith("p95 > 300 ms: between 0.3 s and 0.5 s of "), "not the floor's"
    steps = fault_steps(run.events)
    undone = [step.node for step in steps if step.kind is FaultEvent.UNDONE]
    assert undone == ["node-4", "node-3", "node-2", "node-1"], "the new version first"
    gone = {step.node: step.at_ns for step in steps if step.kind is FaultEvent.GONE}
    assert gone.keys() == set(undone)
    off_ns = (run.manifest.t0_unix_ns or 0) + gone["node-4"]
    # A window reaches 8 s back; what its nodes counted after that came when they had no weight.
    assert set(requests_of_new(run, off_ns + 9 * 10**9)) == {0}
    found = objectives(run)
    assert found["rollbacks"].state is State.PASS
    assert found["traffic_off"].state is State.PASS
    assert found["traffic_off"].reading.value == off_ns - decided.at_unix_ns
    assert found["lost_writes"].state is State.PASS, found["lost_writes"].reason
    assert found["cascading_failures"].state is State.PASS
    for name in ("all_green", "relapses", "p95_restored"):  # the machine may be too busy for these
        assert found[name].reading.value is not None
    assert run.read_back is not None
    assert all(len(names.split(", ")) == 2 for names in run.read_back["node"]), "read from two"
    assert ledger(tmp_path) == b""
    wait_until(lambda: not survivors(tmp_path), "nothing left")
    _stands_on_the_pages(run, tmp_path)


def _stands_on_the_pages(run: Run, folder: Path) -> None:
    """The band of the time that traffic was moved; and rows of the hardening table."""
    first_s = (run.manifest.t0_unix_ns or 0) // 10**9
    (band,) = build_timeline(run, first_s, 90).faults
    assert band.name == ROLLOUT
    assert 0 < band.start_s < band.end_s < 60
    verdict = judge(run)
    if verdict.state is State.INCONCLUSIVE:  # a busy machine's run is no baseline
        return
    promote(run, verdict, folder)
    page = (folder / "BASELINES.md").read_text(encoding="utf-8").partition("## Hardening")[2]
    assert "traffic_off &lt; 5 min" in page


def test_errors_roll_back_and_a_version_that_keeps_well_is_left_alone(tmp_path: Path) -> None:
    """The first in its own phase; the second goes through all of them and back at the end."""
    for name, behaviour, times in (("bad", ERRORS, SOON_OVER), ("good", GOOD, AT_ONCE_OVER)):
        folder = tmp_path / name
        folder.mkdir()
        text, _ = start(folder, rehearsal(folder, behaviour, **times)).communicate()
        run = only_run(folder)
        assert run.manifest.outcome is Outcome.COMPLETE, text
        found = objectives(run)
        assert ledger(folder) == b""
        gone = [s for s in fault_steps(run.events) if s.kind is FaultEvent.GONE]
        assert len(gone) == 4, "traffic is back, whatever happened"
        if name == "bad":
            (decided,) = events(run, FaultEvent.ROLLBACK_DECIDED)
            assert "requests failed" in decided.text
            assert found["rollbacks"].state is State.PASS
            continue
        assert shares(run) == pytest.approx([0.10, 0.25, 0.5]), text
        assert not events(run, FaultEvent.ROLLBACK_DECIDED)
        assert len(events(run, FaultEvent.ROLLOUT_PASSED)) == 1
        assert found["rollbacks"].state is State.FAIL, "the rehearsal expects one"
        for name_of in ("traffic_off", "all_green", "relapses", "p95_restored"):
            assert found[name_of].state is State.INCONCLUSIVE
        assert found["traffic_off"].reason == "no rollback was decided"


@contextmanager
def balanced(folder: Path, cluster: Cluster) -> Iterator[tuple[int, str]]:
    """HAProxy of one's own before a cluster, the last node without weight; port and admin."""
    port, admin = free_port(), str(folder / "admin.sock")
    servers = "\n".join(
        f"  server {node.name} {node.url.removeprefix('http://')} weight {weight}"
        for node, weight in zip(cluster.nodes, (7, 7, 0), strict=True)
    )
    (folder / "haproxy.cfg").write_text(
        f"global\n  stats socket {admin} mode 600 level admin\n"
        "defaults\n  mode http\n  timeout connect 1s\n  timeout client 5s\n  timeout server 5s\n"
        f"frontend front\n  bind 127.0.0.1:{port}\n  default_backend back\n"
        f"backend back\n{servers}\n"
    )
    balancer = subprocess.Popen([HAPROXY, "-db", "-q", "-f", str(folder / "haproxy.cfg")])
    try:
        wait_until(lambda: Path(admin).exists(), "HAProxy")
        yield port, admin
    finally:
        balancer.kill()
        balancer.wait()


OWN = """
version = 1
name = "own"
[target]
nodes = ["http://127.0.0.1:{port}"]
[load]
rate = "150 rps"
connections = 32
[[requests]]
name = "stats"
path = "/api/v11/blockchain/transactions/stats"
[[stages]]
name = "steady"
duration = "60 s"
[criteria]
objectives = ["error_ratio < 50 %"]
[failover]
system = "own"
[failover.steady_state]
for = "2 s"
[failover.haproxy]
admin = "{admin}"
[failover.rollout]
to = "2"
every = "1 s"
window = "5 s"
sustain = "5 s"
gap = "5 s"
floor = ["error_ratio > 90 %"]
[[failover.rollout.phases]]
traffic = "25 %"
hold = "50 s"
{nodes}
"""


def weights_of(admin: str) -> dict[str, int]:
    """What HAProxy has."""
    states = server_states(tell_haproxy(admin, "show servers state back"))
    return {name: state.weight for name, state in states.items()}


def test_kill_9_in_a_phase_leaves_the_weights_to_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything of the harness dies at once; `failover undo` gives the weights back, proves it."""
    with Cluster.start(nodes=3, grpc_port=None) as cluster:
        cluster.wait_ready(20)
        with balanced(tmp_path, cluster) as (port, admin):
            nodes = "\n".join(
                f'[[failover.nodes]]\nname = "{node.name}"\nurl = "{node.url}"\n'
                f'servers = ["back/{node.name}"]\nversion = "{version}"'
                for node, version in zip(cluster.nodes, ("1", "1", "2"), strict=True)
            )
            scenario = tmp_path / "own.toml"
            scenario.write_text(OWN.format(port=port, admin=admin, nodes=nodes))
            before = weights_of(admin)
            assert list(before.values()) == [7, 7, 0]
            process = start(tmp_path, scenario, target=f"http://127.0.0.1:{port}")
            wait_until(lambda: weights_of(admin) != before, "traffic moved", seconds=90)
            wait_until(lambda: 0 not in weights_of(admin).values(), "on every node")
            _kill_all(tmp_path)
            process.communicate()
            moved = weights_of(admin)
            assert moved["back/node-3"] / sum(moved.values()) == pytest.approx(0.25, abs=0.01)
            monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
            out, err = io.StringIO(), io.StringIO()
            assert dispatch(["failover", "show", "--json"], out, err) is ExitCode.PASS
            left = json.loads(out.getvalue())
            assert {one["strike"]["action"] for one in left} == {"traffic"}
            assert all("set weight back/" in one["repair"] for one in left)
            assert dispatch(["failover", "undo"], out, err) is ExitCode.PASS, err.getvalue()
            assert weights_of(admin) == before
            assert ledger(tmp_path) == b""


def _kill_all(folder: Path) -> None:
    """SIGKILL to all that carries the run's mark, until nothing does."""

    def kill() -> bool:
        alive = 0
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(MARK) == str(folder):
                    alive += process.status() != psutil.STATUS_ZOMBIE
                    os.kill(process.pid, signal.SIGKILL)
        return alive == 0

    wait_until(kill, "an end of the harness")
