"""The reference: a plan as grpcio's own client (C-core) walks it.

The same arrivals at the same times, the same bytes of the engine's catalogue; only who sends
them differs. Without the prefix, which grpcio writes itself, and unpacked where it packs.
"""

from __future__ import annotations

import asyncio
import gzip
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import numpy as np

from loadtests.clock import NS_PER_S
from loadtests.engine.catalogue import Catalogue
from loadtests.engine.grpc import PREFIX
from loadtests.plan.call import CallShape
from loadtests.plan.model import Plan, Request, Share
from loadtests.plan.schedule import Schedule

_LARGEST_BYTES: Final = 16 << 20
_LEAD_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one request of a plan came to: calls by code, messages of answers, their bytes."""

    codes: Counter[int] = field(default_factory=Counter)
    sizes: Counter[int] = field(default_factory=Counter)  # messages by their size in bytes

    @property
    def messages(self) -> int:
        """Messages of all answers."""
        return self.sizes.total()

    @property
    def message_bytes(self) -> int:
        """Bytes of all messages, without prefixes."""
        return sum(size * count for size, count in self.sizes.items())


async def _repeated(message: bytes, count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield message


class _Client:
    def __init__(self, plan: Plan, channel: grpc.aio.Channel) -> None:
        self._plan = plan
        self._channel: Any = channel  # of bytes: its stubs know messages only
        self.outcomes = {request.name: Outcome() for request in plan.requests}

    def _begin(self, request: Request, payload: bytes) -> Any:
        """Begin a call with the bytes that the engine would send."""
        assert request.call is not None
        is_packed, _ = PREFIX.unpack_from(payload)
        message = payload[PREFIX.size :]
        options: Any = {
            "timeout": request.timeout_ns / NS_PER_S,
            "metadata": tuple((name.lower(), value) for name, value in request.headers),
            "compression": grpc.Compression.Gzip if is_packed else None,
        }
        if is_packed:
            message = gzip.decompress(message)
        path, count, channel = f"/{request.call.method}", request.call.messages, self._channel
        match request.call.shape:
            case CallShape.UNARY:
                return channel.unary_unary(path)(message, **options)
            case CallShape.SERVER_STREAM:
                return channel.unary_stream(path)(message, **options)
            case CallShape.CLIENT_STREAM:
                return channel.stream_unary(path)(_repeated(message, count), **options)
            case CallShape.BIDIRECTIONAL:
                return channel.stream_stream(path)(_repeated(message, count), **options)

    async def call(self, at_s: float, request: Request, payload: bytes) -> None:
        """Make one call when it is due."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(at_s - loop.time())
        outcome, call = self.outcomes[request.name], self._begin(request, payload)
        try:
            if hasattr(call, "__aiter__"):
                async for message in call:
                    outcome.sizes[len(message)] += 1
            else:
                outcome.sizes[len(await call)] += 1
        except grpc.aio.AioRpcError as error:
            outcome.codes[error.code().value[0]] += 1
        else:
            outcome.codes[0] += 1


async def _walk(plan: Plan) -> dict[str, Outcome]:
    whole = Share(residue=0, modulus=1, from_ns=0)
    arrivals = Schedule(plan).arrivals(whole, 0, plan.duration_ns)
    slots = [
        plan.slots.slot(stage, request, node)
        for stage, request, node in zip(
            arrivals.stages.tolist(),
            arrivals.requests.tolist(),
            arrivals.nodes.tolist(),
            strict=True,
        )
    ]
    catalogue = Catalogue(plan, run_id="run-1", environment={})
    offsets_ns = arrivals.offsets_ns.tolist()
    parcels = catalogue.parcels(offsets_ns, arrivals.sequences, np.array(slots))
    (node,) = plan.nodes
    options = [("grpc.max_receive_message_length", _LARGEST_BYTES)]
    async with grpc.aio.insecure_channel(node.authority, options=options) as channel:
        await channel.channel_ready()
        client = _Client(plan, channel)
        t0_s = asyncio.get_running_loop().time() + _LEAD_S
        async with asyncio.TaskGroup() as group:
            for offset_ns, _, task, payload in parcels:
                request = plan.requests[task.index]
                group.create_task(client.call(t0_s + offset_ns / NS_PER_S, request, payload))
    return client.outcomes


def walk(plan: Plan) -> dict[str, Outcome]:
    """Make every call of an open plan on one node; outcomes by request."""
    return asyncio.run(_walk(plan))
