"""A cluster in the foreground: the command `headroom cluster`."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import IO

from loadtests.cluster.launch import DISCLAIMER, START_TIMEOUT_S, Cluster
from loadtests.cluster.ledger import Durability
from loadtests.errors import ExitCode


def serve(
    start: Callable[[], Cluster], out: IO[str] | None = None, *, as_json: bool = False
) -> ExitCode:
    """Run a cluster until SIGINT or SIGTERM; it is started once they are heard.

    Returns PASS after such a stop, HARNESS when a node died by itself. Main thread only.
    As JSON the nodes are one line of `out`, and what happens later goes to standard error.
    """
    write = _writer(out or sys.stdout)
    tell = _writer(sys.stderr) if as_json else write
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {one: signal.signal(one, on_signal) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        with start() as cluster:
            cluster.wait_ready(START_TIMEOUT_S)
            for line in [_document(cluster)] if as_json else _greeting(cluster):
                write(line)
            while not stop.wait(0.5):
                dead = cluster.dead()
                if dead:
                    tell(dead[0])
                    return ExitCode.HARNESS
            tell("stopping")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return ExitCode.PASS


def _writer(out: IO[str]) -> Callable[[str], None]:
    def write(line: str) -> None:
        out.write(f"{line}\n")
        out.flush()

    return write


def _document(cluster: Cluster) -> str:
    document = {
        "notice": DISCLAIMER,
        "nodes": [
            {"name": n.name, "url": n.url, "grpc_url": n.grpc_url, "pid": n.pid}
            for n in cluster.nodes
        ],
        "store": str(cluster.store),
    }
    return json.dumps(document, sort_keys=True)


def _greeting(cluster: Cluster) -> Iterator[str]:
    is_full = cluster.durability is Durability.FULL
    promise = "process death and power cut" if is_full else "process death"
    yield DISCLAIMER
    for node in cluster.nodes:
        grpc = f"  gRPC {node.grpc_url}" if node.grpc_url else ""
        yield f"{node.name}  {node.url}/api/v11{grpc}  pid {node.pid}"
    yield f"ledger {cluster.store}; an acknowledged write survives {promise}"
    yield "stop with Ctrl-C"
