"""The connections of one node, and the arrivals that wait for one.

Deciding is here and pure of I/O: which connection serves, who waits, who is shed, who
fails at once. The dialer opens connections and reports back; connections report their
end. Free connections are used in turn, oldest first, so that all of them, and all the
processes of the target behind them, see their part.

A node is *down* after a failed attempt while none of its connections is up: arrivals for
it fail at once with that attempt's kind, until one attempt succeeds.

An attempt has failed as well when the server ends its connection right after it was made,
before any request: under TLS 1.3 a client's certificate is refused only then (RFC 8446,
4.4.2.4), and a proxy without a server behind it accepts first. From such a failure on, a
connection alone is no success: it must have served a request, or have lasted.
"""

from __future__ import annotations

import contextlib
import random
import typing
from collections import deque
from collections.abc import Callable
from time import monotonic_ns
from typing import Final

from loadtests.clock import NS_PER_MS, NS_PER_S
from loadtests.engine.lanes import endpoint_of
from loadtests.engine.task import Task
from loadtests.engine.traffic import NEVER_NS, Traffic
from loadtests.plan.call import Protocol
from loadtests.plan.model import Node
from loadtests.record.error_kinds import NO_CONNECTION, PROTOCOL

_FIRST_BACKOFF_NS: Final = 50 * NS_PER_MS
_LONGEST_BACKOFF_NS: Final = NS_PER_S
_REFUSALS_KEPT: Final = 4


def backoff_ns(failures: int, luck: float) -> int:
    """Pause after so many failed attempts in a row: 50 ms doubled up to 1 s, times 0.5-1.

    `luck` is uniform in [0, 1): without jitter all engines would knock at the same moment.
    """
    longest = min(_FIRST_BACKOFF_NS << min(failures - 1, 10), _LONGEST_BACKOFF_NS)
    return int(longest * (0.5 + luck / 2))


class Carrier(typing.Protocol):
    """What a pool knows of a connection, whatever it speaks."""

    is_open: bool

    def begin(self, due_ns: int, sent_ns: int, code: int, task: Task, payload: bytes) -> None:
        """Send one request, now or with the next flush."""

    def expire_overdue(self, now_ns: int) -> None:
        """Time out the requests in flight that have taken too long."""

    def is_meant(self, now_ns: int) -> bool:
        """Whether the server has shown that it means to serve this connection."""

    def close(self) -> None:
        """Close, once nothing is in flight."""

    def discard_unsent(self) -> None:
        """Let nothing arrive once this process has ended."""


