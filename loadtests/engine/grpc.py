"""gRPC over HTTP/2: message prefixes, deadlines, statuses, and what ends a call badly.

Pure. After the specification "gRPC over HTTP2" and its "Status codes" appendix: a call
ends with a grpc-status, in trailers or in the only head of an answer; an answer without
one is judged by its HTTP status, and where that is 200 it is a fault of the protocol.

The law: messages are framed by their five-byte prefix and by nothing else, wherever DATA
frames cut them.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from typing import Final, NamedTuple

from loadtests.engine.outcome import count_of_status, kind_of_status
from loadtests.engine.response_heads import NO_CODE, Head
from loadtests.engine.task import Messages
from loadtests.plan.call import Compression
from loadtests.record.error_kinds import GRPC_PREFIX, PROTOCOL, TOO_LARGE
from loadtests.record.window import Count

PREFIX: Final = struct.Struct(">BI")  # compressed flag, length of the message
_MOST_TIMEOUT_DIGITS: Final = 8
_GZIP_WINDOW: Final = 31  # zlib's word for a gzip wrapper
_GZIP_LEVEL: Final = 6
_HTTP_OK: Final = 200
# measurement.md, Outcomes: UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, ABORTED, INTERNAL,
# UNAVAILABLE, DATA_LOSS are the target's; the others blame the request, as 4xx do.
_CLIENT_CODES: Final = frozenset({1, 3, 5, 6, 7, 9, 11, 12, 16})


class Failure(NamedTuple):
    """Why a request did not end ok."""

    counts_as: Count
    kind: str
    text: str


class MessageFault(Exception):  # noqa: N818 - a verdict on an answer, not an error of ours
    """A message that cannot be accepted: `kind` groups it, `text` says why."""

    def __init__(self, kind: str, text: str) -> None:
        self.kind, self.text = kind, text
        super().__init__(f"{kind}: {text}")


def count_of_code(code: int) -> Count:
    """What an unexpected gRPC code counts as; an unexpected OK is the target's fault."""
    return Count.CLIENT_ERROR if code in _CLIENT_CODES else Count.FAILED


def kind_of_code(code: int) -> str:
    """The error kind of an unexpected gRPC code."""
    return f"{GRPC_PREFIX}{code}"


def timeout_value(timeout_ns: int) -> bytes:
    """Write grpc-timeout: at most eight digits, in the finest unit that holds it."""
    for unit_ns, unit in ((1, b"n"), (1_000, b"u"), (1_000_000, b"m"), (1_000_000_000, b"S")):
        value = -(-timeout_ns // unit_ns)
        if value < 10**_MOST_TIMEOUT_DIGITS:
            return b"%d%b" % (value, unit)
    return b"99999999S"


def framed(message: bytes, compression: Compression) -> bytes:
    """One message with its prefix."""
    if compression is Compression.IDENTITY:
        return PREFIX.pack(0, len(message)) + message
    packed = gzip.compress(message, _GZIP_LEVEL, mtime=0)
    return PREFIX.pack(1, len(packed)) + packed


class MessageReader:
    """Cuts the DATA of one answer into messages; keeps them only if somebody will look."""

    __slots__ = ("_begun", "_encoding", "_is_packed", "_keeps", "_left", "_limit", "count", "kept")

    def __init__(self, encoding: bytes, *, keeps: bool, limit_bytes: int) -> None:
        self._encoding, self._keeps, self._limit = encoding, keeps, limit_bytes
        self._begun = bytearray()  # of the prefix; then, if kept, of the message
        self._left = -1  # bytes missing of the message; -1 while the prefix is incomplete
        self._is_packed = False
        self.count = 0
        self.kept: list[bytes] = []

    @property
    def is_between(self) -> bool:
        """True when no message is cut off."""
        return self._left < 0 and not self._begun

    def take_whole(self, message: bytes) -> None:
        """Take a message that came unpacked, in one DATA frame of its own."""
        self.count += 1
        if self._keeps:
            self.kept.append(message)

    def feed(self, data: bytes) -> None:
        """Take what a DATA frame brought; raises MessageFault."""
        at = 0
        while at < len(data) or self._left == 0:
            if self._left < 0:
                part = data[at : at + PREFIX.size - len(self._begun)]
                self._begun += part
                at += len(part)
                if len(self._begun) == PREFIX.size:
                    self._begin()
                continue
            part = data[at : at + self._left]
            if self._keeps:
                self._begun += part
            at += len(part)
            self._left -= len(part)
            if not self._left:
                self._complete()

    def _begin(self) -> None:
        flag, length = PREFIX.unpack(self._begun)
        if flag > 1 or (flag and self._encoding == b"identity"):
            raise MessageFault(PROTOCOL, f"a message with compressed flag {flag} and no encoding")
        if length > self._limit:
            raise MessageFault(TOO_LARGE, f"a message of {length} bytes, at most {self._limit}")
        self._is_packed, self._left = bool(flag), length
        self._begun.clear()

    def _complete(self) -> None:
        self.count += 1
        self._left = -1
        if self._keeps:
            message = bytes(self._begun)
            self._begun.clear()
            self.kept.append(self._unpacked(message) if self._is_packed else message)

    def _unpacked(self, packed: bytes) -> bytes:
        if self._encoding != b"gzip":
            raise MessageFault(PROTOCOL, f"an encoding that was not asked for: {self._encoding!r}")
        inflater = zlib.decompressobj(_GZIP_WINDOW)
        try:
            message = inflater.decompress(packed, self._limit + 1)
        except zlib.error as error:
            raise MessageFault(PROTOCOL, f"gzip: {error}") from None
        if len(message) > self._limit:
            raise MessageFault(TOO_LARGE, f"a message above {self._limit} bytes, unpacked")
        if not inflater.eof:
            raise MessageFault(PROTOCOL, "gzip: the message is cut off")
        return message


def failure_of(
    head: Head, tail: Head | None, reader: MessageReader | None, messages: Messages
) -> Failure | None:
    """Say why a complete answer is none of gRPC's; None where its code decides.

    `tail` is the head itself in an answer without messages, None where DATA ended the stream.
    """
    if tail is None or tail.code == NO_CODE:
        if head.status != _HTTP_OK:
            text = f"HTTP status {head.status} without gRPC"
            return Failure(count_of_status(head.status), kind_of_status(head.status), text)
        text = "no grpc-status" if head.is_grpc else "content type is not gRPC's"
        return Failure(Count.FAILED, PROTOCOL, text)
    if tail.code == 0:
        count = reader.count if reader is not None else 0
        if reader is not None and not reader.is_between:
            return Failure(Count.FAILED, PROTOCOL, "status OK after a message that is cut off")
        if messages.has_one_answer and count != 1:
            return Failure(Count.FAILED, PROTOCOL, f"status OK with {count} messages, expected 1")
    return None
