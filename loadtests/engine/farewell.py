"""Closing a connection so that nothing of it arrives later.

A closed socket goes on sending what it had taken (tcp(7)): across a link that is cut for ten
seconds a request that was given up, or whose engine has ended with its lease, would reach
the target when the link is back. So what the other side has not acknowledged is discarded,
with a reset; a connection that owes nothing is closed as usual.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import termios
from contextlib import suppress
from typing import Final

_AT_ONCE: Final = struct.pack("ii", 1, 0)  # SO_LINGER on, no time: close discards and resets


def discard_unsent(transport: asyncio.BaseTransport | None) -> None:
    """Make closing discard what is not acknowledged (TIOCOUTQ: bytes in the send queue)."""
    own = None if transport is None else transport.get_extra_info("socket")
    if own is None:
        return
    with suppress(OSError):  # the other side has closed it: nothing is sent any more
        waiting = fcntl.ioctl(own.fileno(), termios.TIOCOUTQ, bytes(4))
        if any(waiting):
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
