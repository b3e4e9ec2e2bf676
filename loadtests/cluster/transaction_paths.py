"""Paths about transactions: accept, read back, page, count.

A POST is answered only after its commit has returned: 201 for a new id, 409 for an id that the
ledger has already, whatever the amount. A transaction read by its id is never stale.
"""

from __future__ import annotations

from time import monotonic_ns
from typing import Annotated, Final, Literal
from urllib.parse import unquote_to_bytes

import msgspec

from loadtests.clock import NS_PER_MS, NS_PER_S
from loadtests.cluster.committer import Outcome, Submission
from loadtests.cluster.http1 import Exchange
from loadtests.cluster.ledger import Entry, Row
from loadtests.cluster.routes import (
    API,
    BadRequestError,
    Replies,
    Route,
    encode,
    now_ms,
    parse_parameter,
)
from loadtests.cluster.wire import Answer, build_answer
from loadtests.cluster.workings import Workings

MAX_BATCH: Final = 1_000
MAX_PAGE: Final = 1_000
MAX_OFFSET: Final = 100_000
TRANSACTIONS: Final = f"{API}/blockchain/transactions"
_THROUGHPUT_WINDOW_NS: Final = NS_PER_S


class TransactionRequest(msgspec.Struct, frozen=True, rename="camel"):
    """The body of a POST; both members are required, others are ignored."""

    transaction_id: Annotated[
        str, msgspec.Meta(min_length=1, max_length=128, pattern=r"\A[^\x00-\x1f\x7f]+\Z")
    ]
    amount: (
        Annotated[int, msgspec.Meta(ge=0, le=2**53)] | Annotated[float, msgspec.Meta(ge=0, le=1e18)]
    )

    def row(self) -> Row:
        """As the ledger takes it: id, amount as text, no detail."""
        return Row(self.transaction_id, repr(self.amount), b"")


class BatchRequest(msgspec.Struct, frozen=True):
    """The body of a batch."""

    transactions: Annotated[
        tuple[TransactionRequest, ...], msgspec.Meta(min_length=1, max_length=MAX_BATCH)
    ]


class TransactionView(msgspec.Struct, frozen=True, rename="camel"):
    """A transaction as the interface shows it; `timestamp` is milliseconds of UTC."""

    transaction_id: str
    status: Literal["PROCESSED", "FAILED"]
    amount: msgspec.Raw
    timestamp: int
    message: str


_decode_transaction = msgspec.json.Decoder(TransactionRequest).decode
_decode_batch = msgspec.json.Decoder(BatchRequest).decode


