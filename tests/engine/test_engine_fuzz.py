"""Hostile bytes through the real connection, without sockets: 10,000 and more cases."""

from __future__ import annotations

import random
import tracemalloc
from itertools import pairwise

import pytest
from bench_of_connections import Bench
from engine_plans import plan_for, request
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadtests.engine.http1 import HEAD_LIMIT_BYTES, Expected, ResponseFault, ResponseReader
from loadtests.plan.model import BodyContains

_CASES = 6_000
_PIECES = (
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 204 No Content\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\n",
    b"HTTP/1.1 503 Busy\r\n",
    b"HTTP/1.0 200 OK\r\n",
    b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    b"HTTP/2 200\r\n",
    b"Content-Length: 2\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Length: 99999999999999999999\r\n",
    b"Content-Length: -1\r\n",
    b"content-length: 2, 2\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Transfer-Encoding: gzip\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"X: y\r\n",
    b" folded\r\n",
    b"\r\n",
    b"ok",
    b"2\r\nok\r\n",
    b"0\r\n\r\n",
    b"ffffffffffffffffff\r\n",
    b"1;ext=" + b"e" * 50 + b"\r\nx\r\n",
    b"\x00\xff\x16\x03",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
)


def _response(source: random.Random) -> bytes:
    """A response made of likely pieces, then damaged now and then."""
    data = b"".join(source.choices(_PIECES, k=source.randint(1, 8)))
    if source.random() < 0.5:
        data = b"HTTP/1.1 200 OK\r\n" + data
    if source.random() < 0.3 and data:
        position = source.randrange(len(data))
        damage = bytes([source.randrange(256)])
        data = data[:position] + damage + data[position + source.randint(0, 2) :]
    return data


def _cut(source: random.Random, data: bytes) -> list[bytes]:
    """The same bytes in up to four reads."""
    edges = sorted({0, len(data), *(source.randint(0, len(data)) for _ in range(3))})
    return [data[begin:end] for begin, end in pairwise(edges)]


def _outcome_of(bench: Bench, reads: list[bytes], request_index: int) -> tuple[int, ...]:
    """Serve one request with these reads and an end of stream; what it counted as."""
    traffic = bench.traffic
    before = (traffic.sent, traffic.ok, traffic.client_error, traffic.failed)
    if not bench.pools[0].free:
        bench.connect()
    made = bench.begin(request=request_index)
    for data in reads:
        if made.is_open:
            made.data_received(data)
    made.connection_lost(None)
    assert made.task is None
    after = (traffic.sent, traffic.ok, traffic.client_error, traffic.failed)
    return tuple(new - old for new, old in zip(after, before, strict=True))


def test_thousands_of_hostile_responses_end_exactly_once_each() -> None:
    """Whatever comes, in whatever pieces: no exception, one outcome per request."""
    source = random.Random(20261123)
    plan = plan_for(
        1,
        [
            request("/plain"),
            request("/head", method="HEAD"),
            request("/checked", checks=(BodyContains(text="ok"),)),
        ],
        response_limit_bytes=1000,
    )
    with Bench.of(plan) as bench:
        for _ in range(_CASES):
            reads = _cut(source, _response(source))
            outcome = _outcome_of(bench, reads, source.randrange(3))
            assert outcome[0] == 1
            assert sum(outcome[1:]) == 1
        window = bench.close()
        bench.check_conservation(window)
        assert bench.traffic.ok > _CASES // 50  # the cases reach both ends
        assert bench.traffic.failed > _CASES // 50


