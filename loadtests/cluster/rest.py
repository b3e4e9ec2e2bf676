"""The REST of a node: finds the handler of a target and calls it.

Summaries (health, info, stats, latest, pages, validators, consensus) are made at most ten
times a second and sent from the site's hot table in between, so they may be 100 ms old; a
transaction or a block asked for by its key never is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from loadtests.cluster.chain_paths import ChainPaths
from loadtests.cluster.http1 import Exchange
from loadtests.cluster.routes import BadRequestError, Replies, Route
from loadtests.cluster.status_paths import StatusPaths
from loadtests.cluster.transaction_paths import TransactionPaths
from loadtests.cluster.wire import Answer
from loadtests.cluster.workings import Workings


class Rest:
    """All routes. `finish` is called for answers that come later."""

    def __init__(self, workings: Workings, finish: Callable[[Exchange, Answer], None]) -> None:
        self.replies = Replies(workings.metrics, finish)
        self.status = StatusPaths(workings, self.replies)
        self.transactions = TransactionPaths(workings, self.replies)
        chain = ChainPaths(workings, self.replies)
        routes = (*self.status.routes(), *self.transactions.routes(), *chain.routes())
        self._exact = {route.uri.encode(): route for route in routes}
        keyed = (self.transactions.by_key(), chain.by_key())
        self._keyed = {route.uri.rpartition("/")[0].encode(): route for route in keyed}

    def find(self, url: bytes) -> tuple[Route | None, bytes]:
        """The route of a target, and what its handler needs of it: the query, or the key."""
        path, _, query = url.partition(b"?")
        route = self._exact.get(path)
        if route is not None:
            return route, query
        parent, _, key = path.rpartition(b"/")
        return self._keyed.get(parent) if key else None, key

    def answer(self, route: Route | None, exchange: Exchange, argument: bytes) -> Answer | None:
        """The answer, or None if it comes later through `finish`."""
        method = b"GET" if exchange.method == b"HEAD" else exchange.method
        if route is None:
            return self.replies.error(exchange.method, "NOT_FOUND", 404, "no such path")
        handler = route.methods.get(method)
        if handler is None:
            return self.replies.not_allowed(exchange.method, route)
        try:
            return handler(exchange, argument)
        except BadRequestError as bad:
            return self.replies.error(exchange.method, route.uri, 400, str(bad))
        except sqlite3.Error as error:
            message = f"the ledger cannot be read: {error}"
            return self.replies.error(exchange.method, route.uri, 503, message)
