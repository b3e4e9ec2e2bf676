"""Frames that no server should send, in any order and any cut: 20,000 and more cases."""

from __future__ import annotations

import random
import struct
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from unittest import mock

import pytest
from bench_of_streams import (
    GRPC_HEAD,
    OK_TRAILERS,
    StreamBench,
    data_frame,
    goaway,
    head,
    headers,
    message,
    reset,
    unary,
    window_update,
)
from engine_plans import request
from grpc_plans import call, grpc_plan, http2
from hpack import Encoder

from loadtests.engine import answer_forms
from loadtests.engine.frames import (
    END_HEADERS,
    ErrorCode,
    FrameType,
    Setting,
    frame,
    settings_frame,
)
from loadtests.engine.multiplexed import MultiplexedConnection
from loadtests.plan.call import CallShape
from loadtests.plan.model import BodyContains, Plan
from loadtests.record.window import Count

_CASES = 20_000  # at least, over all seeds
_SEEDS = 6
_PER_BENCH = 100
_STEP_NS = 700_000_000  # the clock's longest step, and a timeout that it reaches


def _stream(source: random.Random, newest: int) -> int:
    """A stream id: mostly one under way."""
    if source.random() < 0.85:
        return max(1, newest - 2 * source.randrange(4))
    return source.choice([0, 1, 2, newest + 2, newest + 1, 99_999_999])


def _settings(source: random.Random) -> bytes:
    name = source.choice(list(Setting))
    value = source.choice([0, 1, 2, 5, 100, 4096, 16_384, 65_535, (1 << 31) - 1, (1 << 32) - 1])
    return settings_frame({name: value})


def _piece(source: random.Random, newest: int, encoder: Encoder) -> bytes:
    """One or a few frames, each of them likely somewhere."""
    stream = _stream(source, newest)
    status = source.choice([103, 200, 404, 503])
    increment = source.choice([0, 1, 1000, (1 << 31) - 1])
    body = message(b"x" * source.choice([0, 1, 20, 900, 1001]))
    fields = [
        (":status", str(source.choice([100, 200, 404, 503]))),
        ("x-id", str(source.randrange(9))),
    ]
    choices = [
        lambda: unary(stream),
        lambda: headers(stream, GRPC_HEAD, last=source.random() < 0.2),
        lambda: headers(stream, head(status), last=source.random() < 0.5),
        lambda: headers(stream, encoder.encode(fields), last=source.random() < 0.5),
        lambda: headers(stream, OK_TRAILERS, last=source.random() < 0.8),
        lambda: data_frame(stream, body, last=source.random() < 0.4),
        lambda: data_frame(stream, body[: source.randrange(len(body))], last=source.random() < 0.2),
        lambda: frame(FrameType.DATA, 8, stream, bytes([source.randrange(9)]) + body[:5]),
        lambda: reset(stream, source.choice(list(ErrorCode))),
        lambda: window_update(source.choice([0, stream]), increment),
        lambda: _settings(source),
        lambda: frame(FrameType.PING, source.randrange(2), 0, b"12345678"),
        lambda: window_update(0, increment) + frame(FrameType.PING, 0, 0, b"12345678"),
        lambda: goaway(source.choice([0, stream, (1 << 31) - 1])),
        lambda: frame(FrameType.HEADERS, 0, stream, GRPC_HEAD[:4]),
        lambda: frame(FrameType.CONTINUATION, END_HEADERS, stream, GRPC_HEAD[4:]),
        lambda: frame(source.randrange(256), source.randrange(256), stream, source.randbytes(9)),
        lambda: source.randbytes(source.randrange(1, 30)),
    ]  # fmt: skip
    weights = [6, 4, 4, 3, 4, 5, 3, 1, 1.5, 2, 1, 1, 1, 0.4, 0.7, 0.7, 0.4, 0.2]
    return source.choices(choices, weights)[0]()


def _cut(source: random.Random, data: bytes) -> list[bytes]:
    edges = sorted({0, len(data), *(source.randint(0, len(data)) for _ in range(2))})
    return [data[begin:end] for begin, end in pairwise(edges)]


def _plan() -> Plan:
    return grpc_plan(
        1,
        [
            call("Echo", timeout_ns=_STEP_NS),
            http2(request("/x", timeout_ns=_STEP_NS)),
            http2(request("/h", method="HEAD")),
            http2(request("/c", checks=(BodyContains(text="x"),))),
            http2(request("/up", method="POST", body=b"u" * 70_000)),
            call("Feed", shape=CallShape.SERVER_STREAM),
            call("Talk", shape=CallShape.BIDIRECTIONAL, messages=5, timeout_ns=_STEP_NS),
        ],
        response_limit_bytes=1000,
    )


