"""A cluster in the foreground: the command `headroom cluster`."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import IO

from loadtests.cluster.launch import DISCLAIMER, START_TIMEOUT_S, Cluster
from loadtests.cluster.ledger import Durability
from loadtests.errors import ExitCode


def serve(start: Callable[[], Cluster], out: IO[str] | None = None) -> ExitCode:
    """Run a cluster until SIGINT or SIGTERM; it is started once they are heard.

    Returns PASS after such a stop, HARNESS when a node died by itself. Main thread only.
    """
    write = _writer(out or sys.stdout)
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {one: signal.signal(one, on_signal) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        with start() as cluster:
            cluster.wait_ready(START_TIMEOUT_S)
            for line in _greeting(cluster):
                write(line)
            while not stop.wait(0.5):
                dead = cluster.dead()
                if dead:
                    write(dead[0])
                    return ExitCode.HARNESS
            write("stopping")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return ExitCode.PASS


def _writer(out: IO[str]) -> Callable[[str], None]:
    def write(line: str) -> None:
        out.write(f"{line}\n")
        out.flush()

    return write


def _greeting(cluster: Cluster) -> Iterator[str]:
    is_full = cluster.durability is Durability.FULL
    promise = "process death and power cut" if is_full else "process death"
    yield DISCLAIMER
    for node in cluster.nodes:
        grpc = f"  gRPC {node.grpc_url}" if node.grpc_url else ""
        yield f"{node.name}  {node.url}/api/v11{grpc}  pid {node.pid}"
    yield f"ledger {cluster.store}; an acknowledged write survives {promise}"
    yield "stop with Ctrl-C"
