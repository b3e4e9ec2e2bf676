"""The two Python clients of gRPC, as users of Locust know them, with the smallest task.

`python -m benchmarks.grpc_clients (aio|gevent) PORT SECONDS` keeps 8 x 100 unary calls of 64
bytes under way, on eight connections, and prints how many were answered: grpc.aio on uvloop
with a task for each call under way, or grpcio with gevent and a greenlet for each, which is
what a Locust user with grpcio is. Messages are bytes, so that nothing is spent on protobuf.
"""

from __future__ import annotations

import sys
import time

from benchmarks.grpc_plans import CONNECTIONS, STREAMS
from benchmarks.grpc_servers import METHOD, request_message
from benchmarks.server import HOST

# Otherwise all channels of a process share one connection to an address.
_OPTIONS = (("grpc.use_local_subchannel_pool", 1),)


async def _aio(port: int, seconds: float) -> int:
    import asyncio  # noqa: PLC0415 - only this client's

    import grpc.aio  # noqa: PLC0415

    end = time.monotonic() + seconds
    message = request_message()

    async def user(channel: grpc.aio.Channel) -> int:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{METHOD}")
        count = 0
        while time.monotonic() < end:
            await call(message)
            count += 1
        return count

    channels = [
        grpc.aio.insecure_channel(f"{HOST}:{port}", options=_OPTIONS) for _ in range(CONNECTIONS)
    ]
    users = [user(channel) for channel in channels for _ in range(STREAMS)]
    counts = await asyncio.gather(*users)
    for channel in channels:
        await channel.close()
    return sum(counts)


def run_aio(port: int, seconds: float) -> int:
    """Answered calls of grpc.aio on uvloop."""
    import uvloop  # noqa: PLC0415

    return uvloop.run(_aio(port, seconds))


def run_gevent(port: int, seconds: float) -> int:
    """Answered calls of grpcio with gevent."""
    from gevent import monkey  # noqa: PLC0415

    monkey.patch_all()
    import gevent  # noqa: PLC0415
    import grpc  # noqa: PLC0415
    from grpc.experimental.gevent import init_gevent  # noqa: PLC0415

    init_gevent()
    end = time.monotonic() + seconds
    message = request_message()

    def user(channel: grpc.Channel) -> int:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{METHOD}")
        count = 0
        while time.monotonic() < end:
            call(message)
            count += 1
        return count

    channels = [
        grpc.insecure_channel(f"{HOST}:{port}", options=_OPTIONS) for _ in range(CONNECTIONS)
    ]
    users = [gevent.spawn(user, channel) for channel in channels for _ in range(STREAMS)]
    gevent.joinall(users, raise_error=True)
    return sum(user.value for user in users)


def main(argv: list[str]) -> None:
    """Run one of them; a call that fails ends it with its error."""
    run = {"aio": run_aio, "gevent": run_gevent}[argv[0]]
    print(run(int(argv[1]), float(argv[2])), "answered", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
