"""The door of the control channel: which keys may connect, and under which name.

ZeroMQ asks a handler of the same context about every connection (ZAP, RFC 27) before it
hands on a single message of it. An authorised key is let in, and the name it is authorised
under travels with each of its messages as their `User-Id`; any other key, and any other
mechanism, is turned away. Deciding is pure; the greenlet around it only answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import gevent
import zmq.green as zmq

from loadtests.swarm.refusals import REFUSALS

DOMAIN: Final = b"headroom"
_ENDPOINT: Final = "inproc://zeromq.zap.01"  # fixed by RFC 27
_VERSION: Final = b"1.0"
_MECHANISM: Final = b"CURVE"
_FRAMES: Final = 7  # version, request id, domain, address, identity, mechanism, client key


def answer(request: Sequence[bytes], names: Mapping[bytes, str]) -> list[bytes]:
    """The reply to a ZAP request: 200 with the key's name, or 400.

    Frames of a request: version, request id, domain, address, identity (of our own socket, so
    of no use), mechanism, credentials. A reply: version, request id, status code, status text,
    user id, metadata.
    """
    request_id = request[1] if len(request) > 1 else b""
    name = None
    if len(request) == _FRAMES and request[0] == _VERSION and request[5] == _MECHANISM:
        name = names.get(request[6])
    if name is None:
        return [_VERSION, request_id, b"400", b"not an authorised key", b"", b""]
    return [_VERSION, request_id, b"200", b"OK", name.encode("ascii"), b""]


class Door:
    """Answers for one context until `close`; open it before the socket is bound."""

    def __init__(self, context: Any, names: Mapping[bytes, str]) -> None:
        self._names = names
        self._socket: Any = context.socket(zmq.REP)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(_ENDPOINT)
        self._greenlet = gevent.spawn(self._serve)

    def _serve(self) -> None:
        while True:
            try:
                request = self._socket.recv_multipart()
            except zmq.ZMQError:
                return  # closed
            reply = answer(request, self._names)
            if reply[2] != b"200":
                told = " ".join(part.decode(errors="replace") for part in request[3:6])
                REFUSALS.add("not an authorised key", f"{told} {request[-1].hex()}")
            self._socket.send_multipart(reply)

    def close(self) -> None:
        """Answer no more: nobody comes in any more."""
        self._greenlet.kill(block=False)
        self._socket.close()
