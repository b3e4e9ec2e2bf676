"""Starting and stopping a cluster: one process per node, one shared ledger.

    with Cluster.start(nodes=4) as cluster:
        cluster.wait_ready(10)
        urls = [node.url for node in cluster.nodes]
        grpc_urls = [node.grpc_url for node in cluster.nodes]

Laws: no node outlives the process that started it (the nodes watch a pipe from here, and
from the main thread PR_SET_PDEATHSIG is set too); a temporary ledger is removed by `stop`; a
start that fails stops whatever it had started.
"""

from __future__ import annotations

import http.client
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

from loadtests.cluster.behaviour import PLAIN, Behaviour
from loadtests.cluster.ledger import Durability
from loadtests.cluster.options import ServerTls
from loadtests.errors import HarnessError, Mistake, ScenarioError

START_TIMEOUT_S: Final = 20.0
STOP_TIMEOUT_S: Final = 12.0  # above a node's own grace for requests and for its last commit
MAX_NODES: Final = 32
DISCLAIMER: Final = (
    "This is a stand-in, not Aurigraph: it exists to try the harness on one machine.\n"
    "Figures measured against it say nothing about Aurigraph."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A started node.

    `url` is the base of its REST, such as http://127.0.0.1:9003; `grpc_url` is where it listens
    for gRPC (http: without TLS, prior knowledge of HTTP/2), None if it does not.
    """

    name: str
    url: str
    grpc_url: str | None
    pid: int


@dataclass(slots=True)
class _Started:
    """A process on its way to be a node."""

    name: str
    process: subprocess.Popen[bytes]
    complaints: Path


class Cluster:
    """Running nodes and their ledger; made by `start`, a context manager."""

    def __init__(self, folder: Path, store: Path, durability: Durability) -> None:
        self._folder = folder
        self._started: list[_Started] = []
        self.store = store
        self.durability = durability
        self.nodes: tuple[Node, ...] = ()

    @classmethod
    def start(
        cls,
        *,
        nodes: int = 4,
        rest_port: int = 0,
        grpc_port: int | None = 0,
        grpc_tls: ServerTls | None = None,
        host: str = "127.0.0.1",
        store: Path | None = None,
        durability: Durability = Durability.FULL,
        behaviours: Mapping[int, Behaviour] | Behaviour | None = None,
        ground_truth: Path | None = None,
    ) -> Cluster:
        """Start `nodes` nodes and return when all of them listen.

        Node i (from 1) listens on `rest_port + i - 1` and `grpc_port + i - 1`; 0 gives each a
        free port, `grpc_port` None no gRPC, `grpc_tls` gRPC over TLS alone. `store` None is a
        temporary ledger. `behaviours` is one for all nodes, or by node number.
        `ground_truth` is a folder for one `node-i.csv` each. Raises ScenarioError for options
        that cannot be, HarnessError (naming the port, if that is it) for a failed start.
        """
        chosen = _check(nodes, rest_port, grpc_port, behaviours)
        folder = Path(tempfile.mkdtemp(prefix="headroom-cluster-"))
        cluster = cls(folder, store or folder / "ledger.db", durability)
        try:
            for number in range(1, nodes + 1):
                options = [
                    "--host", host,
                    "--port", str(_port(rest_port, number)),
                    "--durability", durability.value,
                    "--behaviour", str(chosen.get(number, PLAIN)),
                ]  # fmt: skip
                if grpc_port is not None:
                    options += ["--grpc-port", str(_port(grpc_port, number))]
                if grpc_tls is not None:
                    options += ["--grpc-certificate", str(grpc_tls.certificate)]
                    options += ["--grpc-key", str(grpc_tls.key)]
                if ground_truth is not None:
                    options += ["--ground-truth", str(ground_truth / f"node-{number}.csv")]
                cluster._spawn(f"node-{number}", options)
            end_s = time.monotonic() + START_TIMEOUT_S
            cluster.nodes = tuple(_await_node(one, end_s) for one in cluster._started)
        except BaseException:
            cluster.stop()
            raise
        return cluster

    def wait_ready(self, timeout_s: float) -> None:
        """Return when every node's readiness is UP and all name the same leader.

        Raises HarnessError when that has not happened within `timeout_s`.
        """
        end_s = time.monotonic() + timeout_s
        waiting = ""
        while time.monotonic() < end_s:
            waiting = self._not_ready()
            if not waiting:
                return
            time.sleep(0.02)
        expected = f"every node ready, with one leader, within {timeout_s} s"
        raise HarnessError(where="embedded cluster", seen=waiting, expected=expected)

    def stop(self) -> None:
        """Stop gracefully what still runs; kill what does not obey; remove temporary files.

        Ctrl-C meanwhile ends the waiting alone: it is raised when nothing is left.
        """
        try:
            self._end_in_order()
        finally:
            with _without_interrupts():
                self._clear()

    def _end_in_order(self) -> None:
        """Ask all nodes to end and wait for them, for a while."""
        for one in self._started:
            if one.process.poll() is None:
                one.process.send_signal(signal.SIGTERM)
                one.process.send_signal(signal.SIGCONT)  # it may be stopped for a test
        end_s = time.monotonic() + STOP_TIMEOUT_S
        for one in self._started:
            with suppress(subprocess.TimeoutExpired):
                one.process.wait(max(0.0, end_s - time.monotonic()))

    def _clear(self) -> None:
        """Kill what is left, and remove what is of this cluster alone."""
        for one in self._started:
            one.process.kill()  # does nothing to one that has ended
            one.process.wait()
            for pipe in (one.process.stdin, one.process.stdout):
                if pipe is not None:
                    pipe.close()
        self._started.clear()
        shutil.rmtree(self._folder, ignore_errors=True)

    def dead(self) -> tuple[str, ...]:
        """One line for each node that has ended by itself, with its last words."""
        return tuple(
            f"{one.name} ended with code {one.process.returncode}{_last_words(one)}"
            for one in self._started
            if one.process.poll() is not None
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _spawn(self, name: str, options: list[str]) -> None:
        complaints = self._folder / f"{name}.stderr"
        command = [sys.executable, "-m", "loadtests.cluster.node"]
        command += ["--name", name, "--store", str(self.store), "--watch-stdin", *options]
        if threading.current_thread() is threading.main_thread():
            command += ["--parent-pid", str(os.getpid())]
        with complaints.open("wb") as stderr:
            process = subprocess.Popen(  # noqa: S603 our own interpreter and module
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                bufsize=0,
                start_new_session=True,  # Ctrl-C goes to the starter, which stops the nodes
            )
        self._started.append(_Started(name, process, complaints))

    def _not_ready(self) -> str:
        dead = self.dead()
        if dead:
            raise HarnessError(where="embedded cluster", seen=dead[0], expected="nodes that run")
        leaders = set()
        for node in self.nodes:
            try:
                # Under /q/ alone: a probe must not meet a behaviour or start a stall's clock.
                status, body = _get(node.url, "/q/health/ready")
                checks = json.loads(body)["checks"]
                leaders |= {one["data"].get("leaderNodeId") for one in checks if "data" in one}
            except (OSError, ValueError, http.client.HTTPException) as error:
                return f"{node.name}: {error}"
            if status != http.client.OK:
                return f"{node.name}: readiness {status}"
        return "" if len(leaders) == 1 and None not in leaders else f"leaders {leaders}"


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """For what takes moments and must not be left half done."""
    before = signal.getsignal(signal.SIGINT)  # None: not Python's to give back
    if before is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _port(first: int, number: int) -> int:
    return first + number - 1 if first else 0


def _check_ports(nodes: int, rest_port: int, grpc_port: int) -> Iterator[Mistake]:
    last_port = 65_536 - max(nodes, 1)
    for where, port in (("rest_port", rest_port), ("grpc_port", grpc_port)):
        if port and not 1 <= port <= last_port:
            expected = f"0 for free ports, or 1 to {last_port}"
            yield Mistake(where=where, seen=str(port), expected=expected)
    if rest_port and grpc_port and abs(rest_port - grpc_port) < nodes:
        seen = f"{grpc_port} to {grpc_port + nodes - 1}"
        expected = f"other ports than {rest_port} to {rest_port + nodes - 1}, which REST has"
        yield Mistake(where="grpc_port", seen=seen, expected=expected)


def _check(
    nodes: int,
    rest_port: int,
    grpc_port: int | None,
    behaviours: Mapping[int, Behaviour] | Behaviour | None,
) -> Mapping[int, Behaviour]:
    mistakes = list(_check_ports(nodes, rest_port, grpc_port or 0))
    if not 1 <= nodes <= MAX_NODES:
        mistakes.append(Mistake(where="nodes", seen=str(nodes), expected=f"1 to {MAX_NODES}"))
    if behaviours is None or isinstance(behaviours, Behaviour):
        chosen = dict.fromkeys(range(1, nodes + 1), behaviours or PLAIN)
    else:
        chosen = dict(behaviours)
    mistakes += [
        Mistake(where="behaviours", seen=f"node {number}", expected=f"nodes 1 to {nodes}")
        for number in chosen
        if not 1 <= number <= nodes
    ]
    if mistakes:
        raise ScenarioError("embedded cluster", tuple(mistakes))
    return chosen


def _await_node(one: _Started, end_s: float) -> Node:
    """The node's ready line; raises HarnessError with its own words if there is none."""
    stdout = one.process.stdout
    assert stdout is not None
    line = b""
    while not line.endswith(b"\n"):
        remaining_s = end_s - time.monotonic()
        if remaining_s <= 0 or not select.select([stdout], [], [], remaining_s)[0]:
            raise HarnessError(
                where=one.name, seen="no sign of life", expected=f"ready in {START_TIMEOUT_S} s"
            )
        part = os.read(stdout.fileno(), 65_536)
        if not part:
            code = one.process.wait()
            seen = f"end with code {code}{_last_words(one)}"
            raise HarnessError(where=one.name, seen=seen, expected="a node that runs")
        line += part
    said = json.loads(line)
    if "error" in said:
        raise HarnessError(where=one.name, seen=said["error"], expected=said["expected"])
    return Node(name=one.name, url=said["url"], grpc_url=said["grpc"], pid=said["pid"])


def _last_words(one: _Started) -> str:
    try:
        text = one.complaints.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
    return f": {text[-500:]}" if text else ""


def _get(url: str, path: str) -> tuple[int, bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=2)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