class TransactionPaths:
    """Handlers, and the rate of the cluster's commits."""

    def __init__(self, workings: Workings, replies: Replies) -> None:
        self._store = workings.store
        self._committer = workings.committer
        self._replies = replies
        self._throughput_since_ns = monotonic_ns()
        self._throughput_total = 0
        self._throughput_per_s = 0.0

    def routes(self) -> tuple[Route, ...]:
        """The routes of this room that have no parameter in their path."""
        both = {b"GET": self._page, b"POST": self._accept}
        return (
            Route(uri=TRANSACTIONS, methods=both, hot=True),
            Route(uri=f"{TRANSACTIONS}/stats", methods={b"GET": self._stats}, hot=True),
            Route(uri=f"{TRANSACTIONS}/batch", methods={b"POST": self._accept_batch}, hot=False),
        )

    def by_key(self) -> Route:
        """The route of one transaction."""
        return Route(uri=f"{TRANSACTIONS}/{{id}}", methods={b"GET": self._transaction}, hot=False)

    def measure_throughput(self) -> None:
        """Update the rate of the cluster's commits; called several times a second."""
        now_ns = monotonic_ns()
        passed_ns = now_ns - self._throughput_since_ns
        if passed_ns < _THROUGHPUT_WINDOW_NS:
            return
        total = self._store.last_block().total
        self._throughput_per_s = (total - self._throughput_total) * NS_PER_S / passed_ns
        self._throughput_since_ns, self._throughput_total = now_ns, total

    def _stats(self, exchange: Exchange, _: bytes) -> Answer:
        last = self._store.last_block()
        body = {
            "totalProcessed": last.total,
            "currentThroughputMeasurement": round(self._throughput_per_s, 1),
            "blocks": last.height,
            "timestamp": now_ms(),
        }
        return self._replies.ok(exchange, f"{TRANSACTIONS}/stats", body)

    def _page(self, exchange: Exchange, query: bytes) -> Answer:
        limit = parse_parameter(query, "limit", usual=20, low=1, high=MAX_PAGE)
        offset = parse_parameter(query, "offset", usual=0, low=0, high=MAX_OFFSET)
        entries = self._store.page(limit, offset)
        last = self._store.last_block()
        body = {
            "transactions": [_stored_view(entry) for entry in entries],
            "limit": limit,
            "offset": offset,
            "total": last.total,
        }
        return self._replies.ok(exchange, TRANSACTIONS, body)

    def _transaction(self, exchange: Exchange, argument: bytes) -> Answer:
        uri = f"{TRANSACTIONS}/{{id}}"
        try:
            entry = self._store.entry(unquote_to_bytes(argument).decode())
        except UnicodeDecodeError:
            raise BadRequestError("the id is not UTF-8") from None
        if entry is None:
            return self._replies.error(exchange.method, uri, 404, "no transaction of that id")
        return self._replies.ok(exchange, uri, _stored_view(entry))

    def _accept(self, exchange: Exchange, _: bytes) -> Answer | None:
        try:
            request = _decode_transaction(exchange.body)
        except msgspec.MsgspecError as error:
            raise BadRequestError(f"body: {error}") from None
        row = request.row()

        def done(outcome: Outcome) -> None:
            self._replies.finish(exchange, self._accepted(row, outcome))

        if self._committer.submit(Submission(entries=(row,), done=done)):
            return None
        return self._replies.error(
            b"POST", TRANSACTIONS, 503, "too many transactions wait for a commit"
        )

    def _accepted(self, row: Row, outcome: Outcome) -> Answer:
        if outcome.failure is not None:
            return self._replies.error(b"POST", TRANSACTIONS, 503, f"not stored: {outcome.failure}")
        block = outcome.block
        view = TransactionView(
            transaction_id=row.id,
            status="PROCESSED" if block else "FAILED",
            amount=msgspec.Raw(row.amount.encode()),
            timestamp=block.created_ms if block else now_ms(),
            message=f"committed in block {block.height}" if block else "this id is already taken",
        )
        series = self._replies.series(b"POST", TRANSACTIONS, 201 if block else 409)
        return build_answer(series, encode(view))

    def _accept_batch(self, exchange: Exchange, _: bytes) -> Answer | None:
        uri = f"{TRANSACTIONS}/batch"
        try:
            request = _decode_batch(exchange.body)
        except msgspec.MsgspecError as error:
            raise BadRequestError(f"body: {error}") from None
        entries = tuple(transaction.row() for transaction in request.transactions)
        began_ns = monotonic_ns()

        def done(outcome: Outcome) -> None:
            if outcome.failure is not None:
                message = f"nothing stored: {outcome.failure}"
                self._replies.finish(exchange, self._replies.error(b"POST", uri, 503, message))
                return
            took_ns = max(1, monotonic_ns() - began_ns)
            processed = len(entries) - len(outcome.known)
            body = {
                "requestedCount": len(entries),
                "processedCount": processed,
                "durationMs": round(took_ns / NS_PER_MS, 3),
                "transactionsPerSecond": round(processed * NS_PER_S / took_ns, 1),
                "status": _batch_status(processed, len(entries)),
                "timestamp": now_ms(),
            }
            self._replies.finish(exchange, self._replies.ok(exchange, uri, body))

        if self._committer.submit(Submission(entries=entries, done=done)):
            return None
        return self._replies.error(b"POST", uri, 503, "too many transactions wait for a commit")


def _stored_view(entry: Entry) -> TransactionView:
    return TransactionView(
        transaction_id=entry.id,
        status="PROCESSED",
        amount=msgspec.Raw(entry.amount.encode()),
        timestamp=entry.created_ms,
        message=f"committed in block {entry.height}",
    )


def _batch_status(processed: int, requested: int) -> str:
    if processed == requested:
        return "PROCESSED"
    return "PARTIAL" if processed else "FAILED"
