"""Opens the connections that the pools want: spread over time, with backoff, once resolved.

Owns resolution (once per run and name, all addresses used in turn), the check of who may
be loaded, TCP and TLS establishment and their timing. Attempts are paid from a bucket
that fills with the engine's share of `connects_per_s`, so that neither the start nor a
restart of the target meets a storm. The law: every attempt is counted, with its duration,
which over HTTP/2 ends with the server's SETTINGS.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from time import monotonic_ns
from typing import Any, Final

from loadtests.clock import NS_PER_S
from loadtests.engine.connection import Connection
from loadtests.engine.greeting import NoGreeting
from loadtests.engine.multiplexed import MultiplexedConnection
from loadtests.engine.multiplexed_pool import MultiplexedPool
from loadtests.engine.outcome import kind_of_connect_error
from loadtests.engine.pipelined import PipelinedConnection
from loadtests.engine.pool import Pool
from loadtests.engine.tls import build_context, server_name
from loadtests.engine.traffic import Traffic
from loadtests.errors import TargetError
from loadtests.plan.addresses import refusal
from loadtests.plan.call import Endpoint, Protocol
from loadtests.plan.model import Plan
from loadtests.record.error_kinds import DNS

_BURST_S: Final = 0.02  # seconds of connects that may be saved up
_DNS_TIMEOUT_S: Final = 5.0

Address = tuple[socket.AddressFamily, Any]


class Dialer:
    """Keeps the pools of an engine filled; `on_attempt(pool, took_ns, failure)` hears of each."""

    __slots__ = (
        "_addresses",
        "_authorised",
        "_contexts",
        "_plan",
        "_rate_per_s",
        "_shortest_timeout_ns",
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
        self._shortest_timeout_ns = min(request.timeout_ns for request in plan.requests)
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._addresses: dict[str, list[Address]] = {}  # by name, with port 0
        self._turns: dict[Pool, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._tokens = 1.0
        self._updated_ns = monotonic_ns()
        self.is_dialing = True
        self.on_attempt: Callable[[Pool, int, tuple[str, str] | None], None] = _unheard

    def load_certificates(self, pools: Sequence[Pool]) -> None:
        """Build what TLS needs before anything is dialled; HarnessError for a bad certificate."""
        for pool in pools:
            if pool.endpoint.scheme == "https":
                self._context(pool.protocol)

    def _context(self, protocol: Protocol) -> ssl.SSLContext:
        alpn = "http/1.1" if protocol is Protocol.HTTP1 else "h2"
        if alpn not in self._contexts:
            self._contexts[alpn] = build_context(self._plan.tls, alpn=alpn)
        return self._contexts[alpn]

    async def resolve(self, pools: Sequence[Pool]) -> list[tuple[Pool, OSError]]:
        """Resolve every pool's name; those that could not be, with their errors.

        Raises TargetError when an address may not be loaded.
        """
        failures: list[tuple[Pool, OSError]] = []
        for pool in pools:
            try:
                await self._resolve(pool)
            except OSError as error:
                failures.append((pool, error))
        return failures

    async def _resolve(self, pool: Pool) -> list[Address]:
        where = pool.endpoint
        known = self._addresses.get(where.host)
        if known is not None:
            return known
        loop = asyncio.get_running_loop()
        lookup = loop.getaddrinfo(where.host, None, type=socket.SOCK_STREAM)
        try:
            answers = await asyncio.wait_for(lookup, _DNS_TIMEOUT_S)
        except TimeoutError:
            raise socket.gaierror(socket.EAI_AGAIN, "no answer in time") from None
        unique: dict[Address, None] = dict.fromkeys((answer[0], answer[4]) for answer in answers)
        addresses = list(unique)
        self._check(pool.node.name, where, addresses)
        self._addresses[where.host] = addresses
        return addresses

    def _check(self, name: str, endpoint: Endpoint, addresses: list[Address]) -> None:
        for _, where in addresses:
            reason = refusal(endpoint.host, str(where[0]), self._authorised)
            if reason is not None:
                raise TargetError(
                    where=f"node {name}",
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
        connection: Connection | MultiplexedConnection | None = None
        try:
            connection = await asyncio.wait_for(self._establish(pool), self._timeout_s)
        except TargetError as error:
            failure = (DNS, str(error))  # the name now leads somewhere it must not
        except NoGreeting as error:
            failure = (error.kind, f"{pool.node.name}: {error.text}")
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
                _hand_over(pool, connection, now_ns, took_ns)
            else:
                connection.close()

    async def _establish(self, pool: Pool) -> Connection | MultiplexedConnection:
        addresses = await self._resolve(pool)
        turn = self._turns.get(pool, pool.index)
        self._turns[pool] = turn + 1
        family, (address, _, *scope) = addresses[turn % len(addresses)]
        loop = asyncio.get_running_loop()
        own = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(own, (address, pool.endpoint.port, *scope))
            is_tls = pool.endpoint.scheme == "https"
            # Protocols by their methods, see `Listener`.
            _, connection = await loop.create_connection(  # type: ignore[type-var]
                lambda: self._connection(pool, None if is_tls else own),
                sock=own,
                ssl=self._context(pool.protocol) if is_tls else None,
                server_hostname=server_name(self._plan.tls, pool.endpoint.host) if is_tls else None,
            )
        except BaseException:
            own.close()
            raise
        if isinstance(connection, MultiplexedConnection):
            try:
                await connection.wait_greeted()
            except BaseException:
                connection.close()
                raise
        return connection

    def _connection(
        self, pool: Pool, own: socket.socket | None
    ) -> Connection | MultiplexedConnection:
        if isinstance(pool, MultiplexedPool):
            multiplexing = self._plan.multiplexing
            return MultiplexedConnection(
                pool,
                self._traffic,
                own,
                streams=multiplexing.streams,
                keepalive_ns=multiplexing.keepalive_ns,
                shortest_timeout_ns=self._shortest_timeout_ns,
            )
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


def _hand_over(
    pool: Pool, connection: Connection | MultiplexedConnection, now_ns: int, took_ns: int
) -> None:
    if isinstance(pool, MultiplexedPool) and isinstance(connection, MultiplexedConnection):
        pool.joined(connection, now_ns)
    else:
        pool.connected(connection, now_ns, took_ns)


def _unheard(_pool: Pool, _took_ns: int, _failure: tuple[str, str] | None) -> None:
    """Nobody listens yet."""
