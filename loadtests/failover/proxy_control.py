"""What a fault proxy can be told, and the way to tell it: one line of JSON and its answer.

    python -m loadtests.failover.proxy_control SOCKET pass

sets a proxy back by hand.
"""

from __future__ import annotations

import socket
import sys
from enum import Enum
from typing import Final

import msgspec

_TIMEOUT_S: Final = 3.0
_LONGEST: Final = 4096


class Mode(Enum):
    """What a proxy does with the connections through it."""

    PASS = "pass"  # noqa: S105 - no password
    LATENCY = "latency"
    BANDWIDTH = "bandwidth"
    RESET = "reset"
    BLACK_HOLE = "black-hole"
    HALF_OPEN = "half-open"


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """A mode with its parameters."""

    mode: Mode
    latency_ns: int = 0
    bytes_per_s: int = 0


def tell_proxy(path: str, orders: Orders | None) -> Orders:
    """Set its orders, None: only ask; returns those in force. OSError, MsgspecError."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_TIMEOUT_S)
        connection.connect(path)
        connection.sendall(msgspec.json.encode(orders) + b"\n")
        answer = b""
        while not answer.endswith(b"\n") and len(answer) < _LONGEST:
            piece = connection.recv(_LONGEST)
            if not piece:
                raise OSError("the proxy closed its control socket")
            answer += piece
    return msgspec.json.decode(answer, type=Orders)


def main() -> int:
    """Set a proxy to a mode without parameters."""
    _, path, mode = sys.argv
    now = tell_proxy(path, Orders(mode=Mode(mode)))
    sys.stdout.write(f"{now.mode.value}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
