"""Failovers of a real Raft system, run by `headroom run` from the file to the archive."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from etcd_rig import ETCD, EtcdRig, etcd_running
from failover_rig import HAPROXY, need_namespaces

from loadtests.clock import NS_PER_S
from loadtests.record.archive import Run, load_run
from loadtests.record.event import Event
from loadtests.record.fault_events import FaultEvent, FaultStep, fault_steps
from loadtests.record.manifest import Outcome

pytestmark = [
    pytest.mark.failover,
    pytest.mark.timeout(300),
    pytest.mark.skipif(ETCD is None, reason="needs etcd (Debian: etcd-server)"),
    pytest.mark.skipif(not Path(HAPROXY).exists(), reason="needs HAProxy"),
]


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdRig]:
    """One cluster for all; each test leaves it whole."""
    with etcd_running(tmp_path_factory.mktemp("etcd")) as rig:
        yield rig


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a run left, and what it printed."""

    run: Run
    text: str

    @property
    def steps(self) -> tuple[FaultStep, ...]:
        """Steps of all faults."""
        return fault_steps(self.run.events)

    def events(self, kind: FaultEvent) -> list[Event]:
        """Events of a kind."""
        return [event for event in self.run.events if event.kind == kind.value]

    def seconds(self) -> pd.DataFrame:
        """Sums of each second from T0, of all requests."""
        t0_s = (self.run.manifest.t0_unix_ns or 0) // NS_PER_S
        rows = self.run.windows
        rows = rows[rows["request"].isin(["rest-put", "grpc-put", "grpc-range"])]
        sums = rows.groupby("window_s", observed=True)[["ok", "failed", "client_error"]].sum()
        sums.index = sums.index - t0_s
        return sums

    def ok_in(self, start_s: float, end_s: float) -> int:
        """Good answers in the whole seconds between two times."""
        sums = self.seconds()
        inside = (sums.index >= start_s) & (sums.index + 1 <= end_s)
        return int(sums.loc[inside, "ok"].sum())

    def at(self, kind: FaultEvent) -> float:
        """When the last such step was done, in seconds from T0."""
        return max(step.at_ns for step in self.steps if step.kind is kind) / NS_PER_S


def run(etcd: EtcdRig, folder: Path, name: str, faults: str, seconds: int) -> Seen:
    """`headroom run`, to its end; the cluster is whole before and after."""
    etcd.wait_whole()
    scenario = folder / f"{name}.toml"
    scenario.write_text(etcd.scenario(name, faults, seconds))
    configuration = folder / "headroom.toml"
    configuration.write_text(
        '[authorised_targets."10.77.0.0/24"]\nowner = "the test"\nmax_rate = "1000 rps"\n'
        "expires = 2099-12-31\n"
    )
    words = [str(Path(sys.executable).parent / "headroom"), "run", str(scenario)]
    done = subprocess.run(
        [*words, "--results", str(folder / "results")],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        env={
            **{k: v for k, v in os.environ.items() if k != "LOCUST_SKIP_MONKEY_PATCH"},
            "HEADROOM_CONFIG": str(configuration),
            "XDG_STATE_HOME": str(folder / "state"),
        },
    )
    text = done.stdout + done.stderr
    paths = sorted((folder / "results" / "runs").glob("*Z_*"))
    assert paths, text
    seen = Seen(run=load_run(paths[0]), text=text)
    assert seen.run.manifest.outcome is Outcome.COMPLETE, text
    assert not (folder / "state" / "headroom" / "failover" / "undo.jsonl").read_bytes()
    etcd.wait_whole()
    kinds = [step.kind for step in seen.steps]
    assert kinds.count(FaultEvent.GONE) == kinds.count(FaultEvent.APPLIED) >= 1, text
    assert FaultEvent.UNDO_FAILED not in kinds
    (steady, *_) = seen.events(FaultEvent.STEADY_REACHED)
    first = min(step.began_ns for step in seen.steps)
    assert int(steady.fields["at_ns"] or 0) <= first, "steady before the first fault"
    return seen


def fault(name: str, action: str, on: str, when: str) -> str:
    """One fault of the scenario."""
    return f'[[failover.faults]]\nname = "{name}"\naction = "{action}"\non = "{on}"\n{when}\n'


def test_the_leader_is_killed(etcd: EtcdRig, tmp_path: Path) -> None:
    """The one that leads is struck; another leads and writes go on before it is back."""
    led = etcd.leader()
    when = 'at = "8 s"\nundo_after = "8 s"'
    seen = run(etcd, tmp_path, "kill-leader", fault("kill", "kill", "leader", when), 17)
    assert {step.node for step in seen.steps} == {led}
    assert etcd.leader() != led
    assert "quorum is kept: 3 of 4 voters are left, 3 are needed" in seen.text
    applied, undone = seen.at(FaultEvent.APPLIED), seen.at(FaultEvent.UNDONE)
    assert seen.ok_in(applied + 4, undone) > 0, "served by the three that were left"


