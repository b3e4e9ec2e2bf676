"""The client's side of one HTTP/2 connection, bytes in and answers out (RFC 9113).

No I/O, no clock. `receive` takes what a read brought and reads all its frames in one loop;
`passed`, `answers` and `failures` collect what ended, `sender.output` what must leave, and
`has_news` tells that a look at `passed` is not enough. The usual
answer (a head, one DATA frame and, with gRPC, trailers, all in one read and of known
heads) is recognised in place and makes no object but its tuple; every other one is read
frame by frame into an `Exchange`. The shortcut accepts only what the long way would find
the same in, and a property test holds them against each other.

What a peer does wrong to a stream ends that stream; what it does wrong to the connection
ends it with GOAWAY and sets `fault` (5.4). Bounded: header blocks, CONTINUATION, frames
that bring nothing forward (pings, settings, empty DATA), bodies.

The law: every stream that the sender has opened ends exactly once, in an answer or a
failure, or is still among `sender.streams`. One class, because all frames share its state.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from loadtests.engine.exchange import Answer, Exchange, Failed, Record, Streams
from loadtests.engine.frames import (
    ACK,
    DEFAULT_FRAME_BYTES,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    HEAD,
    HEAD_BYTES,
    MOST_WINDOW,
    PADDED,
    PREFACE,
    PRIORITISED,
    SETTING,
    U32,
    ErrorCode,
    FrameType,
    Setting,
    frame,
    goaway_frame,
    name_of,
    settings_frame,
    window_update_frame,
)
from loadtests.engine.grpc import PREFIX, Failure, MessageFault, MessageReader, failure_of
from loadtests.engine.response_heads import (
    BLOCK_LIMIT_BYTES,
    HEAD_LIST_LIMIT_BYTES,
    BlockError,
    Head,
    ResponseHeads,
)
from loadtests.engine.sender import Sender
from loadtests.record.error_kinds import CHECK, GOAWAY, HTTP2_PREFIX, PROTOCOL, TOO_LARGE
from loadtests.record.window import Count

_STREAM_SLACK_BYTES: Final = 1 << 16  # a body of the limit fits its window, prefixes included
_CONNECTION_WINDOW: Final = 1 << 28
_RENEWAL: Final = _CONNECTION_WINDOW // 2
_MOST_IDLE_FRAMES: Final = 10_000  # in a row that bring no request forward
_MOST_CONTINUATIONS: Final = 64
_MOST_INFORMATIONAL: Final = 16
_MOST_CANCELLED: Final = 1 << 16
_ID_MASK: Final = (1 << 31) - 1
_PING_BYTES: Final = 8
_PRIORITY_BYTES: Final = 5
_LEAST_FRAME_BYTES, _MOST_FRAME_BYTES = 1 << 14, (1 << 24) - 1  # RFC 9113, 6.5.2

_PREFIX_BYTES: Final = PREFIX.size
_PREFIX_AT: Final = PREFIX.unpack_from
_LAST: Final = END_HEADERS | END_STREAM


class ConnectionFault(Exception):  # noqa: N818 - a verdict on the peer, not an error of ours
    """The peer broke the connection's rules (RFC 9113, 5.4.1)."""

    def __init__(self, code: ErrorCode, text: str) -> None:
        self.code, self.text = code, text
        super().__init__(f"{code.name}: {text}")


class StreamFault(Exception):  # noqa: N818 - as above
    """The peer broke a stream's rules (RFC 9113, 5.4.2)."""

    def __init__(self, kind: str, text: str, code: ErrorCode = ErrorCode.PROTOCOL_ERROR) -> None:
        self.kind, self.text, self.code = kind, text, code
        super().__init__(f"{kind}: {text}")


