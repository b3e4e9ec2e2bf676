"""Answers as bytes: status line, headers and body put together once, sent many times.

Owns what an HTTP/1.1 answer of a node looks like. Every answer has a Content-Length and a
body in JSON (metrics excepted), so that a client never guesses where it ends (RFC 9112 6.3).
"""

from __future__ import annotations

from array import array
from http import HTTPStatus
from typing import Final

import msgspec

JSON: Final = b"application/json"
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_REASONS: Final = {status.value: status.phrase.encode() for status in HTTPStatus}


class Series:
    """Durations of one (method, uri template, status), waiting to be binned."""

    __slots__ = ("durations_ns", "method", "status", "uri")

    def __init__(self, method: str, uri: str, status: int) -> None:
        self.method = method
        self.uri = uri
        self.status = status
        self.durations_ns = array("q")


class Answer:
    """A whole response; `payload[:head_bytes]` is the answer to HEAD."""

    __slots__ = ("head_bytes", "payload", "series")

    def __init__(self, payload: bytes, head_bytes: int, series: Series) -> None:
        self.payload = payload
        self.head_bytes = head_bytes
        self.series = series

    def bytes_for(self, *, head: bool, close: bool) -> bytes:
        """The bytes to send: without body for HEAD, with `Connection: close` if it is the last."""
        payload = self.payload[: self.head_bytes] if head else self.payload
        if close:
            line_end = payload.index(b"\r\n") + 2
            payload = payload[:line_end] + b"Connection: close\r\n" + payload[line_end:]
        return payload


def build_answer(
    series: Series, body: bytes, *, media_type: bytes = JSON, headers: bytes = b""
) -> Answer:
    """An answer of `series.status`; `headers` are further whole lines, each ended by CRLF."""
    head = b"HTTP/1.1 %d %b\r\nContent-Type: %b\r\n%bContent-Length: %d\r\n\r\n" % (
        series.status,
        _REASONS[series.status],
        media_type,
        headers,
        len(body),
    )
    return Answer(head + body, len(head), series)


def build_error(series: Series, message: str, *, headers: bytes = b"") -> Answer:
    """A refusal in JSON: `{"error": phrase, "status": n, "message": …}`."""
    body = {
        "error": HTTPStatus(series.status).phrase,
        "status": series.status,
        "message": message,
    }
    return build_answer(series, msgspec.json.encode(body), headers=headers)
