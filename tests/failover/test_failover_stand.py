"""The supervisor of a system that the harness starts: it starts again, and leaves nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from failover_rig import need_namespaces
from system_rig import wait_until

from loadtests.errors import HarnessError
from loadtests.failover.processes import identity_of, read_pid_file
from loadtests.failover.stand import Stand
from loadtests.failover.supervisor import Network, Program, StandSpec

pytestmark = pytest.mark.failover


def program(folder: Path, name: str, *argv: str, network: str = "") -> Program:
    """A program that lives for ever, unless told otherwise."""
    return Program(
        name=name,
        argv=argv or ("sleep", "infinity"),
        pid_file=str(folder / f"{name}.pid"),
        log=str(folder / f"{name}.log"),
        network=network,
    )


def spec(folder: Path, *programs: Program, networks: tuple[Network, ...] = ()) -> StandSpec:
    """A stand of these programs."""
    return StandSpec(
        programs=programs,
        networks=networks,
        host_address="10.78.0.254/24" if networks else "",
        control=str(folder / "control"),
    )


def ask_start(folder: Path, name: str) -> subprocess.CompletedProcess[str]:
    """The start command of a node."""
    words = [sys.executable, "-m", "loadtests.failover.starter", str(folder / "control"), name]
    return subprocess.run(words, check=False, capture_output=True, text=True)


def test_a_killed_program_stays_dead_until_it_is_started(tmp_path: Path) -> None:
    """It is reaped, and started once, however often it is asked for."""
    with Stand(spec(tmp_path, program(tmp_path, "a")), tmp_path):
        first = read_pid_file(str(tmp_path / "a.pid"))
        assert first is not None
        assert ask_start(tmp_path, "a").returncode == 0
        assert read_pid_file(str(tmp_path / "a.pid")) == first, "it runs: nothing to do"
        os.kill(first.pid, signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{first.pid}").exists(), "no zombie")
        assert read_pid_file(str(tmp_path / "a.pid")) is None
        assert ask_start(tmp_path, "a").returncode == 0
        assert read_pid_file(str(tmp_path / "a.pid")) not in {None, first}
        assert ask_start(tmp_path, "b").returncode == 1
    gone = ask_start(tmp_path, "a")
    assert gone.returncode == 1
    assert gone.stderr.strip()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_the_supervisor(tmp_path: Path, number: signal.Signals) -> None:
    """Not even a program that is stopped or ignores SIGTERM."""
    deaf = program(tmp_path, "deaf", "sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
    stand = Stand(spec(tmp_path, program(tmp_path, "a"), deaf), tmp_path)
    try:
        pids = [read_pid_file(str(tmp_path / f"{name}.pid")) for name in ("a", "deaf")]
        assert None not in pids
        os.kill(pids[0].pid, signal.SIGSTOP)  # type: ignore[union-attr]  # looked at above
        os.kill(stand.pid, number)
        for one in pids:
            assert one is not None
            wait_until(lambda one=one: identity_of(one.pid) != one, "its end")  # type: ignore[misc]
    finally:
        stand.stop()


def test_a_program_that_cannot_start_is_told(tmp_path: Path) -> None:
    """At its start command, with the reason; the stand itself stands."""
    with Stand(spec(tmp_path, program(tmp_path, "a", "/no/such/program")), tmp_path):
        assert "/no/such/program" in ask_start(tmp_path, "a").stderr


def test_a_control_path_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    """Without it nothing could ever be started again."""
    with pytest.raises(HarnessError, match="test stand"):
        Stand(spec(tmp_path / "missing", program(tmp_path, "a")), tmp_path)


def test_hosts_reach_each_other_and_vanish(tmp_path: Path) -> None:
    """Each with its own address on one bridge; after kill -9 no interface is left."""
    need_namespaces()
    networks = (
        Network(name="h1", address="10.78.0.1/24"),
        Network(name="h2", address="10.78.0.2/24"),
    )
    programs = (program(tmp_path, "p1", network="h1"), program(tmp_path, "p2", network="h2"))
    stand = Stand(spec(tmp_path, *programs, networks=networks), tmp_path)
    try:
        listening = "import socket; s = socket.create_server(('10.78.0.2', 7)); s.accept()"
        inside = ["nsenter", f"--net=/proc/{stand.networks['h2']}/ns/net", sys.executable]
        with subprocess.Popen([*inside, "-c", listening]) as server:
            asking = "import socket; socket.create_connection(('10.78.0.2', 7), timeout=1)"
            other = ["nsenter", f"--net=/proc/{stand.networks['h1']}/ns/net", sys.executable]
            try:
                wait_until(
                    lambda: subprocess.run(
                        [*other, "-c", asking], check=False, capture_output=True
                    ).returncode == 0,
                    "h1 reaches h2",
                )  # fmt: skip
            finally:
                server.kill()
        cable = Path(f"/sys/class/net/hr-{stand.pid}")
        assert cable.exists()
        os.kill(stand.pid, signal.SIGKILL)
        wait_until(lambda: not cable.exists(), "no interface left")
    finally:
        stand.stop()
