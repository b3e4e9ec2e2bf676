"""The sending half of an HTTP/2 connection: stream ids, heads, flow control (RFC 9113, 5.2).

Owns what may be sent and when. A batch of requests becomes bytes in one loop: where a head
is known and the body fits both windows and one frame, a request is five pieces of bytes,
all of them ready. Anything else (a first head, a long body, a closed window, a stream of
messages) is an `Exchange` that leaves as the peer's windows allow.

The law: a byte of DATA leaves only inside both windows, and stream ids rise by two.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from loadtests.engine.exchange import Exchange, Flight, Streams, Unsent
from loadtests.engine.frames import (
    DEFAULT_FRAME_BYTES,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    HEAD,
    HEAD_BYTES,
    MOST_STREAM_ID,
    MOST_WINDOW,
    U32,
    ErrorCode,
    FrameType,
    frame,
    headers_frames,
    rst_stream_frame,
)
from loadtests.engine.recorder import SLOT_BITS, SLOT_MASK
from loadtests.engine.request_heads import RequestHeads
from loadtests.engine.streaming import Talk
from loadtests.engine.task import StreamTask

_UNLIMITED: Final = 1 << 31
_KIND_BYTES: Final = 5  # of a frame's head, before the stream id

# A head that this connection knows: the first bytes of its frame, its block, what stands
# between the two places of the stream id by the size of the body (the block and the beginning
# of the body's frame), whether there is a body, and what the frames add to a request's code.
_Known = tuple[bytes, bytes, dict[int, bytes], bool, int]
_MOST_SIZES: Final = 256  # of bodies whose frames are kept ready, of one head


def _middle(block: bytes, size: int) -> bytes:
    """Join a head's block and its body's frame, as far as the stream id."""
    return block + HEAD.pack(size << 8 | FrameType.DATA, END_STREAM, 0)[:_KIND_BYTES]


class Sender:
    """Writes frames into `output`, and notes in `streams` what it has begun."""

    __slots__ = (
        "_frame_bytes",
        "_heads",
        "_initial_window",
        "_known",
        "_most_whole",
        "_next_id",
        "_window",
        "most_streams",
        "opened",
        "output",
        "streams",
    )

    def __init__(self, streams: Streams) -> None:
        self.output: list[bytes] = []
        self.streams = streams
        self.opened: list[Exchange] = []  # calls that are streams, since the caller last looked
        self.most_streams = _UNLIMITED  # the peer's MAX_CONCURRENT_STREAMS
        self._heads = RequestHeads()
        self._known: dict[StreamTask, _Known] = {}
        self._next_id = 1
        self._window = self._initial_window = DEFAULT_WINDOW
        self._frame_bytes = DEFAULT_FRAME_BYTES
        self._most_whole = min(self._initial_window, self._frame_bytes)

    @property
    def ids_left(self) -> int:
        """Streams that this connection can still open (RFC 9113, 5.1.1)."""
        return (MOST_STREAM_ID - self._next_id) // 2 + 1

    @property
    def next_id(self) -> int:
        """The lowest stream id that is still idle."""
        return self._next_id

    def use_ids_from(self, stream_id: int) -> None:
        """Skip ids: a connection near the end of them can be tested."""
        self._next_id = stream_id

    # Requests

    def send(self, batch: Iterable[Unsent], flight: Flight) -> list[int]:
        """Open a stream for each request of the batch, in order; their codes, all bytes in them.

        Requests of one task mostly follow each other, so what is known of its head is looked
        up where the task changes.
        """
        known, output, streams = self._known.get, self.output, self.streams
        records, uploads = streams.records, streams.uploads
        window, stream_id, most = self._window, self._next_id, self._most_whole
        codes: list[int] = []
        unknown: _Known = (b"", b"", {}, False, 0)
        current, start, block, middles, has_body, extra = None, *unknown
        for due_ns, code, task, payload in batch:
            size = len(payload)
            if task is not current:
                current, (start, block, middles, has_body, extra) = task, known(task, unknown)
            middle = middles.get(size)
            if middle is None and has_body and 0 < size <= most:  # else END_STREAM moves
                middle = _middle(block, size)
                if len(middles) < _MOST_SIZES:
                    middles[size] = middle
            if middle is not None and size <= most and size <= window and not uploads:
                name = stream_id.to_bytes(4)
                if size:
                    output += (start, name, middle, name, payload)
                else:
                    output += (start, name, middle)
                window -= size
                whole_code = code + extra
                records[stream_id] = (due_ns, whole_code, task, flight)
                codes.append(whole_code)
                stream_id += 2
                continue
            self._window, self._next_id = window, stream_id
            codes.append(self._open(due_ns, code, task, payload, flight))
            window, stream_id, current = self._window, self._next_id, None
        self._window, self._next_id = window, stream_id
        return codes

    def _open(
        self, due_ns: int, code: int, task: StreamTask, payload: bytes, flight: Flight
    ) -> int:
        """Open a stream whose head is new here, or whose body may have to wait; its code."""
        stream_id = self._next_id
        self._next_id += 2
        block, payload = self._block(task, payload)
        talk, message = None, payload
        messages = task.messages
        if messages is not None and messages.is_stream:
            talk = Talk(messages)
            total = messages.count * (HEAD_BYTES + len(payload))
            payload *= messages.count - talk.left
        is_open = talk is not None and talk.left > 0
        size = len(payload)
        flags = 0 if size or is_open else END_STREAM
        heads = headers_frames(stream_id, block, flags, self._frame_bytes)
        self.output.append(heads)
        if talk is None:
            total = -(-size // self._frame_bytes) * HEAD_BYTES + size
        total += len(heads)
        record = (due_ns, code & SLOT_MASK | total << SLOT_BITS, task, flight)
        self.streams.records[stream_id] = record
        if size or talk is not None or task.expected.is_head:
            exchange = Exchange(stream_id, record, self._initial_window)
            exchange.is_closing = not is_open
            exchange.talk, exchange.message = talk, message
            exchange.rest = memoryview(payload)
            if size:
                is_first = not self.streams.uploads
                self.streams.uploads[stream_id] = exchange
                while is_first and self._send_part(exchange):
                    pass
            if exchange.rest or talk is not None or task.expected.is_head:
                self.streams.exchanges[stream_id] = exchange
            if talk is not None:
                self.opened.append(exchange)
        return record[1]

    def _block(self, task: StreamTask, payload: bytes) -> tuple[bytes, bytes]:
        """Write the head of a request; its block and what is left of the payload."""
        if task.fields is None:
            (length,) = U32.unpack_from(payload)
            body_at = U32.size + length
            return self._heads.encode_plain(payload[U32.size : body_at]), payload[body_at:]
        known = self._known.get(task)
        if known is not None and known[3] == bool(payload):
            return known[1], payload
        version = self._heads.version
        block = self._heads.encode(task.fields)
        if self._heads.version != version:
            self._known.clear()  # every index has moved
        is_unary = task.messages is None or not task.messages.is_stream
        if is_unary and not task.expected.is_head:
            self._know(task, self._heads.encode(task.fields), len(payload))
        return block, payload

    def _know(self, task: StreamTask, block: bytes, size: int) -> None:
        """Keep what a repeated request needs; its fields are in the table now."""
        if len(block) > self._frame_bytes:
            return
        flags = END_HEADERS if size else END_HEADERS | END_STREAM
        start = HEAD.pack(len(block) << 8 | FrameType.HEADERS, flags, 0)[:_KIND_BYTES]
        extra = HEAD_BYTES + len(block) + (HEAD_BYTES if size else 0)
        middles = {size: _middle(block, size) if size else block}
        self._known[task] = (start, block, middles, bool(size), extra << SLOT_BITS)

    def add(self, exchange: Exchange, data: bytes, *, is_last: bool) -> None:
        """Send more on a stream that is still open on our side."""
        exchange.rest = memoryview(bytes(exchange.rest) + data)
        exchange.is_closing = is_last
        self.streams.uploads[exchange.stream_id] = exchange
        self.pump()

    # Flow control

    def pump(self) -> None:
        """Send what the windows allow, a frame of each stream in turn."""
        uploads = self.streams.uploads
        while uploads and self._window > 0:
            moved = [self._send_part(exchange) for exchange in list(uploads.values())]
            if not any(moved):
                return

    def _send_part(self, exchange: Exchange) -> bool:
        """Send one frame of an upload; False when it has to wait."""
        rest = exchange.rest
        most = min(self._window, exchange.window, self._frame_bytes)
        if rest and most <= 0:
            return False
        part, exchange.rest = rest[:most], rest[most:]
        self._window -= len(part)
        exchange.window -= len(part)
        is_done = not exchange.rest
        flags = END_STREAM if is_done and exchange.is_closing else 0
        self.output.append(frame(FrameType.DATA, flags, exchange.stream_id, bytes(part)))
        if is_done:
            del self.streams.uploads[exchange.stream_id]
        return not is_done

    def grant(self, increment: int) -> bool:
        """Widen the connection's window; False when it would be too wide (6.9.1)."""
        self._window += increment
        self.pump()
        return self._window <= MOST_WINDOW

    def grant_stream(self, stream_id: int, increment: int) -> bool:
        """Widen a stream's window; False when it would be too wide."""
        exchange = self.streams.exchanges.get(stream_id)
        if exchange is None:  # all is sent: nothing waits for it
            return True
        exchange.window += increment
        self.pump()
        return exchange.window <= MOST_WINDOW

    def set_initial_window(self, size: int) -> bool:
        """Take INITIAL_WINDOW_SIZE, also for streams under way; False beyond the limit (6.9.2)."""
        change, self._initial_window = size - self._initial_window, size
        self._most_whole = min(size, self._frame_bytes)
        for exchange in self.streams.exchanges.values():
            exchange.window += change
        self.pump()
        return all(exchange.window <= MOST_WINDOW for exchange in self.streams.exchanges.values())

    def set_frame_bytes(self, size: int) -> None:
        """Take MAX_FRAME_SIZE."""
        self._frame_bytes = size
        self._most_whole = min(self._initial_window, size)
        self._known.clear()

    def set_table_bytes(self, size: int) -> None:
        """Take HEADER_TABLE_SIZE."""
        self._heads.resize(size)
        self._known.clear()

    # Ends

    def reset(self, stream_id: int, code: ErrorCode) -> None:
        """Tell the peer that a stream has ended for us."""
        self.output.append(rst_stream_frame(stream_id, code))
