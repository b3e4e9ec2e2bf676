"""The generators of the gRPC comparison: h2load in three shapes, and the two Python clients.

h2load is nghttp2's own, written in C, and makes no judgement of an answer but its status; it
is given one thread. All make the same call (`grpc_servers.METHOD`), closed.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from benchmarks.generators import Contestant, peer
from benchmarks.grpc_plans import shape_name
from benchmarks.grpc_servers import h2load_command
from benchmarks.server import Server


def h2load(connections: int, streams: int, *, core: int, scratch: Path) -> Contestant:
    """Build the C generator in one shape."""

    def command(server: Server, seconds: float) -> list[str]:
        shape = [f"-c{connections}", f"-m{streams}", f"-D{round(seconds)}"]
        return h2load_command(server.url, scratch, *shape)

    name = shape_name(connections, streams)
    title = f"h2load (C), {connections} x {streams}"
    return peer(f"h2load {name}", title, command, count_of_h2load, core=core, scratch=scratch)


def python_client(kind: str, title: str, *, core: int, scratch: Path) -> Contestant:
    """Build a client of `grpc_clients`: "aio" or "gevent"."""

    def command(server: Server, seconds: float) -> list[str]:
        module = [sys.executable, "-m", "benchmarks.grpc_clients"]
        return [*module, kind, str(server.port), str(round(seconds))]

    return peer(kind, title, command, count_of_client, core=core, scratch=scratch)


def count_of_h2load(output: str) -> int:
    """Answered requests in h2load's summary; ValueError when it is not one, or has failures."""
    found = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", output)
    if found is None or any(int(count) for count in found.groups()[1:]):
        raise ValueError(f"h2load said: {output[-500:]}")
    return int(found[1])


def count_of_client(output: str) -> int:
    """Answered calls that a Python client printed; ValueError when it did not."""
    found = re.search(r"(\d+) answered", output)
    if found is None:
        raise ValueError(f"the client said: {output[-500:]}")
    return int(found[1])
