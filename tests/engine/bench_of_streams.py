"""HTTP/2 connections without sockets, on a clock that the test turns, and a peer by hand.

`StreamBench` is `Bench` with multiplexed pools. `Peer` writes what a server would send, frame
by frame (real servers are met in other tests; this one does what no real one does), and
reads what the engine has sent.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Self, cast
from unittest import mock

import numpy as np
from bench_of_connections import HEALTH, Bench, Clock, FakeSocket, FakeTransport
from hpack import Decoder

from loadtests.engine import multiplexed, multiplexed_pool, talks
from loadtests.engine.catalogue import Catalogue
from loadtests.engine.frames import (
    END_STREAM,
    HEAD,
    PREFACE,
    ErrorCode,
    FrameType,
    Setting,
    frame,
    headers_frames,
    settings_frame,
)
from loadtests.engine.multiplexed import MultiplexedConnection
from loadtests.engine.multiplexed_pool import MultiplexedPool
from loadtests.engine.request_heads import Field, plain_block
from loadtests.plan.model import Plan
from loadtests.record.window import Window

HEAD_FIELDS: list[Field] = [(b":status", b"200"), (b"content-type", b"application/grpc")]
GRPC_HEAD = plain_block(HEAD_FIELDS)
OK_TRAILERS = plain_block([(b"grpc-status", b"0")])


def head(status: int = 200, *fields: Field) -> bytes:
    """A head block."""
    return plain_block([(b":status", b"%d" % status), *fields])


def message(data: bytes, *, packed: int = 0) -> bytes:
    """One gRPC message with its prefix."""
    return struct.pack(">BI", packed, len(data)) + data


def headers(stream_id: int, block: bytes, *, last: bool = False) -> bytes:
    """HEADERS, whole."""
    return headers_frames(stream_id, block, END_STREAM if last else 0, 16_384)


def data_frame(stream_id: int, data: bytes, *, last: bool = False) -> bytes:
    """DATA."""
    return frame(FrameType.DATA, END_STREAM if last else 0, stream_id, data)


def unary(stream_id: int, data: bytes = b"answer") -> bytes:
    """A whole gRPC answer."""
    return (
        headers(stream_id, GRPC_HEAD)
        + data_frame(stream_id, message(data))
        + headers(stream_id, OK_TRAILERS, last=True)
    )


def reset(stream_id: int, code: ErrorCode) -> bytes:
    """RST_STREAM."""
    return frame(FrameType.RST_STREAM, 0, stream_id, struct.pack(">I", code))


def goaway(last_id: int, code: ErrorCode = ErrorCode.NO_ERROR) -> bytes:
    """GOAWAY."""
    return frame(FrameType.GOAWAY, 0, 0, struct.pack(">II", last_id, code))


def window_update(stream_id: int, increment: int) -> bytes:
    """WINDOW_UPDATE, legal or not."""
    return frame(FrameType.WINDOW_UPDATE, 0, stream_id, struct.pack(">I", increment))


Frame = tuple[int, int, int, bytes]  # type, flags, stream, payload


def frames_of(data: bytes) -> list[Frame]:
    """Cut what the engine has sent into frames; the preface must come first if it is there."""
    data = data.removeprefix(PREFACE)
    found, at = [], 0
    while at < len(data):
        word, flags, stream_id = HEAD.unpack_from(data, at)
        end = at + 9 + (word >> 8)
        assert end <= len(data), "the engine sent a part of a frame"
        found.append((word & 0xFF, flags, stream_id, data[at + 9 : end]))
        at = end
    return found


class StreamBench(Bench):
    """An engine's data path over HTTP/2 for one plan, no I/O."""

    def __init__(self, plan: Plan, clock: Clock) -> None:
        super().__init__(plan, clock)
        self.many = [
            MultiplexedPool(node, index, self.traffic, seed=1, protocol=plan.requests[0].protocol)
            for index, node in enumerate(plan.nodes)
        ]
        self.pools = list(self.many)
        self.catalogue = Catalogue(plan, run_id="run-1", environment={})
        self.own: dict[MultiplexedConnection, FakeSocket] = {}
        self.lines: dict[MultiplexedConnection, FakeTransport] = {}
        self.sequence = 0

    @classmethod
    @contextmanager
    def of(cls, plan: Plan) -> Iterator[Self]:
        """Build a bench whose modules read the bench's clock."""
        with ExitStack() as stack:
            bench = stack.enter_context(super().of(plan))
            for module in (multiplexed, multiplexed_pool, talks):
                stack.enter_context(mock.patch.object(module, "monotonic_ns", bench.clock))
            yield bench

    def open(
        self,
        settings: dict[Setting, int] | None = None,
        *,
        streams: int = 10,
        keepalive_ns: int = 0,
        index: int = 0,
    ) -> MultiplexedConnection:
        """Open one more connection whose server has sent its SETTINGS."""
        own, transport = FakeSocket(), FakeTransport()
        made = MultiplexedConnection(
            self.many[index],
            self.traffic,
            cast("None", own),
            streams=streams,
            keepalive_ns=keepalive_ns,
            shortest_timeout_ns=min(r.timeout_ns for r in self.plan.requests),
        )
        self.own[made], self.lines[made] = own, transport
        made.connection_made(transport)  # type: ignore[arg-type]  # a fake
        made.data_received(settings_frame(settings or {}))
        self.many[index].wanted += 1
        self.many[index].joined(made, self.clock.now_ns)
        return made

    def ask(self, count: int = 1, *, request: int = 0, index: int = 0) -> None:
        """Send so many requests, due now, on the next free connections; one flush for all."""
        slots = np.full(count, self.plan.slots.slot(0, request, index))
        sequences = np.arange(self.sequence, self.sequence + count, dtype=np.int64)
        self.sequence += count
        now_ns = self.clock.now_ns
        parcels = self.catalogue.parcels([now_ns] * count, sequences, slots)
        for _, code, task, payload in parcels:
            pool = self.many[index]
            if pool.free:
                pool.free.popleft().begin(now_ns, now_ns, code, task, payload)
            else:
                pool.offer(now_ns, now_ns, code, task, payload)
        self.traffic.flush()

    def sent(self, made: MultiplexedConnection) -> list[Frame]:
        """Take what the engine has sent since the last call, as frames."""
        frames = frames_of(b"".join(self.own[made].sent))
        self.own[made].sent.clear()
        return frames

    def errors(self, window: Window) -> dict[str, int]:
        """Kinds of errors of requests."""
        rows = len(self.plan.requests)
        return {
            kind: count
            for (slot, kind), count in window.errors.items()
            if self.plan.slots.indices(slot)[1] < rows
        }

    def finish(self) -> Window:
        """Close the open window and check that it tells what the totals tell."""
        window = self.recorder.close(0, HEALTH).finish()
        self.check_conservation(window, in_flight=self.traffic.in_flight)
        return window


def heads_of(frames: list[Frame]) -> list[dict[str, str]]:
    """Decode the heads of requests, in order."""
    decoder = Decoder()
    return [
        {str(name): str(value) for name, value in decoder.decode(payload)}
        for kind, _, _, payload in frames
        if kind == FrameType.HEADERS
    ]
