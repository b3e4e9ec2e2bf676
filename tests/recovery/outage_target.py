"""Nodes n1, n2 ... of REST and gRPC with outages on command, which write down when each was.

`python outage_target.py NODES` says the ports of its nodes, REST and gRPC in turn. A line on its
input, `MODE SECONDS CELL,CELL...` with cells like `n1/rest` and `n2/grpc`, begins an outage of
these at once; when it is over a line says `MODE BEGIN_NS END_NS STALL_NS MET`: its edges
(CLOCK_MONOTONIC), the longest time that this process stood still within a fifth of a second of
one of them, which makes its record as vague, and how many requests met it. The
line `still` asks for the longest time that it stood still since the first outage. Modes, for
requests that come meanwhile:

    error   503, or UNAVAILABLE, at once
    drop    no answer; when the outage ends their connections are reset, calls are ABORTED
    freeze  answered when the outage ends, as after SIGSTOP and SIGCONT
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial

import grpc

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BROKEN = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
END_OF_HEAD = b"\r\n\r\n"
NEAR_NS = 200_000_000
TICK_S = 0.005


def say(line: str) -> None:
    """Write a line to whoever commands this."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class Site:
    """One protocol of one node."""

    def __init__(self) -> None:
        self.mode = ""
        self.met = 0
        self.held: list[Peer] = []
        self.over = asyncio.Event()

    def begin(self, mode: str) -> None:
        """An outage begins."""
        self.met, self.over = 0, asyncio.Event()
        self.mode = mode

    def end(self) -> None:
        """It ends: what was held is answered, or never will be."""
        mode, self.mode = self.mode, ""
        self.over.set()
        held, self.held = self.held, []
        for peer in held:
            peer.reset() if mode == "drop" else peer.answer(OK)

    def requested(self, peer: Peer) -> None:
        """Answer a request of REST as the mode says."""
        self.met += bool(self.mode)
        if self.mode in {"drop", "freeze"}:
            self.held.append(peer)
        else:
            peer.answer(BROKEN if self.mode == "error" else OK)

    async def call(self, request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        """Answer a gRPC call as the mode says."""
        del request
        mode = self.mode
        self.met += bool(mode)
        if mode == "error":
            await context.abort(grpc.StatusCode.UNAVAILABLE, "an outage")
        if mode:
            await self.over.wait()
        if mode == "drop":
            await context.abort(grpc.StatusCode.ABORTED, "the outage ended")
        return b""


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


class Calls(grpc.GenericRpcHandler):
    """Every method of a node's gRPC is the same one."""

    def __init__(self, call: Callable[..., Awaitable[bytes]]) -> None:
        self._call = call

    def service(self, _: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        """The handler of a call."""
        return grpc.unary_unary_rpc_method_handler(self._call)


class Nodes:
    """All sites, and how long the loop that they share stood still when."""

    def __init__(self, count: int) -> None:
        names = [f"n{number}" for number in range(1, count + 1)]
        self.sites = {f"{name}/{way}": Site() for name in names for way in ("rest", "grpc")}
        self._calls: list[grpc.aio.Server] = []  # a server that nobody holds ends
        self._since_ns = 0
        self._stalls: deque[tuple[int, int]] = deque(maxlen=12_000)  # a minute of ticks

    async def open(self) -> list[int]:
        """Listen; the ports in the order of the sites."""
        ports, loop = [], asyncio.get_running_loop()
        for name, site in self.sites.items():
            if name.endswith("rest"):
                server = await loop.create_server(partial(Peer, site), "127.0.0.1", 0, backlog=1000)
                ports.append(int(server.sockets[0].getsockname()[1]))
            else:
                calls = grpc.aio.server(handlers=[Calls(site.call)])
                ports.append(calls.add_insecure_port("127.0.0.1:0"))
                await calls.start()
                self._calls.append(calls)
        return ports

    async def tick(self) -> None:
        """Notice when the loop stands still."""
        while True:
            before_ns = time.monotonic_ns()
            await asyncio.sleep(TICK_S)
            now_ns = time.monotonic_ns()
            self._stalls.append((now_ns, now_ns - before_ns - round(TICK_S * 1e9)))

    def _stall_ns(self, edge_ns: int) -> int:
        return max(
            (gap for at, gap in self._stalls if abs(at - edge_ns) <= NEAR_NS + gap), default=0
        )

    def longest_ns(self) -> int:
        """The longest time that it stood still since the first outage."""
        return max((gap for at, gap in self._stalls if at >= self._since_ns), default=0)

    async def outage(self, mode: str, seconds: float, cells: str) -> None:
        """Have one, and say when it was."""
        struck = [self.sites[cell] for cell in cells.split(",")]
        begun_ns = time.monotonic_ns()
        self._since_ns = self._since_ns or begun_ns
        for site in struck:
            site.begin(mode)
        await asyncio.sleep(seconds)
        ended_ns = time.monotonic_ns()
        for site in struck:
            site.end()
        await asyncio.sleep(NEAR_NS / 1e9)
        stall_ns = max(self._stall_ns(begun_ns), self._stall_ns(ended_ns))
        say(f"{mode} {begun_ns} {ended_ns} {stall_ns} {sum(site.met for site in struck)}")


async def main() -> None:
    """Serve until the input ends."""
    nodes = Nodes(int(sys.argv[1]))
    say(" ".join(map(str, await nodes.open())))
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    running = {asyncio.ensure_future(nodes.tick())}
    while line := await reader.readline():
        if line.strip() == b"still":
            say(str(nodes.longest_ns()))
            continue
        mode, seconds, cells = line.decode().split()
        running.add(asyncio.ensure_future(nodes.outage(mode, float(seconds), cells)))


if __name__ == "__main__":
    asyncio.run(main())
