"""A real replicated system: four members of etcd behind HAProxy, as hosts where that is allowed.

Members are hosts of their own (network namespaces on a bridge) in four zones where this
machine lets us make them, else processes on loopback ports. Law: when the rig is closed
nothing of it is left, whatever happened: the stand's supervisor takes everything along.
"""

from __future__ import annotations

import base64
import http.client
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest
from failover_rig import why_no_namespaces
from system_rig import free_port, wait_until

from loadtests.clock import NS_PER_S
from loadtests.failover.asking import ask, find_leader, get_status
from loadtests.failover.balancer import server_states, tell_haproxy
from loadtests.failover.haproxy_file import Server, find_haproxy, write_configuration
from loadtests.failover.processes import read_pid_file
from loadtests.failover.stand import Stand
from loadtests.failover.supervisor import Network, Program, StandSpec
from loadtests.plan.failover import FaultNode, Haproxy, LeaderQuery

ETCD: Final = shutil.which("etcd")
MEMBERS: Final = 4
_RUNNING: Final = 2  # HAProxy's srv_op_state
LEADER: Final = LeaderQuery(
    method="POST",
    path="/v3/maintenance/status",
    body="{}",
    pointer="/leader",
    own="/header/member_id",
)
PROTO: Final = Path(__file__).with_name("etcd.proto")

SCENARIO: Final = """
version = 1
name = "{name}"
[target]
nodes = [{{ url = "http://127.0.0.1:{rest}", grpc = "http://127.0.0.1:{grpc}" }}]
[load]
rate = "60 rps"
connections = 64
channels = 4
streams = 50
grace = "3 s"
[grpc]
protos = ["{proto}"]
[[requests]]
name = "rest-put"
method = "POST"
path = "/v3/kv/put"
headers = {{ Content-Type = "application/json" }}
body = '{{"key":"{key}","value":"{value}"}}'
timeout = "2 s"
[[requests]]
name = "grpc-put"
method = "etcdserverpb.KV/Put"
message = {{ key = "Zm9v", value = "YmFy" }}
timeout = "2 s"
[[requests]]
name = "grpc-range"
method = "etcdserverpb.KV/Range"
message = {{ key = "Zm9v" }}
timeout = "2 s"
[[stages]]
name = "before"
duration = "6 s"
[[stages]]
name = "failover"
duration = "{seconds} s"
judged = false
[criteria]
objectives = ["error_ratio < 2 %"]
[failover]
quorum = "majority"
election = "3 s"
health = "/health"
[failover.steady_state]
for = "3 s"
within = "45 s"
[failover.leader]
method = "POST"
path = "/v3/maintenance/status"
body = "{{}}"
pointer = "/leader"
own = "/header/member_id"
[failover.haproxy]
admin = "{admin}"
inter = "500 ms"
fastinter = "250 ms"
check_timeout = "500 ms"
fall = 2
rise = 2
{nodes}
{faults}
"""


