"""The rules of HTTP/2 (RFC 9113) and gRPC, on a clock that the test turns: one outcome each."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from bench_of_streams import (
    GRPC_HEAD,
    OK_TRAILERS,
    StreamBench,
    data_frame,
    frames_of,
    goaway,
    head,
    headers,
    heads_of,
    message,
    reset,
    unary,
    window_update,
)
from engine_plans import request
from grpc_plans import call, grpc_plan, http2, multiplexing

from loadtests.clock import NS_PER_MS, NS_PER_S
from loadtests.engine.frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    ErrorCode,
    FrameType,
    Setting,
    frame,
    settings_frame,
)
from loadtests.engine.request_heads import plain_block
from loadtests.engine.task import Parcel
from loadtests.plan.call import Compression, Protocol
from loadtests.plan.model import BodyContains, Plan, Request
from loadtests.record.error_kinds import NO_CONNECTION
from loadtests.record.window import Kind

_BEGIN = headers(1, GRPC_HEAD)
_END = headers(1, OK_TRAILERS, last=True)
_CUT = frame(FrameType.HEADERS, 0, 1, b"")
_HTML = head(200, (b"content-type", b"text/html"))
_REFUSED = head(200, (b"content-type", b"application/grpc"), (b"grpc-status", b"14"))
_BARE = plain_block([(b"x", b"y")])
_NO_CODE = plain_block([(b"grpc-status", b"no")])


def _length(size: int) -> bytes:
    return head(200, (b"content-length", b"%d" % size))


def _plan() -> Plan:
    return grpc_plan(1, [call("Echo")], response_limit_bytes=1000)


def _trailers(code: int, text: bytes = b"") -> bytes:
    fields = [(b"grpc-status", b"%d" % code)]
    return plain_block([*fields, (b"grpc-message", text)] if text else fields)


def test_requests_of_one_turn_leave_in_one_send() -> None:
    """Five requests on one connection are one send, with odd ids, and sent is noted once."""
    with StreamBench.of(_plan()) as bench:
        made = bench.open()
        bench.own[made].sent.clear()
        bench.ask(5)
        assert len(bench.own[made].sent) == 1
        frames = bench.sent(made)
        ids = [stream for kind, _, stream, _ in frames if kind == FrameType.HEADERS]
        assert ids == [1, 3, 5, 7, 9]
        heads = heads_of(frames)
        assert heads == [heads[0]] * 5
        assert heads[0] == {
            ":method": "POST",
            ":scheme": "http",
            ":path": "/test.Service/Echo",
            ":authority": "127.0.0.1:1",
            "te": "trailers",
            "content-type": "application/grpc",
            "grpc-timeout": "2000000u",
            "grpc-accept-encoding": "identity,gzip",
            "user-agent": "headroom",
        }
        bodies = [payload for kind, _, _, payload in frames if kind == FrameType.DATA]
        assert bodies == [message(b"hello")] * 5
        assert all(flags == END_STREAM for kind, flags, _, _ in frames if kind == FrameType.DATA)


def test_response_and_service_time_are_those_of_the_request() -> None:
    """Answers out of order belong to their streams; sent is the time of the flush."""
    with StreamBench.of(_plan()) as bench:
        made = bench.open()
        bench.ask()
        bench.clock.now_ns += 5 * NS_PER_MS
        bench.ask()
        bench.clock.now_ns += 5 * NS_PER_MS
        made.data_received(unary(3))
        bench.clock.now_ns += 90 * NS_PER_MS
        made.data_received(unary(1))
        window = bench.finish()
        service = bench.histogram(window, Kind.SERVICE)
        assert service.max_us() == pytest.approx(100_000, rel=0.001)
        assert service.quantile_us(0.5) == pytest.approx(5_000, rel=0.001)
        assert bench.traffic.ok == 2


def test_connections_take_turns_and_never_more_than_they_may() -> None:
    """Room for two streams each by the server's word: four go round, the fifth waits."""
    with StreamBench.of(_plan()) as bench:
        made = [bench.open({Setting.MAX_CONCURRENT_STREAMS: 2}) for _ in range(2)]
        bench.ask(5)
        assert [connection.in_flight for connection in made] == [2, 2]
        assert bench.traffic.backlog_size == 1
        made[1].data_received(unary(1))
        assert bench.traffic.backlog_size == 0
        assert [connection.in_flight for connection in made] == [2, 2]


