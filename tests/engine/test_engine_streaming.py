"""Calls whose sides are streams: messages, pace, latencies inside and ends, against grpcio."""

from __future__ import annotations

import asyncio

import pytest
from bench_of_streams import (
    GRPC_HEAD,
    OK_TRAILERS,
    StreamBench,
    data_frame,
    frames_of,
    headers,
    message,
    reset,
    unary,
)
from driver import run_plan
from google.protobuf import descriptor_pb2, wrappers_pb2
from grpc_plans import call, grpc_plan
from grpc_service import grpc_service

from loadtests.clock import NS_PER_MS
from loadtests.engine.frames import END_STREAM, ErrorCode, FrameType, Setting, frame
from loadtests.engine.streaming import Talk
from loadtests.engine.task import Messages
from loadtests.plan.call import CallShape, Compression, FieldEquals
from loadtests.record.window import Kind


def _talk(shape: CallShape, count: int = 1, pace_ns: int = 0) -> Talk:
    messages = Messages(shape=shape, count=count, pace_ns=pace_ns, compression=Compression.IDENTITY)
    return Talk(messages)


def test_a_feed_is_measured_by_its_gaps() -> None:
    """The head, the first message, then each from the one before."""
    talk = _talk(CallShape.SERVER_STREAM)
    talk.begin(100)
    assert talk.hear(0, 110) == [(Kind.STREAM_SETUP, 10)]
    assert talk.hear(1, 150) == [(Kind.FIRST_MESSAGE, 50)]
    assert talk.hear(2, 170) == [(Kind.MESSAGE, 20), (Kind.MESSAGE, 0)]


def test_an_echo_is_measured_as_round_trips() -> None:
    """Each answer from the message of ours with its number; more than we said: by gaps."""
    talk = _talk(CallShape.BIDIRECTIONAL, count=2, pace_ns=100)
    talk.begin(0)
    assert (talk.left, talk.due_ns) == (1, 100)
    assert talk.hear(1, 30) == [(Kind.FIRST_MESSAGE, 30), (Kind.MESSAGE, 30)]
    assert talk.say(105)
    assert talk.hear(2, 150) == [(Kind.MESSAGE, 45), (Kind.MESSAGE, 0)]


def test_a_late_message_does_not_shift_the_next() -> None:
    """The pace is counted from the beginning of the stream."""
    talk = _talk(CallShape.CLIENT_STREAM, count=4, pace_ns=100)
    talk.begin(1000)
    assert not talk.say(1190)
    assert talk.due_ns == 1200


@pytest.mark.system
def test_server_streams() -> None:
    """20 messages 1 ms apart on each of 50 streams: all counted, each kind of latency apart."""
    download = call("Download", b"20", shape=CallShape.SERVER_STREAM)
    with grpc_service() as service:
        result = run_plan(grpc_plan(service.port, [download], level=50))
    result.check_conservation()
    assert result.final.ok == 50
    assert service.report["seen"] == {"Download": 50}
    setup, first = result.histogram(Kind.STREAM_SETUP), result.histogram(Kind.FIRST_MESSAGE)
    assert (setup.n, first.n) == (50, 50)
    assert result.histogram(Kind.MESSAGE).n == 50 * 19
    gap_us = result.histogram(Kind.MESSAGE).mean_us()
    assert gap_us > 900
    # A call lasts from its first message over 19 gaps to its end (1 %: the buckets' width).
    assert first.mean_us() + 19 * gap_us < result.histogram(Kind.SERVICE).mean_us() * 1.01


@pytest.mark.system
@pytest.mark.parametrize("pace_ms", [0, 10])
def test_client_streams(pace_ms: int) -> None:
    """Ten messages on each stream, at once or paced: the server counted them all."""
    upload = call(
        "Upload",
        b"x" * 100,
        shape=CallShape.CLIENT_STREAM,
        messages=10,
        pace_ns=pace_ms * NS_PER_MS,
    )
    with grpc_service() as service:
        result = run_plan(grpc_plan(service.port, [upload], level=40))
    result.check_conservation()
    assert result.final.ok == 40
    assert service.report["messages"]["Upload"] == 400
    assert result.histogram(Kind.FIRST_MESSAGE).n == 40
    service_time = result.histogram(Kind.SERVICE)
    assert service_time.quantile_us(0.01) >= 9 * pace_ms * 1000 * 0.98


@pytest.mark.system
@pytest.mark.parametrize("pace_ms", [0, 5])
def test_bidirectional_streams(pace_ms: int) -> None:
    """Every message comes back: as many round trips as messages."""
    talk = call(
        "Talk",
        b"x" * 1000,
        shape=CallShape.BIDIRECTIONAL,
        messages=20,
        pace_ns=pace_ms * NS_PER_MS,
    )
    with grpc_service() as service:
        result = run_plan(grpc_plan(service.port, [talk], level=30))
    result.check_conservation()
    assert result.final.ok == 30
    assert service.report["messages"]["Talk"] == 600
    assert result.histogram(Kind.MESSAGE).n == 600
    assert result.histogram(Kind.FIRST_MESSAGE).n == 30


