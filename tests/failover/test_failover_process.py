"""The injector's process on real systems: its whole way, and its end by every means."""

from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from failover_rig import HAPROXY, Rig, fault, running, spare_cable
from system_rig import wait_until

from loadtests.commands.dispatch import dispatch
from loadtests.errors import ExitCode
from loadtests.failover.ledger import Ledger
from loadtests.failover.messages import (
    Ended,
    Halt,
    Happened,
    InjectOrder,
    Ready,
    Refused,
    ToMaster,
    decode_to_master,
    encode_order,
)
from loadtests.plan.failover import ACTIONS, Failover, FaultNode
from loadtests.record.fault_events import FaultEvent, fault_steps

DRIVER = Path(__file__).with_name("injector_driver.py")
KILLS = 50
STARTING_S = 0.5  # of the harness: its imports, the ledger's lock
FAULTS_S = 0.9  # from its being ready to the last undo
UNDOING_S = 0.1
UNDO = """
import sys
from loadtests.commands.dispatch import dispatch
print("begins", flush=True)
sys.exit(dispatch(["failover", "undo"], sys.stdout, sys.stderr))
"""

pytestmark = [
    pytest.mark.failover,
    pytest.mark.skipif(not Path(HAPROXY).exists(), reason="needs HAProxy"),
    pytest.mark.timeout(900),
]


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One system for all."""
    with running(tmp_path_factory.mktemp("rig"), nodes=4) as started:
        yield started


def start(folder: Path, failover: Failover, seconds: float) -> subprocess.Popen[bytes]:
    """A harness in a process group of its own."""
    folder.mkdir(exist_ok=True)
    order = folder / "order"
    order.write_bytes(
        encode_order(InjectOrder(failover=failover, seed=1, folder=str(folder / "ledger")))
    )
    return subprocess.Popen(
        [sys.executable, str(DRIVER), str(order), str(seconds)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )


def said_by(process: subprocess.Popen[bytes], timeout: float = 60) -> list[ToMaster]:
    """All that an injector said until its end."""
    out, _ = process.communicate(timeout=timeout)
    return [decode_to_master(line) for line in out.splitlines()]


def kinds(said: list[ToMaster]) -> list[str]:
    """Kinds of the events among it."""
    return [one.event.kind for one in said if isinstance(one, Happened)]


def test_a_failover_from_steady_state_to_steady_state(rig: Rig, tmp_path: Path) -> None:
    """Predicted, steady, applied, seen, undone, gone, steady again; times lie in order."""
    failover = rig.failover(
        fault("pause-leader", "pause", "leader", at=0.3, undo_after=0.5),
        fault("drain-next", "drain", "node node-2", after="pause-leader", undo_after=0.2),
    )
    process = start(tmp_path, failover, 3.0)
    said = said_by(process)
    assert process.returncode == ExitCode.PASS
    assert isinstance(said[0], Ready)
    assert said[-1] == Ended(wrong="")
    assert not rig.wrongs()
    seen = [kind for kind in kinds(said) if kind != "prediction"]
    steps = ["fault_began", "fault_applied", "fault_verified", "fault_undone", "fault_gone"]
    assert seen[0] == "steady_state_reached"
    assert seen[1:11] == steps + steps
    assert seen[-1] == "failover_ended"
    assert "steady_state_reached" in seen[11:]
    events = [one.event for one in said if isinstance(one, Happened)]
    written = fault_steps(events)
    assert {step.node for step in written[:5]} == {"node-1"}, "the leader"
    assert {step.node for step in written[5:]} == {"node-2"}
    applied, undone = written[1], written[3]
    assert 0.3e9 <= applied.began_ns <= applied.at_ns
    assert undone.at_ns - applied.at_ns >= 0.5e9
    assert written[6].at_ns > written[4].at_ns, "the second waits for the first"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_end_of_the_master_is_the_end_of_the_faults(
    rig: Rig, tmp_path: Path, number: signal.Signals
) -> None:
    """Whatever ends the master alone: the injector undoes everything by itself."""
    failover = rig.failover(
        fault("pause", "pause", "node node-1", at=0.1),
        fault("kill", "kill", "node node-2", at=0.1),
        fault("hole", "black-hole", "node node-3", at=0.1),
    )
    process = start(tmp_path, failover, 30)
    wait_until(lambda: len(rig.wrongs()) >= 3, "three faults in force")
    process.send_signal(number)
    process.wait()
    wait_until(lambda: not rig.wrongs(), "everything undone")
    with suppress(ProcessLookupError):
        wait_until(lambda: _is_gone(process.pid), "the injector's end")
    with Ledger(tmp_path / "ledger") as ledger:
        assert ledger.left == ()


def _is_gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_second_failover_is_refused(rig: Rig, tmp_path: Path) -> None:
    """One holds the lock; the other says who, and does nothing."""
    (tmp_path / "ledger").mkdir()
    with Ledger(tmp_path / "ledger"):
        process = start(tmp_path, rig.failover(fault("k", "kill", "node node-1")), 1.0)
        said = said_by(process)
    assert process.returncode == ExitCode.ABORTED
    (refused,) = said
    assert isinstance(refused, Refused)
    assert refused.is_guard
    assert str(os.getpid()) in refused.seen
    assert not rig.wrongs()


def test_a_fault_that_does_not_take_hold_ends_the_run(rig: Rig, tmp_path: Path) -> None:
    """The run is asked to end, and what was done is undone."""
    failover = rig.failover(
        fault(
            "nothing", "exec", "node node-1", command=("true",), verify_command=("false",),
            timeout_ns=200_000_000,
        ),
    )  # fmt: skip
    said = said_by(start(tmp_path, failover, 1.5))
    assert "fault_not_in_force" in kinds(said)
    assert any(isinstance(one, Halt) and "did not take hold" in one.reason for one in said)


def test_an_undo_that_fails_is_exit_5_and_kept_for_the_command(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger keeps it; the next start refuses; `failover undo` repeats, and then succeeds."""
    stuck = tmp_path / "stuck"
    failover = rig.failover(
        fault(
            "stuck", "exec", "node node-1", command=("touch", str(stuck)),
            undo_command=("sh", "-c", f"test ! -e {stuck} || exit 7"), timeout_ns=600_000_000,
        ),
    )  # fmt: skip
    folder = tmp_path / "state" / "headroom" / "failover"
    folder.parent.mkdir(parents=True)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    work = tmp_path / "state" / "headroom"
    process = start(work, failover, 0.8)
    said = said_by(process)
    assert process.returncode == ExitCode.HARNESS
    assert isinstance(said[-1], Ended)
    assert "stuck" in said[-1].wrong
    assert FaultEvent.UNDO_FAILED.value in kinds(said)
    (work / "ledger").rename(folder)
    out, err = io.StringIO(), io.StringIO()
    assert dispatch(["failover", "undo"], out, err) is ExitCode.HARNESS
    assert "repair it by hand: sh -c" in err.getvalue()
    stuck.unlink()
    assert dispatch(["failover", "undo"], out, err) is ExitCode.PASS
    assert dispatch(["failover", "show"], out, err) is ExitCode.PASS
    assert "nothing is left in force" in err.getvalue()


