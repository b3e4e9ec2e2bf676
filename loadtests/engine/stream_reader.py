"""Answers read frame by frame: heads, bodies and ends of the streams of one connection.

The long way, on which every legal answer is read and every illegal one ended with its
kind; an answer on it has an `Exchange`. What a peer does wrong to a stream ends that
stream with RST_STREAM (RFC 9113, 5.4.2); what it may not do on any raises ConnectionFault.
"""

from __future__ import annotations

from typing import Final

from loadtests.engine.exchange import Ended, Exchange, Record
from loadtests.engine.frames import (
    END_STREAM,
    HEAD_BYTES,
    U32,
    ErrorCode,
    name_of,
    window_update_frame,
)
from loadtests.engine.given_up import GivenUp
from loadtests.engine.grpc import Failure, MessageFault, MessageReader, failure_of
from loadtests.engine.peer_faults import ConnectionFault, StreamFault, require, require_size
from loadtests.engine.response_heads import Head
from loadtests.engine.sender import Sender
from loadtests.record.error_kinds import CHECK, GOAWAY, HTTP2_PREFIX, PROTOCOL, TOO_LARGE
from loadtests.record.window import Count

_MOST_INFORMATIONAL: Final = 16


class StreamReader:
    """What ends goes to `ended`; `idle_frames` is set to 0 by what brings a request forward."""

    __slots__ = (
        "_given_up",
        "_limit_bytes",
        "_sender",
        "_streams",
        "_window",
        "ended",
        "flow_bytes",
        "idle_frames",
    )

    def __init__(self, sender: Sender, ended: Ended, *, limit_bytes: int, window: int) -> None:
        self._sender, self._streams, self.ended = sender, sender.streams, ended
        self._limit_bytes, self._window = limit_bytes, window
        self._given_up = GivenUp()
        self.flow_bytes = 0  # DATA taken, padding included, since the caller last looked (6.9.1)
        self.idle_frames = 0

    # Whose frame it is

    def _is_open(self, stream_id: int) -> bool:
        """Tell a stream under way from one that we gave up; any other is the peer's fault (5.1)."""
        if stream_id in self._streams.records:
            return True
        if not stream_id & 1 or stream_id >= self._sender.next_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"a frame for idle stream {stream_id}")
        if not self._given_up.forgives(stream_id):
            text = f"a frame for stream {stream_id} after its end"
            raise ConnectionFault(ErrorCode.STREAM_CLOSED, text)
        return False

    def is_known(self, stream_id: int) -> bool:
        """Tell a stream under way from one that has ended; an idle one is the peer's fault."""
        if stream_id in self._streams.records:
            return True
        require(
            bool(stream_id & 1) and stream_id < self._sender.next_id,
            f"a frame for idle stream {stream_id}",
        )
        return False

    def _exchange(self, stream_id: int) -> Exchange:
        return self._streams.exchange(stream_id, self._limit_bytes)

    # Heads

    def on_head(self, stream_id: int, head: Head, *, is_last: bool) -> None:
        """Take a head or trailers, decoded already."""
        if not self._is_open(stream_id):
            return
        exchange = self._exchange(stream_id)
        exchange.received_bytes += head.frame_bytes
        try:
            self._take_head(exchange, head, is_last=is_last)
        except StreamFault as fault:
            self.fail(stream_id, fault)

    def _take_head(self, exchange: Exchange, head: Head, *, is_last: bool) -> None:
        if head.fault is not None:
            raise StreamFault(PROTOCOL, head.fault)
        if exchange.head is not None:  # trailers (8.1)
            if head.status or not is_last:
                raise StreamFault(PROTOCOL, "a second head")
            self._finish(exchange, head)
        elif not head.status:
            raise StreamFault(PROTOCOL, "no :status")
        elif head.is_informational:
            exchange.informational += 1
            if is_last or exchange.informational > _MOST_INFORMATIONAL:
                raise StreamFault(PROTOCOL, "1xx that ends the stream, or too many of them")
        else:
            exchange.take_head(head, self._limit_bytes)
            if exchange.talk is not None:
                self.ended.heard.append((exchange, 0))
            if is_last:
                self._finish(exchange, head)

    # Bodies

    def on_data(self, flags: int, stream_id: int, data: bytes, flow_bytes: int) -> None:
        """Take DATA, its padding off; `flow_bytes` with it."""
        self.flow_bytes += flow_bytes
        if not self._is_open(stream_id):
            return
        exchange = self._exchange(stream_id)
        exchange.received_bytes += HEAD_BYTES + flow_bytes
        try:
            self._take_body(exchange, data, flow_bytes)
            if flags & END_STREAM:
                self._finish(exchange, None)
        except StreamFault as fault:
            self.fail(stream_id, fault)
        except MessageFault as wrong:
            self.fail(stream_id, StreamFault(wrong.kind, wrong.text, ErrorCode.CANCEL))

    def _take_body(self, exchange: Exchange, data: bytes, flow_bytes: int) -> None:
        if exchange.head is None:
            raise StreamFault(PROTOCOL, "DATA before HEADERS")
        exchange.body_bytes += len(data)
        if data:
            self.idle_frames = 0
        if exchange.reader is not None:
            self._read_messages(exchange, exchange.reader, data)
        elif exchange.body_bytes > self._limit_bytes:
            text = f"body larger than {self._limit_bytes} bytes"
            raise StreamFault(TOO_LARGE, text, ErrorCode.CANCEL)
        elif exchange.record[2].keeps_body:
            exchange.chunks.append(data)
        self._return(exchange, flow_bytes)

    def _read_messages(self, exchange: Exchange, reader: MessageReader, data: bytes) -> None:
        """Take messages; those of a stream are looked at as they come, and not kept."""
        count = reader.count
        reader.feed(data)
        if exchange.talk is not None and reader.count > count:
            self.ended.heard.append((exchange, reader.count - count))
            examine = exchange.record[2].examine
            if examine is not None:
                for message in reader.kept:
                    exchange.found = exchange.found or examine(message)
                reader.kept.clear()

    def _return(self, exchange: Exchange, flow_bytes: int) -> None:
        """Give the stream's window back in halves (6.9)."""
        exchange.unreturned_bytes += flow_bytes
        if exchange.unreturned_bytes >= self._window // 2:
            update = window_update_frame(exchange.stream_id, exchange.unreturned_bytes)
            self._sender.output.append(update)
            exchange.unreturned_bytes = 0

    # Ends

    def _finish(self, exchange: Exchange, tail: Head | None) -> None:
        """The peer has ended a stream: an answer, or a failure with its reason."""
        record, head = exchange.record, exchange.head
        if head is None:  # DATA with END_STREAM, but no head
            raise StreamFault(PROTOCOL, "an answer without a head")
        task = record[2]
        failure, answer, body = None, head, b""
        if task.messages is not None:
            failure = failure_of(head, tail, exchange.reader, task.messages)
            answer = tail if tail is not None else head
            if failure is None and exchange.found is not None and answer.code == 0:
                failure = Failure(Count.FAILED, CHECK, exchange.found)
            body = exchange.reader.kept[0] if exchange.reader and exchange.reader.kept else b""
        else:
            _check_length(exchange, head)
            body = b"".join(exchange.chunks)
        self._close(exchange)
        if failure is None:
            self.ended.answers.append((record, answer, body, exchange.received_bytes))
        else:
            self.ended.failures.append((record, failure, exchange.received_bytes))
        self.idle_frames = 0

    def _close(self, exchange: Exchange) -> None:
        """Forget a stream that the peer has ended; what we still had to send is given up."""
        is_half_open = exchange.stream_id in self._streams.uploads or not exchange.is_closing
        self._streams.forget(exchange.stream_id)
        if is_half_open:  # answered before it was asked in full (8.1)
            self._given_up.add(exchange.stream_id)
            self._sender.reset(exchange.stream_id, ErrorCode.NO_ERROR)

    def fail(self, stream_id: int, fault: StreamFault) -> None:
        """End a stream on which the peer did wrong."""
        exchange = self._exchange(stream_id)
        record = self.cancel(stream_id, fault.code)
        failure = Failure(Count.FAILED, fault.kind, fault.text)
        self.ended.failures.append((record, failure, exchange.received_bytes))
        self.idle_frames = 0

    def cancel(self, stream_id: int, code: ErrorCode) -> Record:
        """Reset a stream; its record, which counts for the caller from now on."""
        record = self._streams.forget(stream_id)
        self._given_up.add(stream_id)
        self._sender.reset(stream_id, code)
        return record

    def on_rst_stream(self, stream_id: int, payload: bytes) -> None:
        """The peer has reset a stream."""
        require_size(payload, U32.size)
        if not self.is_known(stream_id):
            return
        received_bytes = self._exchange(stream_id).received_bytes
        (code,) = U32.unpack(payload)
        record = self._streams.forget(stream_id)
        text = f"the server reset the stream: {name_of(code)}"
        failure = Failure(Count.FAILED, f"{HTTP2_PREFIX}{name_of(code)}", text)
        self.ended.failures.append((record, failure, received_bytes))
        self.idle_frames = 0

    def refuse_above(self, last_id: int, code: int) -> None:
        """GOAWAY: streams above the last one were not processed (6.8)."""
        text = f"the server goes away ({name_of(code)}) before this request"
        for above in [number for number in self._streams.records if number > last_id]:
            self._given_up.add(above)
            record = self._streams.forget(above)
            self.ended.failures.append((record, Failure(Count.FAILED, GOAWAY, text), 0))


def _check_length(exchange: Exchange, head: Head) -> None:
    """Hold content-length against the DATA (RFC 9113, 8.1.1)."""
    is_head = exchange.record[2].expected.is_head
    expected = 0 if is_head else head.length
    if expected is not None and expected != exchange.body_bytes:
        is_bodiless = head.status in (204, 304)  # their length tells of another answer
        if not (is_bodiless and not exchange.body_bytes):
            text = f"content-length {head.length}, {exchange.body_bytes} bytes of DATA"
            raise StreamFault(PROTOCOL, text)
