"""The dialer over real sockets: names are resolved once, every address gets its part."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from time import monotonic_ns

from engine_plans import node, plan_for, request

from loadtests.engine.connection import Connection
from loadtests.engine.dialer import Dialer
from loadtests.engine.pool import Pool
from loadtests.engine.recorder import Recorder
from loadtests.engine.traffic import NEVER_NS, Traffic
from loadtests.plan.model import Plan

ADDRESSES = ("127.0.0.1", "127.0.0.2")
Peers = Counter[tuple[str, int]]  # connections by address and port
Answer = tuple[object, ...]


def dialer_of(plan: Plan) -> tuple[Dialer, list[Pool]]:
    """The dialer and the pools of an engine, nothing else of it."""
    traffic = Traffic(
        Recorder(len(plan.slots)),
        gate=None,
        in_flight_limit=NEVER_NS,
        backlog_limit=plan.backlog_limit,
        limit_bytes=plan.response_limit_bytes,
    )
    pools = [Pool(node, index, traffic, seed=1) for index, node in enumerate(plan.nodes)]
    return Dialer(plan, traffic, connects_per_s=1e5, authorised=()), pools


async def listen(port: int) -> int:
    """Accept at both addresses on one port (0: any), and hold what is accepted."""
    for address in ADDRESSES:
        server = await asyncio.start_server(lambda _reader, _writer: None, address, port)
        port = server.sockets[0].getsockname()[1]
    return port


async def fill(dialer: Dialer, pools: list[Pool]) -> Peers:
    """Dial until every pool has what it wants; where the connections lead."""
    async with asyncio.timeout(20):
        while any(len(pool.connections) < pool.wanted for pool in pools):
            dialer.fill(pools, monotonic_ns())
            await asyncio.sleep(0.002)
    mades = [made for pool in pools for made in pool.connections]
    sockets = (made._socket for made in mades if isinstance(made, Connection))
    return Counter(own.getpeername() for own in sockets if own is not None)


async def dial_one_name() -> tuple[list[str], list[Peers]]:
    """Two nodes of one name; the lookups, and the peers before and after a lost connection."""
    lookups: list[str] = []

    async def look_up(host: str, port: object, **_options: object) -> list[Answer]:
        lookups.append(host)
        kind = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [(*kind, (address, port or 0)) for address in ADDRESSES]

    asyncio.get_running_loop().getaddrinfo = look_up  # type: ignore[method-assign,assignment]
    ports = [await listen(0), await listen(0)]
    nodes = [node(port, name=f"n{port}", host="name.test") for port in ports]
    dialer, pools = dialer_of(plan_for(ports[0], [request("/ok")], nodes=tuple(nodes)))
    for pool in pools:
        pool.wanted = 4
    assert await dialer.resolve(pools) == []
    peers = [await fill(dialer, pools)]
    next(iter(pools[0].connections)).close()
    peers.append(await fill(dialer, pools))
    for pool in pools:
        for made in list(pool.connections):
            made.close()
    return lookups, peers


def test_a_name_is_resolved_once_and_all_its_addresses_are_used() -> None:
    """Two nodes of one name: one lookup for the run, each address gets half of each node's."""
    lookups, (first, second) = asyncio.run(dial_one_name())
    assert lookups == ["name.test"]
    assert len(first) == 2 * len(ADDRESSES)
    assert set(first.values()) == {2}
    assert second.total() == first.total() == 8


def test_a_name_that_cannot_be_resolved_is_reported_with_its_node() -> None:
    """The failure is told, and asked again at the next attempt: nothing is remembered of it."""

    async def resolve() -> tuple[list[str], int]:
        lookups = 0

        async def fail(_host: str, _port: object, **_options: object) -> list[Answer]:
            nonlocal lookups
            lookups += 1
            raise socket.gaierror(socket.EAI_NONAME, "unknown")

        asyncio.get_running_loop().getaddrinfo = fail  # type: ignore[method-assign,assignment]
        plan = plan_for(1, [request("/ok")], nodes=(node(1, host="name.test"),))
        dialer, pools = dialer_of(plan)
        failed = [*await dialer.resolve(pools), *await dialer.resolve(pools)]
        return [lost.node.name for lost, _ in failed], lookups

    assert asyncio.run(resolve()) == (["n1", "n1"], 2)
