"""An agent's child processes: its engines and the bare ticker of its host.

Owns their descriptors, the last words of a dying
one, and their end. Reads and writes in greenlets, so that an engine that stops reading
cannot hold up the agent. Decides nothing: what arrives is handed to a callback, in order,
and the end of an engine is handed over exactly once, after its last message.

Children get their own session, so the terminal's Ctrl-C reaches the agent alone, and they
die with it (`PR_SET_PDEATHSIG`, and the end of the socket pair).
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Callable
from typing import Final

import gevent
from gevent import subprocess
from gevent.queue import Queue

from loadtests.engine.messages import FromEngine, ToEngine, agent_side, encode_frame
from loadtests.record.window import Hiccup
from loadtests.swarm.tail import Tail

_READ_BYTES: Final = 256 * 1024
_REAP_S: Final = 1.0
_TICKER_REPORT: Final = struct.Struct("<qIqqq")  # loadtests.engine.ticker.REPORT


class EngineProcess:
    """One engine: started on construction, ended by `kill` or by itself."""

    def __init__(
        self,
        *,
        on_message: Callable[[FromEngine], None],
        on_end: Callable[[str], None],
    ) -> None:
        self._on_message = on_message
        self._on_end = on_end
        ours, theirs = socket.socketpair()
        self._socket = ours
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "loadtests.engine.process", "--fd", str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )
        finally:
            theirs.close()
        self._outbox: Queue[bytes] = Queue()
        self._stderr = Tail(self._process.stderr)
        self._writer = gevent.spawn(self._write)
        self._reader = gevent.spawn(self._read)

    @property
    def pid(self) -> int:
        """Process id."""
        return int(self._process.pid)

    def send(self, message: ToEngine) -> None:
        """Queue a frame; never blocks."""
        self._outbox.put(encode_frame(message))

    def kill(self) -> None:
        """End it at once; `on_end` follows."""
        if self._process.poll() is None:
            self._process.kill()

    def _write(self) -> None:
        for frame in self._outbox:
            try:
                self._socket.sendall(frame)
            except OSError:
                return  # the reader sees the end as well, and reports it

    def _read(self) -> None:
        frames = agent_side()
        why = "closed its socket"
        while True:
            try:
                data = self._socket.recv(_READ_BYTES)
                if not data:
                    break
                for message in frames.feed(data):
                    self._on_message(message)  # type: ignore[arg-type]  # agent_side
            except (OSError, ValueError) as error:
                why = str(error)
                break
        self._on_end(self._reap(why))

    def _reap(self, why: str) -> str:
        self._writer.kill(block=False)
        self._socket.close()
        try:
            status = self._process.wait(timeout=_REAP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            status = self._process.wait()
        words = self._stderr.text(_REAP_S)
        ended = f"signal {-status}" if status < 0 else f"exit status {status}"
        return f"{why}, {ended}" + (f": {words}" if words else "")


class TickerProcess:
    """The bare ticker; reports (window label, hiccup) for an agent until stopped."""

    def __init__(
        self, agent: str, t0_ns: int, t0_unix_ns: int, on_hiccup: Callable[[int, Hiccup], None]
    ) -> None:
        self._agent = agent
        self._on_hiccup = on_hiccup
        self._process = subprocess.Popen(
            [
                sys.executable, "-m", "loadtests.engine.ticker",
                "--t0-ns", str(t0_ns), "--t0-unix-ns", str(t0_unix_ns),
                "--parent", str(os.getpid()),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,
        )  # fmt: skip
        self._reader = gevent.spawn(self._read)

    def stop(self) -> None:
        """End it and reap it; its current window is not reported."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reader.kill(block=False)

    def _read(self) -> None:
        stream = self._process.stdout
        buffer = b""
        while data := stream.read(_READ_BYTES):
            buffer += data
            while len(buffer) >= _TICKER_REPORT.size:
                start_s, ticks, p50_ns, p99_ns, max_ns = _TICKER_REPORT.unpack_from(buffer)
                buffer = buffer[_TICKER_REPORT.size :]
                self._on_hiccup(
                    start_s,
                    Hiccup(
                        agent=self._agent, ticks=ticks, p50_ns=p50_ns, p99_ns=p99_ns, max_ns=max_ns
                    ),
                )