def _due(bench: StreamBench, count: int) -> list[Parcel]:
    """Make parcels that are due now."""
    sequences = np.arange(count, dtype=np.int64)
    return bench.catalogue.parcels([bench.clock.now_ns] * count, sequences, sequences * 0)


def test_what_is_due_beyond_all_room_waits_and_beyond_that_is_dropped() -> None:
    """Two leave, three wait in their order, three are dropped; answers let those who wait go."""
    with StreamBench.of(replace(_plan(), backlog_limit=3)) as bench:
        made = bench.open(streams=2)
        pool, traffic = bench.many[0], bench.traffic
        parcels = _due(bench, 8)
        pool.take_due(parcels)
        traffic.flush()
        assert (made.in_flight, traffic.backlog_size, traffic.dropped) == (2, 3, 3)
        assert list(pool.backlog) == parcels[2:5]
        pool.take_due(_due(bench, 1))  # nobody overtakes
        assert (made.in_flight, traffic.backlog_size, traffic.dropped) == (2, 3, 4)
        made.data_received(unary(1) + unary(3))
        assert (made.in_flight, traffic.backlog_size, traffic.ok) == (2, 1, 2)
        made.data_received(unary(5) + unary(7))
        made.data_received(unary(9))
        assert (traffic.ok, traffic.backlog_size, made.in_flight) == (5, 0, 0)
        bench.finish()


def test_who_waited_too_long_is_not_sent_whoever_waits_in_front() -> None:
    """Of three who wait the second may take less time: it fails, the others leave."""
    with StreamBench.of(_plan()) as bench:
        made = bench.open(streams=2)
        pool, traffic = bench.many[0], bench.traffic
        first, *others = _due(bench, 5)
        due_ns, code, task, payload = others[2]
        others[2] = (due_ns, code, replace(task, timeout_ns=1000), payload)
        pool.take_due([first, *others])
        traffic.flush()
        bench.clock.now_ns += 2000
        made.data_received(unary(1) + unary(3))
        assert (made.in_flight, traffic.backlog_size, traffic.failed) == (2, 0, 1)
        made.data_received(unary(5) + unary(7))
        assert bench.errors(bench.finish()) == {NO_CONNECTION: 1}


def test_what_is_due_at_the_same_moment_leaves_on_one_connection_in_turn() -> None:
    """Up to 128 requests in one piece; the next moment, and what is more, takes the next one."""
    with StreamBench.of(_plan()) as bench:
        made = [bench.open(streams=300) for _ in range(3)]
        bench.ask(5)
        assert [connection.in_flight for connection in made] == [5, 0, 0]
        bench.ask(1)
        assert [connection.in_flight for connection in made] == [5, 1, 0]
        bench.ask(200)  # after a stall
        assert [connection.in_flight for connection in made] == [77, 1, 128]
        bench.ask(1)
        assert [connection.in_flight for connection in made] == [77, 2, 128]
        assert all(len(bench.own[connection].sent) for connection in made)
        assert sorted(bench.many[0].free, key=id) == sorted(made, key=id)
        bench.finish()


@pytest.mark.parametrize(("before", "after", "room"), [(3, 1, 0), (1, 5, 4), (0, 2, 2), (2, 0, 0)])
def test_the_number_of_streams_may_change_in_mid_flight(before: int, after: int, room: int) -> None:
    """Fewer: nothing begins until enough have ended. More: what waits begins at once."""
    with StreamBench.of(_plan()) as bench:
        made = bench.open({Setting.MAX_CONCURRENT_STREAMS: before})
        bench.ask(1)
        made.data_received(settings_frame({Setting.MAX_CONCURRENT_STREAMS: after}))
        assert made.in_flight == min(1, max(before, after))
        assert max(0, made.room) == (room if before else after - 1)
        assert (made in bench.many[0].free) == (made.room > 0)
        bench.finish()


