"""An HTTP server with outages on command, which writes down when each really was.

A line on its input, `MODE SECONDS`, begins an outage at once; when it is over a line says
`MODE BEGIN_NS END_NS STALL_NS` (CLOCK_MONOTONIC; the longest time that the server itself
stood still meanwhile and just before, which makes its record as vague). Modes, for requests
that come meanwhile:

    error   503 at once
    drop    no answer; their connections are reset when the outage ends
    freeze  answered when the outage ends, as after SIGSTOP and SIGCONT
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
import time

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BROKEN = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
END_OF_HEAD = b"\r\n\r\n"


def say(line: str) -> None:
    """Write a line to whoever commands this."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class Site:
    """What all connections share."""

    def __init__(self) -> None:
        self.mode = ""
        self.held: list[Peer] = []
        self.stall_ns = 0

    def requested(self, peer: Peer) -> None:
        """Answer a request as the mode says."""
        if self.mode in {"drop", "freeze"}:
            self.held.append(peer)
        else:
            peer.answer(BROKEN if self.mode == "error" else OK)

    async def tick(self) -> None:
        """Notice when the loop stands still."""
        while True:
            before_ns = time.monotonic_ns()
            await asyncio.sleep(0.005)
            self.stall_ns = max(self.stall_ns, time.monotonic_ns() - before_ns - 5_000_000)

    async def outage(self, mode: str, seconds: float) -> None:
        """Have one, and say when it was."""
        self.stall_ns = 0
        self.mode, begun_ns = mode, time.monotonic_ns()
        await asyncio.sleep(seconds)
        self.mode, ended_ns = "", time.monotonic_ns()
        held, self.held = self.held, []
        for peer in held:
            peer.reset() if mode == "drop" else peer.answer(OK)
        await asyncio.sleep(0.2)
        say(f"{mode} {begun_ns} {ended_ns} {self.stall_ns}")


class Peer(asyncio.Protocol):
    """One connection; requests have no bodies."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Take requests as they come."""
        self._buffer += data
        while END_OF_HEAD in self._buffer:
            _, self._buffer = self._buffer.split(END_OF_HEAD, 1)
            self._site.requested(self)

    def answer(self, data: bytes) -> None:
        """Write an answer, if the client is still there."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def reset(self) -> None:
        """Break the connection off."""
        if not self._transport.is_closing():
            raw = self._transport.get_extra_info("socket")
            with contextlib.suppress(OSError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()


async def main() -> None:
    """Serve until the input ends."""
    loop, site = asyncio.get_running_loop(), Site()
    server = await loop.create_server(lambda: Peer(site), "127.0.0.1", 0, backlog=1000)
    say(str(server.sockets[0].getsockname()[1]))
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    running = {asyncio.ensure_future(site.tick())}
    while line := await reader.readline():
        mode, seconds = line.decode().split()
        running.add(asyncio.ensure_future(site.outage(mode, float(seconds))))


if __name__ == "__main__":
    asyncio.run(main())
