"""A wire between an agent and its master that keeps what the agent has said."""

from __future__ import annotations

import socket
import threading
from typing import Final

_IDENTITY: Final = b"\x08Identity"  # ZMTP 3.1, the property of a READY command


class Tap:
    """Passes one connection on, from threads, until either side ends."""

    def __init__(self, port: int) -> None:
        self._to = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.said = bytearray()
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def identity(self) -> bytes:
        """The agent's name on the wire, as it has said it itself."""
        at = self.said.index(_IDENTITY) + len(_IDENTITY)
        length = int.from_bytes(self.said[at : at + 4], "big")
        return bytes(self.said[at + 4 : at + 4 + length])

    def _serve(self) -> None:
        while True:
            try:
                agent, _ = self._listener.accept()
            except OSError:  # closed
                return
            try:
                master = socket.create_connection(self._to)
            except OSError:  # it is not there yet, or no more
                agent.close()
                continue
            threading.Thread(target=self._pass_on, args=(master, agent), daemon=True).start()
            self.said.clear()
            self._pass_on(agent, master, self.said)

    @staticmethod
    def _pass_on(source: socket.socket, sink: socket.socket, kept: bytearray | None = None) -> None:
        try:
            while data := source.recv(65_536):
                if kept is not None:
                    kept += data
                sink.sendall(data)
        except OSError:  # whichever side has ended, the other one hears of it
            pass
        for end in (source, sink):
            end.close()

    def close(self) -> None:
        """Take no further connection."""
        self._listener.close()
