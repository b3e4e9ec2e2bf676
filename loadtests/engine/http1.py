"""HTTP/1.1 responses, bytes in and results out: the careful reader.

Finds where each response of a connection ends, through llhttp (httptools), and refuses
what it cannot be sure of: ambiguous framing, endless heads, endless trailers, responses
nobody asked for. No I/O, no clock. `Connection` reads ordinary responses, which arrive
whole in one read, with a bare parser; all others are read by this one, from their first
byte on, so the shortcut can only decide *that* it is ordinary, never *what* it means.

`HeadMemo` remembers what the parser found in a head, by the head's bytes. Where the
length of a body stands in its head, the same head with as many bytes behind it is as
complete as it was before (RFC 9112, 6.3), so nothing is guessed: half of the parser's
work is spared (`make bench`, closed load).

The law: every expected response ends in exactly one `Finished` or one `ResponseFault`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import httptools

from loadtests.record.error_kinds import CLOSED, CLOSED_BEFORE_RESPONSE, PROTOCOL, TOO_LARGE

HEAD_LIMIT_BYTES: Final = 64 * 1024
_MOST_INFORMATIONAL: Final = 16  # 1xx responses before the final one (RFC 9110, 15.2)
_OVERHEAD_PER_BODY_BYTE: Final = 16  # 1-byte chunks cost 6; anything far above is an attack
FIRST_FINAL_STATUS: Final = 200
_SWITCHING: Final = 101
_NO_BODY: Final = frozenset({204, 304})
HEAD_END: Final = b"\r\n\r\n"
_MOST_HEADS: Final = 1024
_LONGEST_MEMO_BYTES: Final = 2048
_FEWEST_USES: Final = 4  # of each head, on average: below that looking it up does not pay


class ResponseFault(Exception):  # noqa: N818 - a verdict on a response, not an error of ours
    """A response that cannot be accepted: `kind` groups it, `text` says why."""

    def __init__(self, kind: str, text: str) -> None:
        self.kind, self.text = kind, text
        super().__init__(f"{kind}: {text}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What the reader must know of a request to read its response."""

    is_head: bool
    keeps_body: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """One complete response; `body` is b"" unless it was to be kept."""

    status: int
    is_keep_alive: bool
    body: bytes


class Framing(NamedTuple):
    """What a head says of its response; a tuple, because the hot path unpacks it."""

    status: int
    is_keep_alive: bool
    rest_bytes: int  # from the blank line that ends the head to the end of the response


class HeadMemo:
    """Framings of an engine's connections by head; `find` gives None for an unknown one.

    Bounded: whoever puts something new into most heads makes it give up, not grow.
    """

    __slots__ = ("_answered", "_framings", "_is_given_up", "find")

    def __init__(self) -> None:
        self._framings: dict[bytes, Framing] = {}
        self._is_given_up = False
        self._answered = 0
        self.find: Callable[[bytes], Framing | None] = self._framings.get

    def learn(self, head: bytes, framing: Framing, answered: int) -> bool:
        """Remember a head that the parser accepted, if the length of the body stands in it.

        `head` ends before the blank line; `answered` counts all responses until now.
        """
        if self._is_given_up or len(head) > _LONGEST_MEMO_BYTES:
            return False
        lower = head.lower()
        if lower.count(b"\ncontent-length:") != 1 or b"\ntransfer-encoding" in lower:
            return False
        if len(self._framings) >= _MOST_HEADS:
            self._framings.clear()
            self._is_given_up = answered - self._answered < _FEWEST_USES * _MOST_HEADS
            self._answered = answered
        if not self._is_given_up:
            self._framings[head] = framing
        return not self._is_given_up


