"""The server's side of an HTTP/1.1 connection (RFC 9112) on `asyncio.Protocol` and llhttp.

Owns framing, pipelining (answers leave in the order of requests), keep-alive, limits and
the patience with slow clients. What an answer says is the site's business. Laws: memory per
connection is bounded whatever the client sends, and a broken request is refused in JSON and
ends the connection, never the process.

Longer than most rooms: a connection is one state machine, and its fast path must see all of it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic_ns
from typing import Final, Protocol, cast

import httptools

from loadtests.clock import NS_PER_S
from loadtests.cluster.wire import CONTINUE, Answer, Series

MAX_HEAD_BYTES: Final = 16 * 1024  # as nginx's four buffers of 4-8 KiB and Quarkus' 20 KiB
MAX_URL_BYTES: Final = 8 * 1024
MAX_BODY_BYTES: Final = 1024 * 1024
MAX_PIPELINED: Final = 64
REQUEST_PATIENCE_NS: Final = 10 * NS_PER_S  # from the first byte of a request to its last
IDLE_PATIENCE_NS: Final = 75 * NS_PER_S  # nginx's keepalive_timeout
LINGER_NS: Final = 2 * NS_PER_S  # RFC 9112 9.6: let the client read the refusal before closing
READER_PATIENCE_NS: Final = 30 * NS_PER_S  # a client that does not read its answers


class Exchange:
    """One request that is not answered on the spot, and its place in the order of answers."""

    __slots__ = ("answer", "body", "connection", "keep_alive", "method", "received_ns", "url")

    def __init__(
        self,
        connection: Connection,
        method: bytes,
        url: bytes,
        body: bytes,
        *,
        keep_alive: bool,
        received_ns: int,
    ) -> None:
        self.connection = connection
        self.method = method
        self.url = url
        self.body = body
        self.keep_alive = keep_alive
        self.received_ns = received_ns
        self.answer: Answer | None = None


class Site(Protocol):
    """What a connection asks of the node behind it."""

    hot: dict[bytes, Answer]  # answers to `GET url` that can be sent without further thought
    connections: set[Connection]
    draining: bool
    loop: asyncio.AbstractEventLoop

    def serve(self, exchange: Exchange) -> None:
        """Answer now or later through `exchange.connection.finish`."""
        ...

    def refuse(self, status: int, message: str) -> Answer:
        """The answer to bytes that are no request."""
        ...

    def settle(self, exchange: Exchange, replied_ns: int | None) -> None:
        """The exchange has left (time), or its connection has gone before (None)."""
        ...


class _RefusedError(Exception):
    """Raised inside a parser callback to stop at a request that is over a limit."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Connection(asyncio.Protocol):
    """One client connection."""

    __slots__ = (
        "_body",
        "_body_bytes",
        "_closing",
        "_completed",
        "_deaf",
        "_feeding",
        "_head_bytes",
        "_in_body",
        "_in_request",
        "_out",
        "_parser",
        "_paused",
        "_pending",
        "_quick",
        "_received_ns",
        "_since_ns",
        "_site",
        "_transport",
        "_url",
    )

    def __init__(self, site: Site) -> None:
        self._site = site
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._pending: deque[Exchange] = deque()
        self._out: list[bytes] = []
        self._quick: list[Series] = []
        self._url = b""
        self._body: list[bytes] = []
        self._body_bytes = self._head_bytes = 0
        self._received_ns = self._since_ns = monotonic_ns()
        self._in_request = self._in_body = False
        self._feeding = self._paused = self._completed = False
        self._deaf = self._closing = False  # refused: reads nothing more; closing: says nothing

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Join the site."""
        self._transport = cast("asyncio.Transport", transport)
        self._site.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 asyncio's signature
        """Leave the site; what waits for an answer is abandoned, not forgotten."""
        self._transport = None
        self._deaf = self._closing = True
        self._site.connections.discard(self)
        while self._pending:
            self._site.settle(self._pending.popleft(), None)

    def data_received(self, data: bytes) -> None:
        """Parse what came, answer what can be answered, write once."""
        if self._deaf:
            return
        self._received_ns = monotonic_ns()
        if not self._in_request and not self._head_bytes:
            self._since_ns = self._received_ns
        self._feeding = True
        try:
            self._feed(data)
        except _RefusedError as refused:
            self._refuse(refused.status, str(refused))
        except httptools.HttpParserError as error:
            cause = error.__context__
            if isinstance(cause, _RefusedError):
                self._refuse(cause.status, str(cause))
            elif isinstance(error, httptools.HttpParserCallbackError):
                raise
            else:
                self._refuse(400, f"not an HTTP/1.1 request: {error}")
        finally:
            self._feeding = False
        self._write_out()

    def eof_received(self) -> bool:
        """Half-close: what was asked is still answered, then the connection ends."""
        if self._pending and not self._closing:
            self._pending[-1].keep_alive = False
            return True
        return False

    def pause_writing(self) -> None:
        """The client does not read: stop reading from it."""
        self._paused = True
        self._since_ns = monotonic_ns()
        self._throttle()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._paused = False
        self._throttle()

    # llhttp's callbacks

    def on_url(self, part: bytes) -> None:
        """A part of the target; the first one begins a request."""
        if self._in_request and self._url:
            part = self._url + part
            if len(part) > MAX_URL_BYTES:
                raise _RefusedError(414, f"a target longer than {MAX_URL_BYTES} bytes")
        self._in_request = True
        self._url = part

    def on_headers_complete(self) -> None:
        """The head is whole; a body may follow."""
        self._in_body = True
        self._head_bytes = 0

    def on_body(self, part: bytes) -> None:
        """A part of the body."""
        self._body_bytes += len(part)
        if self._body_bytes > MAX_BODY_BYTES:
            raise _RefusedError(413, f"a body longer than {MAX_BODY_BYTES} bytes")
        self._body.append(part)

    def on_message_complete(self) -> None:
        """A request is whole: answer from the hot table, or hand it to the site."""
        url, self._url = self._url, b""
        self._in_request = self._in_body = False
        self._completed = True
        if self._deaf:
            return
        method = self._parser.get_method()
        keep_alive = self._parser.should_keep_alive()
        site = self._site
        if method == b"GET" and keep_alive and not self._pending and not site.draining:
            answer = site.hot.get(url)
            if answer is not None and not self._body:
                self._out.append(answer.payload)
                self._quick.append(answer.series)
                return
        body = b"".join(self._body)
        self._body.clear()
        self._body_bytes = 0
        exchange = Exchange(
            self, method, url, body, keep_alive=keep_alive, received_ns=self._received_ns
        )
        self._pending.append(exchange)
        site.serve(exchange)
        if len(self._pending) >= MAX_PIPELINED:
            self._throttle()

    # answers

    def finish(self, exchange: Exchange, answer: Answer) -> None:
        """Give an exchange its answer; it leaves when all before it have left."""
        exchange.answer = answer
        if self._transport is not None and not self._feeding:
            self._write_out()

    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that serves this connection."""
        return self._site.loop

    def drain(self) -> None:
        """Close now if nothing is asked; else the next answers say `Connection: close`."""
        if self._transport is not None and not self._pending and not self._in_request:
            self._transport.close()

    def sweep(self, now_ns: int) -> None:
        """End the connection when the client has used up its patience; called every second."""
        if self._transport is None:
            return
        waited_ns = now_ns - self._since_ns
        if self._closing:
            if waited_ns > LINGER_NS:
                self._transport.abort()
        elif self._paused:
            if waited_ns > READER_PATIENCE_NS:
                self._transport.abort()
        elif self._in_request or self._head_bytes:
            if waited_ns > REQUEST_PATIENCE_NS:
                self._refuse(408, "the request did not arrive in time")
                self._write_out()
        elif not self._pending and waited_ns > IDLE_PATIENCE_NS:
            self._transport.close()

    def _feed(self, data: bytes) -> None:
        self._completed = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # An offered upgrade may be ignored (RFC 9110 7.8): the request has been answered.
            rest = data[upgrade.args[0] :]
            if rest and not self._deaf:
                self._feed(rest)
            return
        if self._in_body:
            if b"100-continue" in data.lower() and not self._pending and not self._out:
                self._out.append(CONTINUE)
        elif self._completed:
            self._head_bytes = 0
        else:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                raise _RefusedError(431, f"a head longer than {MAX_HEAD_BYTES} bytes")

    def _refuse(self, status: int, message: str) -> None:
        if self._deaf:
            return
        self._deaf = True
        exchange = Exchange(self, b"", b"", b"", keep_alive=False, received_ns=self._received_ns)
        exchange.answer = self._site.refuse(status, message)
        self._in_request = False
        self._body.clear()
        self._pending.append(exchange)

    def _write_out(self) -> None:
        transport = self._transport
        if transport is None:
            return
        pending, out = self._pending, self._out
        left: list[Exchange] = []
        while pending and not self._closing:
            exchange = pending[0]
            if exchange.answer is None:
                break
            pending.popleft()
            close = not exchange.keep_alive or self._site.draining
            head = exchange.method == b"HEAD"
            out.append(exchange.answer.bytes_for(head=head, close=close))
            left.append(exchange)
            if close:
                self._deaf = self._closing = True
        if not out:
            return
        transport.write(out[0] if len(out) == 1 else b"".join(out))
        out.clear()
        self._count(left)
        if self._closing:
            self._say_goodbye(transport)
        elif left:
            self._throttle()

    def _count(self, left: list[Exchange]) -> None:
        now_ns = self._since_ns = monotonic_ns()
        duration_ns = now_ns - self._received_ns
        for series in self._quick:
            series.durations_ns.append(duration_ns)
        self._quick.clear()
        for exchange in left:
            self._site.settle(exchange, now_ns)

    def _say_goodbye(self, transport: asyncio.Transport) -> None:
        """Half-close and wait for the client, so that no reset overtakes the last answer."""
        while self._pending:
            self._site.settle(self._pending.popleft(), None)
        if transport.can_write_eof():
            transport.write_eof()
        else:
            transport.close()

    def _throttle(self) -> None:
        if self._transport is None or self._closing:
            return
        if self._paused or len(self._pending) >= MAX_PIPELINED:
            self._transport.pause_reading()
        elif not self._transport.is_reading():
            self._transport.resume_reading()
