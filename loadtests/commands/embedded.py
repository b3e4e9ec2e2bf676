"""`[failover] system = "embedded"`: the cluster that a run starts for itself and stops again.

Nodes of the embedded cluster in the scenario's zones, behind a real HAProxy that listens
where the scenario's target is. Without HAProxy installed the run balances over the nodes by
itself, and says so; what needs HAProxy is refused then. A fault proxy stands before a node
only where some fault needs one, because it costs time.
"""

from __future__ import annotations

import http.client
import secrets
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from loadtests.cluster.behaviour import parse_behaviour
from loadtests.cluster.launch import DISCLAIMER
from loadtests.commands.terminal import Terminal
from loadtests.errors import HarnessError, Mistake, ScenarioError, TargetError
from loadtests.failover.asking import get_status
from loadtests.failover.balancer import tell_haproxy
from loadtests.failover.haproxy_file import GRPC, REST, Server, find_haproxy, write_configuration
from loadtests.failover.processes import read_pid_file
from loadtests.failover.stand import Stand
from loadtests.failover.supervisor import Program, StandSpec
from loadtests.plan.failover import ACTIONS, Failover, FaultNode, Haproxy, System
from loadtests.plan.model import Plan
from loadtests.plan.spec import HaproxySpec
from loadtests.plan.targets import parse_node
from loadtests.record.fault_events import ROLLOUT

READY_TIMEOUT_S: Final = 30.0
_HOST: Final = "127.0.0.1"
_HEALTH: Final = "/q/health/ready"
_POLL_S: Final = 0.05
_CONNECTIONS_A_NODE: Final = 4  # as of a plan that says nothing
_LOWEST_PORT: Final = 10_000
_PORTS_OF_CONNECTIONS: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_SERVER_UP: Final = "2"  # srv_op_state of `show servers state`: running


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ports:
    """Of one node: its own, and those of the fault proxy before it (the same without one)."""

    rest: int
    grpc: int
    rest_way: int
    grpc_way: int


def free_ports(count: int) -> list[int]:
    """Ports that nobody has at the moment; all different.

    None that the kernel gives to connections: one that it gave away in the seconds before a
    program listens there kept HAProxy from starting.
    """
    first_of_connections = int(_PORTS_OF_CONNECTIONS.read_text().split()[0])
    numbers = list(range(_LOWEST_PORT, first_of_connections)) or [0] * count
    secrets.SystemRandom().shuffle(numbers)
    with ExitStack() as stack:
        found: list[int] = []
        for number in numbers:
            if len(found) == count:
                break
            with suppress(OSError):
                listener = stack.enter_context(socket.create_server((_HOST, number)))
                found.append(int(listener.getsockname()[1]))
        return found


def _wants_proxies(failover: Failover) -> bool:
    return any("proxy" in ACTIONS[f.action].node for f in failover.faults if f.action in ACTIONS)


def _wants_haproxy(failover: Failover) -> list[str]:
    found = [f.name for f in failover.faults if f.action in ACTIONS and ACTIONS[f.action].haproxy]
    return found if failover.rollout is None else [*found, ROLLOUT]


