"""The client's side of one HTTP/2 connection, bytes in and answers out (RFC 9113).

No I/O, no clock. `receive` takes what a read brought; `ended` collects what ended in it,
`sender.output` what must leave, and `has_news` tells that a look at `ended.passed` is not
enough. Three ways lead through a read, each for what the one before it leaves:

1. runs of ordinary answers in a known form, many at a time (`answer_forms`);
2. ordinary answers (a head, one DATA frame and, with gRPC, trailers, of known heads), their
   frames recognised in place: they make no object but their tuple;
3. every other frame by itself (`peer_frames`, `stream_reader`).

The first two accept only what the third would find the same in, and a property test holds
them against each other. What a peer does wrong to the connection ends it with GOAWAY and
sets `fault` (5.4).

The law: every stream that the sender has opened ends exactly once, in an answer or a
failure, or is still among `streams`.
"""

from __future__ import annotations

from typing import Final

from loadtests.engine.answer_forms import AnswerForms
from loadtests.engine.exchange import Ended, Record, Streams
from loadtests.engine.frames import (
    DEFAULT_FRAME_BYTES,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    HEAD,
    HEAD_BYTES,
    MOST_WINDOW,
    PREFACE,
    ErrorCode,
    FrameType,
    Setting,
    frame,
    goaway_frame,
    settings_frame,
    window_update_frame,
)
from loadtests.engine.grpc import PREFIX
from loadtests.engine.peer_faults import ConnectionFault
from loadtests.engine.peer_frames import ID_MASK, PING_BYTES, QUIET, PeerFrames
from loadtests.engine.response_heads import HEAD_LIST_LIMIT_BYTES, BlockError, ResponseHeads
from loadtests.engine.sender import Sender
from loadtests.engine.stream_reader import StreamReader

_STREAM_SLACK_BYTES: Final = 1 << 16  # a body of the limit fits its window, prefixes included
_CONNECTION_WINDOW: Final = 1 << 28
_RENEWAL: Final = _CONNECTION_WINDOW // 2
_PREFIX_BYTES: Final = PREFIX.size
_PREFIX_AT: Final = PREFIX.unpack_from
_LAST: Final = END_HEADERS | END_STREAM
_KIND_AT: Final = 3  # in a frame's head
_MEASURING: Final = bytes((FrameType.PING, FrameType.WINDOW_UPDATE))


