"""A system of one's own to strike: real processes, HAProxy, fault proxies, a namespace.

Law: when the rig is closed, nothing that it started is alive.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Final

import psutil
import pytest
from system_rig import free_port, wait_until

from loadtests.clock import NS_PER_S
from loadtests.errors import HarnessError
from loadtests.failover.balancer import tell_haproxy
from loadtests.failover.proxy_control import tell_proxy
from loadtests.failover.stand import Stand
from loadtests.failover.supervisor import Network, StandSpec
from loadtests.plan.failover import (
    Failover,
    Fault,
    FaultNode,
    Haproxy,
    LeaderQuery,
    Quorum,
    Settings,
    SteadyState,
    System,
)
from loadtests.plan.faults import parse_selector

HAPROXY: Final = shutil.which("haproxy") or "/usr/sbin/haproxy"
TINY: Final = Path(__file__).with_name("tiny_node.py")
MARK: Final = "HEADROOM_FAILOVER_TEST"
PATIENCE_S: Final = 20.0


def answers(port: int) -> bool:
    """Whether something accepts connections there."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def settings(**changes: object) -> Settings:
    """Settings of an action, all at nothing but the time limit."""
    values: dict[str, object] = {
        "latency_ns": 0,
        "bytes_per_s": 0,
        "weight_percent": 0,
        "command": (),
        "undo_command": (),
        "verify_command": (),
        "timeout_ns": 15 * NS_PER_S,
    }
    return Settings(**{**values, **changes})  # type: ignore[arg-type]  # a builder


def fault(
    name: str,
    action: str,
    on: str,
    *,
    at: float = 0.0,
    undo_after: float | None = None,
    after: str | None = None,
    **changes: object,
) -> Fault:
    """One fault; times in seconds."""
    return Fault(
        name=name,
        action=action,
        on=parse_selector(on),
        at_ns=round(at * NS_PER_S),
        after=after,
        undo_after_ns=None if undo_after is None else round(undo_after * NS_PER_S),
        settings=settings(**changes),
    )


@cache
def why_no_namespaces() -> str:
    """What this machine says to hosts of our own on a bridge; "" when it lets us have them."""
    probe = Network(name="probe", address="10.79.0.1/24")
    with tempfile.TemporaryDirectory() as folder:
        spec = StandSpec(
            programs=(),
            networks=(probe,),
            host_address="10.79.0.254/24",
            control=str(Path(folder) / "control"),
        )
        try:
            with Stand(spec, Path(folder)):
                return ""
        except HarnessError as error:
            return f"no network namespaces here: {error.seen}"


def need_namespaces() -> None:
    """Skip the test, with the reason, where there can be none."""
    if why_no_namespaces():
        pytest.skip(why_no_namespaces())


