"""Every built-in action on real processes: in force, seen, undone, seen to be gone."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from failover_rig import HAPROXY, Cable, Rig, fault, need_namespaces, running, settings
from system_rig import wait_until

from loadtests.failover.actions import action_of
from loadtests.failover.asking import find_leader
from loadtests.failover.balancer import tell_haproxy
from loadtests.failover.ledger import Ledger
from loadtests.failover.processes import identity_of
from loadtests.failover.strike import FaultError, Strike
from loadtests.failover.striking import Told, apply_strike, undo_strikes, verify_in_force
from loadtests.plan.failover import ACTIONS, FaultNode, Settings
from loadtests.record.fault_events import FaultEvent

pytestmark = [
    pytest.mark.failover,
    pytest.mark.skipif(not Path(HAPROXY).exists(), reason="needs HAProxy"),
]


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One system for the tests of a module; each leaves it as it was."""
    with running(tmp_path_factory.mktemp("rig")) as started:
        yield started


def on_node(strike: Strike, node: FaultNode) -> Strike:
    """The same on another node."""
    return msgspec.structs.replace(strike, node=node)


def strike_of(rig: Rig, action: str, **changes: object) -> Strike:
    """A strike on node-2."""
    chosen: Settings = settings(**changes)
    return Strike(
        fault=f"the-{action}",
        action=action,
        node=rig.nodes[1],
        settings=chosen,
        admin=rig.admin,
        health_path="/health",
        owner=None,
        before={},
    )


SETTINGS: dict[str, dict[str, int]] = {
    "latency": {"latency_ns": 50_000_000},
    "bandwidth": {"bytes_per_s": 10_000},
    "weight": {"weight_percent": 0},
}
PLAIN = sorted(ACTIONS.keys() - {"exec", "cut", "noop", "restart"})


@pytest.mark.parametrize("action", PLAIN)
def test_an_action_takes_hold_and_leaves_nothing(rig: Rig, tmp_path: Path, action: str) -> None:
    """Applied, verified, undone twice, gone; and the ledger is empty again."""
    told: list[Told] = []
    with Ledger(tmp_path) as ledger:
        strike = apply_strike(
            strike_of(rig, action, **SETTINGS.get(action, {})),
            ledger,
            told.append,
        )
        assert ledger.left == (strike,)
        assert verify_in_force(strike, told.append)
        assert rig.wrongs(), "the rig sees it as well"
        assert undo_strikes([strike], ledger, told.append) == ()
        action_of(action).undo(strike)
        assert not list(ledger.left)
        assert ledger.path.read_bytes() == b""
    wait_until(lambda: not rig.wrongs(), f"{rig.wrongs()}")
    kinds = [one.kind for one in told]
    assert kinds == [
        FaultEvent.BEGAN,
        FaultEvent.APPLIED,
        FaultEvent.VERIFIED,
        FaultEvent.UNDONE,
        FaultEvent.GONE,
    ]
    assert all(one.began_ns <= one.done_ns for one in told)


def test_a_restart_is_another_process(rig: Rig, tmp_path: Path) -> None:
    """It is verified by the new process, and its undo has nothing to do."""
    before = rig.pid(2)
    told: list[Told] = []
    with Ledger(tmp_path) as ledger:
        strike = apply_strike(strike_of(rig, "restart"), ledger, told.append)
        assert verify_in_force(strike, told.append)
        after = rig.pid(2)
        assert undo_strikes([strike], ledger, told.append) == ()
    assert before != after == rig.pid(2)
    assert not rig.wrongs()


@pytest.mark.parametrize("action", ["pause", "drain", "maintenance", "latency"])
def test_what_is_in_force_already_is_not_ours(rig: Rig, tmp_path: Path, action: str) -> None:
    """Somebody else's fault is refused before the ledger: undoing it would not be ours."""
    strike = strike_of(rig, action, **SETTINGS.get(action, {}))
    made = strike_of(rig, action, **SETTINGS.get(action, {}))
    with Ledger(tmp_path) as ledger:
        first = apply_strike(made, ledger, lambda _: None)
        assert verify_in_force(first, lambda _: None), "a signal takes a moment"
        with pytest.raises(FaultError):
            apply_strike(strike, ledger, lambda _: None)
        assert undo_strikes([first], ledger, lambda _: None) == ()
    assert not rig.wrongs()


