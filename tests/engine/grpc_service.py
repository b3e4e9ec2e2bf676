"""A gRPC server of grpcio (C-core) in a process of its own: `python grpc_service.py`.

Messages are plain bytes, so that nothing has to be generated. Prints its port, serves until
its standard input closes, then prints what it has seen as one JSON line. The method says
what it does: `/test.Service/Echo`, `Fail` (the message is the code), `Wait` (microseconds),
`Large` (a size), and streams of each kind.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

SERVICE = "test.Service"


class Service:
    """The methods, and what they saw."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.messages: Counter[str] = Counter()
        self.peers: set[str] = set()
        self.deadlines_s: list[float] = []
        self.metadata: dict[str, str] = {}
        self.waited_ns: list[int] = []
        self.frozen_from = self.frozen_until = 0.0

    def _note(self, name: str, context: Any) -> None:
        self.seen[name] += 1
        self.peers.add(context.peer())
        if self.seen[name] == 1:
            self.metadata |= {key: str(value) for key, value in context.invocation_metadata()}
            self.deadlines_s.append(context.time_remaining() or -1.0)

    async def echo(self, message: bytes, context: Any) -> bytes:
        """Answer with the message."""
        self._note("Echo", context)
        return message

    async def fail(self, message: bytes, context: Any) -> bytes:
        """End with the code in the message."""
        self._note("Fail", context)
        code = next(c for c in grpc.StatusCode if c.value[0] == int(message))
        await context.abort(code, "wrong: 100 % ümläut")
        return b""

    async def wait(self, message: bytes, context: Any) -> bytes:
        """Answer after so many microseconds, and note how long it really took."""
        began_ns = time.monotonic_ns()
        self._note("Wait", context)
        await asyncio.sleep(int(message) / 1e6)
        self.waited_ns.append(time.monotonic_ns() - began_ns)
        return b""

    async def frozen(self, message: bytes, context: Any) -> bytes:
        """Answer at once, but not during the freeze, which begins 1.5 s after the first call."""
        self._note("Frozen", context)
        now = time.monotonic()
        if not self.frozen_from:
            self.frozen_from, self.frozen_until = now + 1.5, now + 2.5
        if self.frozen_from <= now < self.frozen_until:
            await asyncio.sleep(self.frozen_until - now)
        return message

    async def large(self, message: bytes, context: Any) -> bytes:
        """Answer with so many bytes."""
        self._note("Large", context)
        return b"x" * int(message)

    async def download(self, message: bytes, context: Any) -> AsyncIterator[bytes]:
        """Answer with as many messages as the message says, 1 ms apart."""
        self._note("Download", context)
        for number in range(int(message)):
            await asyncio.sleep(0.001)
            yield b"%d" % number

    async def feed(self, message: bytes, context: Any) -> AsyncIterator[bytes]:
        """Answer with so many messages of 1 MB."""
        self._note("Feed", context)
        for _ in range(int(message)):
            yield b"x" * 1_000_000

    async def upload(self, messages: AsyncIterator[bytes], context: Any) -> bytes:
        """Answer with the number of messages that came."""
        self._note("Upload", context)
        count = 0
        async for _ in messages:
            count += 1
            self.messages["Upload"] += 1
        return b"%d" % count

    async def talk(self, messages: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        """Answer each message with itself."""
        self._note("Talk", context)
        async for message in messages:
            self.messages["Talk"] += 1
            yield message

    def handler(self) -> grpc.GenericRpcHandler:
        """All methods, of plain bytes."""
        unary = grpc.unary_unary_rpc_method_handler
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Echo": unary(self.echo),
                "Fail": unary(self.fail),
                "Wait": unary(self.wait),
                "Frozen": unary(self.frozen),
                "Large": unary(self.large),
                "Download": grpc.unary_stream_rpc_method_handler(self.download),
                "Feed": grpc.unary_stream_rpc_method_handler(self.feed),
                "Upload": grpc.stream_unary_rpc_method_handler(self.upload),
                "Talk": grpc.stream_stream_rpc_method_handler(self.talk),
            },
        )


def credentials_of(tls: tuple[str, str, str]) -> grpc.ServerCredentials:
    """Read key, certificate and, if clients must show theirs, its authority."""
    key, certificate, authority = (Path(name).read_bytes() if name else b"" for name in tls)
    return grpc.ssl_server_credentials(
        [(key, certificate)], authority or None, require_client_auth=bool(authority)
    )


async def serve(options: list[tuple[str, int]], tls: tuple[str, str, str] | None) -> None:
    """Serve until standard input closes."""
    service = Service()
    server = grpc.aio.server(options=options)
    server.add_generic_rpc_handlers((service.handler(),))
    if tls is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", credentials_of(tls))
    await server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, sys.stdin.readline)
    report = {
        "seen": service.seen,
        "messages": service.messages,
        "peers": len(service.peers),
        "deadlines_s": service.deadlines_s,
        "metadata": service.metadata,
        "waited_ns": service.waited_ns,
    }
    sys.stdout.write(f"{json.dumps(report)}\n")
    sys.stdout.flush()
    await server.stop(0)


class GrpcService:
    """The server as the test sees it; `report` once it has ended."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process, self.port = process, port
        self.report: dict[str, Any] = {}

    def stop(self) -> None:
        """End it and take its report."""
        if not self.report:
            output, _ = self.process.communicate("\n", timeout=20)
            self.report = json.loads(output.splitlines()[-1])


@contextmanager
def grpc_service(
    options: dict[str, int] | None = None, *, tls: tuple[str, str, str] | None = None
) -> Iterator[GrpcService]:
    """Serve in a process until leaving."""
    arguments = json.dumps({"options": list((options or {}).items()), "tls": tls})
    process = subprocess.Popen(
        [sys.executable, __file__, arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        port = int(process.stdout.readline())
        service = GrpcService(process, port)
        yield service
        service.stop()
    finally:
        process.kill()
        process.wait(10)


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    pairs = [(str(name), int(value)) for name, value in given["options"]]
    asyncio.run(serve(pairs, tuple(given["tls"]) if given["tls"] else None))