def _case(
    source: random.Random, bench: StreamBench, encoders: dict[MultiplexedConnection, Encoder]
) -> None:
    """Ask a few times, answer with anything, perhaps time out or lose the connection."""
    if not bench.many[0].connections:
        made = bench.open({Setting.MAX_CONCURRENT_STREAMS: 8}, streams=8)
        encoders[made] = Encoder()
    # In the order they were opened: what a seed does must not hang on addresses.
    made = source.choice([c for c in encoders if c in bench.many[0].members])
    for _ in range(source.randrange(1, 4)):
        bench.ask(request=source.randrange(7))
    newest = made._http2.sender.next_id - 2
    encoder = encoders[made]
    data = b"".join(_piece(source, newest, encoder) for _ in range(source.randrange(1, 7)))
    for part in _cut(source, data):
        if made.is_open:
            made.data_received(part)
    bench.clock.now_ns += source.choice([0, 1000, _STEP_NS])
    if source.random() < 0.3 and made.is_open:
        made.expire_overdue(bench.clock.now_ns)
    if source.random() < 0.02 and made.is_open:
        made.connection_lost(None)
    bench.own[made].sent.clear()
    bench.lines[made].written.clear()


@pytest.mark.parametrize("seed", range(_SEEDS))
def test_any_frames_in_any_order_are_accounted_for(seed: int) -> None:
    """No exception, no request lost or doubled, the free ones are those with room: each case."""
    source = random.Random(seed)
    seen, cases = set(), 0
    while cases < _CASES / _SEEDS:
        with StreamBench.of(_plan()) as bench:
            encoders: dict[MultiplexedConnection, Encoder] = {}
            for _ in range(_PER_BENCH):
                _case(source, bench, encoders)
                cases += 1
                pool = bench.many[0]
                in_flight = sum(member.in_flight for member in pool.members)
                assert bench.traffic.in_flight == in_flight
                with_room = [c for c in pool.members if c.room > 0]
                assert sorted(pool.free, key=id) == sorted(with_room, key=id)
            seen |= set(bench.errors(bench.finish()))
            assert bench.traffic.ok
    assert cases * _SEEDS >= _CASES
    assert {"protocol", "timeout", "goaway", "too_large", "check", "h2_cancel"} <= seen


_NEVER = 1 << 62
# Whether forms are learnt, and whether the bytes come one by one.
_WAYS = ((1, False), (_NEVER, False), (_NEVER, True), (1, True))


@contextmanager
def _learning_after(answers: int) -> Iterator[None]:
    """Learn a form after so many answers, compiled before or not."""
    with (
        mock.patch.object(answer_forms, "SEEN_BEFORE", answers),
        mock.patch.object(answer_forms, "SEEN_BEFORE_COMPILING", answers),
    ):
        yield


def _told(bench: StreamBench) -> tuple[object, ...]:
    """All that an archive would hold of what has ended."""
    in_flight = bench.traffic.in_flight
    window = bench.finish()
    totals = [window.total(count) for count in (Count.OK, Count.BYTES_RECEIVED)]
    return in_flight, totals, bench.traffic.client_error, bench.errors(window)


def test_the_shortcuts_agree_with_the_long_way() -> None:
    """In a known form or not, whole or byte by byte, an answer ends the same."""
    source = random.Random(11)
    answer_forms._patterns.clear()
    for _ in range(500):
        told = []
        seed = source.random()
        for seen_before, is_cut in _WAYS:
            case = random.Random(seed)
            with (
                _learning_after(seen_before),
                StreamBench.of(_plan()) as bench,
            ):
                made = bench.open()
                for index in (0, 1, 0, 1, 0, 0, 3):  # the first four make heads and forms known
                    bench.ask(request=index)
                plain = [
                    headers(stream, head(200)) + data_frame(stream, b"x", last=True)
                    for stream in (3, 7)
                ]
                made.data_received(unary(1) + plain[0] + unary(5) + plain[1])
                data = b"".join(_piece(case, 13, Encoder()) for _ in range(case.randrange(1, 6)))
                step = 1 if is_cut else len(data) or 1
                for at in range(0, len(data), step):
                    if made.is_open:
                        made.data_received(data[at : at + step])
                told.append(_told(bench))
        assert told == [told[0]] * len(_WAYS), seed
    assert answer_forms._patterns, "no form was learnt"


class _Server:
    """Writes answers of a few sizes in one of the orders of servers, with a table that changes."""

    def __init__(self, source: random.Random) -> None:
        self._source, self._encoder = source, Encoder()
        self._day = 0

    def _head(self, stream: int) -> bytes:
        source = self._source
        self._day += source.random() < 0.03  # as a server's date does, or its table when full
        kind = source.choice(["application/grpc"] * 20 + ["application/grpc+x", "text/html"])
        fields = [(":status", "200"), ("x-day", f"{self._day}"), ("content-type", kind)]
        return headers(stream, self._encoder.encode(fields))

    def _tail(self, stream: int) -> bytes:
        source = self._source
        body = message(b"x" * source.choice([0, 1, 20, 20, 20, 900]))
        fields = [("grpc-status", "0" if source.random() < 0.95 else "14")]
        return data_frame(stream, body) + headers(stream, self._encoder.encode(fields), last=True)

    def answers(self, streams: list[int]) -> bytes:
        """Write the answers to these streams."""
        source, out = self._source, list[bytes]()
        begun = ended = 0
        while ended < len(streams):
            ahead = source.choice([1, 1, 3, len(streams)])
            while begun < min(len(streams), ended + ahead):
                out.append(self._head(streams[begun]))
                begun += 1
            out.append(self._tail(streams[ended]))
            ended += 1
            if source.random() < 0.02:
                out.append(source.choice([window_update(0, 1), settings_frame({})]))
        return b"".join(out)