def test_a_node_that_does_not_run_is_not_killed(rig: Rig, tmp_path: Path) -> None:
    """There is nothing to strike: refused, nothing written down."""
    stale = tmp_path / "stale.pid"
    process = subprocess.Popen(["true"])
    process.wait()
    stale.write_text(str(process.pid))
    node = rig.nodes[1]

    with Ledger(tmp_path / "ledger") as ledger:
        with pytest.raises(FaultError, match="no running process"):
            apply_strike(
                on_node(strike_of(rig, "kill"), replace(node, pid_file=str(stale))),
                ledger,
                lambda _: None,
            )
        assert ledger.left == ()


def test_a_later_process_of_the_same_pid_is_not_signalled(rig: Rig) -> None:
    """A pid alone is nobody: another start time is another process."""
    one = identity_of(rig.pid(2))
    assert one is not None
    stale = strike_of(rig, "pause")

    before = {"pid": str(one.pid), "start_ticks": str(one.start_ticks - 1)}
    with pytest.raises(FaultError, match="had ended by itself"):
        action_of("pause").apply(msgspec.structs.replace(stale, before=before))
    assert not rig.wrongs()


def test_commands_are_filled_timed_and_undone(rig: Rig, tmp_path: Path) -> None:
    """`exec` runs its words for the node, sees by its own check, and undoes."""
    mark = tmp_path / "node-2.down"
    strike = strike_of(
        rig,
        "exec",
        command=("touch", f"{tmp_path}/{{node}}.down"),
        undo_command=("rm", "-f", f"{tmp_path}/{{node}}.down"),
        verify_command=("test", "-e", f"{tmp_path}/{{node}}.down"),
    )
    with Ledger(tmp_path / "ledger") as ledger:
        applied = apply_strike(strike, ledger, lambda _: None)
        assert mark.exists()
        assert verify_in_force(applied, lambda _: None)
        assert undo_strikes([applied], ledger, lambda _: None) == ()
    assert not mark.exists()


def test_a_command_that_hangs_is_ended_with_its_children(rig: Rig, tmp_path: Path) -> None:
    """Its whole session is killed at the time limit."""
    pid_file = tmp_path / "child"
    strike = strike_of(
        rig,
        "exec",
        command=("sh", "-c", f"sleep 300 & echo $! > {pid_file}; wait"),
        timeout_ns=500_000_000,
    )
    began = time.monotonic()
    with pytest.raises(FaultError, match="not ended after"):
        action_of("exec").apply(strike)
    assert time.monotonic() - began < 10
    child = int(pid_file.read_text())
    wait_until(lambda: identity_of(child) is None, "the child's end")


def test_what_nobody_can_see_is_never_told_as_seen(rig: Rig, tmp_path: Path) -> None:
    """A command without its check: applied and undone, but neither verified nor gone."""
    told: list[Told] = []
    with Ledger(tmp_path) as ledger:
        applied = apply_strike(strike_of(rig, "exec", command=("true",)), ledger, told.append)
        assert verify_in_force(applied, told.append)
        assert undo_strikes([applied], ledger, told.append) == ()
        assert not list(ledger.left)
    assert [one.kind for one in told] == [
        FaultEvent.BEGAN,
        FaultEvent.APPLIED,
        FaultEvent.UNDONE,
    ]


def test_a_check_that_did_not_get_through_is_no_sign_that_a_fault_is_gone(
    rig: Rig, tmp_path: Path
) -> None:
    """Its way is cut (ssh ends with 255): the fault stays in the ledger until 1 says it is gone."""
    answer = tmp_path / "answer"
    answer.write_text("1")
    strike = strike_of(
        rig, "exec", command=("true",), undo_command=("true",), timeout_ns=300_000_000,
        verify_command=("sh", "-c", f"exit $(cat {answer})"),
    )  # fmt: skip
    with Ledger(tmp_path) as ledger:
        applied = apply_strike(strike, ledger, lambda _: None)
        answer.write_text("255")
        (wrong,) = undo_strikes([applied], ledger, lambda _: None)
        assert "verify_command ended with 255" in wrong
        assert [one.key for one in ledger.left] == [applied.key]
        answer.write_text("1")
        assert undo_strikes(ledger.left, ledger, lambda _: None) == ()
        assert ledger.left == ()


def test_a_fault_that_does_not_take_hold_is_told(rig: Rig, tmp_path: Path) -> None:
    """An action whose effect is not to be seen in time is no fault that was injected."""
    told: list[Told] = []
    strike = strike_of(
        rig, "exec", command=("true",), verify_command=("false",), timeout_ns=200_000_000
    )
    with Ledger(tmp_path) as ledger:
        applied = apply_strike(strike, ledger, told.append)
        assert not verify_in_force(applied, told.append)
        assert told[-1].kind is FaultEvent.NOT_IN_FORCE
        assert undo_strikes([applied], ledger, told.append) == ()


