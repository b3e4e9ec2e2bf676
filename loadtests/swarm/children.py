"""Child processes of a gevent process: started, listened to, reaped without holding it up.

Uses the standard library's subprocess and polls: gevent's own would install a SIGCHLD
handler that reaps every child of the process, also those of others (the embedded
cluster's nodes, say), and lose their exit status.

A child gets a session of its own, so the terminal's Ctrl-C reaches its parent alone, which
decides. The last 4 KiB of its standard error are kept for what is told of its end; its
pipe is always emptied, so a talkative child can neither block nor fill our memory.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import IO, Final

import gevent
from gevent.os import make_nonblocking, nb_read

KEPT_BYTES: Final = 4096
_READ_BYTES: Final = 64 * 1024
_POLL_S: Final = 0.01
_WORDS_S: Final = 0.5


class Child:
    """`python -m module arguments...`, running from construction on."""

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        *,
        pass_fds: tuple[int, ...] = (),
        has_output: bool = False,
    ) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter and our own module
            [sys.executable, "-m", module, *arguments],
            pass_fds=pass_fds,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if has_output else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        self._words: deque[bytes] = deque()
        self._listener = gevent.spawn(self._listen)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """True until it has ended."""
        return self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL, if it lives."""
        if self.is_alive:
            self._process.kill()

    def wait(self, seconds: float) -> bool:
        """Wait in the hub for its end; False when it lives on."""
        deadline = time.monotonic() + seconds
        while self.is_alive and time.monotonic() < deadline:
            gevent.sleep(_POLL_S)
        return not self.is_alive

    def end(self) -> None:
        """Kill and reap it."""
        self.kill()
        self._process.wait()

    def how_it_ended(self) -> str:
        """Exit status or signal, and its last words."""
        status = self._process.poll()
        self._listener.join(timeout=_WORDS_S)
        words = b"".join(self._words)[-KEPT_BYTES:].decode(errors="replace").strip()
        if status is None:
            ended = "still alive"
        else:
            ended = f"signal {-status}" if status < 0 else f"exit status {status}"
        return f"{ended}: {words}" if words else ended

    def output(self) -> Iterator[bytes]:
        """Pieces of standard output as they come, until it closes."""
        assert self._process.stdout is not None, "started without output"
        return _pieces(self._process.stdout)

    def _listen(self) -> None:
        assert self._process.stderr is not None
        kept_bytes = 0
        for piece in _pieces(self._process.stderr):
            self._words.append(piece)
            kept_bytes += len(piece)
            while kept_bytes - len(self._words[0]) >= KEPT_BYTES:
                kept_bytes -= len(self._words.popleft())


def _pieces(stream: IO[bytes]) -> Iterator[bytes]:
    """Read a pipe in the hub until its end, then close it."""
    make_nonblocking(stream.fileno())
    with stream:
        try:
            while piece := nb_read(stream.fileno(), _READ_BYTES):
                yield piece
        except OSError:
            return


def own_pid() -> str:
    """For children that must know whose death to follow."""
    return str(os.getpid())