class _System:
    """The programs of one embedded system, composed before any of them runs."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        assert plan.failover is not None, "a plan with faults"
        self.plan, self.failover, self.folder = plan, plan.failover, folder
        self.haproxy_path = find_haproxy()
        self.control = str(folder / "control.sock")
        self.has_proxies = _wants_proxies(self.failover)
        numbers = iter(free_ports(4 * len(self.failover.nodes)))
        self.ports = {}
        for node in self.failover.nodes:
            rest, grpc, rest_way, grpc_way = (next(numbers) for _ in range(4))
            if not self.has_proxies:
                rest_way, grpc_way = rest, grpc
            self.ports[node.name] = _Ports(
                rest=rest, grpc=grpc, rest_way=rest_way, grpc_way=grpc_way
            )
        if self.haproxy_path is None and (names := _wants_haproxy(self.failover)):
            raise TargetError(
                where=f"faults {', '.join(names)}",
                seen="no HAProxy on this host",
                expected="HAProxy, which they act on (Debian: apt install haproxy)",
            )

    @property
    def haproxy(self) -> Haproxy:
        """With the runtime socket of ours."""
        checks = self.failover.haproxy or _default_checks()
        return replace(checks, admin=str(self.folder / "haproxy.sock"))

    def programs(self) -> tuple[Program, ...]:
        """Nodes first, then what stands before them."""
        found = [self._node(node) for node in self.failover.nodes]
        if self.has_proxies:
            found += [self._proxy(node) for node in self.failover.nodes]
        if self.haproxy_path is not None:
            found.append(self._balancer(self.haproxy_path))
        return tuple(found)

    def _program(self, name: str, *argv: str) -> Program:
        pid_file, log = str(self.folder / f"{name}.pid"), str(self.folder / f"{name}.log")
        return Program(name=name, argv=argv, pid_file=pid_file, log=log, network="")

    def _node(self, node: FaultNode) -> Program:
        ports = self.ports[node.name]
        module = (sys.executable, "-m", "loadtests.cluster.node", "--name", node.name)
        where = ("--port", str(ports.rest), "--grpc-port", str(ports.grpc))
        store = ("--store", str(self.folder / "ledger.db"))
        version = ("--version", node.version) if node.version else ()
        behaviour = ("--behaviour", node.behaviour) if node.behaviour else ()
        return self._program(node.name, *module, *where, *store, *version, *behaviour)

    def _proxy(self, node: FaultNode) -> Program:
        ports = self.ports[node.name]
        words = [sys.executable, "-m", "loadtests.failover.proxy"]
        words += ["--control", self._proxy_control(node)]
        for listen, to in ((ports.rest_way, ports.rest), (ports.grpc_way, ports.grpc)):
            words += ["--listen", f"{_HOST}:{listen}", "--to", f"{_HOST}:{to}"]
        return self._program(f"proxy-of-{node.name}", *words)

    def _proxy_control(self, node: FaultNode) -> str:
        return str(self.folder / f"{node.name}.proxy")

    def _balancer(self, path: str) -> Program:
        (front,) = self.plan.nodes
        grpc = None if front.grpc is None else f"{front.grpc.host}:{front.grpc.port}"
        configuration = self.folder / "haproxy.cfg"
        write_configuration(
            configuration,
            servers=[self._server(node) for node in self.failover.nodes],
            haproxy=self.haproxy,
            health=self.failover.health_path or _HEALTH,
            rest_bind=f"{front.host}:{front.port}",
            grpc_bind=grpc,
        )
        return self._program("haproxy", path, "-db", "-f", str(configuration))

    def _server(self, node: FaultNode) -> Server:
        ports = self.ports[node.name]
        rest = f"{_HOST}:{ports.rest_way}"
        grpc = f"{_HOST}:{ports.grpc_way}"
        # A version that a rollout moves traffic to has none before.
        weight = 0 if node in self.failover.nodes_of(is_new=True) else 1
        return Server(name=node.name, rest=rest, grpc=grpc, check=rest, weight=weight)

    def balanced_by_client(self) -> Plan:
        """The plan to the nodes themselves, with enough connections for each of them."""
        nodes = tuple(
            parse_node(
                f"http://{_HOST}:{one.rest_way}",
                name=name,
                weight=1.0,
                grpc=f"http://{_HOST}:{one.grpc_way}",
            )
            for name, one in self.ports.items()
        )
        least = _CONNECTIONS_A_NODE * len(nodes)
        multiplexing = self.plan.multiplexing
        return replace(
            self.plan,
            nodes=nodes,
            connections=self.plan.connections and max(self.plan.connections, least),
            multiplexing=replace(
                multiplexing,
                connections=multiplexing.connections and max(multiplexing.connections, least),
            ),
        )

    def filled(self, owner_pid: int) -> Failover:
        """The failover with what is known of its nodes now."""
        fronts = [REST] if self.plan.nodes[0].grpc is None else [REST, GRPC]
        nodes = tuple(
            replace(
                node,
                url=f"http://{_HOST}:{self.ports[node.name].rest}",
                pid_file=str(self.folder / f"{node.name}.pid"),
                start=(
                    sys.executable, "-m", "loadtests.failover.starter", self.control, node.name,
                ),
                servers=tuple(f"{backend}/{node.name}" for backend in fronts),
                proxy=self._proxy_control(node) if self.has_proxies else "",
                owner_pid=owner_pid,
            )
            for node in self.failover.nodes
        )  # fmt: skip
        haproxy = None if self.haproxy_path is None else self.haproxy
        return replace(self.failover, nodes=nodes, haproxy=haproxy)

    def wait_ready(self) -> None:
        """Every node is ready, and HAProxy sends to all of them; HarnessError otherwise."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        waiting = "nothing"
        while time.monotonic() < deadline:
            waiting = self._not_ready()
            if not waiting:
                return
            time.sleep(_POLL_S)
        raise HarnessError(
            where="embedded system", seen=waiting, expected=f"ready within {READY_TIMEOUT_S:g} s"
        )

    def _refuse_dead(self) -> None:
        for program in self.programs():
            if read_pid_file(program.pid_file) is None:
                raise HarnessError(
                    where="embedded system",
                    seen=f"{program.name} ended{self._last_words(program.name)}",
                    expected="programs that run",
                )

    def _not_ready(self) -> str:
        self._refuse_dead()
        for name, ports in self.ports.items():
            try:
                status = get_status(f"http://{_HOST}:{ports.rest_way}", _HEALTH, 1.0)
            except (OSError, http.client.HTTPException) as error:
                return f"{name}: {error}{self._last_words(name)}"
            if status != http.client.OK:
                return f"{name} answers {status}"
        return "" if self.haproxy_path is None else self._haproxy_not_ready()

    def _haproxy_not_ready(self) -> str:
        try:
            lines = tell_haproxy(self.haproxy.admin, "show servers state").splitlines()
        except OSError as error:
            return f"HAProxy: {error}{self._last_words('haproxy')}"
        states = [line.split() for line in lines if len(line.split()) > 8]  # noqa: PLR2004 - rows
        down = [row[3] for row in states if row[3] in self.ports and row[5] != _SERVER_UP]
        return f"HAProxy does not use {', '.join(down)} yet" if down else ""

    def _last_words(self, name: str) -> str:
        with suppress(OSError):
            text = (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")
            return f": {text.strip()[-300:]}" if text.strip() else ""
        return ""


def _default_checks() -> Haproxy:
    """HAProxy's own defaults."""
    own = HaproxySpec()
    return Haproxy(
        admin="",
        inter_ns=own.inter,
        fastinter_ns=own.inter,
        check_timeout_ns=own.inter,
        fall=own.fall,
        rise=own.rise,
    )


def behaviour_mistakes(plan: Plan) -> tuple[Mistake, ...]:
    """Every mistake in how embedded nodes are to misbehave."""
    mistakes: list[Mistake] = []
    for index, node in enumerate(plan.failover.nodes if plan.failover is not None else ()):
        try:
            parse_behaviour(node.behaviour)
        except ScenarioError as error:
            where = f"failover.nodes[{index}].behaviour"
            mistakes += [replace(one, where=f"{where}: {one.where}") for one in error.mistakes]
    return tuple(mistakes)


@contextmanager
def system_under_test(plan: Plan, terminal: Terminal) -> Iterator[Plan]:
    """Start what the plan asks for, and yield the plan that knows of it; nothing for others."""
    if plan.failover is None or plan.failover.system is not System.EMBEDDED:
        yield plan
        return
    with tempfile.TemporaryDirectory(prefix="headroom-stand-") as name:
        system = _System(plan, Path(name))
        terminal.say(DISCLAIMER)
        if system.haproxy_path is None:
            terminal.say(
                "HAProxy is not installed: the run balances over the nodes by itself, so nothing "
                "takes a node out, and requests to one that is down fail until it is back"
            )
            plan = system.balanced_by_client()
        spec = StandSpec(
            programs=system.programs(), networks=(), host_address="", control=system.control
        )
        with Stand(spec, Path(name)) as stand:
            system.wait_ready()
            for node in plan.failover.nodes if plan.failover is not None else ():
                ports = system.ports[node.name]
                terminal.say(f"started {node.name} in {node.zone or 'no zone'} on {ports.rest}")
            yield replace(plan, failover=system.filled(stand.pid))