@pytest.mark.system
@pytest.mark.parametrize("shape", [CallShape.SERVER_STREAM, CallShape.BIDIRECTIONAL])
def test_large_messages_on_streams(shape: CallShape) -> None:
    """Messages of 1 MB: windows are given back while the stream goes on."""
    megabyte = b"x" * 1_000_000
    if shape is CallShape.SERVER_STREAM:
        asked = call("Feed", b"5", shape=shape)
    else:
        asked = call("Talk", megabyte, shape=shape, messages=5, timeout_ns=10_000 * NS_PER_MS)
    with grpc_service() as service:
        result = run_plan(grpc_plan(service.port, [asked], level=4, grace_ns=10_000 * NS_PER_MS))
    result.check_conservation()
    assert result.final.ok == 4
    assert result.histogram(Kind.FIRST_MESSAGE).n == 4


@pytest.mark.system
def test_errors_and_deadlines_on_streams() -> None:
    """A stream that takes too long is a timeout; one of an unknown method is its code."""
    slow = call("Download", b"10000", shape=CallShape.SERVER_STREAM, timeout_ns=200 * NS_PER_MS)
    unknown = call("Nothing", shape=CallShape.BIDIRECTIONAL, messages=3)
    with grpc_service() as service:
        result = run_plan(grpc_plan(service.port, [slow, unknown], level=40))
    result.check_conservation()
    kinds = result.kinds()
    assert set(kinds) <= {"timeout", "grpc_4", "grpc_12"}
    assert kinds["grpc_12"] == result.final.client_error
    assert result.final.ok == 0
    assert service.report["peers"] == 2


def test_every_message_of_a_stream_is_checked() -> None:
    """One wrong message among many fails the call, and messages are not kept."""
    files = descriptor_pb2.FileDescriptorSet()
    wrappers_pb2.DESCRIPTOR.CopyToProto(files.file.add())
    checked = call(
        "Feed",
        shape=CallShape.SERVER_STREAM,
        checks=(FieldEquals(path="value", value="right"),),
        response_type="google.protobuf.StringValue",
    )
    plan = grpc_plan(1, [checked], descriptors=files.SerializeToString())
    right, wrong = (
        message(wrappers_pb2.StringValue(value=text).SerializeToString())
        for text in ("right", "wrong")
    )
    with StreamBench.of(plan) as bench:
        made = bench.open()
        bench.ask(2)
        for stream_id, body in ((1, right * 3), (3, right + wrong + right)):
            made.data_received(headers(stream_id, GRPC_HEAD) + data_frame(stream_id, body))
            made.data_received(headers(stream_id, OK_TRAILERS, last=True))
        assert bench.errors(bench.finish()) == {"check": 1}
        assert bench.traffic.ok == 1


def test_messages_of_a_stream_wait_for_windows() -> None:
    """All messages are handed over; they leave as the peer's windows allow, and then it ends."""
    upload = call("Upload", b"x" * 95, shape=CallShape.CLIENT_STREAM, messages=10)
    with StreamBench.of(grpc_plan(1, [upload])) as bench:
        made = bench.open({Setting.INITIAL_WINDOW_SIZE: 250})
        bench.sent(made)
        bench.ask()
        frames = bench.sent(made)
        assert [len(payload) for kind, _, _, payload in frames if kind == FrameType.DATA] == [250]
        made.data_received(b"\0\0\x04\x08\0\0\0\0\x01\0\0\x10\0")
        ((kind, flags, _, payload),) = bench.sent(made)
        assert (kind, flags, len(payload)) == (FrameType.DATA, END_STREAM, 750)


def test_pings_beside_a_paced_stream_are_no_flood() -> None:
    """A long upload hears of nothing but windows and pings until its end."""
    upload = call("Upload", shape=CallShape.CLIENT_STREAM, messages=5, pace_ns=NS_PER_MS)

    async def talk(bench: StreamBench) -> None:
        made = bench.open()
        bench.ask()
        for _ in range(4):
            made.data_received(frame(FrameType.PING, 0, 0, b"12345678") * 4000)
            bench.clock.now_ns += NS_PER_MS
            made._talks._speak()
        assert made.is_open
        made.data_received(unary(1))

    with StreamBench.of(grpc_plan(1, [upload])) as bench:
        asyncio.run(talk(bench))
        bench.finish()
        assert bench.traffic.ok == 1


def test_a_stream_answered_early_is_given_up() -> None:
    """A server that ends the call while we still have messages to send: reset, then its status."""
    upload = call("Upload", shape=CallShape.CLIENT_STREAM, messages=3)
    with StreamBench.of(grpc_plan(1, [upload, call("Echo")])) as bench:
        made = bench.open({Setting.INITIAL_WINDOW_SIZE: 2})
        bench.ask()
        bench.sent(made)
        made.data_received(headers(1, GRPC_HEAD) + data_frame(1, message(b"3")))
        made.data_received(headers(1, OK_TRAILERS, last=True))
        sent = frames_of(b"".join(bench.own[made].sent))
        assert sent == [(FrameType.RST_STREAM, 0, 1, b"\0\0\0\0")]
        made.data_received(reset(1, ErrorCode.NO_ERROR))
        bench.finish()
        assert (bench.traffic.ok, made.is_open) == (1, True)
