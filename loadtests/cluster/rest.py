"""The REST of a node: which path answers what, read from and written to the ledger.

Owns the routes of Aurigraph V11's interface that the harness puts under load. Summaries
(health, info, stats, latest, pages, validators, consensus) are made at most ten times a second
and sent from the hot table in between, so they may be 100 ms old; a transaction or a block asked
for by its key never is. A POST is answered only after its commit has returned: 201 for a new
id, 409 for an id that the ledger has already, whatever the amount.
"""

from __future__ import annotations

import platform
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from time import monotonic_ns
from typing import Annotated, Final, Literal
from urllib.parse import parse_qs, unquote_to_bytes

import msgspec

from loadtests.clock import NS_PER_MS, NS_PER_S
from loadtests.cluster.committer import Committer, Outcome, Submission
from loadtests.cluster.http1 import Exchange
from loadtests.cluster.metrics import MEDIA_TYPE, Metrics
from loadtests.cluster.store import LEASE_NS, Block, Entry, Store
from loadtests.cluster.wire import Answer, build_answer, build_error

VERSION: Final = "11.0.0-embedded"
PLATFORM: Final = "Headroom embedded cluster: a stand-in, not Aurigraph V11"
MAX_BATCH: Final = 1_000
MAX_PAGE: Final = 1_000
MAX_OFFSET: Final = 100_000
MAX_ITERATIONS: Final = 1_000_000
_API: Final = "/api/v11"
_TRANSACTIONS: Final = f"{_API}/blockchain/transactions"
_THROUGHPUT_WINDOW_NS: Final = NS_PER_S


class TransactionRequest(msgspec.Struct, frozen=True, rename="camel"):
    """The body of a POST; both members are required, others are ignored."""

    transaction_id: Annotated[
        str, msgspec.Meta(min_length=1, max_length=128, pattern=r"\A[^\x00-\x1f\x7f]+\Z")
    ]
    amount: (
        Annotated[int, msgspec.Meta(ge=0, le=2**53)] | Annotated[float, msgspec.Meta(ge=0, le=1e18)]
    )

    def entry(self) -> tuple[str, str]:
        """Id and amount as text, as the ledger takes them."""
        return self.transaction_id, repr(self.amount)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who this node is."""

    name: str
    url: str
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Check:
    """One health check; `reason` says why it is DOWN, None that it is UP."""

    name: str
    reason: str | None
    data: dict[str, str | int]

    def view(self) -> dict[str, object]:
        """As MicroProfile Health words it."""
        data = {**self.data, "reason": self.reason} if self.reason else self.data
        view: dict[str, object] = {
            "name": self.name,
            "status": "DOWN" if self.reason else "UP",
        }
        return {**view, "data": data} if data else view


Handler = Callable[[Exchange, bytes], Answer | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One uri template. A handler gets the exchange and the rest of the path or the query."""

    uri: str
    methods: dict[bytes, Handler]
    hot: bool


_decode_transaction = msgspec.json.Decoder(TransactionRequest).decode
_decode_batch = msgspec.json.Decoder(BatchRequest).decode
_encode = msgspec.json.Encoder().encode


class BadRequestError(Exception):
    """The request is well-formed HTTP and asks for something that cannot be; answered 400."""


