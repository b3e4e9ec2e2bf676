"""One stream of an HTTP/2 connection, as far as it is not ordinary.

The usual request leaves whole, the usual answer comes whole in one read, and neither needs
an object: they live in one tuple, the `Record`. An `Exchange` is made for what flow control
holds back, for an answer that comes in pieces, and for calls whose sides are streams.
"""

from __future__ import annotations

from loadtests.engine.grpc import Failure, MessageReader
from loadtests.engine.response_heads import Head
from loadtests.engine.task import StreamTask


class Flight:
    """When the requests that left together left: shared by their records."""

    __slots__ = ("sent_ns",)

    def __init__(self) -> None:
        self.sent_ns = 0


# A request on a stream: intended time, code (recorder), task, and when it left.
Record = tuple[int, int, StreamTask, Flight]
# A request that has not left: intended time, code, task, payload.
Unsent = tuple[int, int, StreamTask, bytes]
# A complete answer: the head that holds its status (or the trailers that hold its code),
# its body or message where somebody will look at it, and the bytes that came for it.
Answer = tuple[Record, Head, bytes, int]
# A request that ended without: why, and the bytes that came for it.
Failed = tuple[Record, Failure, int]


class Exchange:
    """State of a stream with something left to send or receive."""

    __slots__ = (
        "body_bytes",
        "chunks",
        "head",
        "informational",
        "is_closing",
        "reader",
        "received_bytes",
        "record",
        "rest",
        "stream_id",
        "unreturned_bytes",
        "window",
    )

    def __init__(self, stream_id: int, record: Record, window: int) -> None:
        self.stream_id, self.record = stream_id, record
        self.window = window  # what the peer lets us send on this stream; may be negative
        self.rest = memoryview(b"")  # to be sent
        self.is_closing = True  # our side ends with the rest
        self.head: Head | None = None  # the final one
        self.informational = 0
        self.received_bytes = self.body_bytes = 0
        self.unreturned_bytes = 0  # of the window that we gave the peer
        self.chunks: list[bytes] = []
        self.reader: MessageReader | None = None  # of gRPC
