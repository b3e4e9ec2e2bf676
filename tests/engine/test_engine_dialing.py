"""The dialer over real sockets: names are resolved once, every address gets its part.

And who may not be loaded is never connected to, wherever a name leads and whenever it does;
nor is anybody whom an answer names.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from time import monotonic_ns

import pytest
from driver import run_plan
from engine_plans import node, plan_for, request

from loadtests.engine.connection import Connection
from loadtests.engine.dialer import Dialer
from loadtests.engine.pool import Pool
from loadtests.engine.recorder import Recorder
from loadtests.engine.traffic import NEVER_NS, Traffic
from loadtests.errors import TargetError
from loadtests.plan.model import Plan
from loadtests.record.error_kinds import DNS
from loadtests.record.window import Count

ADDRESSES = ("127.0.0.1", "127.0.0.2")
Peers = Counter[tuple[str, int]]  # connections by address and port
Answer = tuple[object, ...]


def dialer_of(plan: Plan, authorised: Sequence[str] = ()) -> tuple[Dialer, list[Pool]]:
    """The dialer and the pools of an engine, nothing else of it."""
    traffic = Traffic(
        Recorder(len(plan.slots)),
        gate=None,
        in_flight_limit=NEVER_NS,
        backlog_limit=plan.backlog_limit,
        limit_bytes=plan.response_limit_bytes,
    )
    pools = [Pool(node, index, traffic, seed=1) for index, node in enumerate(plan.nodes)]
    return Dialer(plan, traffic, connects_per_s=1e5, authorised=authorised), pools


async def listen(port: int, held: list[asyncio.StreamWriter]) -> int:
    """Accept at both addresses on one port (0: any), and hold what is accepted."""
    for address in ADDRESSES:
        # Python 3.13 closes a connection whose writer nobody holds.
        server = await asyncio.start_server(lambda _, writer: held.append(writer), address, port)
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
    held: list[asyncio.StreamWriter] = []
    ports = [await listen(0, held), await listen(0, held)]
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


EVERYTHING = ("name.test", "0.0.0.0/0", "::/0")  # what a user could list at most
NEVER = (
    "169.254.169.254",
    "169.254.0.1",
    "fe80::1",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "fd00:ec2::254",
    "100.100.100.200",
    "::ffff:100.100.100.200",
    "168.63.129.16",
    "0.0.0.0",
    "::",
    "224.0.0.1",
    "255.255.255.255",
)
UNLISTED = ("192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1")


@dataclass(slots=True, kw_only=True)
class Seen:
    """What one name led to: connects by address, attempts with their failures, lookups."""

    refusal: str | None = None  # before anything was dialled
    connects: list[str] = field(default_factory=list)
    accepted: int = 0
    failures: list[tuple[str, str] | None] = field(default_factory=list)
    lookups: int = 0


def answer_of(address: str) -> Answer:
    """What a lookup says of an address."""
    if ip_address(address).version == 4:
        return (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, 0))
    return (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, 0, 0, 0))


async def dial(lookups: Sequence[Sequence[str]], authorised: Sequence[str], attempts: int) -> Seen:
    """Resolve a name, and dial it so often, each connection being lost at once.

    Lookups answer one after the other, the last one for good; one without an address fails.
    Connects are noted, and go no further than this host.
    """
    seen = Seen()
    loop = asyncio.get_running_loop()
    connect = loop.sock_connect

    async def look_up(_host: str, _port: object, **_options: object) -> list[Answer]:
        answers = lookups[min(seen.lookups, len(lookups) - 1)]
        seen.lookups += 1
        if not answers:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [answer_of(address) for address in answers]

    async def note(own: socket.socket, where: tuple[str, int]) -> None:
        seen.connects.append(where[0])
        if not ip_address(where[0]).is_loopback:
            raise ConnectionRefusedError
        await connect(own, where)

    def accept(_reader: object, _writer: object) -> None:
        seen.accepted += 1

    loop.getaddrinfo = look_up  # type: ignore[method-assign,assignment]
    loop.sock_connect = note  # type: ignore[method-assign,assignment]
    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    nodes = (node(port, host="name.test"),)
    dialer, pools = dialer_of(plan_for(port, [request("/ok")], nodes=nodes), authorised)
    dialer.on_attempt = lambda _pool, _took_ns, failure: seen.failures.append(failure)
    try:
        await dialer.resolve(pools)
    except TargetError as error:
        seen.refusal = str(error)
    pools[0].wanted = 1
    async with asyncio.timeout(20):
        while len(seen.failures) < attempts:
            dialer.fill(pools, monotonic_ns())
            await asyncio.sleep(0.002)
            for made in list(pools[0].connections):
                made.close()
    await dialer.stop()
    await asyncio.sleep(0.01)  # the server's side of what was connected
    return seen


def check_never_connected(seen: Seen, attempts: int) -> None:
    """Every attempt failed by the name, and nobody was connected to."""
    assert len(seen.failures) == attempts
    assert {None if failure is None else failure[0] for failure in seen.failures} == {DNS}
    assert (seen.connects, seen.accepted) == ([], 0)


@pytest.mark.parametrize("address", [*NEVER, *UNLISTED])
def test_an_address_that_may_not_be_reached_is_never_connected(address: str) -> None:
    """Of this host's network or a metadata service: whatever is listed. Of others: not listed."""
    authorised = EVERYTHING if address in NEVER else ("10.0.0.0/8", "other.test")
    seen = asyncio.run(dial([[address]], authorised, 2))
    assert seen.refusal is not None
    assert "n1" in seen.refusal
    check_never_connected(seen, 2)


