"""A TCP proxy in user space that can misbehave: latency, bandwidth, reset, black hole, half open.

    python -m loadtests.failover.proxy --listen 127.0.0.1:9010 --to 127.0.0.1:9003 \
        --control /run/proxy.sock

Used where the kernel has no `tc netem`, or nobody has the right to use it. It passes bytes
on, unchanged, until its control socket (see `proxy_control.py`) tells it otherwise, and is
told back to `pass`. It listens on loopback unless `--anywhere` allows another address.
Prints one line when it listens; ends on SIGTERM or when its standard input ends.

A direction of a connection is one pump: bytes are read with the time at which they are due,
so that latency delays every byte alike and costs no bandwidth. In a black hole pumps read on
and drop what they read; half open, the node's side is closed and the client's
is kept. A connection that was black-holed or forgotten has lost bytes, so it is reset when
the proxy passes again: a stream with a hole in it would be a worse lie than a reset.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import os
import signal
import socket
import struct
import sys
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from loadtests.clock import NS_PER_S
from loadtests.failover.proxy_control import Mode, Orders

_CHUNK: Final = 64 * 1024
_READ_AHEAD: Final = 256  # chunks that wait for their time
_SLICE_S: Final = 0.05  # of a limited bandwidth: so long is one write's worth of bytes
_LOSING: Final = frozenset({Mode.BLACK_HOLE, Mode.HALF_OPEN})


class Link:
    """One client's connection and its counterpart to the node."""

    def __init__(
        self, proxy: FaultProxy, to: tuple[str, int], client: asyncio.StreamWriter
    ) -> None:
        self._proxy, self._to = proxy, to
        self._client = client
        self._node: asyncio.StreamWriter | None = None
        self.has_lost = False  # bytes, or the node's side

    async def run(self, reader: asyncio.StreamReader) -> None:
        """Pump both ways until both sides have ended, or one with an error."""
        if self._proxy.orders.mode in _LOSING:
            self.has_lost = True
            while await reader.read(_CHUNK):
                pass
            return
        node_reader, self._node = await asyncio.open_connection(*self._to)
        ways = [
            asyncio.create_task(self._pump(reader, self._node)),
            asyncio.create_task(self._pump(node_reader, self._client)),
        ]
        try:
            done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_EXCEPTION)
            for way in done:
                way.result()
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self._node.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One direction: bytes with the time they are due at, read ahead and delivered."""
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_READ_AHEAD)
        loop = asyncio.get_running_loop()
        delivery = asyncio.create_task(self._deliver(waiting, writer))
        try:
            while data := await reader.read(_CHUNK):
                orders = self._proxy.orders
                if orders.mode in _LOSING:
                    self.has_lost = True
                    continue
                latency_s = orders.latency_ns / NS_PER_S if orders.mode is Mode.LATENCY else 0.0
                await waiting.put((loop.time() + latency_s, data))
            await waiting.put((loop.time(), b""))
            await delivery
        finally:
            delivery.cancel()

    async def _deliver(
        self, waiting: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, data = await waiting.get()
            if (early_s := due - loop.time()) > 0:
                await asyncio.sleep(early_s)
            if self.has_lost:
                continue
            if not data:
                writer.write_eof()
                return
            if self._proxy.orders.mode is Mode.BANDWIDTH:
                await self._trickle(data, writer)
            else:
                writer.write(data)
                await writer.drain()

    async def _trickle(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        left = memoryview(data)
        while left:
            orders = self._proxy.orders
            is_limited = orders.mode is Mode.BANDWIDTH
            size = max(1, int(orders.bytes_per_s * _SLICE_S)) if is_limited else len(left)
            writer.write(left[:size])
            await writer.drain()
            left = left[size:]
            if is_limited:
                await asyncio.sleep(_SLICE_S)

    def forget_node(self) -> None:
        """Close the node's side alone."""
        if self._node is not None:
            self.has_lost = True
            self._node.close()

    def reset(self) -> None:
        """Both sides at once, the client's with a reset (RST) instead of an end (FIN)."""
        for writer in (self._client, self._node):
            if writer is not None and (connection := writer.get_extra_info("socket")) is not None:
                with contextlib.suppress(OSError):
                    linger = struct.pack("ii", 1, 0)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.transport.abort()


class FaultProxy:
    """Listens, and does as ordered."""

    def __init__(self) -> None:
        self.orders = Orders(mode=Mode.PASS)
        self._links: set[Link] = set()

    async def serve(
        self, to: tuple[str, int], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """One client's connection, from its acceptance to its end."""
        link = Link(self, to, writer)
        if self.orders.mode is Mode.RESET:
            link.reset()
            return
        self._links.add(link)
        try:
            await link.run(reader)
        except OSError:  # the node refuses, or one side is gone
            link.reset()
        finally:
            self._links.discard(link)
            writer.close()

    def take(self, orders: Orders) -> None:
        """Follow new orders from now on."""
        was_losing = self.orders.mode in _LOSING
        self.orders = orders
        for link in list(self._links):
            if orders.mode is Mode.RESET or (was_losing and link.has_lost):
                link.reset()
            elif orders.mode is Mode.HALF_OPEN:
                link.forget_node()

    async def control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One line of orders, or null to ask; the answer is what is in force."""
        with contextlib.suppress(OSError, msgspec.MsgspecError, ValueError):
            orders = msgspec.json.decode(await reader.readline(), type=Orders | None)
            if orders is not None:
                self.take(orders)
            writer.write(msgspec.json.encode(self.orders) + b"\n")
            await writer.drain()
        writer.close()


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of host:port."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no host:port")
    return host.strip("[]"), int(port)


Way = tuple[tuple[str, int], tuple[str, int]]  # where to listen, where to connect


async def run_proxy(ways: list[Way], control: Path) -> None:
    """Serve until told to end; all ways of a node follow the same orders."""
    proxy = FaultProxy()
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    servers = [
        await asyncio.start_server(partial(proxy.serve, to), *listen, backlog=1024)
        for listen, to in ways
    ]
    steering = await asyncio.start_unix_server(proxy.control, control)
    ports = " ".join(str(server.sockets[0].getsockname()[1]) for server in servers)
    sys.stdout.write(f"listening {ports}\n")
    sys.stdout.flush()
    await stopped.wait()
    for server in servers:
        server.close()
    steering.close()


def main() -> int:
    """Check the address, then serve."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.failover.proxy")
    for name in ("--listen", "--to"):
        parser.add_argument(
            name, type=parse_address, required=True, action="append", metavar="HOST:PORT"
        )
    parser.add_argument("--control", type=Path, required=True, metavar="SOCKET")
    parser.add_argument("--anywhere", action="store_true", help="listen beyond loopback")
    options = parser.parse_args()
    if len(options.listen) != len(options.to):
        parser.error("as many --to as --listen")
    hosts = [host for host, _port in options.listen]
    if not (options.anywhere or all(ipaddress.ip_address(host).is_loopback for host in hosts)):
        parser.error("it has no login: listen on loopback, or say --anywhere")
    os.umask(0o077)  # of the control socket
    options.control.unlink(missing_ok=True)
    asyncio.run(run_proxy(list(zip(options.listen, options.to, strict=True)), options.control))
    options.control.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