class Http2:
    """One connection; after `fault` is set, send the output and close."""

    __slots__ = (
        "_block",
        "_block_flags",
        "_block_frames",
        "_block_id",
        "_cancelled",
        "_cancelled_ids",
        "_consumed",
        "_forgiven_id",
        "_heads",
        "_hot",
        "_idle_frames",
        "_is_blocked",
        "_last_id",
        "_limit_bytes",
        "_pings",
        "_rest",
        "_stream_window",
        "answers",
        "failures",
        "fault",
        "has_news",
        "heard",
        "is_greeted",
        "is_leaving",
        "passed",
        "passed_bytes",
        "sender",
        "streams",
    )

    def __init__(self, limit_bytes: int) -> None:
        self.streams = Streams()
        self.sender = Sender(self.streams)
        # What ended, since the caller last took it: ordinary answers whose status alone makes
        # them ok, with their bytes; answers to be judged; requests without an answer.
        self.passed: list[Record] = []
        self.passed_bytes: list[int] = []
        self.answers: list[Answer] = []
        self.failures: list[Failed] = []
        # What came on calls that are streams: so many messages, or 0 for the head.
        self.heard: list[tuple[Exchange, int]] = []
        self.has_news = False  # there is more to look at than `passed`
        self.fault: str | None = None
        self.is_greeted = False  # the peer's SETTINGS have come
        self.is_leaving = False  # GOAWAY: no new stream may be opened
        self._limit_bytes = limit_bytes
        self._stream_window = min(
            MOST_WINDOW, max(DEFAULT_WINDOW, limit_bytes + _STREAM_SLACK_BYTES)
        )
        self._heads = ResponseHeads()
        self._rest = b""  # of a frame cut off by the end of a read
        self._is_blocked = False  # in a header block: only CONTINUATION may follow
        self._block = bytearray()
        self._block_flags = self._block_frames = self._block_id = 0
        self._consumed = 0  # DATA since the connection's window was last renewed
        self._idle_frames = 0
        self._last_id = _ID_MASK  # what GOAWAY says that the peer may still answer
        self._pings = 0
        # What the loop needs of all this, as one tuple: half of the time of a short read.
        self._hot = (
            HEAD.unpack_from,
            self._heads.find,
            self.streams.records,
            self.streams.begun,
            self.streams.held,
            self.passed.append,
            self.passed_bytes.append,
            limit_bytes,
        )
        # Streams that we reset: late frames for them are no fault. Bounded, so that below
        # the highest one forgotten all are forgiven.
        self._cancelled: set[int] = set()
        self._cancelled_ids: deque[int] = deque()
        self._forgiven_id = 0

    def greet(self) -> None:
        """Write the preface (3.4): no pushes, and windows that hold the longest body."""
        settings = {
            Setting.ENABLE_PUSH: 0,
            Setting.INITIAL_WINDOW_SIZE: self._stream_window,
            Setting.MAX_HEADER_LIST_SIZE: HEAD_LIST_LIMIT_BYTES,
        }
        wider = window_update_frame(0, _CONNECTION_WINDOW - DEFAULT_WINDOW)
        self.sender.output += (PREFACE, settings_frame(settings), wider)

    def ping(self) -> None:
        """Ask whether the peer is there; any frame is an answer."""
        self._pings += 1
        self.sender.output.append(frame(FrameType.PING, 0, 0, self._pings.to_bytes(_PING_BYTES)))

    def bring_forward(self) -> None:
        """Note that a stream has said more: the peer has reason to speak of it."""
        self._idle_frames = 0

    def cancel(self, stream_id: int) -> Record:
        """Give a stream up: it is reset, and counts for the caller from now on."""
        return self._cancel(stream_id, ErrorCode.CANCEL)

    # Reading

    def receive(self, data: bytes) -> None:
        """Take bytes; never raises."""
        try:
            self._read(data)
        except ConnectionFault as fault:
            self._give_up(fault.code, fault.text)
        except BlockError as error:
            self._give_up(ErrorCode.COMPRESSION_ERROR, str(error))

    def _give_up(self, code: ErrorCode, text: str) -> None:
        self.sender.output.append(goaway_frame(code, text))
        self.has_news = True
        self.fault = f"{code.name}: {text}"

    def _read(self, data: bytes) -> None:  # noqa: C901, PLR0912, PLR0915 - see its docstring
        """Read all whole frames; the hot loop, so ordinary answers are spelt out in it.

        A call costs as much as all that is done for a frame here (`make bench`, gRPC).
        """
        if self._rest:
            data = self._rest + data
        unpack, find, records, begun, held, passed, passed_bytes, limit = self._hot
        consumed = 0
        is_blocked = self._is_blocked
        at, size = 0, len(data)
        last = size - HEAD_BYTES
        while at <= last:
            word, flags, stream_id = unpack(data, at)
            begin = at + HEAD_BYTES
            end = begin + (word >> 8)
            if end > size:
                break
            kind = word & 0xFF
            if kind == 0:  # DATA
                head = begun.get(stream_id)
                if head is not None:
                    record = records[stream_id]
                    task = record[2]
                    length = end - begin
                    if flags == END_STREAM:
                        if (
                            (head.length is None or head.length == length)
                            and length <= limit
                            and not task.is_grpc
                        ):
                            received = head.frame_bytes + end - at
                            if head.status in task.unchecked_statuses:
                                passed(record)
                                passed_bytes(received)
                            else:
                                body = data[begin:end] if task.keeps_body else b""
                                self.answers.append((record, head, body, received))
                            del records[stream_id], begun[stream_id]
                            consumed += length
                            at = end
                            continue
                    elif flags == 0 and length >= _PREFIX_BYTES and head.is_grpc and task.is_grpc:
                        packed, message_bytes = _PREFIX_AT(data, begin)
                        if (
                            message_bytes == length - _PREFIX_BYTES
                            and message_bytes <= limit
                            and not packed
                        ):
                            body = data[begin + _PREFIX_BYTES : end] if task.keeps_body else b""
                            held[stream_id] = (head, body, head.frame_bytes + end - at)
                            del begun[stream_id]
                            consumed += length
                            at = end
                            continue
            elif kind == 1 and not is_blocked:  # HEADERS
                if flags == END_HEADERS:
                    head = find(data[begin:end])
                    if head is not None and head.is_plain and begun.get(stream_id, head) is None:
                        begun[stream_id] = head
                        at = end
                        continue
                elif flags == _LAST and stream_id in held:
                    tail = find(data[begin:end])
                    if tail is not None and tail.is_trailer:
                        _, body, received = held.pop(stream_id)
                        record = records.pop(stream_id)
                        received += end - at
                        if tail.code in record[2].unchecked_statuses:
                            passed(record)
                            passed_bytes(received)
                        else:
                            self.answers.append((record, tail, body, received))
                        at = end
                        continue
            self._take(kind, flags, stream_id & _ID_MASK, data[begin:end])
            is_blocked = self._is_blocked
            at = end
        if at <= last and unpack(data, at)[0] >> 8 > DEFAULT_FRAME_BYTES:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a frame longer than 16,384 bytes")
        self._rest = data[at:]
        if self.passed or self.answers or self.failures:
            self._idle_frames = 0
        if self.answers:
            self.has_news = True
        self._consumed += consumed
        if self._consumed >= _RENEWAL:  # give the connection's window back in halves (6.9)
            self.sender.output.append(window_update_frame(0, self._consumed))
            self._consumed = 0
            self.has_news = True

    def _take(  # noqa: C901, PLR0912 - one line for each type of frame
        self, kind: int, flags: int, stream_id: int, payload: bytes
    ) -> None:
        """Take one frame that is no part of an ordinary answer."""
        self.has_news = True
        if len(payload) > DEFAULT_FRAME_BYTES:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {len(payload)} bytes")
        if not self.is_greeted and (kind != FrameType.SETTINGS or flags & ACK):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        if self._is_blocked and (kind != FrameType.CONTINUATION or stream_id != self._block_id):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a header block is interrupted")
        self._idle_frames += 1
        if self._idle_frames > _MOST_IDLE_FRAMES:
            text = f"{_MOST_IDLE_FRAMES} frames in a row that bring nothing forward"
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, text)
        match kind:
            case FrameType.DATA:
                self._on_data(flags, stream_id, payload)
            case FrameType.HEADERS:
                self._on_headers(flags, stream_id, payload)
            case FrameType.CONTINUATION:
                self._on_continuation(flags, payload)
            case FrameType.RST_STREAM:
                self._on_rst_stream(stream_id, payload)
            case FrameType.SETTINGS:
                self._on_settings(flags, stream_id, payload)
            case FrameType.PING:
                self._on_ping(flags, stream_id, payload)
            case FrameType.GOAWAY:
                self._on_goaway(stream_id, payload)
            case FrameType.WINDOW_UPDATE:
                self._on_window_update(stream_id, payload)
            case FrameType.PRIORITY:
                self._require(stream_id > 0, "PRIORITY of stream 0")
                self._require_size(payload, _PRIORITY_BYTES)
            case FrameType.PUSH_PROMISE:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE, though refused")
            case _:
                pass  # unknown frames are ignored (5.5)

    @staticmethod
    def _require(holds: bool, text: str) -> None:  # noqa: FBT001 - an assertion on the peer
        if not holds:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, text)

    @staticmethod
    def _require_size(payload: bytes, size: int) -> None:
        if len(payload) != size:
            text = f"a frame of {len(payload)} bytes that has {size}"
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, text)

    def _unpadded(self, flags: int, payload: bytes) -> bytes:
        """Take the padding off (6.1)."""
        if not flags & PADDED:
            return payload
        self._require(bool(payload) and payload[0] < len(payload), "padding longer than its frame")
        return payload[1 : len(payload) - payload[0]]

    def _is_open(self, stream_id: int) -> bool:
        """Tell a stream under way from one that we gave up; any other is the peer's fault (5.1)."""
        if stream_id in self.streams.records:
            return True
        if not stream_id & 1 or stream_id >= self.sender.next_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"a frame for idle stream {stream_id}")
        if stream_id > self._forgiven_id and stream_id not in self._cancelled:
            text = f"a frame for stream {stream_id} after its end"
            raise ConnectionFault(ErrorCode.STREAM_CLOSED, text)
        return False

    # Heads

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        block = self._unpadded(flags, payload)
        if flags & PRIORITISED:
            self._require(len(block) >= _PRIORITY_BYTES, "HEADERS shorter than their priority")
            block = block[_PRIORITY_BYTES:]
        if flags & END_HEADERS:
            self._on_block(stream_id, flags, block)
        else:
            self._is_blocked, self._block_id, self._block_flags = True, stream_id, flags
            self._block[:] = block
            self._block_frames = 1

    def _on_continuation(self, flags: int, payload: bytes) -> None:
        self._require(self._is_blocked, "CONTINUATION of nothing")
        self._block += payload
        self._block_frames += 1
        if len(self._block) > BLOCK_LIMIT_BYTES or self._block_frames > _MOST_CONTINUATIONS:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "an endless header block")
        if flags & END_HEADERS:
            self._is_blocked = False
            self._on_block(self._block_id, self._block_flags, bytes(self._block))
            self._block.clear()

    def _on_block(self, stream_id: int, flags: int, block: bytes) -> None:
        """Decode always, for the table's sake; then see whose it is."""
        head = self._heads.decode(block)
        if not self._is_open(stream_id):
            return
        exchange = self.streams.exchange(stream_id, self._limit_bytes)
        exchange.received_bytes += HEAD_BYTES + len(block)
        try:
            self._on_head(exchange, head, is_last=bool(flags & END_STREAM))
        except StreamFault as fault:
            self._fail(stream_id, fault)

    def _on_head(self, exchange: Exchange, head: Head, *, is_last: bool) -> None:
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
                self.heard.append((exchange, 0))
            if is_last:
                self._finish(exchange, head)

    # Bodies

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._consumed += len(payload)  # padding counts, too (6.9.1)
        data = self._unpadded(flags, payload)
        if not self._is_open(stream_id):
            return
        exchange = self.streams.exchange(stream_id, self._limit_bytes)
        exchange.received_bytes += HEAD_BYTES + len(payload)
        try:
            self._on_body(exchange, data, len(payload))
            if flags & END_STREAM:
                self._finish(exchange, None)
        except StreamFault as fault:
            self._fail(stream_id, fault)
        except MessageFault as fault:
            self._fail(stream_id, StreamFault(fault.kind, fault.text, ErrorCode.CANCEL))

    def _on_body(self, exchange: Exchange, data: bytes, flow_bytes: int) -> None:
        if exchange.head is None:
            raise StreamFault(PROTOCOL, "DATA before HEADERS")
        exchange.body_bytes += len(data)
        if data:
            self._idle_frames = 0
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
            self.heard.append((exchange, reader.count - count))
            examine = exchange.record[2].examine
            if examine is not None:
                found = (text for message in reader.kept if (text := examine(message)))
                exchange.found = exchange.found or next(found, None)
                reader.kept.clear()

    def _return(self, exchange: Exchange, flow_bytes: int) -> None:
        """Give the stream's window back in halves (6.9)."""
        exchange.unreturned_bytes += flow_bytes
        if exchange.unreturned_bytes >= self._stream_window // 2:
            update = window_update_frame(exchange.stream_id, exchange.unreturned_bytes)
            self.sender.output.append(update)
            exchange.unreturned_bytes = 0

    # Ends of streams

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
            self._check_length(exchange, head)
            body = b"".join(exchange.chunks)
        self._close(exchange)
        if failure is None:
            self.answers.append((record, answer, body, exchange.received_bytes))
        else:
            self.failures.append((record, failure, exchange.received_bytes))
        self._idle_frames = 0

    @staticmethod
    def _check_length(exchange: Exchange, head: Head) -> None:
        """Hold content-length against the DATA (RFC 9113, 8.1.1)."""
        is_head = exchange.record[2].expected.is_head
        expected = 0 if is_head else head.length
        if expected is not None and expected != exchange.body_bytes:
            is_bodiless = head.status in (204, 304)  # their length tells of another answer
            if not (is_bodiless and not exchange.body_bytes):
                text = f"content-length {head.length}, {exchange.body_bytes} bytes of DATA"
                raise StreamFault(PROTOCOL, text)

    def _close(self, exchange: Exchange) -> None:
        """Forget a stream that the peer has ended; what we still had to send is given up."""
        is_half_open = exchange.stream_id in self.streams.uploads or not exchange.is_closing
        self.streams.forget(exchange.stream_id)
        if is_half_open:  # answered before it was asked in full (8.1)
            self._remember_cancelled(exchange.stream_id)
            self.sender.reset(exchange.stream_id, ErrorCode.NO_ERROR)

    def _fail(self, stream_id: int, fault: StreamFault) -> None:
        exchange = self.streams.exchange(stream_id, self._limit_bytes)
        record = self._cancel(stream_id, fault.code)
        failure = Failure(Count.FAILED, fault.kind, fault.text)
        self.failures.append((record, failure, exchange.received_bytes))

    def _cancel(self, stream_id: int, code: ErrorCode) -> Record:
        record = self.streams.forget(stream_id)
        self._remember_cancelled(stream_id)
        self.sender.reset(stream_id, code)
        return record

    def _remember_cancelled(self, stream_id: int) -> None:
        if stream_id not in self._cancelled:
            self._cancelled.add(stream_id)
            self._cancelled_ids.append(stream_id)
        if len(self._cancelled_ids) > _MOST_CANCELLED:
            forgotten = self._cancelled_ids.popleft()
            self._cancelled.discard(forgotten)
            self._forgiven_id = max(self._forgiven_id, forgotten)

    def _on_rst_stream(self, stream_id: int, payload: bytes) -> None:
        self._require_size(payload, U32.size)
        if not self._is_known(stream_id):
            return
        received_bytes = self.streams.exchange(stream_id, self._limit_bytes).received_bytes
        (code,) = U32.unpack(payload)
        record = self.streams.forget(stream_id)
        text = f"the server reset the stream: {name_of(code)}"
        failure = Failure(Count.FAILED, f"{HTTP2_PREFIX}{name_of(code)}", text)
        self.failures.append((record, failure, received_bytes))

    def _is_known(self, stream_id: int) -> bool:
        """Tell a stream under way from one that has ended; an idle one is the peer's fault."""
        if stream_id in self.streams.records:
            return True
        self._require(
            bool(stream_id & 1) and stream_id < self.sender.next_id,
            f"a frame for idle stream {stream_id}",
        )
        return False

    # The connection

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._require(stream_id == 0, "SETTINGS of a stream")
        if flags & ACK:
            self._require_size(payload, 0)
            return
        if len(payload) % SETTING.size:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS cut off")
        for name, value in SETTING.iter_unpack(payload):
            self._set(name, value)
        self.is_greeted = True
        self.sender.output.append(frame(FrameType.SETTINGS, ACK, 0))

    def _set(self, name: int, value: int) -> None:
        sender = self.sender
        match name:
            case Setting.HEADER_TABLE_SIZE:
                sender.set_table_bytes(value)
            case Setting.ENABLE_PUSH:
                self._require(value == 0, "a server that asks for pushes")
            case Setting.MAX_CONCURRENT_STREAMS:
                sender.most_streams = value
            case Setting.INITIAL_WINDOW_SIZE:
                if value > MOST_WINDOW or not sender.set_initial_window(value):
                    raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "a window above 2^31-1")
            case Setting.MAX_FRAME_SIZE:
                is_legal = _LEAST_FRAME_BYTES <= value <= _MOST_FRAME_BYTES
                self._require(is_legal, f"MAX_FRAME_SIZE {value}")
                sender.set_frame_bytes(value)
            case _:
                pass  # MAX_HEADER_LIST_SIZE is advice, unknown ones are ignored

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._require(stream_id == 0, "PING of a stream")
        self._require_size(payload, _PING_BYTES)
        if not flags & ACK:
            self.sender.output.append(frame(FrameType.PING, ACK, 0, payload))

    def _on_goaway(self, stream_id: int, payload: bytes) -> None:
        """Streams above the last one were not processed; the others may still end (6.8)."""
        self._require(stream_id == 0, "GOAWAY of a stream")
        if len(payload) < 2 * U32.size:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY cut off")
        self._last_id = min(self._last_id, U32.unpack_from(payload)[0] & _ID_MASK)
        (code,) = U32.unpack_from(payload, U32.size)
        self.is_leaving = True
        text = f"the server goes away ({name_of(code)}) before this request"
        for above in [number for number in self.streams.records if number > self._last_id]:
            self._remember_cancelled(above)
            record = self.streams.forget(above)
            self.failures.append((record, Failure(Count.FAILED, GOAWAY, text), 0))

    def _on_window_update(self, stream_id: int, payload: bytes) -> None:
        self._require_size(payload, U32.size)
        increment = U32.unpack(payload)[0] & _ID_MASK
        waiting = len(self.sender.output)
        if stream_id == 0:
            self._require(increment > 0, "WINDOW_UPDATE of 0")
            if not self.sender.grant(increment):
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "a window above 2^31-1")
        elif self._is_known(stream_id):
            if not increment:
                self._fail(stream_id, StreamFault(PROTOCOL, "WINDOW_UPDATE of 0"))
            elif not self.sender.grant_stream(stream_id, increment):
                code = ErrorCode.FLOW_CONTROL_ERROR
                self._fail(stream_id, StreamFault(PROTOCOL, "a window above 2^31-1", code))
        if len(self.sender.output) > waiting:
            self._idle_frames = 0  # windows of one byte are slow, but they bring forward
