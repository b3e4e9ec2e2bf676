"""The nouns of gRPC in a plan: what a call sends, how often, and what its answer must hold.

A request message is a tree of parts, because a length on the wire (a varint before a
string, a nested message) depends on what a placeholder brings in. `plan/message.py` turns
the tree into bytes, once where nothing varies. Units: nanoseconds, bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

import msgspec

# Names of the status codes by number (grpc.io, "Status codes and their use in gRPC").
CODES: Final = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)


class Protocol(Enum):
    """How a request travels."""

    HTTP1 = "http1"
    HTTP2 = "http2"
    GRPC = "grpc"

    @property
    def spelled(self) -> str:
        """Its name in a sentence."""
        return {"http1": "HTTP/1.1", "http2": "HTTP/2"}.get(self.value, "gRPC")


class CallShape(Enum):
    """Which sides of a call are streams."""

    UNARY = "unary"
    SERVER_STREAM = "server stream"
    CLIENT_STREAM = "client stream"
    BIDIRECTIONAL = "bidirectional"


class Compression(Enum):
    """Message encoding of requests (grpc-encoding)."""

    IDENTITY = "identity"
    GZIP = "gzip"


class NumberEncoding(Enum):
    """How a number that varies is written (protobuf's wire format)."""

    VARINT = "varint"
    ZIGZAG = "zigzag"
    FIXED32 = "fixed32"
    SFIXED32 = "sfixed32"
    FIXED64 = "fixed64"
    SFIXED64 = "sfixed64"
    FLOAT = "float"
    DOUBLE = "double"


class Raw(msgspec.Struct, frozen=True, kw_only=True, tag="raw"):
    """Bytes of the wire, ready."""

    data: bytes


class Text(msgspec.Struct, frozen=True, kw_only=True, tag="text"):
    """A source with placeholders whose rendering is the content of a string field."""

    source: bytes


class Base64(msgspec.Struct, frozen=True, kw_only=True, tag="base64"):
    """A source with placeholders whose rendering is the content of a bytes field in base64."""

    source: bytes


class Number(msgspec.Struct, frozen=True, kw_only=True, tag="number"):
    """A source of one placeholder whose rendering is a number, then encoded."""

    source: bytes
    encoding: NumberEncoding


class Delimited(msgspec.Struct, frozen=True, kw_only=True, tag="delimited"):
    """A length as varint, then the parts: the content of a field of wire type 2."""

    parts: tuple[Part, ...]


Part = Raw | Text | Base64 | Number | Delimited


class FieldEquals(msgspec.Struct, frozen=True, kw_only=True):
    """The response field at a path of field names (`status.code`) equals this value.

    Enum fields compare by name, `bytes` by their base64 text, lists take an index
    (`items.0.id`), maps a key. A field that is not set (of those that can be) equals nothing.
    """

    path: str
    value: str | int | float | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One gRPC method as a request calls it; its deadline is the request's timeout."""

    method: str  # "pkg.Service/Method"
    shape: CallShape
    message: tuple[Part, ...]
    messages: int  # sent on one stream, 1 for unary and server streams
    pace_ns: int  # between two messages of a stream, 0: as fast as it takes them
    compression: Compression
    expected_codes: tuple[int, ...]  # gRPC codes that are ok, usually (0,)
    checks: tuple[FieldEquals, ...]  # on every message of the response
    response_type: str  # full name, found in the plan's descriptors


def authority_of(scheme: str, host: str, port: int) -> str:
    """Host and port as a URL has them: IPv6 in brackets, the scheme's own port left out."""
    shown = f"[{host}]" if ":" in host else host
    return shown if port == {"http": 80, "https": 443}[scheme] else f"{shown}:{port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a node listens for gRPC, when that is not its base URL."""

    scheme: str  # "http" (h2c, prior knowledge) or "https"
    host: str  # name or address, IPv6 without brackets
    port: int

    @property
    def authority(self) -> str:
        """The value of `:authority`."""
        return authority_of(self.scheme, self.host, self.port)


@dataclass(frozen=True, slots=True, kw_only=True)
class Multiplexing:
    """HTTP/2 connections of a run; `streams` is per connection and also bounded by the server."""

    connections: int  # total over the run
    streams: int
    keepalive_ns: int  # a PING after so long without a frame; 0: none
    authority: str | None  # None: the node's


SINGLE = Multiplexing(connections=0, streams=1, keepalive_ns=0, authority=None)
