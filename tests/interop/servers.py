"""Servers that share no code with the engine, each a process of its own.

The manners of those that know conformance.proto: the first argument is `Limits` as JSON;
they print their port, then on every line of standard input one line of JSON that says what
they have `Seen` since the last, and end when standard input closes. nginx and HAProxy stand
in front of grpcio's, which is then who counts.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import pytest
from proxies import PROXIES, configured

HERE = Path(__file__).parent
KINDS = ("grpcio", "grpc-js", "nginx", "haproxy", "go")
_GOPATH = Path("/usr/share/gocode")  # where Debian's golang-*-dev packages are
_BUILT = HERE.parent / "artefacts/interop"  # ignored by git
_START_S = 20.0
_STARTS = 3  # a port that was free may be taken before the server binds it


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a server is told; 0 leaves its default."""

    streams: int = 0  # MAX_CONCURRENT_STREAMS
    age_ms: int = 0  # of connections; a proxy counts requests instead
    packs: bool = False  # answers with gzip whatever it was sent
    pem: str = ""  # of proxies: file with certificate and key, for TLS


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a server has counted since it was last asked."""

    calls: dict[str, int]
    messages: dict[str, int]
    payload_bytes: dict[str, int]  # of the messages
    most_at_once: int
    peers: int  # connections; those of a proxy where one stands in front


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where to send, and who counts."""

    kind: str
    port: int
    counter: subprocess.Popen[str]
    front: subprocess.Popen[bytes] | None = None  # the proxy

    def seen(self) -> Seen:
        """Ask what has been seen since it was last asked."""
        assert self.counter.stdin is not None
        assert self.counter.stdout is not None
        self.counter.stdin.write("\n")
        self.counter.stdin.flush()
        return Seen(**json.loads(self.counter.stdout.readline()))


def need(program: str) -> str:
    """Path of a program of a Debian package; without it the test is skipped, in CI it fails."""
    found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{program} is not installed")
    return found


@cache
def _node_command() -> tuple[str, ...]:
    """Install what package-lock.json pins, unless it is there."""
    node, npm, folder = need("node"), need("npm"), HERE / "grpc_js"
    lock = (folder / "package-lock.json").read_text()
    stamp = folder / "node_modules" / ".installed"
    if not stamp.exists() or stamp.read_text() != lock:
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        subprocess.run(command, cwd=folder, check=True, timeout=300)
        stamp.write_text(lock)
    return node, str(folder / "server.js")


@cache
def _go_command() -> tuple[str, ...]:
    """Build with Debian's grpc-go; whatever is missing is the reason to skip."""
    if shutil.which("go") is None:
        pytest.skip("Go is not installed")
    if not (_GOPATH / "src/google.golang.org/grpc").exists():
        pytest.skip("Debian's golang-google-grpc-dev is not installed")
    _BUILT.mkdir(parents=True, exist_ok=True)
    environment = {"GO111MODULE": "off", "GOPATH": str(_GOPATH), "GOFLAGS": "", "CGO_ENABLED": "0"}
    built = subprocess.run(
        ["go", "build", "-o", str(_BUILT / "go-server"), "."],
        cwd=HERE / "go_server",
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if built.returncode:
        pytest.skip(f"Debian's grpc-go does not build: {built.stderr[-300:]}")
    return (str(_BUILT / "go-server"),)


def _command(kind: str) -> tuple[str, ...]:
    match kind:
        case "grpc-js":
            return _node_command()
        case "go":
            return _go_command()
        case _:
            return sys.executable, str(HERE / "grpcio_server.py")


@contextmanager
def _counting(kind: str, limits: Limits) -> Iterator[Server]:
    """A server of conformance.proto until leaving."""
    command = (*_command(kind), json.dumps(asdict(limits)))
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield Server(kind=kind, port=int(process.stdout.readline()), counter=process)
    finally:
        process.kill()
        process.communicate(timeout=10)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _accepts(port: int, process: subprocess.Popen[bytes]) -> bool:
    """Wait for the port; False when the process has ended."""
    until = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return process.poll() is None
    return False


@contextmanager
def listening(
    command_of: Callable[[int], Sequence[str]], log: Path = Path(os.devnull)
) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A program that is told its port, until leaving; the port and its process."""
    for attempt in range(_STARTS):
        port = _free_port()
        command = command_of(port)
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output)
        try:
            if _accepts(port, process):
                yield port, process
                return
        finally:
            process.terminate()
            process.wait(10)
        assert attempt < _STARTS - 1, f"{command} does not listen"


@contextmanager
def serve(kind: str, folder: Path, limits: Limits | None = None) -> Iterator[Server]:
    """Start a server of one kind, with grpcio's behind it where it is a proxy."""
    limits = limits or Limits()
    if kind not in PROXIES:
        with _counting(kind, limits) as server:
            yield server
        return
    program = need(kind)
    with _counting("grpcio", Limits(packs=limits.packs)) as backend:

        def command_of(port: int) -> list[str]:
            arguments = configured(
                kind,
                folder,
                port,
                backend.port,
                streams=limits.streams,
                ages=limits.age_ms > 0,
                pem=limits.pem,
            )
            return [program, *arguments]

        with listening(command_of) as (port, process):
            yield Server(kind=kind, port=port, counter=backend.counter, front=process)
