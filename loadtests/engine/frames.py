"""HTTP/2 frames as bytes: their names, their limits, how one is written (RFC 9113, 4 and 6).

Pure functions and constants; what a frame means for a connection is `http2`'s to decide.
The law: whatever is written here is one whole frame.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # RFC 9113, 3.4
HEAD_BYTES: Final = 9
# Length (24 bits) and type (8 bits) as one number, flags, stream id with its reserved bit.
HEAD: Final = struct.Struct(">IBI")
U32: Final = struct.Struct(">I")
SETTING: Final = struct.Struct(">HI")

DEFAULT_FRAME_BYTES: Final = 16_384  # SETTINGS_MAX_FRAME_SIZE of both sides unless changed
DEFAULT_WINDOW: Final = 65_535  # RFC 9113, 6.9.2
MOST_WINDOW: Final = (1 << 31) - 1
MOST_STREAM_ID: Final = (1 << 31) - 1
DEFAULT_TABLE_BYTES: Final = 4_096  # RFC 9113, 6.5.2


class FrameType(IntEnum):
    """RFC 9113, 6; all others are ignored."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITISED: Final = 0x20


class Setting(IntEnum):
    """RFC 9113, 6.5.2; all others are ignored."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class ErrorCode(IntEnum):
    """RFC 9113, 7."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """One frame; the payload must fit the peer's SETTINGS_MAX_FRAME_SIZE."""
    return HEAD.pack(len(payload) << 8 | kind, flags, stream_id) + payload


def settings_frame(values: dict[Setting, int]) -> bytes:
    """SETTINGS with these values."""
    payload = b"".join([SETTING.pack(name, value) for name, value in values.items()])
    return frame(FrameType.SETTINGS, 0, 0, payload)


def window_update_frame(stream_id: int, increment: int) -> bytes:
    """WINDOW_UPDATE: 1 <= increment <= MOST_WINDOW; stream 0 is the connection."""
    return frame(FrameType.WINDOW_UPDATE, 0, stream_id, U32.pack(increment))


def rst_stream_frame(stream_id: int, code: ErrorCode) -> bytes:
    """RST_STREAM."""
    return frame(FrameType.RST_STREAM, 0, stream_id, U32.pack(code))


def goaway_frame(code: ErrorCode, text: str) -> bytes:
    """GOAWAY of a client that takes no pushes: the last stream of the peer is 0."""
    return frame(FrameType.GOAWAY, 0, 0, U32.pack(0) + U32.pack(code) + text.encode()[:200])


def headers_frames(stream_id: int, block: bytes, flags: int, most_bytes: int) -> bytes:
    """HEADERS, and CONTINUATION where the block is longer than a frame (RFC 9113, 6.10)."""
    first, rest = block[:most_bytes], block[most_bytes:]
    if not rest:
        return frame(FrameType.HEADERS, flags | END_HEADERS, stream_id, first)
    frames = [frame(FrameType.HEADERS, flags, stream_id, first)]
    while rest:
        part, rest = rest[:most_bytes], rest[most_bytes:]
        last = END_HEADERS if not rest else 0
        frames.append(frame(FrameType.CONTINUATION, last, stream_id, part))
    return b"".join(frames)


def name_of(code: int) -> str:
    """The word for an error code, in lower case; unknown ones by number."""
    try:
        return ErrorCode(code).name.lower()
    except ValueError:
        return f"error_{min(code, 99)}"