class Cable:
    """A network of one cable, in a namespace of its own: what `cut` may cut."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        path = f"/proc/{self._holder.pid}/ns/net"
        self._inside = ["nsenter", f"--net={path}", "ip"]
        self.node = FaultNode(
            name="cable", zone="", url="", is_voter=False, pid_file="", start=(), servers=(),
            namespace=path, interface="eth0", proxy="", owner_pid=0,
        )  # fmt: skip

    def open(self) -> None:
        """Plug both ends in."""
        own = Path("/proc/self/ns/net").readlink()
        namespace = Path(self.node.namespace)
        wait_until(lambda: namespace.readlink() != own, "a network namespace")
        self.ip("link", "add", "eth0", "type", "veth", "peer", "name", "peer0")
        for name in ("eth0", "peer0"):
            self.ip("link", "set", name, "up")

    def ip(self, *words: str) -> str:
        """What the tool says, inside."""
        command = [*self._inside, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def wrongs(self) -> list[str]:
        """What is not as `open` left it."""
        shown = self.ip("-oneline", "link", "show", "dev", "eth0")
        return [] if ",UP" in shown else [f"the cable is cut: {shown}"]

    def close(self) -> None:
        """The namespace goes with its last process, and the cable with it."""
        self._holder.kill()
        self._holder.wait()


@contextmanager
def spare_cable() -> Iterator[Cable | None]:
    """A cable; None where this machine lets us make no namespace."""
    if why_no_namespaces():
        yield None
        return
    cable = Cable()
    try:
        cable.open()
        yield cable
    finally:
        cable.close()


class Rig:
    """Nodes node-1 .. node-N in zones a, b, c ..., each behind a fault proxy and HAProxy."""

    def __init__(self, folder: Path, nodes: int = 3) -> None:
        self.folder = folder
        self.mark = f"{folder}"
        self.started: list[subprocess.Popen[bytes]] = []
        self.ports = [free_port() for _ in range(nodes)]
        self.proxies = [free_port() for _ in range(nodes)]
        self.front = free_port()
        self.admin = str(folder / "admin.sock")
        self.leader_file = folder / "leader"
        self.leader_file.write_text("node-1")
        self.nodes = tuple(self._node(number) for number in range(1, nodes + 1))

    def _environment(self) -> dict[str, str]:
        return {**os.environ, MARK: self.mark}

    def _node(self, number: int) -> FaultNode:
        pid_file = self.folder / f"node-{number}.pid"
        port = self.ports[number - 1]
        # setsid -f returns at once; what it leaves is found again by its mark.
        start = ("setsid", "-f", "env", f"{MARK}={self.mark}", sys.executable, str(TINY))
        return FaultNode(
            name=f"node-{number}",
            zone="abcdefgh"[number - 1],
            url=f"http://127.0.0.1:{port}",
            is_voter=True,
            pid_file=str(pid_file),
            start=(*start, str(port), str(pid_file), str(self.leader_file)),
            servers=(f"back/node-{number}",),
            namespace="",
            interface="",
            proxy=str(self.folder / f"proxy-{number}.sock"),
            owner_pid=0,
        )

    def start(self) -> None:
        """Start everything and wait until it answers."""
        for node in self.nodes:
            subprocess.run(
                node.start,
                check=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                stdin=subprocess.DEVNULL,
            )
        for port, proxy, node in zip(self.ports, self.proxies, self.nodes, strict=True):
            module = ["-m", "loadtests.failover.proxy", "--control", node.proxy]
            where = ["--listen", f"127.0.0.1:{proxy}", "--to", f"127.0.0.1:{port}"]
            self.spawn([sys.executable, *module, *where])
        configuration = self.folder / "haproxy.cfg"
        servers = "\n".join(
            f"  server {node.name} 127.0.0.1:{proxy} check inter 200ms fall 2 rise 2"
            for node, proxy in zip(self.nodes, self.proxies, strict=True)
        )
        configuration.write_text(
            f"global\n  stats socket {self.admin} mode 600 level admin\n"
            "defaults\n  mode http\n  timeout connect 1s\n  timeout client 5s\n"
            f"  timeout server 5s\nfrontend front\n  bind 127.0.0.1:{self.front}\n"
            f"  default_backend back\nbackend back\n{servers}\n"
        )
        self.spawn([HAPROXY, "-db", "-q", "-f", str(configuration)])
        for port in (*self.ports, *self.proxies, self.front):
            wait_until(lambda port=port: answers(port), f"port {port}")  # type: ignore[misc]
        for node in self.nodes:
            wait_until(lambda node=node: Path(node.pid_file).exists(), node.name)  # type: ignore[misc]

    def spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        """A process of the rig."""
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self._environment(),
        )
        self.started.append(process)
        return process

    def failover(self, *faults: Fault, **changes: object) -> Failover:
        """A failover of this system; steady at once."""
        values: dict[str, object] = {
            "system": System.OWN,
            "quorum": Quorum.NONE,
            "election_ns": 0,
            "health_path": "/health",
            "steady": SteadyState(hold_ns=NS_PER_S, within_ns=5 * NS_PER_S),
            "leader": LeaderQuery(
                method="GET", path="/leader", body="", pointer="/leader", own=None
            ),
            "haproxy": Haproxy(
                admin=self.admin,
                inter_ns=NS_PER_S // 5,
                fastinter_ns=NS_PER_S // 5,
                check_timeout_ns=NS_PER_S // 5,
                fall=2,
                rise=2,
            ),
            "nodes": self.nodes,
            "faults": faults,
        }
        return Failover(**{**values, **changes})  # type: ignore[arg-type]  # a builder

    def pid(self, number: int) -> int:
        """Process of a node."""
        return int(Path(self.nodes[number - 1].pid_file).read_text())

    def wrongs(self) -> list[str]:
        """Everything that is not as `start` left it; empty: nothing of any fault is there."""
        found = []
        states = tell_haproxy(self.admin, "show servers state back").splitlines()
        for number, node in enumerate(self.nodes, start=1):
            with suppress(OSError, psutil.Error, ValueError):
                process = psutil.Process(self.pid(number))
                if process.status() in {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE}:
                    found.append(f"{node.name} is {process.status()}")
                elif not answers(self.ports[number - 1]):
                    found.append(f"{node.name} does not answer")
            if not psutil.pid_exists(self.pid(number)):
                found.append(f"{node.name} does not run")
            if (mode := tell_proxy(node.proxy, None).mode.value) != "pass":
                found.append(f"proxy of {node.name}: {mode}")
            fields = next(line.split() for line in states if f" {node.name} " in line)
            if int(fields[6]) != 0 or fields[7] != "1":
                found.append(f"{node.name} in HAProxy: state {fields[6]}, weight {fields[7]}")
        return found

    def processes(self) -> list[psutil.Process]:
        """All that carry the rig's mark."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(MARK) == self.mark:
                    found.append(process)
        return found

    def close(self) -> None:
        """End everything."""
        for process in self.processes():
            with suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
        for started in self.started:
            started.kill()
            started.wait()
        wait_until(lambda: not self.processes(), "an end of the rig")


@contextmanager
def running(folder: Path, nodes: int = 3) -> Iterator[Rig]:
    """A rig, started and closed."""
    rig = Rig(folder, nodes)
    try:
        rig.start()
        yield rig
    finally:
        rig.close()