class ResponseReader:
    """Reads the responses of one connection in order; `finished` collects them.

    After a fault or the end of a response that forbids further use, throw it away.
    """

    __slots__ = (
        "_body",
        "_body_bytes",
        "_close_token",
        "_codings",
        "_expected",
        "_informational",
        "_is_head_done",
        "_keep_token",
        "_length",
        "_limit_bytes",
        "_now",
        "_parser",
        "_raw_bytes",
        "fault",
        "finished",
    )

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._expected: deque[Expected] = deque()
        self.finished: list[Finished] = []
        self.fault: ResponseFault | None = None
        self._now: Expected | None = None
        self._raw_bytes = 0  # since the last response ended
        self._forget()
        self._parser = httptools.HttpResponseParser(self)

    def expect(self, expected: Expected) -> None:
        """Announce a request that has been sent."""
        self._expected.append(expected)

    def feed(self, data: bytes) -> None:
        """Take bytes; raises ResponseFault after which `finished` still holds what came before."""
        self._raw_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            raise self._faulty(PROTOCOL, "switched protocols unasked") from None
        except httptools.HttpParserError as error:
            if self.fault is not None:
                raise self.fault from None
            raise self._faulty(PROTOCOL, str(error) or type(error).__name__) from None
        if self.fault is not None:  # found in a callback whose exception the parser swallowed
            raise self.fault
        self._bound_overhead()

    def end(self) -> None:
        """Take the end of the stream: it ends a response without length, or it is a fault."""
        is_until_close = self._is_head_done and self._length is None and not self._codings
        if self._now is not None and is_until_close:
            self._finish(is_keep_alive=False)
        elif self._now is not None or self._expected:
            has_bytes = self._raw_bytes > 0 or self._now is not None
            raise self._faulty(
                CLOSED if has_bytes else CLOSED_BEFORE_RESPONSE,
                f"connection closed after {self._raw_bytes} bytes of the response",
            )

    def _faulty(self, kind: str, text: str) -> ResponseFault:
        self.fault = ResponseFault(kind, text)
        return self.fault

    def _bound_overhead(self) -> None:
        overhead = self._raw_bytes - self._body_bytes
        if self._is_head_done:
            if overhead > 2 * HEAD_LIMIT_BYTES + _OVERHEAD_PER_BODY_BYTE * self._body_bytes:
                raise self._faulty(PROTOCOL, "endless chunk extensions or trailers")
        elif overhead > HEAD_LIMIT_BYTES * (1 + self._informational):
            raise self._faulty(PROTOCOL, f"head longer than {HEAD_LIMIT_BYTES} bytes")

    def _forget(self) -> None:
        self._is_head_done = False
        self._length: int | None = None
        self._codings = 0
        self._close_token = self._keep_token = False
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._informational = 0

    # httptools calls the following; what they raise, feed_data raises as a parser error.

    def on_message_begin(self) -> None:
        """A response begins: somebody must wait for it (1xx precede the one waited for)."""
        if self._now is None:
            if not self._expected:
                raise self._faulty(PROTOCOL, "bytes after the end of the response")
            self._now = self._expected.popleft()

    def on_header(self, name: bytes, value: bytes | None) -> None:
        """Look at the headers that frame the body, and no others."""
        if self._is_head_done:
            return  # a trailer frames nothing (RFC 9110, 6.5.1)
        lower, text = name.lower(), (value or b"").strip()
        if lower == b"content-length":
            if self._length is not None or not text.isdigit():
                raise self._faulty(PROTOCOL, f"Content-Length {text[:40]!r} twice or no number")
            self._length = int(text[:20])
        elif lower == b"transfer-encoding":
            self._codings += 1
            if text.lower() != b"chunked" or self._codings > 1:
                raise self._faulty(PROTOCOL, f"Transfer-Encoding {text[:40]!r}")
        elif lower == b"connection":
            tokens = {token.strip() for token in text.lower().split(b",")}
            self._close_token |= b"close" in tokens
            self._keep_token |= b"keep-alive" in tokens

    def on_headers_complete(self) -> None:
        """Decide on the framing (RFC 9112, 6.3), or refuse it."""
        status = self._parser.get_status_code()
        if status == _SWITCHING:
            raise self._faulty(PROTOCOL, "switched protocols unasked")
        if self._raw_bytes > HEAD_LIMIT_BYTES * 4 + self._limit_bytes:
            raise self._faulty(PROTOCOL, f"head longer than {HEAD_LIMIT_BYTES} bytes")
        if self._codings and self._length is not None:
            raise self._faulty(PROTOCOL, "both Content-Length and Transfer-Encoding")
        if status < FIRST_FINAL_STATUS:
            return
        self._is_head_done = True
        now = self._now
        if now is not None and now.is_head:
            is_old = self._parser.get_http_version() == "1.0"
            keeps = not self._close_token and (self._keep_token or not is_old)
            self._finish(is_keep_alive=keeps)
        elif status not in _NO_BODY and (self._length or 0) > self._limit_bytes:
            text = f"Content-Length {self._length}, at most {self._limit_bytes}"
            raise self._faulty(TOO_LARGE, text)

    def on_body(self, data: bytes) -> None:
        """Count the body, keep it if somebody will look at it."""
        if self._now is None:  # the body of an answer to HEAD, or after the end
            raise self._faulty(PROTOCOL, "bytes after the end of the response")
        self._body_bytes += len(data)
        if self._body_bytes > self._limit_bytes:
            raise self._faulty(TOO_LARGE, f"body larger than {self._limit_bytes} bytes")
        if self._now.keeps_body:
            self._body.append(data)

    def on_message_complete(self) -> None:
        """The last byte of a response, or of a 1xx before it."""
        if self._now is None:
            return  # the answer to a HEAD was complete with its head
        if self._parser.get_status_code() < FIRST_FINAL_STATUS:
            informational = self._informational + 1
            if informational > _MOST_INFORMATIONAL:
                raise self._faulty(PROTOCOL, f"more than {_MOST_INFORMATIONAL} 1xx responses")
            self._forget()
            self._informational = informational
            return
        self._finish(is_keep_alive=self._parser.should_keep_alive())

    def _finish(self, *, is_keep_alive: bool) -> None:
        finished = Finished(
            status=self._parser.get_status_code(),
            is_keep_alive=is_keep_alive,
            body=b"".join(self._body),
        )
        self.finished.append(finished)
        self._now = None
        self._raw_bytes = 0
        self._forget()
