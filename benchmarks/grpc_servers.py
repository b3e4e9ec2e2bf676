"""The two servers of the gRPC comparison, neither of which looks at what it is asked.

nghttpd (Debian's nghttp2-server) gives a static file that holds a framed message, with
trailers: C, and as fast as HTTP/2 is answered. grpc-go (Debian's golang-google-grpc-dev) is
a real gRPC server: `go_server/main.go`, built when it is first needed. Both answer 64 bytes.

Each answer is counted at the server: grpc-go counts calls; of nghttpd the kernel tells how
many bytes it has written, and a known number of requests at its start how many an answer has.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import peers
from benchmarks.process import Child, spawn
from benchmarks.server import HOST, Server, Status, free_port, wait_answering
from loadtests.engine.grpc import framed
from loadtests.errors import HarnessError
from loadtests.plan.call import Compression

METHOD = "bench.Echo/Say.grpc"  # nghttpd knows a content type by the end of a name
MESSAGE_BYTES = 64
_PROBES = 20_000  # on one connection: its greeting and first heads are 0.01 % of their bytes
_BUILD_S = 240.0
_START_S = 10.0


def request_message() -> bytes:
    """The 64 bytes that are sent, without prefix."""
    return b"q" * MESSAGE_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Nghttpd(Server):
    """A running nghttpd; an answer of it has so many bytes."""

    answer_bytes: float

    def status(self) -> Status:
        """Read what it has written, by the kernel's account, as answers."""
        written = _written_bytes(self.child.pid)
        return Status(monotonic_ns=time.monotonic_ns(), requests=round(written / self.answer_bytes))


def _written_bytes(pid: int) -> int:
    """Bytes that a process has handed to write(2), sockets included (proc_pid_io(5))."""
    for line in Path(f"/proc/{pid}/io").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "wchar":
            return int(value)
    raise HarnessError(where=f"/proc/{pid}/io", seen="no wchar", expected="the bytes written")


@dataclass(frozen=True, slots=True, kw_only=True)
class GoServer(Server):
    """A running grpc-go, with the port on which it tells its count."""

    count_port: int

    def status(self) -> Status:
        """Ask it how many calls it has answered; the time is the middle of the question."""
        before_ns = time.monotonic_ns()
        with urllib.request.urlopen(f"http://{HOST}:{self.count_port}/count", timeout=30) as answer:
            count = int(answer.read())
        return Status(monotonic_ns=(before_ns + time.monotonic_ns()) // 2, requests=count)


@contextmanager
def running_nghttpd(*, core: int, scratch: Path) -> Iterator[Nghttpd]:
    """Start nghttpd on `core`, learn the size of its answer, end it on leaving."""
    port = free_port()
    folder = scratch / f"nghttpd-{port}"
    file = folder / METHOD
    file.parent.mkdir(parents=True)
    file.write_bytes(framed(b"a" * MESSAGE_BYTES, Compression.IDENTITY))
    types = folder / "types"
    types.write_text("application/grpc grpc\n")
    options = [f"--htdocs={folder}", f"--mime-types-file={types}", "--trailer=grpc-status: 0"]
    more = ["--no-tls", "--no-content-length", f"--address={HOST}"]
    with spawn("nghttpd", ["nghttpd", *more, *options, str(port)], core=core, scratch=scratch) as c:
        _wait_listening(c, port)
        yield Nghttpd(child=c, port=port, answer_bytes=_answer_bytes(c, port, scratch))


def _wait_listening(child: Child, port: int) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        child.require_alive()
        try:
            socket.create_connection((HOST, port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise HarnessError(
                    where=child.name, seen=child.complaint(), expected="a listening server"
                ) from None
            time.sleep(0.05)
        else:
            return


def h2load_command(server_url: str, scratch: Path, *options: str) -> list[str]:
    """Write h2load's command for the one call that all generators make."""
    body = scratch / "request"
    body.write_bytes(framed(request_message(), Compression.IDENTITY))
    headers = ["-H", "content-type: application/grpc", "-H", "te: trailers"]
    return ["h2load", "-t1", *options, "-d", str(body), *headers, f"{server_url}/{METHOD}"]


def _answer_bytes(child: Child, port: int, scratch: Path) -> float:
    before = _written_bytes(child.pid)
    command = h2load_command(f"http://{HOST}:{port}", scratch, "-c1", "-m100", f"-n{_PROBES}")
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if f"{_PROBES} succeeded" not in answer.stdout:
        raise HarnessError(
            where="nghttpd", seen=answer.stdout[-500:], expected=f"{_PROBES} good answers"
        )
    return (_written_bytes(child.pid) - before) / _PROBES


def build_go_server(scratch: Path) -> Path:
    """Build grpc-go's server, installing what is missing; HarnessError when that cannot be."""
    peers.install_missing(peers.GO)
    program = scratch / "go_server"
    source = Path(__file__).with_name("go_server")
    environment = {**os.environ, "GO111MODULE": "off", "GOPATH": str(peers.GO_LIBRARIES)}
    built = subprocess.run(
        ["go", "build", "-o", str(program), "."],
        cwd=source,
        env=environment,
        capture_output=True,
        text=True,
        timeout=_BUILD_S,
        check=False,
    )
    if built.returncode != 0:
        raise HarnessError(where="go build", seen=built.stderr[-1000:], expected="a server")
    return program


@contextmanager
def running_go(program: Path, *, core: int, scratch: Path) -> Iterator[GoServer]:
    """Start grpc-go on `core`, wait until it answers, end it on leaving."""
    port, count_port = free_port(), free_port()
    command = [str(program), str(port), str(count_port)]
    with spawn("grpc-go", command, core=core, scratch=scratch) as child:
        server = GoServer(child=child, port=port, count_port=count_port)
        wait_answering(server)
        yield server
