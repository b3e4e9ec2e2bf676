"""The site: between connections and the REST of one node.

Owns counting, the behaviours on purpose, the table of hot answers and the node's periodic
work. Laws: every request that came in is counted once, answered or abandoned, and an answer
under a behaviour leaves when the gate says, not before.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from time import monotonic_ns
from typing import Final

from loadtests.clock import NS_PER_S
from loadtests.cluster.behaviour import Behaviour, Gate
from loadtests.cluster.committer import Committer
from loadtests.cluster.deadlines import Deadlines
from loadtests.cluster.ground_truth import ABANDONED, GroundTruth
from loadtests.cluster.http1 import Connection, Exchange
from loadtests.cluster.metrics import Metrics
from loadtests.cluster.rest import Rest
from loadtests.cluster.store import Durability, Member, Store
from loadtests.cluster.wire import Answer

TICK_S: Final = 0.1  # how old a summary may be
GRACE_S: Final = 5.0  # for requests under way when the node is told to stop
_MAX_HOT: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOptions:
    """What a node is started with; `port` 0 takes a free one."""

    name: str
    host: str
    port: int
    store: Path
    durability: Durability
    behaviour: Behaviour
    ground_truth: Path | None


class NodeSite:
    """Between connections and the REST: counting, behaviours, the hot table."""

    def __init__(self, options: NodeOptions, loop: asyncio.AbstractEventLoop, url: str) -> None:
        self.hot: dict[bytes, Answer] = {}
        self.connections: set[Connection] = set()
        self.draining = False
        self.loop = loop
        self._deadlines = Deadlines(loop)
        self._gate = Gate(options.behaviour)
        self._plain = not options.behaviour.changes_answers()
        self._truth = GroundTruth(options.ground_truth) if options.ground_truth else None
        self._open: dict[Exchange, str] = {}
        self.metrics = Metrics()
        self._reader = Store(options.store, options.durability)
        name, pid = options.name, os.getpid()
        self.committer = Committer(
            options.store,
            options.durability,
            lambda: Member(name=name, url=url, pid=pid, seen_ns=monotonic_ns()),
            loop,
        )
        self._rest = Rest(
            name=name,
            store=self._reader,
            committer=self.committer,
            metrics=self.metrics,
            finish=self._finish,
        )

    def serve(self, exchange: Exchange) -> None:
        """Answer an exchange now or later, as routes and behaviours say."""
        route, argument = self._rest.find(exchange.url)
        uri = route.uri if route else "NOT_FOUND"
        self._open[exchange] = uri
        self.metrics.opened(uri)
        if not self._plain and _is_service(exchange.url):
            status = self._gate.refuse_status(exchange.received_ns)
            if status is not None:
                message = "rate limit" if status == 429 else "an error on purpose"  # noqa: PLR2004
                refusal = self._rest.replies.error(exchange.method, uri, status, message)
                self._send(exchange, refusal, exchange.received_ns)
                return
        answer = self._rest.answer(route, exchange, argument)
        if answer is None:
            return
        if route is not None and route.hot and exchange.method == b"GET":
            self._keep_hot(exchange.url, answer)
        # Its latency counts from the request: an analytic distribution is then met exactly.
        self._send(exchange, answer, exchange.received_ns)

    def refuse(self, status: int, message: str) -> Answer:
        """The answer to bytes that are no request."""
        return self._rest.replies.error(b"", "UNKNOWN", status, message)

    def settle(self, exchange: Exchange, replied_ns: int | None) -> None:
        """Count an exchange that has left, or whose client has."""
        uri = self._open.pop(exchange, None)
        if uri is not None:
            self.metrics.closed(uri, abandoned=replied_ns is None)
        answer = exchange.answer
        if replied_ns is not None and answer is not None:
            answer.series.durations_ns.append(replied_ns - exchange.received_ns)
        if self._truth is not None:
            self._truth.note(
                exchange.received_ns,
                ABANDONED if replied_ns is None else replied_ns,
                answer.series.status if answer is not None else 0,
                exchange.method,
                exchange.url,
            )

    def tick(self) -> None:
        """Ten times a second: summaries age, durations are binned, truth is written."""
        self.hot.clear()
        self.metrics.fold()
        with contextlib.suppress(sqlite3.Error):  # reported by the health checks
            self._rest.transactions.measure_throughput()
        if self._truth is not None:
            self._truth.flush()
        self.loop.call_later(TICK_S, self.tick)

    def sweep(self) -> None:
        """Once a second: clients out of patience."""
        now_ns = monotonic_ns()
        for connection in tuple(self.connections):
            connection.sweep(now_ns)
        self.loop.call_later(1, self.sweep)

    async def stop(self) -> None:
        """Answer what is under way, commit it, close."""
        self.draining = self._rest.status.draining = True
        self.hot.clear()
        end_ns = monotonic_ns() + round(GRACE_S * NS_PER_S)
        while self.connections and monotonic_ns() < end_ns:
            # A moment for requests already on the wire, then idle connections are closed.
            await asyncio.sleep(0.05)
            for connection in tuple(self.connections):
                connection.drain()
        self.committer.stop(GRACE_S)
        self._rest.status.close()
        self._deadlines.close()
        if self._truth is not None:
            self._truth.close()

    def _keep_hot(self, url: bytes, answer: Answer) -> None:
        if self._plain and self._truth is None and len(self.hot) < _MAX_HOT:
            self.hot[url] = answer

    def _finish(self, exchange: Exchange, answer: Answer) -> None:
        """Send an answer that was ready late (a commit): its latency counts from now."""
        self._send(exchange, answer, monotonic_ns())

    def _send(self, exchange: Exchange, answer: Answer, ready_ns: int) -> None:
        if not self._plain:
            leave_ns = self._gate.leave_ns(ready_ns, service=_is_service(exchange.url))
            if leave_ns > monotonic_ns():
                send = functools.partial(exchange.connection.finish, exchange, answer)
                self._deadlines.at(leave_ns, send)
                return
        exchange.connection.finish(exchange, answer)


def _is_service(url: bytes) -> bool:
    return url.startswith(b"/api/")
