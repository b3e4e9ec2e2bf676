"""Opens the connections that the pools want: spread over time, with backoff, once resolved.

Owns resolution (once per run and name, all addresses used in turn), the check of who may
be loaded, TCP and TLS establishment and their timing. Attempts are paid from a bucket
that fills with the engine's share of `connects_per_s`, so that neither the start nor a
restart of the target meets a storm. The law: every attempt is counted, with its duration.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from time import monotonic_ns
from typing import Any, Final

from loadtests.clock import NS_PER_S
from loadtests.engine.authority import refusal
from loadtests.engine.connection import Connection
from loadtests.engine.outcome import kind_of_connect_error
from loadtests.engine.pipelined import PipelinedConnection
from loadtests.engine.pool import Pool
from loadtests.engine.tls import build_context, server_name
from loadtests.engine.traffic import Traffic
from loadtests.errors import TargetError
from loadtests.plan.model import Node, Plan
from loadtests.record.error_kinds import DNS

_BURST_S: Final = 0.02  # seconds of connects that may be saved up
_DNS_TIMEOUT_S: Final = 5.0

Address = tuple[socket.AddressFamily, Any]


class Dialer:
    """Keeps the pools of an engine filled; `on_attempt(pool, took_ns, failure)` hears of each."""

    __slots__ = (
        "_addresses",
        "_authorised",
        "_context",
        "_plan",
        "_rate_per_s",
        "_tasks",
        "_timeout_s",
        "_tokens",
        "_traffic",
        "_turns",
        "_updated_ns",
        "is_dialing",
        "on_attempt",
    )

    def __init__(
        self, plan: Plan, traffic: Traffic, *, connects_per_s: float, authorised: Sequence[str]
    ) -> None:
        self._plan, self._traffic = plan, traffic
        self._rate_per_s = connects_per_s
        self._authorised = authorised
        self._timeout_s = plan.connect_timeout_ns / NS_PER_S
        is_tls = any(node.scheme == "https" for node in plan.nodes)
        self._context = build_context(plan.tls) if is_tls else None
        self._addresses: dict[str, list[Address]] = {}  # by name, with port 0
        self._turns: dict[int, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._tokens = 1.0
        self._updated_ns = monotonic_ns()
        self.is_dialing = True
        self.on_attempt: Callable[[Pool, int, tuple[str, str] | None], None] = _unheard

    async def resolve(self) -> list[tuple[Node, OSError]]:
        """Resolve every node's name; the nodes that could not be, with their errors.

        Raises TargetError when an address may not be loaded.
        """
        failures: list[tuple[Node, OSError]] = []
        for node in self._plan.nodes:
            try:
                await self._resolve(node)
            except OSError as error:
                failures.append((node, error))
        return failures

    async def _resolve(self, node: Node) -> list[Address]:
        known = self._addresses.get(node.host)
        if known is not None:
            return known
        loop = asyncio.get_running_loop()
        lookup = loop.getaddrinfo(node.host, None, type=socket.SOCK_STREAM)
        try:
            answers = await asyncio.wait_for(lookup, _DNS_TIMEOUT_S)
        except TimeoutError:
            raise socket.gaierror(socket.EAI_AGAIN, "no answer in time") from None
        unique: dict[Address, None] = dict.fromkeys((answer[0], answer[4]) for answer in answers)
        addresses = list(unique)
        self._check(node, addresses)
        self._addresses[node.host] = addresses
        return addresses

    def _check(self, node: Node, addresses: list[Address]) -> None:
        for _, where in addresses:
            reason = refusal(node.host, str(where[0]), self._authorised)
            if reason is not None:
                raise TargetError(
                    where=f"node {node.name}",
                    seen=reason,
                    expected="a loopback address, or a target that you authorised",
                )

    def fill(self, pools: Sequence[Pool], now_ns: int) -> None:
        """Start the attempts that are due and paid for; call it often."""
        passed_ns = now_ns - self._updated_ns
        self._updated_ns = now_ns
        most = max(1.0, self._rate_per_s * _BURST_S)
        self._tokens = min(most, self._tokens + passed_ns * self._rate_per_s / NS_PER_S)
        if not self.is_dialing:
            return
        for pool in pools:
            pool.settle(now_ns)
        is_starting = True
        while is_starting and self._tokens >= 1:  # in turns, so that no node waits for another
            is_starting = False
            for pool in pools:
                if pool.missing > 0 and now_ns >= pool.retry_ns and self._tokens >= 1:
                    self._start(pool)
                    is_starting = True

    def _start(self, pool: Pool) -> None:
        self._tokens -= 1
        pool.dialing += 1
        task = asyncio.get_running_loop().create_task(self._dial(pool))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _dial(self, pool: Pool) -> None:
        began_ns = monotonic_ns()
        failure: tuple[str, str] | None = None
        connection: Connection | None = None
        try:
            connection = await asyncio.wait_for(self._establish(pool), self._timeout_s)
        except TargetError as error:
            failure = (DNS, str(error))  # the name now leads somewhere it must not
        except (OSError, ssl.SSLError, TimeoutError) as error:
            text = str(error) or f"no connection after {self._timeout_s:g} s"
            failure = (kind_of_connect_error(error), f"{pool.node.name}: {text}")
        now_ns = monotonic_ns()
        took_ns = now_ns - began_ns
        pool.dialing -= 1
        self.on_attempt(pool, took_ns, failure)
        if failure is not None:
            pool.refused(*failure, now_ns)
        elif connection is not None:
            if connection.is_open and self.is_dialing:
                pool.connected(connection, now_ns, took_ns)
            else:
                connection.close()

    async def _establish(self, pool: Pool) -> Connection:
        node = pool.node
        addresses = await self._resolve(node)
        turn = self._turns.get(pool.index, pool.index)
        self._turns[pool.index] = turn + 1
        family, (address, _, *scope) = addresses[turn % len(addresses)]
        loop = asyncio.get_running_loop()
        own = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(own, (address, node.port, *scope))
            is_tls = node.scheme == "https"
            _, connection = await loop.create_connection(
                lambda: self._connection(pool, None if is_tls else own),
                sock=own,
                ssl=self._context if is_tls else None,
                server_hostname=server_name(self._plan.tls, node) if is_tls else None,
            )
        except BaseException:
            own.close()
            raise
        return connection

    def _connection(self, pool: Pool, own: socket.socket | None) -> Connection:
        depth = self._plan.pipelining
        if depth == 1:
            return Connection(pool, self._traffic, own)
        return PipelinedConnection(pool, self._traffic, own, depth=depth)

    async def stop(self) -> None:
        """Give up all attempts under way."""
        self.is_dialing = False
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _unheard(_pool: Pool, _took_ns: int, _failure: tuple[str, str] | None) -> None:
    """Nobody listens yet."""
