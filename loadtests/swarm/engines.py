"""An agent's engines and the bare ticker of its host, as processes.

Reads and writes in greenlets, so that an engine that stops reading cannot hold up the
agent. Decides nothing: what arrives is handed to a callback, in order, and the end of an
engine is handed over exactly once, after its last message. Both kinds die with the agent
(`PR_SET_PDEATHSIG`, and the end of the socket pair).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final

import gevent
from gevent import socket
from gevent.queue import Queue

from loadtests.engine.messages import FromEngine, ToEngine, agent_side, encode_frame
from loadtests.record.window import Hiccup
from loadtests.swarm.children import Child, own_pid

_READ_BYTES: Final = 256 * 1024
_REAP_S: Final = 1.0
_REPORT: Final = struct.Struct("<qIqqq")  # loadtests.engine.ticker.REPORT


class EngineProcess:
    """One engine: started on construction, ended by `kill` or by itself."""

    def __init__(
        self, *, on_message: Callable[[FromEngine], None], on_end: Callable[[str], None]
    ) -> None:
        self._on_message = on_message
        self._on_end = on_end
        ours, theirs = socket.socketpair()
        self._socket: Any = ours
        try:
            number = theirs.fileno()
            self._child = Child(
                "loadtests.engine.process", ["--fd", str(number)], pass_fds=(number,)
            )
        finally:
            theirs.close()
        self._outbox: Queue[bytes] = Queue()
        self._writer = gevent.spawn(self._write)
        self._reader = gevent.spawn(self._read)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._child.pid

    def send(self, message: ToEngine) -> None:
        """Queue a frame; never blocks."""
        self._outbox.put(encode_frame(message))

    def kill(self) -> None:
        """End it at once; `on_end` follows."""
        self._child.kill()

    def end(self) -> None:
        """Kill and reap it, without a word to anybody."""
        self._reader.kill(block=False)
        self._writer.kill(block=False)
        self._child.end()

    def _write(self) -> None:
        for frame in self._outbox:
            try:
                self._socket.sendall(frame)
            except OSError:
                return  # the reader sees the end as well, and reports it

    def _read(self) -> None:
        frames: Any = agent_side()  # its messages are FromEngine; one class reads both sides
        why = "closed its socket"
        while True:
            try:
                data = self._socket.recv(_READ_BYTES)
                if not data:
                    break
                for message in frames.feed(data):
                    self._on_message(message)
            except (OSError, ValueError) as error:
                why = str(error)
                break
        self._writer.kill(block=False)
        self._socket.close()
        if not self._child.wait(_REAP_S):
            self._child.end()
        self._on_end(f"{why}, {self._child.how_it_ended()}")


class TickerProcess:
    """The bare ticker; reports (window label, hiccup) for an agent until stopped."""

    def __init__(
        self, agent: str, t0_ns: int, t0_unix_ns: int, on_hiccup: Callable[[int, Hiccup], None]
    ) -> None:
        self._agent = agent
        self._on_hiccup = on_hiccup
        self._child = Child(
            "loadtests.engine.ticker",
            ["--t0-ns", str(t0_ns), "--t0-unix-ns", str(t0_unix_ns), "--parent", own_pid()],
            has_output=True,
        )
        self._reader = gevent.spawn(self._read)

    def stop(self) -> None:
        """End it and reap it; its current window is not reported."""
        self._reader.kill(block=False)
        self._child.end()

    def _read(self) -> None:
        buffer = b""
        for piece in self._child.output():
            buffer += piece
            while len(buffer) >= _REPORT.size:
                start_s, ticks, p50_ns, p99_ns, max_ns = _REPORT.unpack_from(buffer)
                buffer = buffer[_REPORT.size :]
                self._on_hiccup(
                    start_s,
                    Hiccup(
                        agent=self._agent, ticks=ticks, p50_ns=p50_ns, p99_ns=p99_ns, max_ns=max_ns
                    ),
                )
