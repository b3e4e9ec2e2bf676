"""The server's side of a connection, over a transport in memory."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.clock import NS_PER_S
from loadtests.cluster import http1
from loadtests.cluster.http1 import Connection, Exchange
from loadtests.cluster.wire import Answer, Series, build_answer, build_error


class MemoryTransport:
    """Keeps what is written; knows whether it reads and is closed."""

    def __init__(self) -> None:
        self.written = b""
        self.reading = True
        self.ended = self.closed = False

    def write(self, data: bytes) -> None:
        """Keep bytes; after the end there may be none."""
        assert not self.ended
        self.written += data

    def can_write_eof(self) -> bool:
        """TCP can."""
        return True

    def write_eof(self) -> None:
        """Half-close."""
        self.ended = True

    def close(self) -> None:
        """Close."""
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        """Whether it has been closed."""
        return self.closed

    def is_reading(self) -> bool:
        """Whether the client is read from."""
        return self.reading

    def pause_reading(self) -> None:
        """Stop."""
        self.reading = False

    def resume_reading(self) -> None:
        """Go on."""
        self.reading = True


class EchoSite:
    """Answers each request with its method, target and body; `/later` waits for `release`."""

    def __init__(self) -> None:
        self.hot: dict[bytes, Answer] = {
            b"/hot": build_answer(Series("GET", "/hot", 200), b'"hot"')
        }
        self.connections: set[Connection] = set()
        self.draining = False
        self.loop = cast("asyncio.AbstractEventLoop", None)
        self.waiting: list[Exchange] = []
        self.settled: list[tuple[bytes, bool]] = []

    def serve(self, exchange: Exchange) -> None:
        """Answer now, or keep."""
        if exchange.url.startswith(b"/later"):
            self.waiting.append(exchange)
        else:
            self.reply(exchange)

    def reply(self, exchange: Exchange) -> None:
        """Answer."""
        if exchange.url in self.hot:  # as the real site: hot or not, the same answer
            exchange.connection.finish(exchange, self.hot[exchange.url])
            return
        parts = [exchange.method, exchange.url, exchange.body]
        body = json.dumps([part.decode("latin-1") for part in parts]).encode()
        exchange.connection.finish(exchange, build_answer(Series("GET", "/", 200), body))

    def refuse(self, status: int, message: str) -> Answer:
        """A refusal."""
        return build_error(Series("UNKNOWN", "UNKNOWN", status), message)

    def settle(self, exchange: Exchange, replied_ns: int | None) -> None:
        """Note it."""
        self.settled.append((exchange.url, replied_ns is not None))


def connect() -> tuple[EchoSite, Connection, MemoryTransport]:
    site, transport = EchoSite(), MemoryTransport()
    connection = Connection(site)
    connection.connection_made(cast("asyncio.Transport", transport))
    return site, connection, transport


def answers(written: bytes) -> list[tuple[int, Any]]:
    """(status, decoded body) of every response in the bytes."""
    found = []
    while written:
        head, _, rest = written.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        status = int(lines[0].split()[1])
        if status == 100:
            written = rest
            continue
        length = next(
            int(line.split(b":")[1])
            for line in lines[1:]
            if line.lower().startswith(b"content-length")
        )
        found.append((status, json.loads(rest[:length])))
        written = rest[length:]
    return found


def get(target: str, *headers: str) -> bytes:
    lines = [f"GET {target} HTTP/1.1", "Host: x", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


MIX = (
    get("/a")
    + get("/hot")
    + b"POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
    + b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: x\r\n\r\n"
    + get("/hot")
    + get("/d")
)
MIX_ANSWERS = [
    (200, ["GET", "/a", ""]),
    (200, "hot"),
    (200, ["POST", "/b", "hello"]),
    (200, ["POST", "/c", "abcde"]),
    (200, "hot"),
    (200, ["GET", "/d", ""]),
]


@given(st.lists(st.integers(1, len(MIX) - 1), max_size=40))
@settings(max_examples=200)
def test_any_split_gives_the_same_answers(cuts: list[int]) -> None:
    """However the bytes of a pipeline arrive, answers are the same and in order."""
    _, connection, transport = connect()
    edges = [0, *sorted(set(cuts)), len(MIX)]
    for start, end in itertools.pairwise(edges):
        connection.data_received(MIX[start:end])
    assert answers(transport.written) == MIX_ANSWERS


def test_byte_by_byte() -> None:
    """One byte at a time is a request like any other."""
    _, connection, transport = connect()
    for place in range(len(MIX)):
        connection.data_received(MIX[place : place + 1])
    assert answers(transport.written) == MIX_ANSWERS


def test_late_answers_keep_the_order() -> None:
    """An answer that is ready early waits for the ones asked before it."""
    site, connection, transport = connect()
    connection.data_received(get("/later1") + get("/hot") + get("/later2") + get("/x"))
    assert transport.written == b""
    site.reply(site.waiting[1])
    assert transport.written == b""
    site.reply(site.waiting[0])
    bodies = [body if body == "hot" else body[1] for _, body in answers(transport.written)]
    assert bodies == ["/later1", "hot", "/later2", "/x"]


def test_head_has_no_body() -> None:
    """HEAD gets the head of GET's answer, Content-Length included, and nothing else."""
    _, connection, transport = connect()
    connection.data_received(b"HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"Content-Length: 18" in transport.written
    assert transport.written.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "request_bytes",
    [get("/hot", "Connection: close"), get("/a", "Connection: close"), b"GET /a HTTP/1.0\r\n\r\n"],
)
def test_last_answer_says_so_and_half_closes(request_bytes: bytes) -> None:
    """When the client asks for the end, the answer says `Connection: close` and the server ends."""
    _, connection, transport = connect()
    connection.data_received(request_bytes)
    assert b"Connection: close\r\n" in transport.written
    assert transport.ended
    connection.data_received(get("/more"))
    assert len(answers(transport.written)) == 1


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00garbage\r\n\r\n", 400),
        (b"GET / HTTP/3.7\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (
            b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\n\r\n", 200),  # whole in one read: accepted
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 20_000, 431),
    ],
)
def test_broken_requests_are_refused(data: bytes, status: int) -> None:
    """What is no request, or too much of one, is refused in JSON and ends the connection."""
    _, connection, transport = connect()
    connection.data_received(data)
    found = answers(transport.written)
    assert [one for one, _ in found] == [status]
    if status != 200:
        assert found[0][1]["status"] == status
        assert transport.ended