class Http2:
    """One connection; after `fault` is set, send the output and close."""

    __slots__ = (
        "_forms",
        "_frames",
        "_heads",
        "_hot",
        "_pings",
        "_reader",
        "_rest",
        "_window",
        "ended",
        "fault",
        "has_news",
        "sender",
        "streams",
    )

    def __init__(self, limit_bytes: int) -> None:
        self.streams, self.ended = Streams(), Ended()
        self.sender = Sender(self.streams)
        self.has_news = False  # there is more to look at than `ended.passed`
        self.fault: str | None = None
        # What a peer may send on a stream before we give it more.
        self._window = min(MOST_WINDOW, max(DEFAULT_WINDOW, limit_bytes + _STREAM_SLACK_BYTES))
        self._heads = ResponseHeads()
        self._forms = AnswerForms(self.streams, self.ended, self._heads)
        limits = {"limit_bytes": limit_bytes, "window": self._window}
        self._reader = StreamReader(self.sender, self.ended, **limits)
        self._frames = PeerFrames(self.sender, self._reader, self._heads)
        self._rest = b""  # of a frame cut off by the end of a read
        self._pings = 0
        # What the loop needs of all this, as one tuple: half of the time of a short read.
        self._hot = (
            HEAD.unpack_from,
            self._heads.find,
            self.streams.records,
            self.streams.heads,
            self.streams.held,
            self.ended.passed.append,
            self.ended.passed_bytes.append,
            limit_bytes,
        )

    @property
    def is_greeted(self) -> bool:
        """True when the peer's SETTINGS have come."""
        return self._frames.is_greeted

    @property
    def is_leaving(self) -> bool:
        """True after GOAWAY: no new stream may be opened."""
        return self._frames.is_leaving

    def greet(self) -> None:
        """Write the preface (3.4): no pushes, and windows that hold the longest body."""
        settings = {
            Setting.ENABLE_PUSH: 0,
            Setting.INITIAL_WINDOW_SIZE: self._window,
            Setting.MAX_HEADER_LIST_SIZE: HEAD_LIST_LIMIT_BYTES,
        }
        wider = window_update_frame(0, _CONNECTION_WINDOW - DEFAULT_WINDOW)
        self.sender.output += (PREFACE, settings_frame(settings), wider)

    def ping(self) -> None:
        """Ask whether the peer is there; any frame is an answer."""
        self._pings += 1
        self.sender.output.append(frame(FrameType.PING, 0, 0, self._pings.to_bytes(PING_BYTES)))

    def bring_forward(self) -> None:
        """Note that a stream has said more: the peer has reason to speak of it."""
        self._reader.idle_frames = 0

    def cancel(self, stream_id: int) -> Record:
        """Give a stream up: it is reset, and counts for the caller from now on."""
        return self._reader.cancel(stream_id, ErrorCode.CANCEL)

    # Reading

    def receive(self, data: bytes) -> None:
        """Take bytes; never raises."""
        forms, frames, reader = self._forms, self._frames, self._reader
        if self._rest:
            data = self._rest + data
        at, before, size = 0, -1, len(data)
        try:
            while before < at < size:  # until a frame is cut off
                before = at
                # A number: bytes in bytes raise and catch an error first, 2 % of a short read.
                if at + _KIND_AT < size and data[at + _KIND_AT] in _MEASURING:
                    at = frames.take_measuring(data, at)
                if forms.known and not frames.is_blocked:
                    at = forms.take(data, at)
                if at < size:
                    at = self._read(data, at)
        except ConnectionFault as fault:
            self._give_up(fault.code, fault.text)
        except BlockError as error:
            self._give_up(ErrorCode.COMPRESSION_ERROR, str(error))
        self._rest = data[at:] if at < size else b""
        if self.ended.passed:
            reader.idle_frames = 0
        if forms.flow_bytes >= _RENEWAL:  # give the connection's window back in halves (6.9)
            self.sender.output.append(window_update_frame(0, forms.flow_bytes))
            forms.flow_bytes = 0

    def _give_up(self, code: ErrorCode, text: str) -> None:
        self.sender.output.append(goaway_frame(code, text))
        self.has_news = True
        self.fault = f"{code.name}: {text}"

    def _read(self, data: bytes, at: int) -> int:  # noqa: C901, PLR0912, PLR0915 - next line
        """Read whole frames from `at` on; ordinary answers are spelt out in the loop.

        A call costs as much as all that is done for a frame here (`make bench`, gRPC). Returns
        where reading stopped: at the end, or sooner where known forms may match again.
        """
        unpack, find, records, heads, held, passed, passed_bytes, limit = self._hot
        streams, frames = self.streams, self._frames
        forms, answers = self._forms, self.ended.answers
        consumed = 0
        is_blocked = frames.is_blocked
        size = len(data)
        last = size - HEAD_BYTES
        while at <= last:
            word, flags, stream_id = unpack(data, at)
            begin = at + HEAD_BYTES
            end = begin + (word >> 8)
            if end > size:
                break
            kind = word & 0xFF
            if kind == 0:  # DATA
                head = heads.get(stream_id)
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
                                forms.note(head, length, None)
                            else:
                                body = data[begin:end] if task.keeps_body else b""
                                answers.append((record, head, body, received))
                            del records[stream_id], heads[stream_id]
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
                            held[stream_id] = (head, body, length)
                            del heads[stream_id]
                            consumed += length
                            at = end
                            continue
            elif kind == 1 and not is_blocked:  # HEADERS
                if flags == END_HEADERS:
                    head = find(data[begin:end])
                    if head is not None and head.is_plain and streams.is_fresh(stream_id):
                        heads[stream_id] = head
                        at = end
                        continue
                elif flags == _LAST and stream_id in held:
                    tail = find(data[begin:end])
                    if tail is not None and tail.is_trailer:
                        head, body, length = held.pop(stream_id)
                        record = records.pop(stream_id)
                        received = head.frame_bytes + HEAD_BYTES + length + end - at
                        if tail.code in record[2].unchecked_statuses:
                            passed(record)
                            passed_bytes(received)
                            forms.note(head, length, tail)
                        else:
                            answers.append((record, tail, body, received))
                        at = end
                        if forms.known:
                            break
                        continue
            frames.take(kind, flags, stream_id & ID_MASK, data[begin:end])
            if kind not in QUIET or self.ended.failures:
                self.has_news = True
            is_blocked = frames.is_blocked
            at = end
            if forms.known:
                break
        if at <= last and unpack(data, at)[0] >> 8 > DEFAULT_FRAME_BYTES:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a frame longer than 16,384 bytes")
        if answers:
            self.has_news = True
            self._reader.idle_frames = 0
        forms.flow_bytes += consumed + self._reader.flow_bytes
        self._reader.flow_bytes = 0
        return at
