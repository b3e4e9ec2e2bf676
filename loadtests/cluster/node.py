"""One node: its process, its listeners, and the sites that connections talk to.

`python -m loadtests.cluster.node --name node-1 --port 0 --store FILE …` runs until SIGTERM or
SIGINT (graceful; a second one ends it at once) or until its standard input ends, which
happens when the process that started it is gone. Prints one JSON line when it listens, or one
that says why it cannot. Refuses to listen on anything but loopback addresses.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import json
import os
import signal
import socket
import sqlite3
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import uvloop

from loadtests.clock import NS_PER_S
from loadtests.cluster.behaviour import parse_behaviour
from loadtests.cluster.grpc_server import GrpcServer
from loadtests.cluster.http1 import Connection
from loadtests.cluster.ledger import Durability
from loadtests.cluster.options import NodeOptions, ServerTls, show_address
from loadtests.cluster.site import NodeSite
from loadtests.cluster.status_paths import VERSION
from loadtests.cluster.workings import TICK_S, Workings
from loadtests.errors import ExitCode, HarnessError, HeadroomError
from loadtests.parentage import lives_with

_BACKLOG: Final = 4_096
_SWITCH_INTERVAL_S: Final = 0.0005  # the committer needs the interpreter for microseconds only


class SlowAcceptor:
    """Lets in one connection per gap; the others wait in the kernel's queue."""

    def __init__(self, site: NodeSite, listener: socket.socket, gap_ns: int) -> None:
        self._site = site
        self._listener = listener
        self._gap_s = gap_ns / NS_PER_S
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._accept())

    async def _accept(self) -> None:
        while True:
            await asyncio.sleep(self._gap_s)
            accepted, _ = await self._loop.sock_accept(self._listener)
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(lambda: Connection(self._site), accepted)

    def close(self) -> None:
        """Accept nothing more."""
        self._task.cancel()
        self._listener.close()


def open_listener(host: str, port: int) -> socket.socket:
    """A listening socket on a loopback address; raises HarnessError naming the port."""
    where = f"cluster listener {host}:{port}"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    if address is None or not address.is_loopback:
        raise HarnessError(where=where, seen=host, expected="a loopback address (127.0.0.1, ::1)")
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET  # noqa: PLR2004 IP version
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        seen = error.strerror or str(error)
        raise HarnessError(where=where, seen=seen, expected=f"port {port} to be free") from error
    listener.setblocking(False)  # noqa: FBT003 the standard library's signature
    return listener


async def run_node(options: NodeOptions) -> None:
    """Serve until told to stop; prints the ready line."""
    loop = asyncio.get_running_loop()
    listener = open_listener(options.host, options.port)
    url = f"http://{show_address(*listener.getsockname()[:2])}"
    workings = Workings(options, loop, url)
    site = NodeSite(workings)
    grpc_server = None if options.grpc_port is None else GrpcServer(workings, site.is_ready)
    grpc_url = grpc_server.open(options) if grpc_server else None
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop_or_exit, stopped)
    _join(workings, options)
    server = await _start_rest(site, listener, options)
    if grpc_server:
        await grpc_server.start()
    _tick(workings, site)
    site.sweep()
    _say({"ready": options.name, "url": url, "grpc": grpc_url, "pid": os.getpid()})
    await stopped.wait()
    workings.draining = True
    server.close()
    await asyncio.gather(site.drain(), *([grpc_server.drain()] if grpc_server else []))
    workings.close()


def _join(workings: Workings, options: NodeOptions) -> None:
    """Become a member of the cluster, before anyone can ask for anything."""
    try:
        workings.committer.start()
    except sqlite3.Error as error:
        where = f"cluster store {options.store}"
        raise HarnessError(where=where, seen=str(error), expected="a writable ledger") from error


async def _start_rest(
    site: NodeSite, listener: socket.socket, options: NodeOptions
) -> asyncio.Server | SlowAcceptor:
    if options.behaviour.accept_gap_ns:
        return SlowAcceptor(site, listener, options.behaviour.accept_gap_ns)
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: Connection(site), sock=listener, backlog=_BACKLOG)


def _tick(workings: Workings, site: NodeSite) -> None:
    workings.tick()
    site.tick()
    workings.loop.call_later(TICK_S, _tick, workings, site)


def _stop_or_exit(stopped: asyncio.Event) -> None:
    if stopped.is_set():
        os._exit(128 + signal.SIGTERM)
    stopped.set()


def _say(line: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _die_with_parent(parent_pid: int) -> None:
    """End this process when the parent has: at once, and even while it is hung.

    The signal of prctl(2) comes when the parent's *thread* that started us ends; the launcher
    therefore asks for it only from its main thread, and the end of standard input always works.
    """
    if parent_pid and not lives_with(parent_pid):
        os._exit(ExitCode.HARNESS)


def _watch_stdin() -> None:
    while os.read(0, 4_096):
        pass
    os.kill(os.getpid(), signal.SIGKILL)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.cluster.node", description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--grpc-port", type=int, help="0 takes a free one; no gRPC without it")
    parser.add_argument("--grpc-certificate", type=Path, help="PEM; with --grpc-key: TLS")
    parser.add_argument("--grpc-key", type=Path, help="PEM, the certificate's private key")
    parser.add_argument("--store", type=Path, required=True)
    words = [one.value for one in Durability]
    parser.add_argument("--durability", choices=words, default=Durability.FULL.value)
    parser.add_argument("--behaviour", default="", help="such as latency=fixed:5ms,errors=0.01:503")
    parser.add_argument("--ground-truth", type=Path, help="CSV of what the node truly did")
    parser.add_argument("--version", default=VERSION, help="what it says it is")
    parser.add_argument("--parent-pid", type=int, default=0, help="die when this process does")
    parser.add_argument("--watch-stdin", action="store_true", help="die when stdin ends")
    return parser.parse_args(argv)


def _tls(certificate: Path | None, key: Path | None) -> ServerTls | None:
    return ServerTls(certificate=certificate, key=key) if certificate and key else None


def main(argv: Sequence[str]) -> ExitCode:
    """Run a node; what stops it from starting is one JSON line and an exit code."""
    given = _parse(argv)
    _die_with_parent(given.parent_pid)
    if given.watch_stdin:
        threading.Thread(target=_watch_stdin, name="watch-stdin", daemon=True).start()
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    try:
        options = NodeOptions(
            name=given.name,
            host=given.host,
            port=given.port,
            grpc_port=given.grpc_port,
            grpc_tls=_tls(given.grpc_certificate, given.grpc_key),
            store=given.store,
            durability=Durability(given.durability),
            behaviour=parse_behaviour(given.behaviour),
            ground_truth=given.ground_truth,
            version=given.version,
        )
        uvloop.run(run_node(options))
    except HarnessError as error:
        _say({"error": f"{error.seen} ({error.where})", "expected": error.expected})
        return error.exit_code
    except HeadroomError as error:
        _say({"error": str(error), "expected": "options that can be"})
        return error.exit_code
    except OSError as error:
        _say({"error": str(error), "expected": "a node that runs"})
        return ExitCode.HARNESS
    return ExitCode.PASS


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
