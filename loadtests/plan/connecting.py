"""Connections to what may be reached, and to nothing else: resolved once, checked, connected.

For the few questions that are asked beside the load (versions, health, proofs, read-backs).
The address that was checked is the one that is connected to, so a name that resolves
elsewhere a moment later changes nothing. Nothing is followed: no redirect, no proxy.
"""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Sequence
from functools import partial
from typing import Any

from loadtests.plan.addresses import check_addresses
from loadtests.plan.call import Endpoint


def resolve_allowed(host: str, port: int, authorised: Sequence[str]) -> tuple[str, ...]:
    """All addresses of a host; OSError without one, or unless each of them may be reached."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
    check_addresses(host, addresses, authorised)
    return addresses


def connect(host: str, port: int, authorised: Sequence[str], timeout_s: float) -> socket.socket:
    """Connect to the first address that answers, as `localhost` may have two; OSError."""
    failure: OSError = OSError(f"{host} has no address")
    for address in resolve_allowed(host, port, authorised):
        try:
            return socket.create_connection((address, port), timeout=timeout_s)
        except OSError as error:
            failure = error
    raise failure


def http_connection(
    at: Endpoint, authorised: Sequence[str], *, timeout_s: float, context: ssl.SSLContext | None
) -> http.client.HTTPConnection:
    """A connection that is opened by its first request; `context` of https, None: the system's."""
    made: http.client.HTTPConnection
    if at.scheme == "https":
        made = http.client.HTTPSConnection(at.host, at.port, timeout=timeout_s, context=context)
    else:
        made = http.client.HTTPConnection(at.host, at.port, timeout=timeout_s)
    hooked: Any = made  # http.client has no public way to connect a socket of one's own
    hooked._create_connection = partial(_connect, authorised)  # noqa: SLF001 - see above
    return made


def _connect(
    authorised: Sequence[str], address: tuple[str, int], timeout_s: float, _source: object
) -> socket.socket:
    return connect(*address, authorised, timeout_s)
