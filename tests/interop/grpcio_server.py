"""The server of conformance.proto on grpcio (C-core); see servers.py for its manners."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import uvloop
from conformance import SERVICE, message_of

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_GRACE_MS = 10_000


class Service:
    """The methods, and what they saw."""

    def __init__(self) -> None:
        self._current = 0
        self._reset()

    def _reset(self) -> None:
        self._calls: Counter[str] = Counter()
        self._messages: Counter[str] = Counter()
        self._payload_bytes: Counter[str] = Counter()
        self._peers: set[str] = set()
        self._most_at_once = 0

    def report(self) -> str:
        """What was seen since the last report, as JSON."""
        seen = {
            "calls": self._calls,
            "messages": self._messages,
            "payload_bytes": self._payload_bytes,
            "most_at_once": self._most_at_once,
            "peers": len(self._peers),
        }
        text = json.dumps(seen)
        self._reset()
        return text

    def _take(self, name: str, order: Any) -> None:
        self._messages[name] += 1
        self._payload_bytes[name] += len(order.payload)

    @contextmanager
    def _noted(self, name: str, context: Any) -> Iterator[None]:
        self._calls[name] += 1
        self._peers.add(context.peer())
        self._current += 1
        self._most_at_once = max(self._most_at_once, self._current)
        try:
            yield
        finally:
            self._current -= 1

    async def unary(self, order: Any, context: Any) -> Any:
        """Answer once."""
        with self._noted("Unary", context):
            self._take("Unary", order)
            answer = await _reply(order, 1, len(order.payload))
        await _end(order, context)
        return answer

    async def download(self, order: Any, context: Any) -> AsyncIterator[Any]:
        """Answer as often as ordered."""
        with self._noted("Download", context):
            self._take("Download", order)
            for number in range(1, order.responses + 1):
                yield await _reply(order, number, len(order.payload))
        await _end(order, context)

    async def upload(self, orders: AsyncIterator[Any], context: Any) -> Any:
        """Answer once all have come."""
        first, received = None, 0
        with self._noted("Upload", context):
            async for order in orders:
                self._take("Upload", order)
                first = first or order
                received += len(order.payload)
            answer = await _reply(first, 1, received)
        await _end(first, context)
        return answer

    async def talk(self, orders: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        """Answer each."""
        first, received, number = None, 0, 0
        with self._noted("Talk", context):
            async for order in orders:
                self._take("Talk", order)
                first = first or order
                received += len(order.payload)
                number += 1
                yield await _reply(first, number, received)
        await _end(first, context)

    def handler(self) -> grpc.GenericRpcHandler:
        """All methods by name."""
        kinds: Any = {
            "Unary": (grpc.unary_unary_rpc_method_handler, self.unary),
            "Download": (grpc.unary_stream_rpc_method_handler, self.download),
            "Upload": (grpc.stream_unary_rpc_method_handler, self.upload),
            "Talk": (grpc.stream_stream_rpc_method_handler, self.talk),
        }
        reads: Any = message_of("Order")
        writes: Any = message_of("Reply")
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                name: make(
                    method,
                    request_deserializer=reads.FromString,
                    response_serializer=writes.SerializeToString,
                )
                for name, (make, method) in kinds.items()
            },
        )


async def _reply(order: Any, number: int, received: int) -> Any:
    if order.delay_us:
        await asyncio.sleep(order.delay_us / 1e6)
    payload = b"x" * order.response_bytes
    return message_of("Reply")(number=number, received_bytes=received, payload=payload)


async def _end(order: Any, context: Any) -> None:
    if order.code:
        detail = (("x-detail-bin", order.detail),)
        await context.abort(_CODES[order.code], order.text, detail)


def _options(limits: dict[str, int]) -> list[tuple[str, int]]:
    options = [("grpc.max_receive_message_length", 16 << 20)]
    if limits["streams"]:
        options.append(("grpc.max_concurrent_streams", limits["streams"]))
        # Or it would count calls that it has ended but not yet freed, and refuse streams that
        # are within the limit (GRPC_ARG_MAX_CONCURRENT_STREAMS_OVERLOAD_PROTECTION).
        options.append(("grpc.http.overload_protection", 0))
    if limits["age_ms"]:
        options.append(("grpc.max_connection_age_ms", limits["age_ms"]))
        options.append(("grpc.max_connection_age_grace_ms", _GRACE_MS))
    if limits["packs"]:
        options.append(("grpc.default_compression_algorithm", 2))
    return options


async def serve(limits: dict[str, int]) -> None:
    """Serve until standard input closes; report on each line of it."""
    service = Service()
    server = grpc.aio.server(options=_options(limits))
    server.add_generic_rpc_handlers((service.handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)  # noqa: T201 - it is what servers.py reads
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(service.report(), flush=True)  # noqa: T201 - as above
    await server.stop(0)


if __name__ == "__main__":
    uvloop.run(serve(json.loads(sys.argv[1])))
