"""A system under test that the harness starts: programs that can be killed and started again.

    python -m loadtests.failover.supervisor --spec FILE --parent PID

Starts every program of a `StandSpec`, writes their pid files, says `ready`, and listens on
a control socket for `start NAME`, which is the start command of its nodes (`starter.py`). A
program that ends is not started by itself: a fault must stay until it is undone.

With `networks` each of them is a host: a network namespace with one interface, on a bridge
in a namespace of its own, which this host reaches too where it has an address there.
Namespaces have no names; they live as long as the process that holds them, so nothing has to
be removed after a kill -9.

Law: nothing outlives this process (PR_SET_PDEATHSIG), and this process does not outlive its
parent, nor its standard input.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from loadtests.parentage import follow_parent, lives_with

_TICK_S: Final = 0.05
_GRACE_S: Final = 3.0
_LONGEST: Final = 4096


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """One host: its name and its address with the prefix, such as 10.77.0.1/24."""

    name: str
    address: str


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """One program; `network` is the host it runs on, "" this one."""

    name: str
    argv: tuple[str, ...]
    pid_file: str
    log: str
    network: str


class StandSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A system; `host_address` is this host's on the bridge, "" where it is not plugged in."""

    programs: tuple[Program, ...]
    networks: tuple[Network, ...]
    host_address: str
    control: str


def _run(*words: str) -> None:
    done = subprocess.run(words, check=False, capture_output=True, text=True)  # noqa: S603 - ours
    if done.returncode != 0:
        raise OSError(f"{' '.join(words)}: {done.stderr.strip()}")


class Supervisor:
    """The processes of a stand."""

    def __init__(self, spec: StandSpec) -> None:
        self._spec = spec
        self._holders: dict[str, subprocess.Popen[bytes]] = {}
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def open(self) -> Mapping[str, int]:
        """Start everything; pids of the processes that hold the networks."""
        if self._spec.networks:
            self._wire()
        for program in self._spec.programs:
            self.start(program.name)
        return {name: holder.pid for name, holder in self._holders.items()}

    def _hold(self, name: str) -> int:
        holder = subprocess.Popen(
            ["unshare", "--net", "sleep", "infinity"],  # noqa: S607 - util-linux, coreutils
            stdin=subprocess.DEVNULL,
            preexec_fn=follow_parent,  # noqa: PLW1509 - this process has one thread
        )
        self._holders[name] = holder
        own = Path("/proc/self/ns/net").readlink()
        for _ in range(200):
            with suppress(OSError):
                if Path(f"/proc/{holder.pid}/ns/net").readlink() != own:
                    return holder.pid
            if holder.poll() is not None:
                break
            time.sleep(0.01)
        raise OSError("unshare --net: no network namespace, which takes root's rights")

    def _wire(self) -> None:
        switch = self._hold("")
        in_switch = ("nsenter", f"--net=/proc/{switch}/ns/net", "ip")
        _run(*in_switch, "link", "add", "br0", "type", "bridge")
        _run(*in_switch, "link", "set", "br0", "up")
        if self._spec.host_address:
            here = str(os.getpid())
            self._plug(in_switch, "port0", here, f"hr-{here}", self._spec.host_address)
        for number, network in enumerate(self._spec.networks, start=1):
            pid = str(self._hold(network.name))
            self._plug(in_switch, f"port{number}", pid, "eth0", network.address)

    def _plug(
        self, in_switch: tuple[str, ...], port: str, pid: str, interface: str, address: str
    ) -> None:
        """A cable from the bridge to a host: both ends vanish with either namespace."""
        peer = ("peer", "name", interface, "netns", pid)
        _run(*in_switch, "link", "add", port, "type", "veth", *peer)
        _run(*in_switch, "link", "set", port, "master", "br0", "up")
        there = ("nsenter", f"--net=/proc/{pid}/ns/net", "ip")
        _run(*there, "addr", "add", address, "dev", interface)
        _run(*there, "link", "set", interface, "up")
        _run(*there, "link", "set", "lo", "up")

    def start(self, name: str) -> str:
        """Start a program unless it runs; "ok", or what is wrong."""
        program = next((one for one in self._spec.programs if one.name == name), None)
        if program is None:
            return f"no program {name!r}"
        before = self._running.get(name)
        if before is not None and before.poll() is None:
            return "ok"
        argv = list(program.argv)
        if program.network:
            holder = self._holders[program.network].pid
            argv = ["nsenter", f"--net=/proc/{holder}/ns/net", *argv]
        with Path(program.log).open("ab") as log:
            try:
                process = subprocess.Popen(  # noqa: S603 - the spec's programs
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    preexec_fn=follow_parent,  # noqa: PLW1509 - this process has one thread
                    start_new_session=True,
                )
            except OSError as error:
                return f"{argv[0]}: {error}"
        self._running[name] = process
        fresh = Path(f"{program.pid_file}.new")
        fresh.write_text(f"{process.pid}\n", encoding="ascii")
        fresh.replace(program.pid_file)
        return "ok"

    def reap(self) -> None:
        """Leave no zombies: a fault is seen by the process being gone."""
        for process in self._running.values():
            process.poll()

    def close(self) -> None:
        """End everything: asked, then killed."""
        for process in self._running.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.send_signal(signal.SIGCONT)
        deadline = time.monotonic() + _GRACE_S
        for process in self._running.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
        for process in (*self._running.values(), *self._holders.values()):
            process.kill()
            process.wait()


def _answer(connection: socket.socket, supervisor: Supervisor) -> None:
    connection.settimeout(1.0)
    with connection, suppress(OSError, UnicodeDecodeError):
        words = connection.recv(_LONGEST).decode().split()
        is_start = len(words) == 2 and words[0] == "start"  # noqa: PLR2004 - verb and name
        answer = supervisor.start(words[1]) if is_start else "start NAME is all I know"
        connection.sendall(answer.encode() + b"\n")


def serve(supervisor: Supervisor, control: socket.socket, stops: list[str]) -> None:
    """Answer until told to stop, or until standard input ends."""
    while not stops:
        ready, _, _ = select.select([control, sys.stdin], [], [], _TICK_S)
        supervisor.reap()
        if sys.stdin in ready and not os.read(0, _LONGEST):
            return
        if control in ready:
            _answer(control.accept()[0], supervisor)


def main() -> int:
    """Start, serve, end; a line of JSON says that it is ready, or why not."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.failover.supervisor")
    parser.add_argument("--spec", type=Path, required=True)
    parser.add_argument("--parent", type=int, required=True)
    options = parser.parse_args()
    stops: list[str] = []
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: stops.append("SIGTERM"))
    if not lives_with(options.parent, signal.SIGTERM):
        return 1
    spec = msgspec.json.decode(options.spec.read_bytes(), type=StandSpec)
    supervisor = Supervisor(spec)
    try:
        with socket.socket(socket.AF_UNIX) as control:
            control.bind(spec.control)
            control.listen(16)
            said: dict[str, object] = {"ready": dict(supervisor.open())}
            sys.stdout.write(msgspec.json.encode(said).decode() + "\n")
            sys.stdout.flush()
            serve(supervisor, control, stops)
    except OSError as error:
        sys.stdout.write(msgspec.json.encode({"error": str(error)}).decode() + "\n")
        sys.stdout.flush()
        return 1
    finally:
        supervisor.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
