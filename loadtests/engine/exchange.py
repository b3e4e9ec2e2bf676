"""The streams of one HTTP/2 connection, and each as far as it is not ordinary.

The usual request leaves whole, the usual answer is a head, one DATA frame and, with gRPC,
trailers, and neither needs an object: they live in tuples. An `Exchange` is made for what
flow control holds back, for an answer in other pieces, and for calls that are streams.
"""

from __future__ import annotations

from loadtests.engine.frames import HEAD_BYTES
from loadtests.engine.grpc import Failure, MessageReader
from loadtests.engine.response_heads import Head
from loadtests.engine.streaming import Talk
from loadtests.engine.task import StreamTask

# When the requests that left together left (ns): one number, shared by their records and set
# right before the send. A list, because an object of our own takes as long to make as two
# requests to end (`make bench`, gRPC, one stream at a time).
Flight = list[int]

# A request on a stream: intended time, code (recorder), task, and when it left.
Record = tuple[int, int, StreamTask, Flight]
# A request that has not left: intended time, code, task, payload.
Unsent = tuple[int, int, StreamTask, bytes]
# A complete answer: the head that holds its status (or the trailers that hold its code),
# its body or message where somebody will look at it, and the bytes that came for it.
Answer = tuple[Record, Head, bytes, int]
# A request that ended without: why, and the bytes that came for it.
Failed = tuple[Record, Failure, int]


class Ended:
    """What ended on a connection, and what came on streams, since the caller last took it."""

    __slots__ = ("answers", "failures", "heard", "passed", "passed_bytes")

    def __init__(self) -> None:
        # Ordinary answers whose status alone makes them ok, with their bytes; answers to be
        # judged; requests without an answer.
        self.passed: list[Record] = []
        self.passed_bytes: list[int] = []
        self.answers: list[Answer] = []
        self.failures: list[Failed] = []
        # What came on calls that are streams: so many messages, or 0 for the head.
        self.heard: list[tuple[Exchange, int]] = []


class Exchange:
    """State of a stream with something left to send or receive."""

    __slots__ = (
        "body_bytes",
        "chunks",
        "found",
        "head",
        "informational",
        "is_closing",
        "message",
        "reader",
        "received_bytes",
        "record",
        "rest",
        "stream_id",
        "talk",
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
        self.message = b""  # of ours on a stream, to be sent again at its pace
        self.talk: Talk | None = None  # of calls whose sides are streams
        self.found: str | None = None  # the first check that a message of a stream failed

    def take_head(self, head: Head, limit_bytes: int) -> None:
        """Take the final head of the answer."""
        self.head = head
        task = self.record[2]
        if task.is_grpc and head.is_grpc:
            self.reader = MessageReader(
                head.encoding, keeps=task.keeps_body, limit_bytes=limit_bytes
            )


class Streams:
    """All requests that have been begun on a connection and have not ended."""

    __slots__ = ("exchanges", "heads", "held", "records", "uploads")

    def __init__(self) -> None:
        self.records: dict[int, Record] = {}
        # Of ordinary requests whose answer has come in part: its head; then, with gRPC, head,
        # message and bytes of DATA.
        self.heads: dict[int, Head] = {}
        self.held: dict[int, tuple[Head, bytes, int]] = {}
        # Of the others everything; and those among them with a rest to send.
        self.exchanges: dict[int, Exchange] = {}
        self.uploads: dict[int, Exchange] = {}

    def is_fresh(self, stream_id: int) -> bool:
        """Tell an ordinary request of whose answer nothing has come."""
        return (
            stream_id in self.records
            and stream_id not in self.heads
            and stream_id not in self.held
            and stream_id not in self.exchanges
        )

    def forget(self, stream_id: int) -> Record:
        """Drop a stream that has ended."""
        self.heads.pop(stream_id, None)
        self.held.pop(stream_id, None)
        self.exchanges.pop(stream_id, None)
        self.uploads.pop(stream_id, None)
        return self.records.pop(stream_id)

    def exchange(self, stream_id: int, limit_bytes: int) -> Exchange:
        """Return the exchange of a stream, made from what has come where there was none."""
        exchange = self.exchanges.get(stream_id)
        if exchange is None:
            record = self.records[stream_id]
            exchange = self.exchanges[stream_id] = Exchange(stream_id, record, 0)
            held = self.held.pop(stream_id, None)
            head = self.heads.pop(stream_id, None) if held is None else held[0]
            if head is not None:
                exchange.received_bytes = head.frame_bytes
                exchange.take_head(head, limit_bytes)
            if held is not None and exchange.reader is not None:
                exchange.reader.take_whole(held[1])
                exchange.received_bytes += HEAD_BYTES + held[2]
        return exchange

    def received_bytes(self, stream_id: int) -> int:
        """Bytes that have come for a stream."""
        exchange = self.exchanges.get(stream_id)
        if exchange is not None:
            return exchange.received_bytes
        head = self.heads.get(stream_id)
        if head is not None:
            return head.frame_bytes
        held = self.held.get(stream_id)
        return 0 if held is None else held[0].frame_bytes + HEAD_BYTES + held[2]