def test_a_lowered_number_of_streams_is_kept_to() -> None:
    """From three to one with three under way: the next begins when all of them have ended."""
    with StreamBench.of(_plan()) as bench:
        made = bench.open({Setting.MAX_CONCURRENT_STREAMS: 3})
        bench.ask(4)
        made.data_received(settings_frame({Setting.MAX_CONCURRENT_STREAMS: 1}))
        for stream_id, in_flight in ((1, 2), (3, 1), (5, 1), (7, 0)):
            made.data_received(unary(stream_id))
            assert made.in_flight == in_flight
        bench.finish()
        assert bench.traffic.ok == 4


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (unary(1), None),
        (_BEGIN + data_frame(1, message(b"a")[:3]) + data_frame(1, message(b"a")[3:])
         + _END, None),
        (headers(1, _REFUSED, last=True), "grpc_14"),
        (headers(1, head(200, (b"grpc-status", b"5")), last=True), "grpc_5"),
        (_BEGIN + headers(1, _trailers(4), last=True), "grpc_4"),
        (_BEGIN + headers(1, _trailers(77), last=True), "grpc_77"),
        (_BEGIN + _END, "protocol"),
        (_BEGIN + data_frame(1, message(b"a") * 2) + _END, "protocol"),
        (_BEGIN + data_frame(1, message(b"abc")[:-1]) + _END, "protocol"),
        (_BEGIN + data_frame(1, message(b"a"), last=True), "protocol"),
        (_BEGIN + data_frame(1, message(b"a")) + headers(1, _BARE, last=True), "protocol"),
        (_BEGIN + data_frame(1, message(b"a")) + headers(1, _NO_CODE, last=True), "protocol"),
        (headers(1, head(503), last=True), "status_503"),
        (headers(1, head(404)) + data_frame(1, b"<html>", last=True), "status_404"),
        (headers(1, _HTML) + data_frame(1, b"<html>", last=True), "protocol"),
        (_BEGIN + data_frame(1, message(b"", packed=1)), "protocol"),
        (_BEGIN + data_frame(1, message(b"", packed=2)), "protocol"),
        (_BEGIN + data_frame(1, message(b"x" * 1000)) + _END, None),
        (_BEGIN + data_frame(1, message(b"x" * 1001)), "too_large"),
        (data_frame(1, b"a"), "protocol"),
        (_BEGIN + headers(1, GRPC_HEAD), "protocol"),
        (headers(1, plain_block([(b"x", b"y")])), "protocol"),
        (headers(1, head(103)) + unary(1), None),
        (headers(1, head(103)) * 17, "protocol"),
        (headers(1, head(100), last=True), "protocol"),
        (window_update(1, 0), "protocol"),
        *((reset(1, code), f"h2_{code.name.lower()}") for code in ErrorCode),
        (frame(FrameType.RST_STREAM, 0, 1, b"\x00\x00\xff\xff"), "h2_error_99"),
    ],
)  # fmt: skip
def test_every_answer_has_its_outcome(answer: bytes, kind: str | None) -> None:
    """One outcome, whole or byte by byte, and the connection lives on for the next request."""
    outcomes = []
    for pieces in ([answer], [bytes([byte]) for byte in answer]):
        with StreamBench.of(_plan()) as bench:
            made = bench.open()
            bench.ask()
            for piece in pieces:
                made.data_received(piece)
            window = bench.finish()
            assert made.is_open
            assert bench.traffic.in_flight == 0
            bench.ask()
            made.data_received(unary(3))
            assert bench.traffic.in_flight == 0
            outcomes.append((bench.errors(window), bench.traffic.client_error))
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][0] == ({} if kind is None else {kind: 1})
    assert outcomes[0][1] == (kind in {"grpc_5", "status_404"})


