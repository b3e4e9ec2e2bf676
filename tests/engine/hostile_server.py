"""A server that does on purpose what servers do by accident; the path says what.

Runs in a thread of its own with its own loop, counts every complete request by behaviour,
and notes for each timed answer how long it really waited: the ground truth of the tests.
`/NAME` or `/NAME?argument`; see `_BEHAVIOURS`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_HEAD = b"HTTP/1.1 200 OK\r\n"
# The length of what was not sent, beyond every limit.
_NOT_MODIFIED = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 10000000000\r\n\r\n"


def _answer(data: bytes) -> Callable[[Hostile, str], None]:
    return lambda peer, _argument: peer.write(data)


def _answer_and_close(data: bytes) -> Callable[[Hostile, str], None]:
    def behave(peer: Hostile, _argument: str) -> None:
        peer.write(data)
        peer.close()

    return behave


def _reset(peer: Hostile, _argument: str) -> None:
    peer.reset()


def _nothing(_peer: Hostile, _argument: str) -> None:
    """Stall: never answer."""


def _wait(peer: Hostile, argument: str) -> None:
    """Answer after so many microseconds, and note how long it really took."""
    began_ns = time.monotonic_ns()

    def answer() -> None:
        peer.server.waited_ns.append(time.monotonic_ns() - began_ns)
        peer.write(OK)

    peer.loop.call_later(int(argument) / 1e6, answer)


def _frozen(peer: Hostile, _argument: str) -> None:
    """Answer at once, but not during the server's freeze."""
    thaw_ns = peer.server.frozen_until_ns
    left_ns = thaw_ns - time.monotonic_ns() if peer.server.frozen_from_ns else 0
    if time.monotonic_ns() < peer.server.frozen_from_ns or left_ns <= 0:
        peer.write(OK)
    else:
        peer.loop.call_later(left_ns / 1e9, peer.write, OK)


def _trickle(peer: Hostile, _argument: str) -> None:
    """One byte a second."""

    def drip(position: int) -> None:
        peer.write(OK[position : position + 1])
        if position + 1 < len(OK):
            peer.loop.call_later(1.0, drip, position + 1)

    drip(0)


def _endless_head(peer: Hostile, _argument: str) -> None:
    def more(count: int) -> None:
        if count and not peer.transport.is_closing():
            peer.write(b"X-Filler: " + b"a" * 8000 + b"\r\n")
            peer.loop.call_soon(more, count - 1)

    peer.write(_HEAD)
    more(20)  # 160 kB: far above what a head may have