def every_action(rig: Rig, mark: Path, cut: FaultNode | None) -> tuple[Failover, Failover]:
    """Two failovers of a second that strike four nodes with everything there is."""
    first = rig.failover(
        fault("kill", "kill", "leader", at=0.05, undo_after=0.3),
        fault("pause", "pause", "node node-2", at=0.05, undo_after=0.25),
        fault("hole", "black-hole", "node node-3", at=0.1, undo_after=0.2),
        fault("drain", "drain", "node node-3", at=0.15, undo_after=0.1),
        fault("restart", "restart", "node node-4", at=0.1),
        fault("weight", "weight", "node node-4", at=0.2, undo_after=0.2, weight_percent=0),
        fault(
            "mark", "exec", "node node-1", at=0.2, undo_after=0.1, command=("touch", str(mark)),
            undo_command=("rm", "-f", str(mark)), verify_command=("test", "-e", str(mark)),
        ),
        fault("nothing", "noop", "all", at=0.1, undo_after=0.3),
    )  # fmt: skip
    second = rig.failover(
        fault("stop", "stop", "node node-1", at=0.05, undo_after=0.3),
        fault("out", "maintenance", "node node-2", at=0.05, undo_after=0.3),
        fault("slow", "latency", "node node-2", at=0.1, undo_after=0.2, latency_ns=50_000_000),
        fault("thin", "bandwidth", "node node-3", at=0.1, undo_after=0.3, bytes_per_s=1000),
        fault("reset", "reset", "node node-4", at=0.15, undo_after=0.2),
        fault("half", "half-open", "node node-1", at=0.15, undo_after=0.2),
        *(() if cut is None else (fault("cut", "cut", "node cable", at=0.1, undo_after=0.2),)),
        nodes=rig.nodes if cut is None else (*rig.nodes, cut),
    )
    return first, second


def kill_harness(process: subprocess.Popen[bytes], *, is_early: bool, moment: float) -> None:
    """Kill -9 of master and injector at once, `moment` (0-1) into the start or the faults."""
    assert process.stdout is not None
    if not is_early:
        assert process.stdout.readline(), "ready"
    time.sleep(moment * (STARTING_S if is_early else FAULTS_S))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    wait_until(lambda: _is_gone(process.pid), "a dead harness")


def kill_undo(state: Path, moment: float) -> None:
    """Kill -9 of `headroom failover undo` as well, somewhere on its way."""
    environment = {**os.environ, "XDG_STATE_HOME": str(state)}
    words = [sys.executable, "-c", UNDO]
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline(), "it begins"
        time.sleep(moment * UNDOING_S)
        process.kill()


def test_fifty_kills_of_the_harness_leave_nothing(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At random moments, amid every action: `failover undo` finds all and proves it gone.

    A fifth of the kills comes while the harness starts, the others from the first fault to the
    end; now and then the undoing is killed as well, and repeated.
    """
    drawn, mark = random.Random(5), tmp_path / "marked"
    found: Counter[str] = Counter()
    with spare_cable() as cable:
        failovers = every_action(rig, mark, None if cable is None else cable.node)
        for number in range(KILLS):
            state = tmp_path / f"run-{number}"
            work = state / "headroom"
            work.mkdir(parents=True)
            process = start(work, failovers[number % 2], FAULTS_S * 0.8)
            kill_harness(process, is_early=number % 5 == 4, moment=drawn.random())
            if (work / "ledger").exists():
                (work / "ledger").rename(work / "failover")
            with Ledger(work / "failover") as ledger:
                found.update({strike.action for strike in ledger.left})
            if number % 5 == 0:
                kill_undo(state, drawn.random())
            monkeypatch.setenv("XDG_STATE_HOME", str(state))
            out, err = io.StringIO(), io.StringIO()
            assert dispatch(["failover", "undo"], out, err) is ExitCode.PASS, err.getvalue()
            wrongs = [*rig.wrongs(), *(cable.wrongs() if cable else ())]
            assert wrongs == [], f"after kill {number}: {err.getvalue()}"
            assert not mark.exists()
            with Ledger(work / "failover") as ledger:
                assert ledger.left == ()
    missed = ACTIONS.keys() - found.keys() - ({"cut"} if cable is None else set())
    assert not missed, f"never in force at a kill: {missed}; {found}"