class EtcdRig:
    """Four members, named m1 .. m4, in zones a .. d."""

    def __init__(self, folder: Path, data: Path, *, as_hosts: bool) -> None:
        self.folder, self.data, self.as_hosts = folder, data, as_hosts
        self.rest, self.grpc = free_port(), free_port()
        self.admin = str(folder / "haproxy.sock")
        self.control = str(folder / "control.sock")
        names = [f"m{number}" for number in range(1, MEMBERS + 1)]
        if as_hosts:
            self.clients = {name: f"10.77.0.{n}:2379" for n, name in enumerate(names, 1)}
            self.peers = {name: f"10.77.0.{n}:2380" for n, name in enumerate(names, 1)}
        else:
            self.clients = {name: f"127.0.0.1:{free_port()}" for name in names}
            self.peers = {name: f"127.0.0.1:{free_port()}" for name in names}
        self.haproxy = Haproxy(
            admin=self.admin,
            inter_ns=NS_PER_S // 2,
            fastinter_ns=NS_PER_S // 4,
            check_timeout_ns=NS_PER_S // 2,
            fall=2,
            rise=2,
        )
        self.stand: Stand

    def _program(self, name: str, argv: Sequence[str], network: str) -> Program:
        pid_file, log = str(self.folder / f"{name}.pid"), str(self.folder / f"{name}.log")
        return Program(name=name, argv=tuple(argv), pid_file=pid_file, log=log, network=network)

    def _member(self, name: str) -> Program:
        client, peer = f"http://{self.clients[name]}", f"http://{self.peers[name]}"
        cluster = ",".join(f"{one}=http://{at}" for one, at in self.peers.items())
        assert ETCD is not None
        argv = [
            ETCD, "--name", name, "--data-dir", str(self.data / name),
            "--listen-client-urls", client, "--advertise-client-urls", client,
            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--initial-cluster", cluster, "--initial-cluster-state", "new",
            "--heartbeat-interval", "100", "--election-timeout", "1000", "--logger", "zap",
        ]  # fmt: skip
        return self._program(name, argv, name if self.as_hosts else "")

    def start(self) -> None:
        """Start everything and wait until all members agree on a leader and HAProxy on them."""
        servers = [Server(name=n, rest=at, grpc=at, check=at) for n, at in self.clients.items()]
        configuration = self.folder / "haproxy.cfg"
        write_configuration(
            configuration,
            servers=servers,
            haproxy=self.haproxy,
            health="/health",
            rest_bind=f"127.0.0.1:{self.rest}",
            grpc_bind=f"127.0.0.1:{self.grpc}",
        )
        path = find_haproxy()
        assert path is not None
        balancer = self._program("haproxy", [path, "-db", "-f", str(configuration)], "")
        networks = [
            Network(name=name, address=f"10.77.0.{number}/24")
            for number, name in enumerate(self.clients, 1)
        ]
        spec = StandSpec(
            programs=(*(self._member(name) for name in self.clients), balancer),
            networks=tuple(networks) if self.as_hosts else (),
            host_address="10.77.0.254/24" if self.as_hosts else "",
            control=self.control,
        )
        self.stand = Stand(spec, self.folder)
        self.wait_whole()

    def nodes(self) -> tuple[FaultNode, ...]:
        """What a failover must know of them."""
        return tuple(
            FaultNode(
                name=name,
                zone=zone,
                url=f"http://{self.clients[name]}",
                is_voter=True,
                pid_file=str(self.folder / f"{name}.pid"),
                start=(sys.executable, "-m", "loadtests.failover.starter", self.control, name),
                servers=(f"rest/{name}", f"grpc/{name}"),
                namespace=f"/proc/{self.stand.networks[name]}/ns/net" if self.as_hosts else "",
                interface="eth0" if self.as_hosts else "",
                proxy="",
                owner_pid=0,
            )
            for name, zone in zip(self.clients, "abcd", strict=True)
        )

    def leader(self) -> str:
        """Who leads, as the members say."""
        return find_leader(self.nodes(), LEADER).name

    def wrongs(self) -> list[str]:
        """Members that do not run or are not healthy, servers that HAProxy does not use."""
        found = []
        for name, at in self.clients.items():
            if read_pid_file(str(self.folder / f"{name}.pid")) is None:
                found.append(f"{name} does not run")
                continue
            with suppress(OSError, http.client.HTTPException):
                if get_status(f"http://{at}", "/health", 1.0) == http.client.OK:
                    continue
            found.append(f"{name} is not healthy")
        try:
            states = server_states(tell_haproxy(self.admin, "show servers state"))
        except OSError as error:
            return [*found, str(error)]
        for server, state in states.items():
            if server.partition("/")[2] in self.clients and state.operational != _RUNNING:
                found.append(f"HAProxy: {server}")
            if state.admin:
                found.append(f"{server} state {state.admin}")
        return found

    def wait_whole(self) -> None:
        """Until nothing is wrong."""
        wait_until(lambda: not self.wrongs(), "a whole cluster", seconds=60)

    def revision(self) -> int:
        """The cluster's revision: it counts writes."""
        at = f"http://{self.clients[self.leader()]}"
        key = base64.b64encode(b"foo").decode()
        _, body = ask(at, "/v3/kv/range", 2.0, method="POST", body=json.dumps({"key": key}))
        return int(json.loads(body)["header"]["revision"])

    def scenario(self, name: str, faults: str, seconds: int) -> str:
        """A whole scenario with these faults."""
        nodes = "\n".join(
            f'[[failover.nodes]]\nname = "{node.name}"\nzone = "{node.zone}"\nurl = "{node.url}"\n'
            f'pid_file = "{node.pid_file}"\nstart = {json.dumps(node.start)}\n'
            f"servers = {json.dumps(node.servers)}\n"
            + (
                f'namespace = "{node.namespace}"\ninterface = "{node.interface}"\n'
                if node.namespace
                else ""
            )
            for node in self.nodes()
        )
        encoded = {text: base64.b64encode(text.encode()).decode() for text in ("foo", "bar")}
        return SCENARIO.format(
            name=name, rest=self.rest, grpc=self.grpc, proto=PROTO, admin=self.admin, nodes=nodes,
            faults=faults, seconds=seconds, key=encoded["foo"], value=encoded["bar"],
        )  # fmt: skip


@contextmanager
def members_authorised(folder: Path) -> Iterator[None]:
    """What the rig itself asks of its members goes the product's way, which needs an entry."""
    configuration = folder / "rig.toml"
    configuration.write_text(
        '[authorised_targets."10.77.0.0/24"]\nowner = "the test"\nmax_rate = "5000 rps"\n'
        "expires = 2099-12-31\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADROOM_CONFIG", str(configuration))
        yield


@contextmanager
def etcd_running(folder: Path) -> Iterator[EtcdRig]:
    """A rig, started and closed; its data in memory where there is some."""
    memory = Path("/dev/shm")
    with (
        members_authorised(folder),
        tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as data,
    ):
        rig = EtcdRig(folder, Path(data), as_hosts=not why_no_namespaces())
        try:
            rig.start()
            yield rig
        finally:
            if hasattr(rig, "stand"):
                rig.stand.stop()