def _late_garbage(peer: Hostile, _argument: str) -> None:
    peer.write(OK)
    peer.loop.call_later(0.005, peer.write, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


def _body(peer: Hostile, argument: str) -> None:
    """Answer with so many bytes, in pieces."""
    size = int(argument)
    peer.write(_HEAD + b"Content-Length: %d\r\n\r\n" % size)
    for begin in range(0, size, 10_000):
        peer.write(b"x" * min(10_000, size - begin))


def _several_informational(peer: Hostile, _argument: str) -> None:
    """100, 103 twice, then the answer: each in a read of its own."""
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    for number, data in enumerate((b"HTTP/1.1 100 Continue\r\n\r\n", hints, hints, OK)):
        peer.loop.call_later(0.002 * number, peer.write, data)


def _not_modified_slowly(peer: Hostile, _argument: str) -> None:
    """Answer in two reads."""
    peer.write(_NOT_MODIFIED[:30])
    peer.loop.call_later(0.002, peer.write, _NOT_MODIFIED[30:])


def _head_only(peer: Hostile, _argument: str) -> None:
    peer.write(_HEAD + b"Content-Length: 5000\r\n\r\n")


_CHUNKED = _HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
_BEHAVIOURS: dict[str, Callable[[Hostile, str], None]] = {
    "ok": _answer(OK),
    "chunked": _answer(_CHUNKED + b"2\r\nok\r\n0\r\n\r\n"),
    "no-content": _answer(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "not-modified": _answer(_NOT_MODIFIED),
    "not-modified-slowly": _not_modified_slowly,
    "continue": _answer(b"HTTP/1.1 100 Continue\r\n\r\n" + OK),
    "informational": _answer(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK),
    "several-1xx": _several_informational,
    "head": _head_only,
    "head-chunked": _answer(_CHUNKED),
    "body": _body,
    "says-close": _answer(_HEAD + b"Connection: close\r\nContent-Length: 2\r\n\r\nok"),
    "last": _answer_and_close(_HEAD + b"Connection: close\r\nContent-Length: 2\r\n\r\nok"),
    "old": _answer_and_close(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    "until-close": _answer_and_close(_HEAD + b"\r\nno length, but an end"),
    "json": _answer(_HEAD + b'Content-Length: 17\r\n\r\n{"a":{"b":[1,2]}}'),
    "302": _answer(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"),
    "404": _answer(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
    "429": _answer(b"HTTP/1.1 429 Too Many\r\nContent-Length: 0\r\n\r\n"),
    "503": _answer(b"HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n"),
    "reset": _reset,
    "stall": _nothing,
    "close": _answer_and_close(b""),
    "truncate": _answer_and_close(_HEAD + b"Content-Length: 100\r\n\r\nonly this"),
    "half-head": _answer_and_close(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "garbage": _answer(b"\x16\x03\x01 what is this?\r\n\r\n"),
    "ten-gigabytes": _answer(_HEAD + b"Content-Length: 10000000000\r\n\r\nbegin"),
    "endless-head": _endless_head,
    "trickle": _trickle,
    "bad-chunk": _answer(_CHUNKED + b"zz\r\nok\r\n0\r\n\r\n"),
    "cut-chunk": _answer_and_close(_CHUNKED + b"ff\r\nok"),
    "flood-1xx": _answer(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    "extra": _answer(OK + OK),
    "late-garbage": _late_garbage,
    "two-lengths": _answer(_HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok"),
    "negative-length": _answer(_HEAD + b"Content-Length: -2\r\n\r\nok"),
    "length-and-chunked": _answer(
        _HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    ),
    "wait": _wait,
    "frozen": _frozen,
}


class Hostile(asyncio.Protocol):
    """One connection: cuts requests out of the stream and behaves as they ask."""

    def __init__(self, server: HostileServer) -> None:
        self.server = server
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.loop = asyncio.get_running_loop()
        self.server.connections += 1
        self.server.connected_ns.append(time.monotonic_ns())
        if self.server.refuses_reads:
            # Not here: up to Python 3.11.6 asyncio begins to read after this call all the same.
            self.loop.call_soon(transport.pause_reading)
        secure = transport.get_extra_info("ssl_object")
        if secure is not None:
            self.server.client_certificates.append(secure.getpeercert())
            self.server.protocols.append(secure.selected_alpn_protocol())

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end]
            length = 0
            for line in head.split(b"\r\n")[1:]:
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            if len(self._buffer) < end + 4 + length:
                return
            body = self._buffer[end + 4 : end + 4 + length]
            self._buffer = self._buffer[end + 4 + length :]
            self._serve(head, body)

    def _serve(self, head: bytes, body: bytes) -> None:
        target = head.split(b" ", 2)[1].decode()
        name, _, argument = target.lstrip("/").partition("?")
        self.server.seen[name] += 1
        self.server.arrived_ns.append(time.monotonic_ns())
        if self.server.keeps_requests:
            self.server.requests.append((head, body))
        _BEHAVIOURS[name](self, argument)

    def write(self, data: bytes) -> None:
        """Send, unless the connection has gone."""
        if data and not self.transport.is_closing():
            self.transport.write(data)

    def close(self) -> None:
        """End in order."""
        self.transport.close()

    def reset(self) -> None:
        """End with RST."""
        own = self.transport.get_extra_info("socket")
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


class HostileServer:
    """The server and what it has seen."""

    def __init__(self) -> None:
        self.port = 0
        self.connections = 0
        self.seen: Counter[str] = Counter()
        self.arrived_ns: list[int] = []
        self.waited_ns: list[int] = []
        self.requests: list[tuple[bytes, bytes]] = []
        self.client_certificates: list[object] = []
        self.protocols: list[str | None] = []  # by ALPN, of each connection
        self.connected_ns: list[int] = []
        self.keeps_requests = False
        self.refuses_reads = False
        self.frozen_from_ns = self.frozen_until_ns = 0
        self.longest_gap_ns = 0  # how long this server's own loop did not come round


async def _serve(
    hostile: HostileServer,
    ready: threading.Event,
    stop: asyncio.Event,
    host: str,
    context: ssl.SSLContext | None,
) -> None:
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    server = await loop.create_server(
        lambda: Hostile(hostile), host, 0, family=family, ssl=context, backlog=1024
    )
    hostile.port = server.sockets[0].getsockname()[1]
    ready.set()
    last_ns = time.monotonic_ns()
    while not stop.is_set():
        await asyncio.sleep(0.002)
        now_ns = time.monotonic_ns()
        hostile.longest_gap_ns = max(hostile.longest_gap_ns, now_ns - last_ns)
        last_ns = now_ns
    server.close()


@contextlib.contextmanager
def hostile_server(
    *, host: str = "127.0.0.1", context: ssl.SSLContext | None = None
) -> Iterator[HostileServer]:
    """Serve in a thread until leaving."""
    hostile, ready = HostileServer(), threading.Event()
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda _loop, _context: None)  # handshakes fail on purpose
    stop = asyncio.Event()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(_serve(hostile, ready, stop, host, context))
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield hostile
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)


@contextlib.contextmanager
def plain_server(behave: Callable[[socket.socket, int], None]) -> Iterator[int]:
    """Serve each connection by a blocking function of it and its number, in one thread."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for number in itertools.count():
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            with contextlib.suppress(OSError):  # refused: the other side knows why
                behave(peer, number)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)