class Pool:
    """Connections to one node; `wanted` is how many the dialer should keep open."""

    __slots__ = (
        "_random",
        "_traffic",
        "backlog",
        "connections",
        "dialing",
        "down",
        "endpoint",
        "failures",
        "free",
        "index",
        "is_doubtful",
        "node",
        "on_fault",
        "on_loss",
        "park",
        "protocol",
        "refusals",
        "retry_ns",
        "settled_ns",
        "wanted",
    )

    def __init__(
        self,
        node: Node,
        index: int,
        traffic: Traffic,
        *,
        seed: int,
        protocol: Protocol = Protocol.HTTP1,
    ) -> None:
        self.node, self.index, self.protocol = node, index, protocol
        self.endpoint = endpoint_of(node, protocol)
        self._traffic = traffic
        self._random = random.Random(seed)  # noqa: S311 - jitter, not a secret
        self.wanted = 0
        self.dialing = 0
        self.connections: set[Carrier] = set()
        self.free: deque[Carrier] = deque()
        # What a connection may call in place of `release` while nobody waits.
        self.park: Callable[[Carrier], None] | None = self.free.append
        self.backlog: deque[tuple[int, int, Task, bytes]] = deque()
        self.down: tuple[str, str] | None = None
        self.failures = 0
        self.is_doubtful = False  # the last failure came after its connection
        self.refusals: deque[tuple[str, str]] = deque(maxlen=_REFUSALS_KEPT)
        self.retry_ns = 0
        self.settled_ns = 0  # when a refusal of the newest connection would have come
        self.on_loss: Callable[[Pool], None] = _nobody
        self.on_fault: Callable[[Pool, str, str], None] = _no_fault

    def __repr__(self) -> str:
        return f"<Pool {self.node.name}: {len(self.connections)} of {self.wanted} up>"

    @property
    def missing(self) -> int:
        """Connections that should be opened and are not being opened yet."""
        if self.failures:  # one knock at a time while nobody answers
            return min(1, max(0, self.wanted - len(self.connections))) - min(1, self.dialing)
        return self.wanted - len(self.connections) - self.dialing

    @property
    def is_down(self) -> bool:
        """True after a failed attempt while no connection is up or being opened."""
        return self.down is not None and not self.connections and not self.dialing

    def is_settled(self, now_ns: int) -> bool:
        """All wanted connections are up, and no refusal of them is to be expected."""
        is_full = len(self.connections) >= self.wanted
        return is_full and not self.is_doubtful and now_ns >= self.settled_ns

    def offer(self, due_ns: int, now_ns: int, code: int, task: Task, payload: bytes) -> None:
        """Take an arrival that found no free connection, or no permission to be sent."""
        traffic = self._traffic
        if self.down is not None and not self.connections:
            kind, message = self.down
            traffic.fail_unsent(code, kind=kind, message=message, due_ns=due_ns, now_ns=now_ns)
        elif traffic.backlog_size >= traffic.backlog_limit:
            traffic.drop(code)
        else:
            traffic.backlog_size += 1
            self.backlog.append((due_ns, code, task, payload))

    def release(self, connection: Carrier, now_ns: int) -> None:
        """Take back a connection whose response is complete; who waits longest gets it."""
        if len(self.connections) > self.wanted:
            connection.close()
            return
        self.free.append(connection)
        if self.backlog:
            self.serve(now_ns)

    def serve(self, now_ns: int) -> None:
        """Send from the backlog as long as there are connections and permission."""
        traffic, backlog, free = self._traffic, self.backlog, self.free
        gate, is_bounded = traffic.gate, traffic.in_flight_limit < NEVER_NS
        while backlog and free and traffic.is_sending:
            if is_bounded and traffic.in_flight >= traffic.in_flight_limit:
                break
            due_ns, code, task, payload = backlog[0]
            if now_ns - due_ns >= task.timeout_ns:
                self.expire_waiting(now_ns)
                continue
            sent_ns = monotonic_ns()
            if gate is not None and not gate.take(sent_ns):
                break
            backlog.popleft()
            traffic.backlog_size -= 1
            free.popleft().begin(due_ns, sent_ns, code, task, payload)
        if traffic.unsent or gate is not None:
            traffic.flush()

    def expire_waiting(self, now_ns: int) -> None:
        """Fail who waited for a connection as long as a request may take at all."""
        backlog, traffic = self.backlog, self._traffic
        while backlog and now_ns - backlog[0][0] >= backlog[0][2].timeout_ns:
            due_ns, code, _, _ = backlog.popleft()
            traffic.backlog_size -= 1
            message = "no free connection within the timeout"
            traffic.fail_unsent(
                code, kind=NO_CONNECTION, message=message, due_ns=due_ns, now_ns=now_ns
            )

    def shed(self) -> None:
        """Drop all who wait: nothing more will be sent."""
        while self.backlog:
            _, code, _, _ = self.backlog.popleft()
            self._traffic.backlog_size -= 1
            self._traffic.drop(code)

    def all_connections(self) -> list[Carrier]:
        """Everything that may have a request in flight."""
        return list(self.connections)

    # What connections report

    def lost(
        self, connection: Carrier, *, was_idle: bool, why: tuple[str, str] | None = None
    ) -> None:
        """A connection has ended; only an idle one is looked for among the free.

        `why` is the server's doing, kind and text, where it ended an idle one.
        """
        self.connections.discard(connection)
        if was_idle:
            with contextlib.suppress(ValueError):
                self.free.remove(connection)
        now_ns = monotonic_ns()
        if why is not None and not connection.is_meant(now_ns):
            self._turned_away(*why, now_ns)
        self.on_loss(self)

    def _turned_away(self, kind: str, text: str, now_ns: int) -> None:
        self.is_doubtful = True
        if kind != PROTOCOL:  # then it is counted already
            self.fault(kind, text)
        self.refused(kind, f"{self.node.name}: {text}", now_ns)

    def fault(self, kind: str, message: str) -> None:
        """A connection did wrong outside of any request."""
        self.on_fault(self, kind, message)

    # What the dialer reports

    def connected(self, connection: Carrier, now_ns: int, took_ns: int) -> None:
        """An attempt succeeded, so far as is known.

        Word that the server refuses it after all would take no longer than the attempt.
        """
        self.settled_ns = max(self.settled_ns, now_ns + took_ns)
        if not self.is_doubtful:
            self.accepted()
        self.connections.add(connection)
        self.release(connection, now_ns)

    def accepted(self) -> None:
        """The server means the connections that it takes."""
        self.failures = 0
        self.is_doubtful = False
        self.down = None

    def settle(self, now_ns: int) -> None:
        """Believe again in a server that keeps a connection."""
        if self.is_doubtful and any(one.is_meant(now_ns) for one in self.connections):
            self.accepted()

    def refused(self, kind: str, message: str, now_ns: int) -> None:
        """An attempt failed: wait before the next; without any connection up, fail who waits."""
        if now_ns >= self.retry_ns:  # attempts made at the same time fail together, once
            self.failures += 1
            self.retry_ns = now_ns + backoff_ns(self.failures, self._random.random())
        self.refusals.append((kind, message))
        if self.connections:
            return
        self.down = (kind, message)
        while self.backlog:
            due_ns, code, _, _ = self.backlog.popleft()
            self._traffic.backlog_size -= 1
            self._traffic.fail_unsent(
                code, kind=kind, message=message, due_ns=due_ns, now_ns=now_ns
            )


def _nobody(_pool: Pool) -> None:
    """Nobody listens yet."""


def _no_fault(_pool: Pool, _kind: str, _message: str) -> None:
    """Nobody listens yet."""
