"""The classifier: what a finished request counts as, and the words for what went wrong.

One place decides ok, client_error or failed (measurement.md, Outcomes), so that no two
code paths can disagree. Kinds are short words that the archive groups by; whatever a
library or the kernel calls an error is mapped to one of them here and nowhere else.
"""

from __future__ import annotations

import errno
import socket
import ssl
from typing import Final

from loadtests.record.window import Count

TIMEOUT: Final = "timeout"
CONNECT_REFUSED: Final = "connect_refused"
CONNECT_TIMEOUT: Final = "connect_timeout"
CONNECT_FAILED: Final = "connect_failed"  # unreachable network or host, and the like
RESET: Final = "reset"
CLOSED: Final = "closed"  # end of stream in the middle of a response
CLOSED_BEFORE_RESPONSE: Final = "closed_before_response"  # the keep-alive race: not retried
TLS: Final = "tls"
PROTOCOL: Final = "protocol"
CHECK: Final = "check"
TOO_LARGE: Final = "too_large"
PORT_EXHAUSTED: Final = "client_port_exhausted"
DESCRIPTORS_EXHAUSTED: Final = "client_descriptors_exhausted"
DNS: Final = "dns"
CANCELLED_BY_PEER: Final = "h2_cancel"  # RST_STREAM; its other codes are named alike
GOAWAY: Final = "goaway"  # the server went away before it took the request: not retried
OTHER: Final = "other"  # what the 64 kinds of a slot cannot hold

ANY_2XX: Final = frozenset(range(200, 300))
_TOO_MANY_REQUESTS: Final = 429


def count_of_status(status: int) -> Count:
    """What an unexpected status counts as: 4xx is the client's error, but 429 the target's."""
    if 400 <= status < 500 and status != _TOO_MANY_REQUESTS:  # noqa: PLR2004 - RFC 9110, 15.5
        return Count.CLIENT_ERROR
    return Count.FAILED


def kind_of_status(status: int) -> str:
    """The error kind of an unexpected status."""
    return f"status_{status}"


_KIND_OF_ERRNO: Final = {
    errno.ECONNREFUSED: CONNECT_REFUSED,
    errno.ECONNRESET: RESET,
    errno.EPIPE: RESET,
    errno.ECONNABORTED: RESET,
    errno.ETIMEDOUT: CONNECT_TIMEOUT,
    errno.EADDRNOTAVAIL: PORT_EXHAUSTED,
    errno.EMFILE: DESCRIPTORS_EXHAUSTED,
    errno.ENFILE: DESCRIPTORS_EXHAUSTED,
}


def kind_of_connect_error(error: BaseException) -> str:
    """The error kind of a connection that could not be established."""
    if isinstance(error, ssl.SSLError):  # certificate errors are among them
        return TLS
    if isinstance(error, socket.gaierror):
        return DNS
    if isinstance(error, TimeoutError) and not error.errno:
        return CONNECT_TIMEOUT
    if isinstance(error, OSError) and error.errno is not None:
        return _KIND_OF_ERRNO.get(error.errno, CONNECT_FAILED)
    return CONNECT_FAILED


def kind_of_loss(error: Exception | None, *, has_response_bytes: bool) -> str:
    """The error kind of a request whose connection ended; `error` None: an orderly end."""
    if isinstance(error, ssl.SSLError):
        return TLS
    if error is not None:
        return RESET
    return CLOSED if has_response_bytes else CLOSED_BEFORE_RESPONSE