def test_the_shortcuts_agree_with_the_careful_reader() -> None:
    """A response judged in one read, its head new or known, ends as it does byte by byte."""
    source = random.Random(7)
    requests = [request("/plain"), request("/checked", checks=(BodyContains(text="ok"),))]
    plan = plan_for(1, requests, response_limit_bytes=1000)
    with Bench.of(plan) as whole, Bench.of(plan) as pieces:
        for _ in range(_CASES // 2):
            data, asked = _response(source), source.randrange(2)
            many = _outcome_of(pieces, [bytes([byte]) for byte in data], asked)
            assert _outcome_of(whole, [data], asked) == many, data
            assert _outcome_of(whole, [data], asked) == many, ("head known", data)


@pytest.mark.parametrize("body_bytes", [0, 2, 36, 37, 38, 39, 40])
def test_a_known_head_with_another_end_is_not_complete(body_bytes: int) -> None:
    """Cut anywhere, or a byte longer: what was complete before is not taken for complete."""
    body = b"x" * body_bytes
    data = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % body_bytes + body
    with Bench.of(plan_for(1, [request("/plain")])) as bench:
        assert _outcome_of(bench, [data], 0) == (1, 1, 0, 0)
        assert bench.traffic.heads.find(data.partition(b"\r\n\r\n")[0]) is not None
        for size in range(len(data)):
            assert _outcome_of(bench, [data[:size]], 0) == (1, 0, 0, 1), size
            assert _outcome_of(bench, [data[:size], data[size:]], 0) == (1, 1, 0, 0), size
        assert _outcome_of(bench, [data + b"!"], 0) == (1, 1, 0, 0)  # and the connection goes
        assert bench.pools[0].connections == set()


def test_chunks_are_never_known_by_their_head() -> None:
    """Without Content-Length the end of a response does not follow from its head."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    with Bench.of(plan_for(1, [request("/plain")])) as bench:
        assert _outcome_of(bench, [head + b"2\r\nok\r\n0\r\n\r\n"], 0) == (1, 1, 0, 0)
        assert _outcome_of(bench, [head + b"2\r\nok\r\n4\r\n\r\n"], 0) == (1, 0, 0, 1)


def test_the_memo_of_heads_is_bounded_and_gives_up() -> None:
    """A target that puts an id into each head is answered from the parser, in bounded memory."""
    with Bench.of(plan_for(1, [request("/plain")])) as bench:
        for number in range(3_000):
            data = b"HTTP/1.1 200 OK\r\nX-Id: %d\r\nContent-Length: 2\r\n\r\nok" % number
            assert _outcome_of(bench, [data], 0) == (1, 1, 0, 0)
        find = bench.traffic.heads.find
        assert not any(
            find(b"HTTP/1.1 200 OK\r\nX-Id: %d\r\nContent-Length: 2" % number)
            for number in range(3_000)
        )


def test_the_memo_of_heads_stays_where_heads_return() -> None:
    """A Date that moves on every few hundred responses only makes it forget old heads."""
    with Bench.of(plan_for(1, [request("/plain")])) as bench:
        for number in range(20_000):
            data = b"HTTP/1.1 200 OK\r\nDate: %d\r\nContent-Length: 2\r\n\r\nok" % (number // 8)
            assert _outcome_of(bench, [data], 0) == (1, 1, 0, 0)
        assert bench.traffic.heads.find(data.partition(b"\r\n\r\n")[0]) is not None


@settings(max_examples=1_000, suppress_health_check=list(HealthCheck))
@given(reads=st.lists(st.binary(max_size=200), max_size=6))
def test_arbitrary_bytes_never_break_the_connection(reads: list[bytes]) -> None:
    """Bytes without any form are a counted outcome, too."""
    with Bench.of(plan_for(1, [request("/plain")])) as bench:
        assert sum(_outcome_of(bench, reads, 0)[1:]) == 1


@settings(max_examples=500)
@given(
    body=st.binary(max_size=400),
    sizes=st.lists(st.integers(1, 50), min_size=1, max_size=20),
    seed=st.integers(0, 10**6),
    is_chunked=st.booleans(),
)
def test_a_legal_body_survives_any_cut(
    body: bytes, sizes: list[int], seed: int, *, is_chunked: bool
) -> None:
    """Framing is found whatever the reads: the body comes out as it went in."""
    if is_chunked:
        rest, chunks = body, b""
        for size in sizes:
            if rest:
                part, rest = rest[:size], rest[size:]
                chunks += b"%x\r\n%b\r\n" % (len(part), part)
        if rest:
            chunks += b"%x\r\n%b\r\n" % (len(rest), rest)
        data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    else:
        data = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    reader = ResponseReader(1000)
    reader.expect(Expected(is_head=False, keeps_body=True))
    for part in _cut(random.Random(seed), data):
        reader.feed(part)
    (finished,) = reader.finished
    assert finished.body == body
    assert finished.is_keep_alive


def test_endless_heads_chunks_and_trailers_need_bounded_memory() -> None:
    """A response without end is refused after a bounded number of bytes, wherever it is long."""
    endless = (
        (b"HTTP/1.1 200 OK\r\n", b"X-Filler: " + b"a" * 1000 + b"\r\n"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"a" * 1000),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;x=", b"a" * 1000),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
            b"X: " + b"a" * 999 + b"\r\n",
        ),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ", b"a" * 1000),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 ", b"a" * 1000),
    )
    for begin, more in endless:
        reader = ResponseReader(1000)
        reader.expect(Expected(is_head=False, keeps_body=True))
        tracemalloc.start()
        fed, fault = 0, None
        try:
            reader.feed(begin)
            while fed < 100 * HEAD_LIMIT_BYTES:
                reader.feed(more)
                fed += len(more)
        except ResponseFault as caught:
            fault = caught
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert fault is not None, begin
        assert fed <= 4 * HEAD_LIMIT_BYTES, begin
        assert peak_bytes < 16 * HEAD_LIMIT_BYTES, begin