@pytest.mark.parametrize("address", ["169.254.169.254", "::ffff:169.254.169.254", "192.0.2.1"])
@pytest.mark.parametrize("is_first", [True, False])
def test_one_refused_address_refuses_the_name(address: str, *, is_first: bool) -> None:
    """Not even its allowed address is connected to, in whatever order they come."""
    both = [address, "127.0.0.1"] if is_first else ["127.0.0.1", address]
    seen = asyncio.run(dial([both], (), 2))
    assert seen.refusal is not None
    check_never_connected(seen, 2)


def test_a_name_that_changes_after_the_check_is_not_followed() -> None:
    """Lost connections are made anew to the addresses that were checked: one lookup a run."""
    seen = asyncio.run(dial([["127.0.0.1"], ["169.254.169.254"]], EVERYTHING, 4))
    assert seen.refusal is None
    assert seen.failures == [None] * 4
    assert seen.connects == ["127.0.0.1"] * 4
    assert (seen.accepted, seen.lookups) == (4, 1)


def test_a_name_that_is_known_only_when_dialling_is_checked_then() -> None:
    """Unknown at the start, it leads to where nobody may go: at every attempt, and never there."""
    seen = asyncio.run(dial([[], ["169.254.169.254"], ["192.0.2.1", "127.0.0.1"]], (), 3))
    assert seen.refusal is None
    check_never_connected(seen, 3)
    assert seen.lookups == 4


REDIRECTS = (301, 302, 303, 307, 308)


def test_a_redirect_is_an_outcome() -> None:
    """Nobody follows it, neither to another host and port nor to another path of the target."""
    asked: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        stranger = f"http://127.0.0.1:{elsewhere.getsockname()[1]}/stranger"

        class Redirecting(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                asked.append(self.path)
                self.send_response(HTTPStatus(int(self.path[1:4])))
                self.send_header("Location", "/own" if self.path.endswith("own") else stranger)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        with ThreadingHTTPServer(("127.0.0.1", 0), Redirecting) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            paths = [f"/{status}{to}" for status in REDIRECTS for to in ("", "own")]
            requests = [request(path) for path in paths]
            plan = plan_for(server.server_port, requests, level=100.0, connections=2)
            result = run_plan(plan)
            server.shutdown()
        elsewhere.settimeout(0.2)
        with pytest.raises(TimeoutError):
            elsewhere.accept()
    assert set(asked) == set(paths)
    assert len(asked) == result.final.sent
    assert result.total(Count.OK) == 0
    assert set(result.kinds()) == {f"status_{status}" for status in REDIRECTS}