@pytest.mark.parametrize(
    "wrong",
    [
        frame(FrameType.PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2" + GRPC_HEAD),
        frame(FrameType.DATA, 0, 0, b"x"),
        frame(FrameType.DATA, 0, 2, b"x"),
        frame(FrameType.DATA, 0, 99, b"x"),
        frame(FrameType.DATA, 8, 1, b"\x05abc"),
        frame(FrameType.DATA, 8, 1, b""),
        headers(2, GRPC_HEAD),
        headers(99, GRPC_HEAD),
        frame(FrameType.HEADERS, END_HEADERS | 0x20, 1, b"abc"),
        frame(FrameType.HEADERS, END_HEADERS, 1, b"\xfe"),
        frame(FrameType.HEADERS, 0, 1, GRPC_HEAD) + unary(1),
        frame(FrameType.HEADERS, 0, 1, GRPC_HEAD) + frame(FrameType.CONTINUATION, 4, 3, b""),
        frame(FrameType.HEADERS, 0, 1, GRPC_HEAD) + frame(77, 0, 1, b""),
        _CUT + frame(FrameType.CONTINUATION, 0, 1, b"") * 100,
        _CUT + frame(FrameType.CONTINUATION, 0, 1, b"\0" * 16384) * 3,
        frame(FrameType.CONTINUATION, END_HEADERS, 1, GRPC_HEAD),
        frame(FrameType.RST_STREAM, 0, 0, b"\0\0\0\0"),
        frame(FrameType.RST_STREAM, 0, 1, b"\0\0\0"),
        frame(FrameType.RST_STREAM, 0, 99, b"\0\0\0\0"),
        frame(FrameType.SETTINGS, 0, 1, b""),
        frame(FrameType.SETTINGS, 0, 0, b"\0"),
        frame(FrameType.SETTINGS, ACK, 0, b"\0\0\0\0\0\0"),
        settings_frame({Setting.ENABLE_PUSH: 1}),
        settings_frame({Setting.INITIAL_WINDOW_SIZE: 1 << 31}),
        settings_frame({Setting.MAX_FRAME_SIZE: 100}),
        settings_frame({Setting.MAX_FRAME_SIZE: 1 << 24}),
        frame(FrameType.PING, 0, 1, b"12345678"),
        frame(FrameType.PING, 0, 0, b"1234567"),
        frame(FrameType.GOAWAY, 0, 1, b"\0" * 8),
        frame(FrameType.GOAWAY, 0, 0, b"\0" * 7),
        frame(FrameType.WINDOW_UPDATE, 0, 0, b"\0\0\0"),
        window_update(0, 0),
        window_update(0, (1 << 31) - 1),
        window_update(99, 1),
        frame(FrameType.PRIORITY, 0, 0, b"\0" * 5),
        frame(FrameType.PRIORITY, 0, 1, b"\0" * 4),
        b"\x00\x40\x01" + frame(FrameType.DATA, 0, 1, b"x")[3:],
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        frame(FrameType.PING, 0, 0, b"12345678") * 10_001,
        settings_frame({}) * 10_001,
        frame(FrameType.DATA, 0, 1, b"") * 10_002,
        unary(1) + unary(1),
        unary(1) + data_frame(1, b"more"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_cut", [False, True])
def test_what_breaks_the_connections_rules_ends_it(wrong: bytes, *, is_cut: bool) -> None:
    """GOAWAY is sent, every request in flight ends once as a protocol error, and it closes."""
    pieces = [wrong]
    if is_cut:
        edges = [0, *range(1, min(len(wrong), 60)), len(wrong)]
        pieces = [wrong[begin:end] for begin, end in pairwise(edges)]
    with StreamBench.of(_plan()) as bench:
        made = bench.open()
        bench.ask(3)
        bench.sent(made)
        for piece in pieces:
            if made.is_open:
                made.data_received(piece)
        assert not made.is_open
        assert bench.lines[made].is_aborted
        assert [kind for kind, *_ in bench.sent(made)][-1] == FrameType.GOAWAY
        window = bench.finish()
        assert bench.traffic.in_flight == 0
        assert bench.errors(window) == {"protocol": bench.traffic.failed}
        assert bench.traffic.failed >= 2
        assert not bench.many[0].free
        assert not bench.many[0].members


def test_legal_oddities_are_taken() -> None:
    """Padding, priorities, unknown frames, settings and CONTINUATION change nothing."""
    odd = (
        frame(FrameType.HEADERS, 0x28, 1, b"\x03" + b"\0\0\0\0\x10" + GRPC_HEAD[:3] + b"pad")
        + frame(FrameType.CONTINUATION, 0, 1, b"")
        + frame(FrameType.CONTINUATION, END_HEADERS, 1, GRPC_HEAD[3:])
        + frame(0x77, 0xFF, 12, b"what?")
        + frame(FrameType.PRIORITY, 0, 1, b"\0\0\0\0\0")
        + frame(FrameType.DATA, 8, 1, b"\x02" + message(b"answer") + b"pp")
        + settings_frame({Setting.MAX_HEADER_LIST_SIZE: 1})
        + frame(FrameType.SETTINGS, 0, 0, b"\x99\x99\0\0\0\0")
        + frame(FrameType.DATA, 8, 1, b"\x00")
        + _END
    )
    with StreamBench.of(_plan()) as bench:
        made = bench.open()
        bench.ask()
        made.data_received(odd)
        bench.finish()
        assert (bench.traffic.ok, made.is_open) == (1, True)


@pytest.mark.parametrize(
    ("asked", "answer", "outcome"),
    [
        (http2(request("/x", checks=(BodyContains(text="a"),))), "body", (5, 0)),
        (call("Echo", expected_codes=(5,)), "message", (0, 5)),
        (call("Echo"), "reset", (0, 5)),
    ],
    ids=["looked at", "unexpected", "reset"],
)
def test_every_end_of_a_request_brings_the_connection_forward(
    asked: Request, answer: str, outcome: tuple[int, int]
) -> None:
    """C-core sends more pings and windows than answers: it is idle only while nothing ends."""
    answers: dict[str, Callable[[int], bytes]] = {
        "body": lambda number: headers(number, head(200)) + data_frame(number, b"a", last=True),
        "message": unary,
        "reset": lambda number: reset(number, ErrorCode.REFUSED_STREAM),
    }
    pings = frame(FrameType.PING, 0, 0, b"12345678") * 4000
    with StreamBench.of(grpc_plan(1, [asked])) as bench:
        made = bench.open()
        bench.ask(5)
        for stream_id in range(1, 11, 2):
            made.data_received(pings)
            made.data_received(answers[answer](stream_id))
        bench.finish()
        assert made.is_open
        assert (bench.traffic.ok, bench.traffic.failed) == outcome


def test_pings_and_settings_are_answered() -> None:
    """A PING comes back with its bytes, SETTINGS are acknowledged, answers are not answered."""
    with StreamBench.of(_plan()) as bench:
        made = bench.open()
        bench.sent(made)
        made.data_received(frame(FrameType.PING, 0, 0, b"12345678") + settings_frame({}))
        made.data_received(frame(FrameType.PING, ACK, 0, b"12345678"))
        made.data_received(frame(FrameType.SETTINGS, ACK, 0))
        assert bench.sent(made) == [
            (FrameType.PING, ACK, 0, b"12345678"),
            (FrameType.SETTINGS, ACK, 0, b""),
        ]


def test_goaway_drains() -> None:
    """Streams above the last one fail as a kind of their own; those below end; then it closes."""
    with StreamBench.of(_plan()) as bench:
        made = bench.open()
        bench.ask(4)
        made.data_received(goaway((1 << 31) - 1))  # the announcement of a careful server
        assert bench.many[0].missing == 1
        assert made.in_flight == 4
        made.data_received(goaway(3))
        assert made.in_flight == 2
        assert not bench.many[0].free
        bench.ask()
        assert bench.traffic.backlog_size == 1
        made.data_received(unary(7))  # late, for a stream that was given up
        made.data_received(unary(1))
        assert made.is_open
        made.data_received(unary(3))
        assert bench.lines[made].is_aborted
        window = bench.finish()
        assert bench.errors(window) == {"goaway": 2}
        assert bench.traffic.ok == 2
        other = bench.open()
        assert other.in_flight == 1


def test_a_timeout_resets_its_stream_only() -> None:
    """CANCEL is sent, late frames for the stream are ignored, the connection lives on."""
    with StreamBench.of(_plan()) as bench:
        made = bench.open()
        bench.ask()
        bench.clock.now_ns += 1500 * NS_PER_MS
        bench.ask()
        bench.sent(made)
        bench.clock.now_ns += 600 * NS_PER_MS
        made.expire_overdue(bench.clock.now_ns)
        assert bench.sent(made) == [(FrameType.RST_STREAM, 0, 1, b"\0\0\0\x08")]
        made.data_received(unary(1) + unary(3))
        window = bench.finish()
        assert bench.errors(window) == {"timeout": 1}
        assert (bench.traffic.ok, made.is_open, made.in_flight) == (1, True, 0)


def test_a_reset_at_the_deadline_is_a_timeout() -> None:
    """The deadline was sent along: a server that cancels because of it says the same as we do."""
    with StreamBench.of(_plan()) as bench:
        made = bench.open()
        bench.ask(2)
        made.data_received(reset(1, ErrorCode.CANCEL))
        bench.clock.now_ns += 2 * NS_PER_S
        made.data_received(reset(3, ErrorCode.CANCEL))
        assert bench.errors(bench.finish()) == {"h2_cancel": 1, "timeout": 1}


@pytest.mark.parametrize(
    ("error", "kinds"),
    [(None, {"closed_before_response": 1, "closed": 2}), (ConnectionResetError(), {"reset": 3})],
)
def test_a_lost_connection_ends_all_its_requests(
    error: Exception | None, kinds: dict[str, int]
) -> None:
    """Each with its own kind: whether bytes of its answer had come."""
    with StreamBench.of(_plan()) as bench:
        made = bench.open()
        bench.ask(3)
        made.data_received(headers(1, GRPC_HEAD))
        made.data_received(headers(3, GRPC_HEAD) + data_frame(3, message(b"a")))
        made.connection_lost(error)
        assert bench.errors(bench.finish()) == kinds
        assert not bench.many[0].members


def test_a_failing_send_ends_what_it_should_have_carried() -> None:
    """Requests that the kernel refuses count as sent and reset."""
    with StreamBench.of(_plan()) as bench:
        made = bench.open()
        bench.own[made].error = BrokenPipeError()
        bench.ask(3)
        assert bench.errors(bench.finish()) == {"reset": 3}


def test_a_rest_is_never_overtaken() -> None:
    """What the socket does not take goes to the transport, and so does all that follows."""
    with StreamBench.of(_plan()) as bench:
        made = bench.open()
        bench.own[made].sent.clear()
        bench.own[made].taken = 10
        bench.ask()
        bench.own[made].taken = 1 << 20
        bench.ask()
        assert len(b"".join(bench.own[made].sent)) == 10
        whole = b"".join(bench.own[made].sent + bench.lines[made].written)
        assert len(heads_of(frames_of(whole))) == 2


def test_the_last_stream_id_is_used_and_then_another_connection() -> None:
    """Ids end at 2^31-1: the connection takes what is left, finishes and is replaced."""
    with StreamBench.of(_plan()) as bench:
        made = bench.open()
        made._http2.sender.use_ids_from((1 << 31) - 3)
        made.data_received(settings_frame({}))
        assert made.room == 2
        bench.ask(3)
        assert bench.traffic.backlog_size == 1
        last = (1 << 31) - 1
        made.data_received(unary(last - 2))
        assert bench.many[0].missing == 1
        made.data_received(unary(last))
        assert not made.is_open
        assert bench.traffic.ok == 2
        other = bench.open()
        other.data_received(unary(1))
        bench.finish()
        assert bench.traffic.ok == 3


def test_a_silent_server_is_asked_and_then_left() -> None:
    """A PING after the keepalive time; no answer for 20 s ends the connection."""
    with StreamBench.of(_plan()) as bench:
        made = bench.open(keepalive_ns=NS_PER_S)
        bench.sent(made)
        bench.clock.now_ns += NS_PER_S
        made.expire_overdue(bench.clock.now_ns)
        made.expire_overdue(bench.clock.now_ns)
        ((kind, flags, _, payload),) = bench.sent(made)
        assert (kind, flags) == (FrameType.PING, 0)
        bench.clock.now_ns += NS_PER_S
        made.data_received(frame(FrameType.PING, ACK, 0, payload))
        bench.clock.now_ns += NS_PER_S
        made.expire_overdue(bench.clock.now_ns)
        assert len(bench.sent(made)) == 1
        bench.clock.now_ns += 20 * NS_PER_S
        made.expire_overdue(bench.clock.now_ns)
        assert not made.is_open


# Flow control


def _body_plan(size: int) -> Plan:
    return grpc_plan(1, [http2(request("/up", method="POST", body=b"x" * size, name="up"))])


def test_windows_of_one_byte_carry_a_whole_body() -> None:
    """Byte by byte, each only when the peer grants it; the last one ends the stream."""
    with StreamBench.of(_body_plan(50)) as bench:
        made = bench.open({Setting.INITIAL_WINDOW_SIZE: 0})
        bench.sent(made)
        bench.ask()
        assert [kind for kind, *_ in bench.sent(made)] == [FrameType.HEADERS]
        for number in range(50):
            made.data_received(window_update(1, 1))
            last = END_STREAM if number == 49 else 0
            assert bench.sent(made) == [(FrameType.DATA, last, 1, b"x")]
        made.data_received(headers(1, head(200), last=True))
        bench.finish()
        assert bench.traffic.ok == 1


def test_the_connections_window_is_shared() -> None:
    """65,535 bytes for all streams: nothing beyond, then what is granted, fairly."""
    with StreamBench.of(_body_plan(40_000)) as bench:
        made = bench.open({Setting.INITIAL_WINDOW_SIZE: 1 << 20})
        bench.sent(made)
        bench.ask(3)
        sent = [0] * 6
        for kind, _, stream, payload in bench.sent(made):
            sent[stream] += len(payload) if kind == FrameType.DATA else 0
        assert sum(sent) == 65_535
        made.data_received(window_update(0, 54_465))
        for kind, _, stream, payload in bench.sent(made):
            assert kind == FrameType.DATA
            assert len(payload) <= 16_384
            sent[stream] += len(payload)
        assert sent[1::2] == [40_000] * 3


def test_windows_may_shrink_below_nothing() -> None:
    """A smaller INITIAL_WINDOW_SIZE in mid-stream: the difference must be granted first."""
    with StreamBench.of(_body_plan(100)) as bench:
        made = bench.open({Setting.INITIAL_WINDOW_SIZE: 50})
        bench.ask()
        bench.sent(made)
        made.data_received(settings_frame({Setting.INITIAL_WINDOW_SIZE: 10}))
        made.data_received(window_update(1, 40))  # now 0
        assert [kind for kind, *_ in bench.sent(made)] == [FrameType.SETTINGS]
        made.data_received(window_update(1, 20))
        made.data_received(settings_frame({Setting.INITIAL_WINDOW_SIZE: 40}))
        sizes = [len(payload) for kind, _, _, payload in bench.sent(made) if kind == FrameType.DATA]
        assert sizes == [20, 30]


def test_a_window_beyond_its_limit_resets_the_stream() -> None:
    """RFC 9113, 6.9.1: a stream's overflow is a stream error."""
    with StreamBench.of(_body_plan(100)) as bench:
        made = bench.open({Setting.INITIAL_WINDOW_SIZE: 1})
        bench.ask()
        bench.sent(made)
        made.data_received(window_update(1, (1 << 31) - 1) + window_update(1, (1 << 31) - 1))
        assert bench.sent(made)[-1] == (FrameType.RST_STREAM, 0, 1, b"\0\0\0\x03")
        assert bench.errors(bench.finish()) == {"protocol": 1}
        assert made.is_open


def test_a_longer_frame_is_used_where_it_is_allowed() -> None:
    """MAX_FRAME_SIZE of the peer bounds what is sent in one frame."""
    with StreamBench.of(_body_plan(60_000)) as bench:
        settings = {Setting.MAX_FRAME_SIZE: 50_000, Setting.INITIAL_WINDOW_SIZE: 1 << 20}
        made = bench.open(settings)
        bench.sent(made)
        bench.ask()
        sizes = [len(payload) for kind, _, _, payload in bench.sent(made) if kind == FrameType.DATA]
        assert sizes == [50_000, 10_000]


def test_an_early_answer_stops_the_upload() -> None:
    """RFC 9113, 8.1: answered before it was asked in full, the request is not sent to its end."""
    with StreamBench.of(_body_plan(100_000)) as bench:
        made = bench.open()
        bench.ask()
        bench.sent(made)
        made.data_received(headers(1, head(413), last=True))
        assert bench.sent(made) == [(FrameType.RST_STREAM, 0, 1, b"\0\0\0\0")]
        made.data_received(reset(1, ErrorCode.NO_ERROR) + window_update(0, 1 << 20))
        assert bench.sent(made) == []
        assert bench.errors(bench.finish()) == {"status_413": 1}


def test_our_windows_are_given_back() -> None:
    """Gigabytes of answers: the connection's window is renewed before it is used up."""
    plan = grpc_plan(1, [http2(request("/down"))], response_limit_bytes=1 << 24)
    body = b"x" * 16_000
    with StreamBench.of(plan) as bench:
        made = bench.open()
        used, granted, stream = 0, 1 << 28, 1
        bench.sent(made)
        for _ in range(400):
            bench.ask()
            made.data_received(headers(stream, head(200)))
            for _ in range(62):
                made.data_received(data_frame(stream, body))
                used += len(body)
                assert used <= granted
            made.data_received(data_frame(stream, b"", last=True))
            for kind, _, where, payload in bench.sent(made):
                if kind == FrameType.WINDOW_UPDATE and where == 0:
                    granted += int.from_bytes(payload)
            stream += 2
        assert granted > 1 << 28
        bench.finish()
        assert bench.traffic.ok == 400


# REST over HTTP/2, checks, compression


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (headers(1, head(200), last=True), None),
        (headers(1, head(204), last=True), None),
        (headers(1, head(200)) + data_frame(1, b"ok", last=True), None),
        (headers(1, _length(2)) + data_frame(1, b"ok", last=True), None),
        (headers(1, head(200)) + data_frame(1, b"o") + data_frame(1, b"k")
         + headers(1, plain_block([(b"x-trailer", b"1")]), last=True), None),
        (headers(1, _length(3)) + data_frame(1, b"ok", last=True), "protocol"),
        (headers(1, _length(3), last=True), "protocol"),
        (headers(1, head(404)) + data_frame(1, b"no", last=True), "status_404"),
        (headers(1, head(429), last=True), "status_429"),
        (headers(1, head(503), last=True), "status_503"),
        (headers(1, head(200)) + data_frame(1, b"x" * 1001, last=True), "too_large"),
        (headers(1, head(200)) + data_frame(1, b"x" * 1000, last=True), None),
    ],
)  # fmt: skip
def test_rest_answers_have_their_outcomes(answer: bytes, kind: str | None) -> None:
    """Statuses, lengths and limits over HTTP/2 count as over HTTP/1.1."""
    plan = grpc_plan(1, [http2(request("/x"))], response_limit_bytes=1000)
    for pieces in ([answer], [bytes([byte]) for byte in answer]):
        with StreamBench.of(plan) as bench:
            made = bench.open()
            bench.ask()
            for piece in pieces:
                made.data_received(piece)
            assert bench.errors(bench.finish()) == ({} if kind is None else {kind: 1})
            assert bench.traffic.in_flight == 0


def test_head_has_no_body_whatever_its_length_says() -> None:
    """HEAD answers with content-length and no DATA are ok; DATA would be malformed."""
    plan = grpc_plan(1, [http2(request("/x", method="HEAD"))])
    with StreamBench.of(plan) as bench:
        made = bench.open()
        bench.ask(2)
        made.data_received(headers(1, _length(500), last=True))
        made.data_received(headers(3, head(200)) + data_frame(3, b"x", last=True))
        assert bench.errors(bench.finish()) == {"protocol": 1}
        assert bench.traffic.ok == 1


def test_checks_look_at_the_body() -> None:
    """A body in one frame or in many is checked as a whole."""
    plan = grpc_plan(1, [http2(request("/x", checks=(BodyContains(text="abcd"),)))])
    with StreamBench.of(plan) as bench:
        made = bench.open()
        bench.ask(3)
        made.data_received(headers(1, head(200)) + data_frame(1, b"-abcd-", last=True))
        made.data_received(headers(3, head(200)) + data_frame(3, b"-ab"))
        made.data_received(data_frame(3, b"cd-", last=True))
        made.data_received(headers(5, head(200)) + data_frame(5, b"-ab", last=True))
        assert bench.errors(bench.finish()) == {"check": 1}
        assert bench.traffic.ok == 2


def test_requests_are_packed_with_gzip() -> None:
    """The message is packed, its prefix and the head say so."""
    plan = grpc_plan(1, [call("Echo", b"hello" * 100, compression=Compression.GZIP)])
    with StreamBench.of(plan) as bench:
        made = bench.open()
        bench.sent(made)
        bench.ask()
        frames = bench.sent(made)
        assert heads_of(frames)[0]["grpc-encoding"] == "gzip"
        body = frames[-1][3]
        assert (body[0], int.from_bytes(body[1:5])) == (1, len(body) - 5)
        assert gzip.decompress(body[5:]) == b"hello" * 100


def test_heads_with_placeholders_are_each_their_own() -> None:
    """A path and metadata that vary are sent as literals, between heads that do not."""
    varying = http2(request("/item/${seq}", headers=(("X-Id", "${uuid}"),), name="item"))
    with StreamBench.of(grpc_plan(1, [varying, http2(request("/x"))])) as bench:
        made = bench.open()
        bench.sent(made)
        for number in range(6):
            bench.ask(request=number % 2)
        heads = heads_of(bench.sent(made))
        assert [entry[":path"] for entry in heads] == [
            "/item/0",
            "/x",
            "/item/2",
            "/x",
            "/item/4",
            "/x",
        ]
        assert len({entry.get("x-id") for entry in heads}) == 4


def test_a_smaller_header_table_is_kept_to() -> None:
    """HEADER_TABLE_SIZE 0 in mid-flight: heads stay legible to a decoder that keeps to it."""
    with StreamBench.of(_plan()) as bench:
        made = bench.open()
        bench.sent(made)
        bench.ask(2)
        frames = bench.sent(made)
        made.data_received(settings_frame({Setting.HEADER_TABLE_SIZE: 0}))
        bench.sent(made)
        bench.ask(2)
        heads = heads_of(frames + bench.sent(made))
        assert heads == [heads[0]] * 4


def test_http2_rest_requests_are_complete() -> None:
    """Method, base path, authority override, length; connection headers are left out."""
    made_of = http2(request("/y", method="POST", body=b"abc", headers=(("Connection", "close"),)))
    plan = grpc_plan(1, [made_of], multiplexing=multiplexing(authority="api.example.org"))
    with StreamBench.of(plan) as bench:
        made = bench.open()
        bench.sent(made)
        bench.ask()
        (entry,) = heads_of(bench.sent(made))
    assert entry == {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/y",
        ":authority": "api.example.org",
        "user-agent": "headroom",
        "accept": "*/*",
        "content-length": "3",
    }
    assert made_of.protocol is Protocol.HTTP2
