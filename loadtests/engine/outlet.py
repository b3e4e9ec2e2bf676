"""The way of one connection's bytes to the kernel: the socket itself, while it takes all.

Sending on the socket saves what a transport does around the same call. What the socket does
not take goes to the transport, and so does all that follows, until nothing waits there.
Under TLS there is no socket to send on: all bytes go through the transport.

The law: bytes leave in the order in which they were handed over.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final

from loadtests.engine.farewell import discard_unsent

_MOST_WAITING_BYTES: Final = 1 << 28  # unread by the peer: it has stopped reading


class Outlet:
    """`send` takes bytes and tells how many it took, as a socket does; the rest is `push`'s."""

    __slots__ = ("_socket", "_transport", "send")

    def __init__(self, own: socket.socket | None) -> None:
        self._socket = own
        self._transport: asyncio.Transport | None = None
        self.send: Callable[[bytes], int] = self._refuse

    def open(self, transport: asyncio.Transport) -> None:
        """Send from now on."""
        self._transport = transport
        self.send = self._send_by_transport if self._socket is None else self._socket.send

    def close(self) -> None:
        """Give up what waits, and send nothing more."""
        self.send = self._refuse
        if self._transport is not None:
            self.discard_unsent()
            self._transport.abort()

    def discard_unsent(self) -> None:
        """Let nothing arrive once the connection, or this process, has ended."""
        discard_unsent(self._transport)

    def push(self, data: bytes) -> OSError | None:
        """Send all of it, in time; the error of a broken connection."""
        try:
            taken = self.send(data)
        except OSError as error:
            return self.failed(error, data)
        if taken != len(data):
            self.leave(data[taken:])
        return None

    def failed(self, error: OSError, data: bytes) -> OSError | None:
        """Tell a full socket, which takes nothing now, from a broken one, whose error it is."""
        if not isinstance(error, BlockingIOError):
            return error
        self.leave(data)
        return None

    def leave(self, rest: bytes) -> None:
        """Leave to the transport what the socket does not take: nothing may overtake it."""
        if self._transport is not None:
            self.send = self._send_by_transport
            self._transport.write(rest)

    def _send_by_transport(self, data: bytes) -> int:
        transport = self._transport
        if transport is not None:
            waiting_bytes = transport.get_write_buffer_size()
            if waiting_bytes > _MOST_WAITING_BYTES:
                raise OSError(f"{waiting_bytes} bytes that the server does not read")
            if not waiting_bytes and self._socket is not None:
                self.send = self._socket.send
                return self._socket.send(data)
            transport.write(data)
        return len(data)

    @staticmethod
    def _refuse(_data: bytes) -> int:
        raise ConnectionResetError("closed before the request left")
