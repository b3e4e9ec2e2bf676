"""The last words of a child process: its standard error, bounded.

A reader greenlet empties the pipe for as long as the child lives, so a talkative child
can neither block on a full pipe nor fill our memory; the last 4 KiB are kept for the
event or error that tells of its end.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

import gevent

KEPT_BYTES: Final = 4096


class Tail:
    """Reads an unbuffered binary stream to its end, in the background."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._pieces: deque[bytes] = deque()
        self._reader = gevent.spawn(self._read)

    def text(self, wait_s: float) -> str:
        """What was kept, once the stream has ended or `wait_s` is over."""
        self._reader.join(timeout=wait_s)
        return b"".join(self._pieces)[-KEPT_BYTES:].decode(errors="replace").strip()

    def _read(self) -> None:
        kept_bytes = 0
        while data := self._stream.read(KEPT_BYTES):
            self._pieces.append(data)
            kept_bytes += len(data)
            while kept_bytes - len(self._pieces[0]) >= KEPT_BYTES:
                kept_bytes -= len(self._pieces.popleft())
        self._stream.close()
