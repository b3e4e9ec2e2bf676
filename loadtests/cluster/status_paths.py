"""Paths about the node itself: health, metrics, info, and the loop inside one request.

The health checks are real: the database check is DOWN while commits fail or hang, readiness
also while no leader is known or the node shuts down.
"""

from __future__ import annotations

import platform
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from time import monotonic_ns
from typing import Final

from loadtests.clock import NS_PER_MS, NS_PER_S
from loadtests.cluster.http1 import Exchange
from loadtests.cluster.metrics import MEDIA_TYPE
from loadtests.cluster.routes import API, Replies, Route, now_ms, parse_parameter
from loadtests.cluster.wire import Answer, build_answer
from loadtests.cluster.workings import Workings

VERSION: Final = "11.0.0-embedded"
PLATFORM: Final = "Headroom embedded cluster: a stand-in, not Aurigraph V11"
MAX_ITERATIONS: Final = 1_000_000


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


class StatusPaths:
    """Handlers."""

    def __init__(self, workings: Workings, replies: Replies) -> None:
        self._workings = workings
        self._name = workings.name
        self._store = workings.store
        self._committer = workings.committer
        self._metrics = workings.metrics
        self._replies = replies
        self._loops = ThreadPoolExecutor(max_workers=1, thread_name_prefix="performance")
        self._looping = False

    def routes(self) -> tuple[Route, ...]:
        """The routes of this room."""
        return (
            Route(uri="/q/health", methods={b"GET": self._health_all}, hot=True),
            Route(uri="/q/health/live", methods={b"GET": self._health_live}, hot=True),
            Route(uri="/q/health/ready", methods={b"GET": self._health_ready}, hot=True),
            Route(uri="/q/metrics", methods={b"GET": self._scrape}, hot=False),
            Route(uri=f"{API}/health", methods={b"GET": self._health}, hot=True),
            Route(uri=f"{API}/info", methods={b"GET": self._info}, hot=True),
            Route(uri=f"{API}/performance", methods={b"GET": self._performance}, hot=False),
        )

    def is_ready(self) -> bool:
        """Whether the node should be sent requests: what `/q/health/ready` says."""
        return all(check.reason is None for check in self._ready_checks())

    def close(self) -> None:
        """Let no performance loop outlive the node."""
        self._loops.shutdown(wait=False, cancel_futures=True)

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
        draining = "the node is shutting down" if self._workings.draining else None
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
        return self._replies.ok(exchange, uri, body, 200 if up else 503)

    def _scrape(self, exchange: Exchange, _: bytes) -> Answer:
        series = self._replies.series(exchange.method, "/q/metrics", 200)
        return build_answer(series, self._metrics.exposition(), media_type=MEDIA_TYPE)

    def _health(self, exchange: Exchange, _: bytes) -> Answer:
        healthy = self._committer.failure() is None
        body = {
            "status": "HEALTHY" if healthy else "UNHEALTHY",
            "version": self._workings.version,
            "uptimeSeconds": int(self._metrics.uptime_s()),
            "totalRequests": self._metrics.answered(),
            "platform": PLATFORM,
        }
        return self._replies.ok(exchange, f"{API}/health", body, 200 if healthy else 503)

    def _info(self, exchange: Exchange, _: bytes) -> Answer:
        body = {
            "name": PLATFORM,
            "node": self._name,
            "version": self._workings.version,
            "javaVersion": f"none (Python {platform.python_version()})",
            "framework": "uvloop, httptools, grpcio, SQLite",
            "osName": platform.system(),
            "osArch": platform.machine(),
        }
        return self._replies.ok(exchange, f"{API}/info", body)

    def _performance(self, exchange: Exchange, query: bytes) -> Answer | None:
        uri = f"{API}/performance"
        iterations = parse_parameter(query, "iterations", usual=1_000, low=1, high=MAX_ITERATIONS)
        if self._looping:
            return self._replies.error(exchange.method, uri, 429, "one performance loop at a time")
        self._looping = True
        loop = exchange.connection.loop()

        def done(took_ns: int) -> None:
            self._looping = False
            body = {
                "iterations": iterations,
                "durationMs": round(took_ns / NS_PER_MS, 3),
                "transactionsPerSecond": round(iterations * NS_PER_S / took_ns, 1),
                "note": "hashes inside one request: says nothing about requests over the network",
                "timestamp": now_ms(),
            }
            self._replies.finish(exchange, self._replies.ok(exchange, uri, body))

        self._loops.submit(lambda: loop.call_soon_threadsafe(done, _hash_loop_ns(iterations)))
        return None


def _hash_loop_ns(iterations: int) -> int:
    began_ns = monotonic_ns()
    digest = b""
    for _ in range(iterations):
        digest = sha256(digest).digest()
    return max(1, monotonic_ns() - began_ns)