def test_an_undo_that_fails_is_loud_and_kept(rig: Rig, tmp_path: Path) -> None:
    """It stays in the ledger, with the command that repairs it."""
    told: list[Told] = []
    strike = strike_of(
        rig,
        "exec",
        command=("true",),
        undo_command=("sh", "-c", "echo no such host; exit 3"),
        timeout_ns=700_000_000,
    )
    with Ledger(tmp_path) as ledger:
        applied = apply_strike(strike, ledger, told.append)
        (wrong,) = undo_strikes([applied], ledger, told.append)
        assert "no such host" in wrong
        assert ledger.left == (applied,)
    assert told[-1].kind is FaultEvent.UNDO_FAILED
    assert told[-1].repair.startswith("sh -c")
    with Ledger(tmp_path) as again:
        assert again.left == (applied,), "also for the next process"


def test_what_ended_with_its_system_is_gone(rig: Rig, tmp_path: Path) -> None:
    """A node of the harness's own cluster is not started again when that has ended."""
    owner = subprocess.Popen(["sleep", "300"])

    strike = msgspec.structs.replace(
        strike_of(rig, "exec", command=("true",)), owner=identity_of(owner.pid)
    )
    never = msgspec.structs.replace(
        strike, settings=settings(command=("true",), undo_command=("false",))
    )
    with Ledger(tmp_path) as ledger:
        applied = apply_strike(never, ledger, lambda _: None)
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        assert undo_strikes([applied], ledger, lambda _: None) == ()
        assert ledger.left == ()


def test_a_cut_network_comes_back_with_its_routes(tmp_path: Path, rig: Rig) -> None:
    """Link down in a namespace; the routes that somebody had added are there again."""
    need_namespaces()
    cable = Cable()
    try:
        cable.open()
        cable.ip("addr", "add", "10.9.0.2/24", "dev", "eth0")
        cable.ip("route", "add", "default", "via", "10.9.0.1", "dev", "eth0")
        routes = cable.ip("route", "show", "dev", "eth0")
        strike = on_node(strike_of(rig, "cut"), cable.node)
        with Ledger(tmp_path) as ledger:
            applied = apply_strike(strike, ledger, lambda _: None)
            assert verify_in_force(applied, lambda _: None)
            assert cable.wrongs()
            assert "default" not in cable.ip("route", "show", "dev", "eth0")
            assert undo_strikes([applied], ledger, lambda _: None) == ()
        assert cable.ip("route", "show", "dev", "eth0") == routes
        assert not cable.wrongs()
    finally:
        cable.close()


def test_a_namespace_that_is_not_there_is_refused(rig: Rig, tmp_path: Path) -> None:
    """With the words of the system, before anything was written down."""
    node = replace(rig.nodes[1], namespace="no-such-namespace", interface="eth0")
    with Ledger(tmp_path) as ledger:
        with pytest.raises(FaultError, match="no-such-namespace"):
            apply_strike(on_node(strike_of(rig, "cut"), node), ledger, lambda _: None)
        assert ledger.left == ()


def test_the_leader_is_who_most_nodes_name(rig: Rig) -> None:
    """Asked of the nodes themselves; nobody, or a stranger, is an error that says so."""
    failover = rig.failover(fault("x", "noop", "leader"))
    assert failover.leader is not None
    assert find_leader(failover.nodes, failover.leader).name == "node-1"
    rig.leader_file.write_text("node-9")
    with pytest.raises(FaultError, match="node-9"):
        find_leader(failover.nodes, failover.leader)
    rig.leader_file.write_text("node-1")


def test_haproxy_itself_agrees(rig: Rig, tmp_path: Path) -> None:
    """A drained server is DRAIN in HAProxy's own statistics."""
    with Ledger(tmp_path) as ledger:
        applied = apply_strike(strike_of(rig, "drain"), ledger, lambda _: None)
        rows = tell_haproxy(rig.admin, "show stat").splitlines()
        (row,) = [one.split(",") for one in rows if one.startswith("back,node-2,")]
        assert row[17].startswith("DRAIN")
        assert undo_strikes([applied], ledger, lambda _: None) == ()
    assert shutil.which("haproxy") or Path(HAPROXY).exists()
