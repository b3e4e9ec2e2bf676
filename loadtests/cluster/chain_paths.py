"""Paths about blocks, validators and consensus.

The leader is who holds the lease in the shared ledger; every node reads it there, so that
all name the same one. Leadership is reported; it does not gate writes.
"""

from __future__ import annotations

from time import monotonic_ns

from loadtests.cluster.http1 import Exchange
from loadtests.cluster.ledger import LEASE_NS, Block
from loadtests.cluster.routes import (
    API,
    BadRequestError,
    Replies,
    Route,
    now_ms,
    parse_whole_number,
)
from loadtests.cluster.wire import Answer
from loadtests.cluster.workings import Workings


class ChainPaths:
    """Handlers."""

    def __init__(self, workings: Workings, replies: Replies) -> None:
        self._name = workings.name
        self._store = workings.store
        self._replies = replies

    def routes(self) -> tuple[Route, ...]:
        """The routes of this room that have no parameter in their path."""
        return (
            Route(uri=f"{API}/blockchain/latest", methods={b"GET": self._latest}, hot=True),
            Route(uri=f"{API}/blockchain/validators", methods={b"GET": self._validators}, hot=True),
            Route(uri=f"{API}/consensus/status", methods={b"GET": self._consensus}, hot=True),
        )

    def by_key(self) -> Route:
        """The route of one block."""
        uri = f"{API}/blockchain/blocks/{{height}}"
        return Route(uri=uri, methods={b"GET": self._block}, hot=False)

    def _latest(self, exchange: Exchange, _: bytes) -> Answer:
        uri = f"{API}/blockchain/latest"
        return self._replies.ok(exchange, uri, _block_view(self._store.last_block()))

    def _block(self, exchange: Exchange, argument: bytes) -> Answer:
        uri = f"{API}/blockchain/blocks/{{height}}"
        height = parse_whole_number(argument.decode("latin-1"))
        if height is None:
            raise BadRequestError("the height is not a whole number")
        block = self._store.block(height)
        if block is None:
            return self._replies.error(exchange.method, uri, 404, "no block of that height")
        return self._replies.ok(exchange, uri, _block_view(block))

    def _validators(self, exchange: Exchange, _: bytes) -> Answer:
        now_ns = monotonic_ns()
        membership = self._store.membership(now_ns)
        body = {
            "validators": [
                {
                    "nodeId": member.name,
                    "url": member.url,
                    "status": "ACTIVE" if now_ns - member.seen_ns < LEASE_NS else "INACTIVE",
                    "role": "LEADER" if member.name == membership.leader else "FOLLOWER",
                }
                for member in membership.members
            ],
            "timestamp": now_ms(),
        }
        return self._replies.ok(exchange, f"{API}/blockchain/validators", body)

    def _consensus(self, exchange: Exchange, _: bytes) -> Answer:
        membership = self._store.membership(monotonic_ns())
        body = {
            "algorithm": "lease in the shared ledger (stand-in for HyperRAFT++)",
            "nodeId": self._name,
            "nodeState": "LEADER" if membership.leader == self._name else "FOLLOWER",
            "currentTerm": membership.term,
            "leaderNodeId": membership.leader or None,
            "timestamp": now_ms(),
        }
        return self._replies.ok(exchange, f"{API}/consensus/status", body)


def _block_view(block: Block) -> dict[str, object]:
    return {
        "height": block.height,
        "hash": block.hash,
        "previousHash": block.parent,
        "transactionCount": block.entries,
        "totalTransactions": block.total,
        "validator": block.proposer,
        "timestamp": block.created_ms,
    }
