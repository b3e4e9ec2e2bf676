"""The classifier: what a finished request counts as, and which kind of error it was.

One place decides ok, client_error or failed (measurement.md, Outcomes), so that no two
code paths can disagree. Kinds are the words of `record.error_kinds`; whatever a library or
the kernel calls an error is mapped to one of them here and nowhere else.
"""

from __future__ import annotations

import errno
import socket
import ssl
from typing import Final

from loadtests.record.error_kinds import (
    CLOSED,
    CLOSED_BEFORE_RESPONSE,
    CONNECT_FAILED,
    CONNECT_REFUSED,
    CONNECT_TIMEOUT,
    DESCRIPTORS_EXHAUSTED,
    DNS,
    PORT_EXHAUSTED,
    RESET,
    STATUS_PREFIX,
    TLS,
)
from loadtests.record.window import Count

ANY_2XX: Final = frozenset(range(200, 300))
_TOO_MANY_REQUESTS: Final = 429


def count_of_status(status: int) -> Count:
    """What an unexpected status counts as: 4xx is the client's error, but 429 the target's."""
    if 400 <= status < 500 and status != _TOO_MANY_REQUESTS:  # noqa: PLR2004 - RFC 9110, 15.5
        return Count.CLIENT_ERROR
    return Count.FAILED


def kind_of_status(status: int) -> str:
    """The error kind of an unexpected status."""
    return f"{STATUS_PREFIX}{status}"


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