class Rest:
    """Routes and their handlers. `finish` is called for answers that come later."""

    def __init__(
        self,
        *,
        identity: Identity,
        store: Store,
        committer: Committer,
        metrics: Metrics,
        finish: Callable[[Exchange, Answer], None],
    ) -> None:
        self._identity = identity
        self._store = store
        self._committer = committer
        self._metrics = metrics
        self._finish = finish
        self._loops = ThreadPoolExecutor(max_workers=1, thread_name_prefix="performance")
        self._looping = False
        self._throughput_since_ns = monotonic_ns()
        self._throughput_total = 0
        self._throughput_per_s = 0.0
        self.draining = False
        self._exact, self._prefixes = self._routes()

    def find(self, url: bytes) -> tuple[Route | None, bytes]:
        """The route of a target, and what its handler needs of it."""
        path, _, query = url.partition(b"?")
        route = self._exact.get(path)
        if route is not None:
            return route, query
        parent, _, last = path.rpartition(b"/")
        return self._prefixes.get(parent) if last else None, last

    def answer(self, route: Route | None, exchange: Exchange, argument: bytes) -> Answer | None:
        """The answer, or None if it comes later through `finish`."""
        method = b"GET" if exchange.method == b"HEAD" else exchange.method
        if route is None:
            return self.error(exchange.method, "NOT_FOUND", 404, "no such path")
        handler = route.methods.get(method)
        if handler is None:
            allowed = b", ".join([*route.methods, *([b"HEAD"] if b"GET" in route.methods else [])])
            series = self._metrics.series(exchange.method.decode(), route.uri, 405)
            message = f"{route.uri} takes {allowed.decode()}"
            return build_error(series, message, headers=b"Allow: %b\r\n" % allowed)
        try:
            return handler(exchange, argument)
        except BadRequestError as bad:
            return self.error(exchange.method, route.uri, 400, str(bad))
        except sqlite3.Error as error:
            return self.error(
                exchange.method, route.uri, 503, f"the ledger cannot be read: {error}"
            )

    def error(self, method: bytes, uri: str, status: int, message: str) -> Answer:
        """A refusal in JSON."""
        series = self._metrics.series(method.decode("ascii") or "UNKNOWN", uri, status)
        headers = b"Retry-After: 1\r\n" if status in (429, 503) else b""
        return build_error(series, message, headers=headers)

    def measure_throughput(self) -> None:
        """Update the rate of the cluster's commits; called several times a second."""
        now_ns = monotonic_ns()
        passed_ns = now_ns - self._throughput_since_ns
        if passed_ns < _THROUGHPUT_WINDOW_NS:
            return
        last = self._store.last_block()
        total = last.total if last else 0
        self._throughput_per_s = (total - self._throughput_total) * NS_PER_S / passed_ns
        self._throughput_since_ns, self._throughput_total = now_ns, total

    def close(self) -> None:
        """Let no performance loop outlive the node."""
        self._loops.shutdown(wait=False, cancel_futures=True)

    def _routes(self) -> tuple[dict[bytes, Route], dict[bytes, Route]]:
        exact: tuple[tuple[str, dict[bytes, Handler], bool], ...] = (
            ("/q/health", {b"GET": self._health_all}, True),
            ("/q/health/live", {b"GET": self._health_live}, True),
            ("/q/health/ready", {b"GET": self._health_ready}, True),
            ("/q/metrics", {b"GET": self._scrape}, False),
            (f"{_API}/health", {b"GET": self._health}, True),
            (f"{_API}/info", {b"GET": self._info}, True),
            (f"{_API}/performance", {b"GET": self._performance}, False),
            (f"{_TRANSACTIONS}/stats", {b"GET": self._stats}, True),
            (_TRANSACTIONS, {b"GET": self._page, b"POST": self._accept}, True),
            (f"{_TRANSACTIONS}/batch", {b"POST": self._accept_batch}, False),
            (f"{_API}/blockchain/latest", {b"GET": self._latest}, True),
            (f"{_API}/blockchain/validators", {b"GET": self._validators}, True),
            (f"{_API}/consensus/status", {b"GET": self._consensus}, True),
        )
        prefixes: tuple[tuple[str, str, Handler], ...] = (
            (_TRANSACTIONS, "{id}", self._transaction),
            (f"{_API}/blockchain/blocks", "{height}", self._block),
        )
        return (
            {uri.encode(): Route(uri=uri, methods=methods, hot=hot) for uri, methods, hot in exact},
            {
                parent.encode(): Route(uri=f"{parent}/{name}", methods={b"GET": get}, hot=False)
                for parent, name, get in prefixes
            },
        )

    def _ok(self, exchange: Exchange, uri: str, body: object, status: int = 200) -> Answer:
        series = self._metrics.series(exchange.method.decode(), uri, status)
        return build_answer(series, _encode(body))

    # Health as MicroProfile words it; metrics; info

    def _health_all(self, exchange: Exchange, _: bytes) -> Answer:
        return self._checked(exchange, "/q/health", self._live_checks() + self._ready_checks())

    def _health_live(self, exchange: Exchange, _: bytes) -> Answer:
        return self._checked(exchange, "/q/health/live", self._live_checks())

    def _health_ready(self, exchange: Exchange, _: bytes) -> Answer:
        return self._checked(exchange, "/q/health/ready", self._ready_checks())

    def _live_checks(self) -> list[_Check]:
        return [_Check(name="Event loop alive", reason=None, data={})]

    def _ready_checks(self) -> list[_Check]:
        membership = self._store.membership(monotonic_ns())
        leaderless = None if membership.leader else "no leader holds the lease"
        draining = "the node is shutting down" if self.draining else None
        failure = self._committer.failure()
        return [
            _Check(name="Database connections health check", reason=failure, data={}),
            _Check(
                name="Consensus leader known",
                reason=leaderless,
                data={"leaderNodeId": membership.leader, "currentTerm": membership.term},
            ),
            _Check(name="Accepting requests", reason=draining, data={}),
        ]

    def _checked(self, exchange: Exchange, uri: str, checks: list[_Check]) -> Answer:
        up = all(check.reason is None for check in checks)
        body = {
            "status": "UP" if up else "DOWN",
            "checks": [check.view() for check in checks],
        }
        return self._ok(exchange, uri, body, 200 if up else 503)

    def _scrape(self, exchange: Exchange, _: bytes) -> Answer:
        series = self._metrics.series(exchange.method.decode(), "/q/metrics", 200)
        return build_answer(series, self._metrics.exposition(), media_type=MEDIA_TYPE)

    def _health(self, exchange: Exchange, _: bytes) -> Answer:
        healthy = self._committer.failure() is None
        body = {
            "status": "HEALTHY" if healthy else "UNHEALTHY",
            "version": VERSION,
            "uptimeSeconds": int(self._metrics.uptime_s()),
            "totalRequests": self._metrics.answered(),
            "platform": PLATFORM,
        }
        return self._ok(exchange, f"{_API}/health", body, 200 if healthy else 503)

    def _info(self, exchange: Exchange, _: bytes) -> Answer:
        body = {
            "name": PLATFORM,
            "node": self._identity.name,
            "version": VERSION,
            "javaVersion": f"none (Python {platform.python_version()})",
            "framework": "uvloop, httptools, SQLite",
            "osName": platform.system(),
            "osArch": platform.machine(),
        }
        return self._ok(exchange, f"{_API}/info", body)

    # Transactions

    def _stats(self, exchange: Exchange, _: bytes) -> Answer:
        last = self._store.last_block()
        body = {
            "totalProcessed": last.total if last else 0,
            "currentThroughputMeasurement": round(self._throughput_per_s, 1),
            "blocks": last.height if last else 0,
            "timestamp": _now_ms(),
        }
        return self._ok(exchange, f"{_TRANSACTIONS}/stats", body)

    def _page(self, exchange: Exchange, query: bytes) -> Answer:
        limit = _parameter(query, "limit", usual=20, low=1, high=MAX_PAGE)
        offset = _parameter(query, "offset", usual=0, low=0, high=MAX_OFFSET)
        entries = self._store.page(limit, offset)
        last = self._store.last_block()
        body = {
            "transactions": [_stored_view(entry) for entry in entries],
            "limit": limit,
            "offset": offset,
            "total": last.total if last else 0,
        }
        return self._ok(exchange, _TRANSACTIONS, body)

    def _transaction(self, exchange: Exchange, argument: bytes) -> Answer:
        uri = f"{_TRANSACTIONS}/{{id}}"
        try:
            entry = self._store.entry(unquote_to_bytes(argument).decode())
        except UnicodeDecodeError:
            raise BadRequestError("the id is not UTF-8") from None
        if entry is None:
            return self.error(exchange.method, uri, 404, "no transaction of that id")
        return self._ok(exchange, uri, _stored_view(entry))

    def _accept(self, exchange: Exchange, _: bytes) -> Answer | None:
        try:
            request = _decode_transaction(exchange.body)
        except msgspec.MsgspecError as error:
            raise BadRequestError(f"body: {error}") from None
        entry = request.entry()

        def done(outcome: Outcome) -> None:
            self._finish(exchange, self._accepted(entry, outcome))

        if self._committer.submit(Submission(entries=(entry,), done=done)):
            return None
        return self.error(b"POST", _TRANSACTIONS, 503, "too many transactions wait for a commit")

    def _accepted(self, entry: tuple[str, str], outcome: Outcome) -> Answer:
        if outcome.failure is not None:
            return self.error(b"POST", _TRANSACTIONS, 503, f"not stored: {outcome.failure}")
        block = outcome.block
        view = TransactionView(
            transaction_id=entry[0],
            status="PROCESSED" if block else "FAILED",
            amount=msgspec.Raw(entry[1].encode()),
            timestamp=block.created_ms if block else _now_ms(),
            message=f"committed in block {block.height}" if block else "this id is already taken",
        )
        series = self._metrics.series("POST", _TRANSACTIONS, 201 if block else 409)
        return build_answer(series, _encode(view))

    def _accept_batch(self, exchange: Exchange, _: bytes) -> Answer | None:
        uri = f"{_TRANSACTIONS}/batch"
        try:
            request = _decode_batch(exchange.body)
        except msgspec.MsgspecError as error:
            raise BadRequestError(f"body: {error}") from None
        entries = tuple(transaction.entry() for transaction in request.transactions)
        began_ns = monotonic_ns()

        def done(outcome: Outcome) -> None:
            if outcome.failure is not None:
                message = f"nothing stored: {outcome.failure}"
                self._finish(exchange, self.error(b"POST", uri, 503, message))
                return
            took_ns = max(1, monotonic_ns() - began_ns)
            processed = len(entries) - len(outcome.known)
            body = {
                "requestedCount": len(entries),
                "processedCount": processed,
                "durationMs": round(took_ns / NS_PER_MS, 3),
                "transactionsPerSecond": round(processed * NS_PER_S / took_ns, 1),
                "status": _batch_status(processed, len(entries)),
                "timestamp": _now_ms(),
            }
            self._finish(exchange, self._ok(exchange, uri, body))

        if self._committer.submit(Submission(entries=entries, done=done)):
            return None
        return self.error(b"POST", uri, 503, "too many transactions wait for a commit")

    # Blocks and consensus

    def _latest(self, exchange: Exchange, _: bytes) -> Answer:
        uri = f"{_API}/blockchain/latest"
        block = self._store.last_block()
        if block is None:
            return self.error(exchange.method, uri, 404, "no block yet")
        return self._ok(exchange, uri, _block_view(block))

    def _block(self, exchange: Exchange, argument: bytes) -> Answer:
        uri = f"{_API}/blockchain/blocks/{{height}}"
        if not argument.isdigit() or len(argument) > 18:  # noqa: PLR2004 digits of a 64-bit number
            raise BadRequestError("the height is not a whole number")
        block = self._store.block(int(argument))
        if block is None:
            return self.error(exchange.method, uri, 404, "no block of that height")
        return self._ok(exchange, uri, _block_view(block))

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
            "timestamp": _now_ms(),
        }
        return self._ok(exchange, f"{_API}/blockchain/validators", body)

    def _consensus(self, exchange: Exchange, _: bytes) -> Answer:
        membership = self._store.membership(monotonic_ns())
        body = {
            "algorithm": "lease in the shared ledger (stand-in for HyperRAFT++)",
            "nodeId": self._identity.name,
            "nodeState": "LEADER" if membership.leader == self._identity.name else "FOLLOWER",
            "currentTerm": membership.term,
            "leaderNodeId": membership.leader or None,
            "timestamp": _now_ms(),
        }
        return self._ok(exchange, f"{_API}/consensus/status", body)

    def _performance(self, exchange: Exchange, query: bytes) -> Answer | None:
        uri = f"{_API}/performance"
        iterations = _parameter(query, "iterations", usual=1_000, low=1, high=MAX_ITERATIONS)
        if self._looping:
            return self.error(exchange.method, uri, 429, "one performance loop at a time")
        self._looping = True
        loop = exchange.connection.loop()

        def done(took_ns: int) -> None:
            self._looping = False
            body = {
                "iterations": iterations,
                "durationMs": round(took_ns / NS_PER_MS, 3),
                "transactionsPerSecond": round(iterations * NS_PER_S / took_ns, 1),
                "note": "hashes inside one request: says nothing about requests over the network",
                "timestamp": _now_ms(),
            }
            self._finish(exchange, self._ok(exchange, uri, body))

        self._loops.submit(lambda: loop.call_soon_threadsafe(done, _hash_loop_ns(iterations)))
        return None


def _hash_loop_ns(iterations: int) -> int:
    began_ns = monotonic_ns()
    digest = b""
    for _ in range(iterations):
        digest = sha256(digest).digest()
    return max(1, monotonic_ns() - began_ns)


def _stored_view(entry: Entry) -> TransactionView:
    return TransactionView(
        transaction_id=entry.id,
        status="PROCESSED",
        amount=msgspec.Raw(entry.amount.encode()),
        timestamp=entry.created_ms,
        message=f"committed in block {entry.height}",
    )


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


def _batch_status(processed: int, requested: int) -> str:
    if processed == requested:
        return "PROCESSED"
    return "PARTIAL" if processed else "FAILED"


def _parameter(query: bytes, name: str, *, usual: int, low: int, high: int) -> int:
    values = parse_qs(query.decode("latin-1"), keep_blank_values=True).get(name)
    if values is None:
        return usual
    text = values[-1]
    number = int(text) if text.isdecimal() and len(text) < 19 else -1  # noqa: PLR2004 64 bits
    if not low <= number <= high:
        raise BadRequestError(f"{name} must be a whole number in [{low}, {high}]")
    return number


def _now_ms() -> int:
    return time.time_ns() // NS_PER_MS
