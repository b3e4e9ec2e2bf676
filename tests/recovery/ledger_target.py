"""Two nodes over one ledger of writes, which cheats on request and writes down on whom.

`POST /tx/ID` takes a write (201), `GET /tx/ID` says `{"copies": N}` or 404. Every write whose
number (the digits at the end of its id) is N modulo 10 is treated as `--cheat N:HOW` says:

    lose        acknowledged, not kept          duplicate   kept twice
    resurrect   refused with 409, kept          refuse      refused with 409, not kept
    silent      kept, never answered            unreadable  kept, 500 when it is read
"""

from __future__ import annotations

import asyncio
import json
import sys

COPIES = {"lose": 0, "duplicate": 2, "resurrect": 1, "refuse": 0, "silent": 1, "unreadable": 1}
REFUSED = frozenset({"resurrect", "refuse"})


def answer(status: str, body: bytes = b"") -> bytes:
    """A whole response."""
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status.encode(), len(body), body)


class Ledger:
    """What both nodes keep."""

    def __init__(self, cheats: dict[int, str]) -> None:
        self._cheats = cheats
        self._copies: dict[str, int] = {}

    def _cheat(self, id_: str) -> str:
        return self._cheats.get(int(id_.rpartition("-")[2]) % 10, "")

    def write(self, id_: str) -> bytes | None:
        """Take a write; None: say nothing."""
        cheat = self._cheat(id_)
        if cheat:
            sys.stdout.write(f"{cheat} {id_}\n")
            sys.stdout.flush()
        self._copies[id_] = self._copies.get(id_, 0) + COPIES.get(cheat, 1)
        if cheat == "silent":
            return None
        return answer("409 Conflict" if cheat in REFUSED else "201 Created")

    def read(self, id_: str) -> bytes:
        """Say how often it is there."""
        if self._cheat(id_) == "unreadable":
            return answer("500 Internal Server Error")
        copies = self._copies.get(id_, 0)
        if not copies:
            return answer("404 Not Found")
        return answer("200 OK", json.dumps({"copies": copies}).encode())


class Peer(asyncio.Protocol):
    """One connection; requests have no bodies."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger, self._buffer = ledger, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Take requests as they come."""
        self._buffer += data
        while b"\r\n\r\n" in self._buffer:
            head, self._buffer = self._buffer.split(b"\r\n\r\n", 1)
            method, path, _ = head.split(b"\r\n")[0].decode().split()
            id_ = path.rpartition("/")[2]
            said = self._ledger.write(id_) if method == "POST" else self._ledger.read(id_)
            if said is not None:
                self._transport.write(said)


async def main() -> None:
    """Serve on two ports until killed."""
    cheats = {int(word.split(":")[0]): word.split(":")[1] for word in sys.argv[1:]}
    loop, ledger = asyncio.get_running_loop(), Ledger(cheats)
    servers = [await loop.create_server(lambda: Peer(ledger), "127.0.0.1", 0) for _ in range(2)]
    ports = [server.sockets[0].getsockname()[1] for server in servers]
    sys.stdout.write(f"{ports[0]} {ports[1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