def test_the_leader_hangs(etcd: EtcdRig, tmp_path: Path) -> None:
    """SIGSTOP: its connections stay, its answers do not; another leads meanwhile."""
    led = etcd.leader()
    when = 'at = "8 s"\nundo_after = "8 s"'
    seen = run(etcd, tmp_path, "pause-leader", fault("pause", "pause", "leader", when), 17)
    assert {step.node for step in seen.steps} == {led}
    assert etcd.leader() != led
    applied, undone = seen.at(FaultEvent.APPLIED), seen.at(FaultEvent.UNDONE)
    assert seen.ok_in(applied + 5, undone) > 0


def test_a_drained_node_costs_no_request(etcd: EtcdRig, tmp_path: Path) -> None:
    """Drained at the load balancer: none fails, as predicted."""
    when = 'at = "8 s"\nundo_after = "4 s"'
    seen = run(etcd, tmp_path, "drain", fault("drain", "drain", "node m2", when), 10)
    assert "no request should fail" in seen.text
    after = seen.seconds().loc[8:]
    assert int(after["failed"].sum() + after["client_error"].sum()) == 0
    assert seen.ok_in(8, 16) > 0


def test_all_members_are_restarted_one_after_the_other(etcd: EtcdRig, tmp_path: Path) -> None:
    """Each waits until the one before is back and the cluster steady again."""
    faults = fault("restart-1", "restart", "node m1", 'at = "8 s"')
    for number in range(2, 5):
        when = f'after = "restart-{number - 1}"'
        faults += fault(f"restart-{number}", "restart", f"node m{number}", when)
    before = [(etcd.folder / f"m{number}.pid").read_text() for number in range(1, 5)]
    seen = run(etcd, tmp_path, "rolling-restart", faults, 50)
    after = [(etcd.folder / f"m{number}.pid").read_text() for number in range(1, 5)]
    assert all(one != other for one, other in zip(before, after, strict=True))
    applied = [step for step in seen.steps if step.kind is FaultEvent.APPLIED]
    gone = [step for step in seen.steps if step.kind is FaultEvent.GONE]
    assert [step.node for step in applied] == ["m1", "m2", "m3", "m4"]
    for one, following in zip(gone, applied[1:], strict=False):
        assert following.began_ns - one.at_ns >= 3 * NS_PER_S, "steady for 3 s between"


def test_two_of_four_are_no_quorum(etcd: EtcdRig, tmp_path: Path) -> None:
    """Predicted, then observed: no write and no read succeeds until one is back."""
    when = 'at = "8 s"\nundo_after = "8 s"'
    seen = run(etcd, tmp_path, "no-quorum", fault("lose-two", "kill", "2 random", when), 20)
    assert "NO QUORUM: 2 of 4 voters are left, 3 are needed" in seen.text
    (predicted,) = [
        event for event in seen.events(FaultEvent.PREDICTION) if event.fields.get("fault")
    ]
    assert predicted.fields["has_quorum"] is False
    assert len({step.node for step in seen.steps}) == 2
    applied, undone = seen.at(FaultEvent.APPLIED), seen.at(FaultEvent.UNDONE)
    assert seen.ok_in(applied + 1, undone) == 0, f"{seen.seconds()}"
    assert seen.ok_in(seen.at(FaultEvent.GONE) + 1, 26) > 0, "and it came back"


def test_the_leaders_network_is_cut(etcd: EtcdRig, tmp_path: Path) -> None:
    """Link down on the leader's host: the others elect, and it comes back as a follower."""
    need_namespaces()
    led = etcd.leader()
    when = 'at = "8 s"\nundo_after = "8 s"'
    seen = run(etcd, tmp_path, "cut-leader", fault("cut", "cut", "leader", when), 17)
    assert {step.node for step in seen.steps} == {led}
    assert etcd.leader() != led
    applied, undone = seen.at(FaultEvent.APPLIED), seen.at(FaultEvent.UNDONE)
    assert seen.ok_in(applied + 5, undone) > 0


def test_an_unauthorised_host_is_not_struck(etcd: EtcdRig, tmp_path: Path) -> None:
    """Without an entry for the members' addresses nothing is sent and nothing is done."""
    if not etcd.as_hosts:
        pytest.skip("members are on loopback here, which is always allowed")
    when = 'at = "8 s"\nundo_after = "8 s"'
    scenario = tmp_path / "refused.toml"
    scenario.write_text(etcd.scenario("refused", fault("k", "kill", "leader", when), 20))
    words = [str(Path(sys.executable).parent / "headroom"), "run", str(scenario)]
    (tmp_path / "headroom.toml").write_text("")
    environment = {**os.environ, "HEADROOM_CONFIG": str(tmp_path / "headroom.toml")}
    done = subprocess.run(
        words, check=False, capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert done.returncode == 4
    assert "10.77.0.1, which is not an authorised target" in done.stderr
    assert not etcd.wrongs()
