"""Frames of the peer one by one: their rules, header blocks, and what concerns the connection.

Every frame that is no part of an ordinary answer comes here (RFC 9113, 5.4 and 6). What
belongs to a stream goes on to the `StreamReader`; settings, pings, GOAWAY and windows are
taken here. Bounded: header blocks, CONTINUATION, frames that bring nothing forward (pings,
settings, empty DATA). All that is against the rules raises ConnectionFault.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from loadtests.engine.frames import (
    ACK,
    DEFAULT_FRAME_BYTES,
    END_HEADERS,
    END_STREAM,
    HEAD_BYTES,
    MOST_WINDOW,
    PADDED,
    PRIORITISED,
    SETTING,
    U32,
    ErrorCode,
    FrameType,
    Setting,
    frame,
)
from loadtests.engine.peer_faults import ConnectionFault, StreamFault, require, require_size
from loadtests.engine.response_heads import BLOCK_LIMIT_BYTES, ResponseHeads
from loadtests.engine.sender import Sender
from loadtests.engine.stream_reader import StreamReader
from loadtests.record.error_kinds import PROTOCOL

# Frames that end no stream and change nobody's room; what they let us send is in the output.
QUIET: Final = frozenset({FrameType.PING, FrameType.WINDOW_UPDATE, FrameType.PRIORITY})
ID_MASK: Final = (1 << 31) - 1
PING_BYTES: Final = 8
_MOST_IDLE_FRAMES: Final = 10_000  # in a row that bring no request forward
_MOST_CONTINUATIONS: Final = 64
_PRIORITY_BYTES: Final = 5
_LEAST_FRAME_BYTES, _MOST_FRAME_BYTES = 1 << 14, (1 << 24) - 1  # RFC 9113, 6.5.2
_WIDER, _ASKED, _PONG = [
    frame(kind, flags, 0, bytes(size))[:HEAD_BYTES]
    for kind, flags, size in (
        (FrameType.WINDOW_UPDATE, 0, U32.size),
        (FrameType.PING, 0, PING_BYTES),
        (FrameType.PING, ACK, PING_BYTES),
    )
]
_MEASURING: Final = re.compile(
    b"(?:%b(.{4}))?(?:%b(.{8}))?" % (re.escape(_WIDER), re.escape(_ASKED)), re.DOTALL
).match


class PeerFrames:
    """Reader of one connection's frames."""

    __slots__ = (
        "_block",
        "_block_flags",
        "_block_frames",
        "_block_id",
        "_handlers",
        "_heads",
        "_last_id",
        "_reader",
        "_sender",
        "is_blocked",
        "is_greeted",
        "is_leaving",
    )

    def __init__(self, sender: Sender, reader: StreamReader, heads: ResponseHeads) -> None:
        self._sender, self._reader, self._heads = sender, reader, heads
        self.is_greeted = False  # the peer's SETTINGS have come
        self.is_leaving = False  # GOAWAY: no new stream may be opened
        self.is_blocked = False  # in a header block: only CONTINUATION may follow
        self._block = bytearray()
        self._block_flags = self._block_frames = self._block_id = 0
        self._last_id = ID_MASK  # what GOAWAY says that the peer may still answer
        self._handlers: dict[int, Callable[[int, int, bytes], None]] = {
            FrameType.DATA: self._on_data,
            FrameType.HEADERS: self._on_headers,
            FrameType.PRIORITY: _on_priority,
            FrameType.RST_STREAM: self._on_rst_stream,
            FrameType.SETTINGS: self._on_settings,
            FrameType.PUSH_PROMISE: _on_push_promise,
            FrameType.PING: self._on_ping,
            FrameType.GOAWAY: self._on_goaway,
            FrameType.WINDOW_UPDATE: self._on_window_update,
            FrameType.CONTINUATION: self._on_continuation,
        }

    def take(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        """Take one frame that is no part of an ordinary answer."""
        self._require_turn(kind, flags, stream_id, payload)
        handler = self._handlers.get(kind)
        if handler is not None:  # unknown frames are ignored (5.5)
            handler(flags, stream_id, payload)

    def take_measuring(self, data: bytes, at: int) -> int:
        """Take what a server that measures the way sends before every answer; where it ends.

        grpc-go does, at low load: read like other frames these two took as long as the answer.
        """
        found = _MEASURING(data, at)
        reader = self._reader
        is_ours = self.is_greeted and not self.is_blocked
        if found is None or not is_ours or reader.idle_frames > _MOST_IDLE_FRAMES - 2:
            return at
        increment, ping = found.groups()
        if increment is not None:
            reader.idle_frames += 1
            self._on_window_update(0, 0, increment)
        if ping is not None:
            reader.idle_frames += 1
            self._sender.output.append(_PONG + ping)
        return found.end()

    def _require_turn(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        """Hold a frame against what may come now, whatever is in it."""
        if len(payload) > DEFAULT_FRAME_BYTES:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {len(payload)} bytes")
        if not self.is_greeted and (kind != FrameType.SETTINGS or flags & ACK):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        if self.is_blocked and (kind != FrameType.CONTINUATION or stream_id != self._block_id):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a header block is interrupted")
        self._reader.idle_frames += 1
        if self._reader.idle_frames > _MOST_IDLE_FRAMES:
            text = f"{_MOST_IDLE_FRAMES} frames in a row that bring nothing forward"
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, text)

    # Streams

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._reader.on_data(flags, stream_id, _unpadded(flags, payload), len(payload))

    def _on_rst_stream(self, _flags: int, stream_id: int, payload: bytes) -> None:
        self._reader.on_rst_stream(stream_id, payload)

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        block = _unpadded(flags, payload)
        if flags & PRIORITISED:
            require(len(block) >= _PRIORITY_BYTES, "HEADERS shorter than their priority")
            block = block[_PRIORITY_BYTES:]
        if flags & END_HEADERS:
            self._on_block(stream_id, flags, block)
        else:
            self.is_blocked, self._block_id, self._block_flags = True, stream_id, flags
            self._block[:] = block
            self._block_frames = 1

    def _on_continuation(self, flags: int, _stream_id: int, payload: bytes) -> None:
        require(self.is_blocked, "CONTINUATION of nothing")
        self._block += payload
        self._block_frames += 1
        if len(self._block) > BLOCK_LIMIT_BYTES or self._block_frames > _MOST_CONTINUATIONS:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "an endless header block")
        if flags & END_HEADERS:
            self.is_blocked = False
            self._on_block(self._block_id, self._block_flags, bytes(self._block))
            self._block.clear()

    def _on_block(self, stream_id: int, flags: int, block: bytes) -> None:
        """Decode always, for the table's sake; then see whose it is."""
        head = self._heads.decode(block)
        self._reader.on_head(stream_id, head, is_last=bool(flags & END_STREAM))

    # The connection

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        require(stream_id == 0, "SETTINGS of a stream")
        if flags & ACK:
            require_size(payload, 0)
            return
        if len(payload) % SETTING.size:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS cut off")
        for name, value in SETTING.iter_unpack(payload):
            self._set(name, value)
        self.is_greeted = True
        self._sender.output.append(frame(FrameType.SETTINGS, ACK, 0))

    def _set(self, name: int, value: int) -> None:
        sender = self._sender
        match name:
            case Setting.HEADER_TABLE_SIZE:
                sender.set_table_bytes(value)
            case Setting.ENABLE_PUSH:
                require(value == 0, "a server that asks for pushes")
            case Setting.MAX_CONCURRENT_STREAMS:
                sender.most_streams = value
            case Setting.INITIAL_WINDOW_SIZE:
                if value > MOST_WINDOW or not sender.set_initial_window(value):
                    raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "a window above 2^31-1")
            case Setting.MAX_FRAME_SIZE:
                is_legal = _LEAST_FRAME_BYTES <= value <= _MOST_FRAME_BYTES
                require(is_legal, f"MAX_FRAME_SIZE {value}")
                sender.set_frame_bytes(value)
            case _:
                pass  # MAX_HEADER_LIST_SIZE is advice, unknown ones are ignored

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        require(stream_id == 0, "PING of a stream")
        require_size(payload, PING_BYTES)
        if not flags & ACK:
            self._sender.output.append(frame(FrameType.PING, ACK, 0, payload))

    def _on_goaway(self, _flags: int, stream_id: int, payload: bytes) -> None:
        """Streams above the last one were not processed; the others may still end (6.8)."""
        require(stream_id == 0, "GOAWAY of a stream")
        if len(payload) < 2 * U32.size:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY cut off")
        self._last_id = min(self._last_id, U32.unpack_from(payload)[0] & ID_MASK)
        (code,) = U32.unpack_from(payload, U32.size)
        self.is_leaving = True
        self._reader.refuse_above(self._last_id, code)

    def _on_window_update(self, _flags: int, stream_id: int, payload: bytes) -> None:
        require_size(payload, U32.size)
        increment = U32.unpack(payload)[0] & ID_MASK
        waiting = len(self._sender.output)
        if stream_id == 0:
            require(increment > 0, "WINDOW_UPDATE of 0")
            if not self._sender.grant(increment):
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "a window above 2^31-1")
        elif self._reader.is_known(stream_id):
            if not increment:
                self._reader.fail(stream_id, StreamFault(PROTOCOL, "WINDOW_UPDATE of 0"))
            elif not self._sender.grant_stream(stream_id, increment):
                code = ErrorCode.FLOW_CONTROL_ERROR
                self._reader.fail(stream_id, StreamFault(PROTOCOL, "a window above 2^31-1", code))
        if len(self._sender.output) > waiting:
            self._reader.idle_frames = 0  # windows of one byte are slow, but they bring forward


def _on_priority(_flags: int, stream_id: int, payload: bytes) -> None:
    require(stream_id > 0, "PRIORITY of stream 0")
    require_size(payload, _PRIORITY_BYTES)


def _on_push_promise(_flags: int, _stream_id: int, _payload: bytes) -> None:
    raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE, though refused")


def _unpadded(flags: int, payload: bytes) -> bytes:
    """Take the padding off (6.1)."""
    if not flags & PADDED:
        return payload
    require(bool(payload) and payload[0] < len(payload), "padding longer than its frame")
    return payload[1 : len(payload) - payload[0]]
