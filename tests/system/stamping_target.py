"""A target that lets the kernel say when each request left its sender.

Over loopback a packet is received in the sender's own system call, and SO_TIMESTAMPNS is the
time of that: it does not depend on when this process reads, so a busy machine cannot make a
sender look faster than it was. One request a connection at a time, as HTTP/1.1 sends them.
"""

from __future__ import annotations

import selectors
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_TIMESPEC: Final = struct.Struct("@qq")
_SO_TIMESTAMPNS: Final = 35  # asm-generic/socket.h, SO_TIMESTAMPNS_OLD
_ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class StampingTarget:
    """Serves from a thread; `stamps_ns` are unix times, one for each request."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._listener.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._is_ending = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.stamps_ns: list[int] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread.start()

    def _serve(self) -> None:
        while not self._is_ending:
            for key, _ in self._selector.select(0.1):
                if key.fileobj is self._listener:
                    connection, _ = self._listener.accept()
                    connection.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._selector.register(connection, selectors.EVENT_READ)
                else:
                    self._answer(key.fileobj)  # type: ignore[arg-type]  # registered above

    def _answer(self, connection: socket.socket) -> None:
        try:
            data, ancillary, _, _ = connection.recvmsg(65_536, socket.CMSG_SPACE(16))
            if data:
                self._note(data.count(b"\r\n\r\n"), ancillary)
                connection.sendall(_ANSWER * data.count(b"\r\n\r\n"))
                return
        except OSError:
            pass
        self._selector.unregister(connection)
        connection.close()

    def _note(self, requests: int, ancillary: list[tuple[int, int, bytes]]) -> None:
        for level, kind, value in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
                seconds, ns = _TIMESPEC.unpack(value[: _TIMESPEC.size])
                self.stamps_ns += [seconds * 1_000_000_000 + ns] * requests

    def close(self) -> None:
        """End the thread and every connection."""
        self._is_ending = True
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]  # sockets only


@contextmanager
def stamping_target() -> Iterator[StampingTarget]:
    """A target that is gone afterwards."""
    started = StampingTarget()
    try:
        yield started
    finally:
        started.close()
