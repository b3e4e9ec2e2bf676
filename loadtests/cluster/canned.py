"""A peer that answers every gRPC call at once with the same few bytes: what a client costs.

The embedded cluster's gRPC is grpcio's own server, which is there to be right; an engine
spends its time waiting for it, and a call looks twenty times as dear as it is. This peer
reads no heads and no messages: whatever ends its side of a stream gets head, one empty
message and trailers (RFC 9113; gRPC over HTTP/2). It is for `headroom calibrate` and no
server of anything.

`python -m loadtests.cluster.canned` listens on a free loopback port, prints it, and ends
when its standard input does.
"""

from __future__ import annotations

import asyncio
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, cast

import uvloop

from loadtests.errors import HarnessError

_PREFACE_BYTES: Final = 24
_HEAD: Final = struct.Struct(">IBI")  # length and type as one number, flags, stream
_DATA, _HEADERS, _SETTINGS, _PING, _WINDOW_UPDATE = 0, 1, 4, 6, 8  # RFC 9113, 6
_END_STREAM, _ACK, _END_HEADERS = 0x1, 0x1, 0x4
_FIRST_WINDOW: Final = 65_535  # RFC 9113, 6.9.2
_MOST_WINDOW: Final = 2**31 - 1
_REFILL_BYTES: Final = 2**30  # of what was received, in one update

# HPACK without a dynamic table (RFC 7541): 200 and names of the static table, and literals.
_RESPONSE_HEAD: Final = b"\x88" + b"\x0f\x10\x10application/grpc"
_TRAILERS: Final = b"\x00\x0bgrpc-status\x010"
_MESSAGE: Final = bytes(5)


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return _HEAD.pack(len(payload) << 8 | kind, flags, stream) + payload


def _setting(name: int, value: int) -> bytes:
    return struct.pack(">HI", name, value)


_GREETING: Final = _frame(
    _SETTINGS,
    0,
    0,
    _setting(3, 1000) + _setting(4, _MOST_WINDOW),  # streams, window of each
) + _frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", _MOST_WINDOW - _FIRST_WINDOW))
# One answer with its three stream ids left out.
_ANSWER: Final = (
    _frame(_HEADERS, _END_HEADERS, 0, _RESPONSE_HEAD)[:5],
    _RESPONSE_HEAD + _frame(_DATA, 0, 0, _MESSAGE)[:5],
    _MESSAGE + _frame(_HEADERS, _END_HEADERS | _END_STREAM, 0, _TRAILERS)[:5],
    _TRAILERS,
)


class Canned(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._skip = _PREFACE_BYTES
        self._window = _FIRST_WINDOW  # bytes of DATA that the client takes
        self._waiting: list[bytes] = []  # streams that wait for it
        self._received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send SETTINGS, with windows that are never the limit."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(_GREETING)

    def data_received(self, data: bytes) -> None:
        """Answer every stream that its client has ended."""
        assert self._transport is not None
        data = self._rest + data
        at = min(self._skip, len(data))
        self._skip -= at
        out: list[bytes] = []
        size = len(data)
        while at + 9 <= size:
            word, flags, _ = _HEAD.unpack_from(data, at)
            end = at + 9 + (word >> 8)
            if end > size:
                break
            self._take(word & 0xFF, flags, data[at + 5 : at + 9], data[at + 9 : end], out)
            at = end
        self._rest = data[at:]
        self._answer(out)
        self._transport.write(b"".join(out))

    def _take(self, kind: int, flags: int, stream: bytes, payload: bytes, out: list[bytes]) -> None:
        if kind == _DATA:
            self._received += len(payload)
            if self._received > _REFILL_BYTES:
                out.append(_frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", self._received)))
                self._received = 0
        if kind in {_DATA, _HEADERS}:
            if flags & _END_STREAM:
                self._waiting.append(stream)
        elif kind == _WINDOW_UPDATE and not any(stream):
            self._window += int.from_bytes(payload, "big")
        elif kind in {_SETTINGS, _PING} and not flags & _ACK:
            out.append(_frame(kind, _ACK, 0, payload if kind == _PING else b""))

    def _answer(self, out: list[bytes]) -> None:
        count = min(len(self._waiting), self._window // len(_MESSAGE))
        head, data, trailers, end = _ANSWER
        out += [
            b"".join((head, stream, data, stream, trailers, stream, end))
            for stream in self._waiting[:count]
        ]
        del self._waiting[:count]
        self._window -= count * len(_MESSAGE)


@contextmanager
def canned_peer() -> Iterator[str]:
    """Start one, yield its URL, stop it; HarnessError when it does not come up."""
    process = subprocess.Popen(
        [sys.executable, "-m", "loadtests.cluster.canned"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C goes to the starter, which stops it
    )
    with process:  # closes its input, and with that ends it
        assert process.stdout is not None
        port = process.stdout.readline().decode().strip()
        if not port:
            expected = "the port it listens on"
            raise HarnessError(where="canned peer", seen="no port", expected=expected)
        yield f"http://127.0.0.1:{port}"


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Canned, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - what a starter waits for
    await loop.run_in_executor(None, sys.stdin.buffer.read)


if __name__ == "__main__":
    uvloop.run(_serve())