def test_answers_in_known_forms_count_as_those_read_frame_by_frame() -> None:
    """Heads ahead, sizes, codes, a table that changes, cut anywhere: one outcome for all."""
    source = random.Random(12)
    learnt = 0
    for _ in range(150):
        told = []
        seed = source.random()
        for seen_before in (1, 3, _NEVER):
            case = random.Random(seed)
            plan = grpc_plan(1, [call("Echo")], response_limit_bytes=1000)
            with (
                _learning_after(seen_before),
                StreamBench.of(plan) as bench,
            ):
                made, server = bench.open(streams=20), _Server(case)
                for first in range(1, 400, 40):
                    bench.ask(20)
                    data = server.answers(list(range(first, first + 40, 2)))
                    for part in _cut(case, data):
                        made.data_received(part)
                assert made.is_open
                assert made.in_flight == 0
                learnt += len(made._http2._forms.known) * (seen_before == 1)
                told.append(_told(bench))
        assert told == [told[0]] * 3, seed
    assert learnt > 100


def test_a_head_from_before_the_table_changed_makes_no_form() -> None:
    """Its bytes mean other fields now: here the second 0xbf is a head that is not gRPC's."""
    with (
        _learning_after(1),
        StreamBench.of(grpc_plan(1, [call("Echo")])) as bench,
    ):
        made = bench.open()
        bench.ask(4)
        first = b"\x88" + _indexed(b"x-a", b"1") + _indexed(b"content-type", b"application/grpc")
        made.data_received(headers(1, first) + headers(3, b"\x88\xbf\xbe"))  # 62 is the newest
        made.data_received(headers(5, b"\x88\xbf\xbe"))
        made.data_received(
            data_frame(1, message(b"x"))
            + headers(1, _indexed(b"grpc-status", b"0"), last=True)  # the table has moved
            + data_frame(3, message(b"x"))
            + headers(3, b"\xbe", last=True)
            + data_frame(5, message(b"x"))
            + headers(5, b"\xbe", last=True)
        )
        assert bench.traffic.ok == 3
        # 0xbf is now the content type, 0xbe grpc-status: a head with trailers' fields, ended.
        made.data_received(headers(7, b"\x88\xbf\xbe", last=True))
        assert bench.traffic.failed == 1
        assert [form.head.block for form in made._http2._forms.known] == []


def _indexed(name: bytes, value: bytes) -> bytes:
    """A field with incremental indexing, its name new (RFC 7541, 6.2.1)."""
    return b"\x40" + bytes([len(name)]) + name + bytes([len(value)]) + value


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"", frame(FrameType.PING, 0, 0, b"12345678")),
        (b"", settings_frame({Setting.INITIAL_WINDOW_SIZE: 5})),
        (b"", frame(FrameType.PRIORITY, 0, 1, b"\0" * 5)),
        (b"", frame(99, 0, 1, b"\0" * 100)),
        (b"", window_update(1, 1)),
        (headers(1, GRPC_HEAD), data_frame(1, b"")),
        (headers(1, GRPC_HEAD), frame(FrameType.DATA, 8, 1, b"\xc8" + b"\0" * 200)),
        (frame(FrameType.HEADERS, 0, 1, b""), frame(FrameType.CONTINUATION, 0, 1, b"")),
        (frame(FrameType.HEADERS, 0, 1, b""), frame(FrameType.CONTINUATION, 0, 1, b"\0" * 900)),
        (headers(1, GRPC_HEAD) + data_frame(1, b"\0\0\0\x03"), data_frame(1, b"")),
        (struct.pack(">IBI", 1 << 31, 0, 1), b"\0" * 5000),
    ],
)
def test_endless_frames_need_bounded_memory(begin: bytes, more: bytes) -> None:
    """Whatever goes on for ever is ended after a bounded number of bytes."""
    with StreamBench.of(grpc_plan(1, [call("Echo")], response_limit_bytes=1000)) as bench:
        made = bench.open()
        bench.ask()
        tracemalloc.start()
        made.data_received(begin)
        fed = 0
        while made.is_open and fed < 8_000_000:
            made.data_received(more * 20)
            fed += len(more) * 20
            bench.own[made].sent.clear()
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert not made.is_open
        assert peak_bytes < 4_000_000
        assert bench.errors(bench.finish()) == {"protocol": 1}
