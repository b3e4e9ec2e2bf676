"""The fault proxy on real sockets: honest when it passes, and each mode as it says."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from failover_rig import answers
from system_rig import free_port, wait_until

from loadtests.failover.proxy_control import Mode, Orders, tell_proxy

pytestmark = pytest.mark.failover


@dataclass
class Echo:
    """Sends everything back; counts connections that it has open."""

    port: int = 0
    open: set[socket.socket] = field(default_factory=set)

    def serve(self, listener: socket.socket) -> None:
        """One thread a connection."""
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self.open.add(connection)
            threading.Thread(target=self._echo, args=[connection], daemon=True).start()

    def _echo(self, connection: socket.socket) -> None:
        with suppress(OSError):
            while data := connection.recv(65_536):
                connection.sendall(data)
        self.open.discard(connection)
        connection.close()


@dataclass(frozen=True)
class Proxied:
    """An echo behind a proxy."""

    echo: Echo
    port: int
    control: str
    process: subprocess.Popen[bytes]

    def connect(self) -> socket.socket:
        """A client."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def order(self, mode: Mode, **settings: int) -> None:
        """Set its mode."""
        orders = Orders(mode=mode, **settings)
        assert tell_proxy(self.control, orders) == orders


@contextmanager
def proxied(folder: Path) -> Iterator[Proxied]:
    """Both, gone afterwards."""
    echo, port, control = Echo(), free_port(), str(folder / "control")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        echo.port = listener.getsockname()[1]
        threading.Thread(target=echo.serve, args=[listener], daemon=True).start()
        words = ["--listen", f"127.0.0.1:{port}", "--to", f"127.0.0.1:{echo.port}"]
        process = subprocess.Popen(
            [sys.executable, "-m", "loadtests.failover.proxy", *words, "--control", control],
            stdout=subprocess.DEVNULL,
        )
        try:
            wait_until(lambda: answers(port), "the proxy")
            yield Proxied(echo, port, control, process)
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def through(tmp_path: Path) -> Iterator[Proxied]:
    """A fresh one."""
    with proxied(tmp_path) as made:
        yield made


def exchange(client: socket.socket, data: bytes) -> bytes:
    """Send, and read as much back."""
    sender = threading.Thread(target=client.sendall, args=[data])
    sender.start()
    got = b""
    while len(got) < len(data):
        piece = client.recv(65_536)
        assert piece, "closed"
        got += piece
    sender.join()
    return got


def end_of(client: socket.socket) -> str:
    """How a connection that should not live ends."""
    try:
        client.sendall(b"x")
        return "closed" if client.recv(10) == b"" else "alive"
    except (ConnectionResetError, BrokenPipeError):
        return "reset"


def test_it_passes_every_byte_and_both_ends(through: Proxied) -> None:
    """4 MiB come back unchanged, and a half-close travels through."""
    data = random.Random(1).randbytes(4 * 1024 * 1024)
    with through.connect() as client:
        assert exchange(client, data) == data
        client.shutdown(socket.SHUT_WR)
        assert client.recv(10) == b""


def test_latency_delays_both_ways_and_costs_no_bandwidth(through: Proxied) -> None:
    """50 ms there and 50 ms back, for one byte as for a megabyte in many pieces."""
    through.order(Mode.LATENCY, latency_ns=50_000_000)
    with through.connect() as client:
        began = time.monotonic()
        exchange(client, b"x")
        assert time.monotonic() - began >= 0.1
        # In 64 KiB pieces, one after the other, it would be 16 times as long: 1.6 s at least.
        began = time.monotonic()
        data = os.urandom(1024 * 1024)
        assert exchange(client, data) == data
        assert time.monotonic() - began >= 0.1
        through.order(Mode.PASS)
        assert exchange(client, b"y") == b"y"


def test_bandwidth_is_a_ceiling(through: Proxied) -> None:
    """100 kB at 100 kB/s take a second, less the first slice of each direction."""
    through.order(Mode.BANDWIDTH, bytes_per_s=100_000)
    with through.connect() as client:
        began = time.monotonic()
        data = os.urandom(100_000)
        assert exchange(client, data) == data
        assert time.monotonic() - began >= 0.9


def test_reset_breaks_old_and_new_connections(through: Proxied) -> None:
    """By RST, as a process that died, not by an orderly end."""
    with through.connect() as client:
        exchange(client, b"x")
        through.order(Mode.RESET)
        with pytest.raises(ConnectionResetError):
            client.recv(10)
    with through.connect() as late:
        assert end_of(late) == "reset"
    through.order(Mode.PASS)
    with through.connect() as client:
        assert exchange(client, b"z") == b"z"


@pytest.mark.parametrize("mode", [Mode.BLACK_HOLE, Mode.HALF_OPEN])
def test_what_lost_bytes_is_reset_when_it_passes_again(through: Proxied, mode: Mode) -> None:
    """Open and silent meanwhile; then a reset, never a stream with a hole in it."""
    with through.connect() as client, through.connect() as idle:
        exchange(client, b"x")
        exchange(idle, b"i")
        through.order(mode)
        client.settimeout(0.3)
        client.sendall(b"lost")
        with pytest.raises(TimeoutError):
            client.recv(10)
        if mode is Mode.HALF_OPEN:
            wait_until(lambda: not through.echo.open, "the node's side forgotten")
        else:
            assert through.echo.open, "the node's side is open as well"
        with through.connect() as late:
            late.settimeout(0.2)
            late.sendall(b"x")
            with pytest.raises(TimeoutError):
                late.recv(10)
        through.order(Mode.PASS)
        client.settimeout(5)
        with pytest.raises(ConnectionResetError):
            client.recv(10)
        if mode is Mode.BLACK_HOLE:
            assert exchange(idle, b"j") == b"j", "nothing of it was lost"


def test_a_node_that_refuses_is_refused(through: Proxied) -> None:
    """No connection is kept that leads nowhere."""
    port = free_port()
    control = f"{through.control}.2"
    process = subprocess.Popen(
        [
            sys.executable, "-m", "loadtests.failover.proxy", "--listen", f"127.0.0.1:{port}",
            "--to", f"127.0.0.1:{free_port()}", "--control", control,
        ],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_until(lambda: Path(control).exists(), "the proxy")
        with socket.create_connection(("127.0.0.1", port)) as client:
            assert end_of(client) == "reset"
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert not Path(control).exists()


def test_it_listens_on_loopback_alone() -> None:
    """It has no login."""
    words = ["--listen", "0.0.0.0:0", "--to", "127.0.0.1:1", "--control", "/nowhere"]
    done = subprocess.run(
        [sys.executable, "-m", "loadtests.failover.proxy", *words],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "--anywhere" in done.stderr


def test_nonsense_on_its_control_socket_changes_nothing(through: Proxied) -> None:
    """Neither its mode nor its life."""
    for line in (b"\xff\xfe\n", b'{"mode":"burn"}\n', b"[" * 10_000 + b"\n", b""):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(through.control)
            connection.sendall(line)
    assert tell_proxy(through.control, None).mode is Mode.PASS
    assert asyncio.run(_many(through)) == 50


async def _many(through: Proxied) -> int:
    """Fifty connections at once."""

    async def one(number: int) -> bool:
        reader, writer = await asyncio.open_connection("127.0.0.1", through.port)
        writer.write(b"%d" % number)
        got = await reader.read(100)
        writer.close()
        return got == b"%d" % number

    return sum(await asyncio.gather(*(one(number) for number in range(50))))