def test_limits_hold_across_reads() -> None:
    """Target, head and body are limited however slowly they grow."""
    _, connection, transport = connect()
    connection.data_received(b"GET /")
    for _ in range(20):
        connection.data_received(b"a" * 1_000)
    assert [status for status, _ in answers(transport.written)] == [414]
    _, connection, transport = connect()
    connection.data_received(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(20):
        connection.data_received(b"%x\r\n" % 65_536 + b"a" * 65_536 + b"\r\n")
    assert [status for status, _ in answers(transport.written)] == [413]
    _, connection, transport = connect()
    for _ in range(20_000):
        connection.data_received(b"\r\n")
    assert [status for status, _ in answers(transport.written)] == [431]


def test_long_pipelines_are_not_mistaken_for_a_long_head() -> None:
    """Many whole requests in one read are answered, though they exceed the limit of a head."""
    _, connection, transport = connect()
    connection.data_received(get("/hot") * 2_000 + b"GET /ho")
    connection.data_received(b"t HTTP/1.1\r\n\r\n")
    assert len(answers(transport.written)) == 2_001


def test_expect_is_answered_before_the_body() -> None:
    """A client that waits for 100 Continue gets it (RFC 9110 10.1.1)."""
    _, connection, transport = connect()
    connection.data_received(
        b"POST /b HTTP/1.1\r\nHost: x\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n"
    )
    assert transport.written == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.data_received(b"hi")
    assert answers(transport.written) == [(200, ["POST", "/b", "hi"])]


def test_offered_upgrade_is_ignored() -> None:
    """A request that offers h2c is answered in HTTP/1.1, and so is the next one."""
    _, connection, transport = connect()
    connection.data_received(get("/a", "Connection: Upgrade", "Upgrade: h2c") + get("/b"))
    assert [body[1] for _, body in answers(transport.written)] == ["/a", "/b"]


def test_reading_stops_while_much_waits() -> None:
    """With many unanswered requests the client is not read from until they have left."""
    site, connection, transport = connect()
    connection.data_received(get("/later") * http1.MAX_PIPELINED)
    assert not transport.is_reading()
    for exchange in site.waiting:
        site.reply(exchange)
    assert transport.is_reading()
    assert len(answers(transport.written)) == http1.MAX_PIPELINED


def test_half_close_is_answered_then_ended() -> None:
    """A client that has said all and listens still gets its answer."""
    site, connection, transport = connect()
    connection.data_received(get("/later"))
    assert connection.eof_received() is True
    site.reply(site.waiting[0])
    assert len(answers(transport.written)) == 1
    assert transport.ended


def test_lost_clients_are_accounted() -> None:
    """Requests whose client goes are settled as abandoned, and late answers go nowhere."""
    site, connection, transport = connect()
    connection.data_received(get("/later") + get("/x"))
    connection.connection_lost(None)
    assert site.settled == [(b"/later", False), (b"/x", False)]
    site.reply(site.waiting[0])
    assert transport.written == b""
    assert not site.connections


def test_patience_ends() -> None:
    """An unfinished request gets 408, an idle connection is closed, a deaf reader aborted."""
    site, connection, transport = connect()
    connection.data_received(b"GET /slow HTTP/1.1\r\nX: ")
    began_ns = connection._since_ns
    connection.data_received(b"more")
    connection.sweep(began_ns + http1.REQUEST_PATIENCE_NS - 1)
    assert transport.written == b""
    connection.sweep(began_ns + http1.REQUEST_PATIENCE_NS + 1)
    assert [status for status, _ in answers(transport.written)] == [408]
    connection.sweep(connection._since_ns + http1.LINGER_NS + 1)
    assert transport.is_closing()

    site, connection, transport = connect()
    connection.data_received(get("/later"))
    connection.sweep(connection._since_ns + 1_000 * NS_PER_S)
    assert not transport.is_closing()  # it is the server that is slow
    site.reply(site.waiting[0])
    connection.sweep(connection._since_ns + http1.IDLE_PATIENCE_NS + 1)
    assert transport.is_closing()

    _, connection, transport = connect()
    connection.pause_writing()
    assert not transport.is_reading()
    connection.sweep(connection._since_ns + http1.READER_PATIENCE_NS + 1)
    assert transport.is_closing()


@given(st.binary(max_size=400))
@settings(max_examples=500)
def test_any_bytes_are_survived(data: bytes) -> None:
    """No input raises; whatever is written is whole responses."""
    _, connection, transport = connect()
    connection.data_received(data)
    connection.data_received(b"GET / HTTP/1.1\r\n" + data)
    answers(transport.written)
    connection.connection_lost(None)
