"""The site: between connections and the REST of one node.

Owns counting, the behaviours on purpose, the table of hot answers and the node's periodic
work. Laws: every request that came in is counted once, answered or abandoned, and an answer
under a behaviour leaves when the gate says, not before.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sqlite3
from time import monotonic_ns
from typing import Final

from loadtests.clock import NS_PER_S
from loadtests.cluster.ground_truth import ABANDONED
from loadtests.cluster.http1 import Connection, Exchange
from loadtests.cluster.rest import Rest
from loadtests.cluster.wire import Answer
from loadtests.cluster.workings import GRACE_S, Workings

_MAX_HOT: Final = 256


class NodeSite:
    """Between connections and the REST: counting, behaviours, the hot table."""

    def __init__(self, workings: Workings) -> None:
        self.hot: dict[bytes, Answer] = {}
        self.connections: set[Connection] = set()
        self.draining = False
        self.loop = workings.loop
        self._workings = workings
        self._gate = workings.gate
        self._plain = workings.is_plain
        self._truth = workings.truth
        self._metrics = workings.metrics
        self._open: dict[Exchange, str] = {}
        self._rest = Rest(workings, self._finish)

    def is_ready(self) -> bool:
        """Whether the readiness check is UP."""
        return self._rest.status.is_ready()

    def serve(self, exchange: Exchange) -> None:
        """Answer an exchange now or later, as routes and behaviours say."""
        route, argument = self._rest.find(exchange.url)
        uri = route.uri if route else "NOT_FOUND"
        self._open[exchange] = uri
        self._metrics.opened(uri)
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
            self._metrics.closed(uri, abandoned=replied_ns is None)
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
        """Ten times a second: summaries age."""
        self.hot.clear()
        with contextlib.suppress(sqlite3.Error):  # reported by the health checks
            self._rest.transactions.measure_throughput()

    def sweep(self) -> None:
        """Once a second: clients out of patience."""
        now_ns = monotonic_ns()
        for connection in tuple(self.connections):
            connection.sweep(now_ns)
        self.loop.call_later(1, self.sweep)

    async def drain(self) -> None:
        """Answer what is under way, then close the connections."""
        self.draining = True
        self.hot.clear()
        end_ns = monotonic_ns() + round(GRACE_S * NS_PER_S)
        while self.connections and monotonic_ns() < end_ns:
            # A moment for requests already on the wire, then idle connections are closed.
            await asyncio.sleep(0.05)
            for connection in tuple(self.connections):
                connection.drain()
        self._rest.status.close()

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
                self._workings.deadlines.at(leave_ns, send)
                return
        exchange.connection.finish(exchange, answer)


def _is_service(url: bytes) -> bool:
    return url.startswith(b"/api/")
