"""The words for what went wrong with a request, and what each of them says about it.

The archive groups errors by these words. What a kind proves is decided here, once:

    kind                       answered  never left  target alone  because
    status_N, check            yes       -           yes           a complete response
    status_408                 yes       -           -             it blames a slow client
    grpc_N                     yes       -           yes           a complete response
    grpc_1, grpc_4             yes       -           -             cancelled, late: either side
    timeout                    -         -           -             late: either side
    reset, closed,             -         -           yes           the other side ended the
    closed_before_response                                         connection
    protocol, too_large        -         -           yes           bytes that are no response
    tls                        -         -           -             perhaps our certificates
    no_connection              -         yes         -             all in use: either side
    connect_refused, _reset,   -         yes         yes           it was turned away
    _closed, _protocol
    connect_timeout, _failed,  -         yes         -             the network, our names or
    _tls, dns                                                      certificates
    client_*                   -         yes         -             our own machine's limits
    other                      -         -           -             not known

*Answered*: a complete response came; such requests are throughput. *Never left*: no byte
of the request was sent, though conservation counts it as sent: the attempt failed. *Target
alone*: however slow a generator is, it cannot cause it. What proves nothing has no trait.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Flag, auto
from typing import Final

TIMEOUT: Final = "timeout"
NO_CONNECTION: Final = "no_connection"  # none came free within the request's timeout
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
OTHER: Final = "other"  # what the 64 kinds of a slot cannot hold

STATUS_PREFIX: Final = "status_"
GRPC_PREFIX: Final = "grpc_"

# What a connection met with before any request, as the kind of a request that it kept back.
_UNSENT: Final = {
    RESET: "connect_reset",
    CLOSED: "connect_closed",
    CLOSED_BEFORE_RESPONSE: "connect_closed",
    PROTOCOL: "connect_protocol",
    TOO_LARGE: "connect_protocol",
    TLS: "connect_tls",
}


class Trait(Flag):
    """What an error kind proves."""

    ANSWERED = auto()
    NEVER_LEFT = auto()
    TARGET_ALONE = auto()


_NONE: Final = Trait(0)
_TURNED_AWAY: Final = Trait.NEVER_LEFT | Trait.TARGET_ALONE
_TRAITS: Final[Mapping[str, Trait]] = {
    CHECK: Trait.ANSWERED | Trait.TARGET_ALONE,
    "status_408": Trait.ANSWERED,
    "grpc_1": Trait.ANSWERED,
    "grpc_4": Trait.ANSWERED,
    **dict.fromkeys(
        (RESET, CLOSED, CLOSED_BEFORE_RESPONSE, PROTOCOL, TOO_LARGE), Trait.TARGET_ALONE
    ),
    **dict.fromkeys(
        (CONNECT_REFUSED, "connect_reset", "connect_closed", "connect_protocol"), _TURNED_AWAY
    ),
    NO_CONNECTION: Trait.NEVER_LEFT,
    DNS: Trait.NEVER_LEFT,
}
_BY_PREFIX: Final = (
    (STATUS_PREFIX, Trait.ANSWERED | Trait.TARGET_ALONE),
    (GRPC_PREFIX, Trait.ANSWERED | Trait.TARGET_ALONE),
    ("connect_", Trait.NEVER_LEFT),
    ("client_", Trait.NEVER_LEFT),
)


def traits_of(kind: str) -> Trait:
    """What a kind proves; nothing for a kind that is not in the table."""
    if kind in _TRAITS:
        return _TRAITS[kind]
    return next((trait for prefix, trait in _BY_PREFIX if kind.startswith(prefix)), _NONE)


def kind_of_unsent(kind: str) -> str:
    """The kind of a request that never left, from what its connection met with."""
    return _UNSENT.get(kind, kind)


def count_with(errors: Mapping[str, int], trait: Trait) -> int:
    """How many errors have a trait."""
    return sum(number for kind, number in errors.items() if trait in traits_of(kind))
