"""Connections, pools and the pacer without sockets, on a clock that the test turns.

`Bench` builds the engine's own parts around fake transports: what is sent is noted, what
a server would answer is fed in. Time is virtual: `monotonic_ns` of the hot modules is
replaced, so latencies are exact and no test sleeps.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self, cast
from unittest import mock

from loadtests.engine import closed, connection, pacer, pipelined, pool, traffic
from loadtests.engine.catalogue import Catalogue, task_of
from loadtests.engine.connection import Connection
from loadtests.engine.pacer import Pacer
from loadtests.engine.pool import Pool
from loadtests.engine.recorder import Recorder
from loadtests.engine.task import Task
from loadtests.engine.traffic import NEVER_NS, Traffic
from loadtests.plan.model import Plan, Share
from loadtests.record.histogram import Histogram
from loadtests.record.window import Count, EngineHealth, Kind, Window, histogram_of

HEALTH = EngineHealth(
    engine="test/0",
    wall_ns=10**9,
    cpu_ns=0,
    in_flight=0,
    in_flight_ns=0,
    backlog=0,
    connections=0,
    stalled_ns=0,
)


class FakeSocket:
    """Takes bytes; `taken` of them at most per call, or an error instead."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.taken = 1 << 30
        self.error: OSError | None = None

    def send(self, data: bytes) -> int:
        """Note the bytes."""
        if self.error is not None:
            raise self.error
        self.sent.append(data[: self.taken])
        return min(len(data), self.taken)


class FakeTransport:
    """What asyncio would hand to the protocol."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.is_aborted = False

    def write(self, data: bytes) -> None:
        """Note the bytes."""
        self.written.append(data)

    def abort(self) -> None:
        """Note the end."""
        self.is_aborted = True

    def get_extra_info(self, name: str) -> None:
        """There is no TLS."""

    def get_write_buffer_size(self) -> int:
        """All that was written and never taken."""
        return sum(map(len, self.written))


class Clock:
    """A clock that only moves when told."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000_000

    def __call__(self) -> int:
        """Stand in for time.monotonic_ns."""
        return self.now_ns


class Bench:
    """An engine's data path for one plan, all nodes, no I/O."""

    def __init__(self, plan: Plan, clock: Clock) -> None:
        self.plan, self.clock = plan, clock
        self.recorder = Recorder(len(plan.slots))
        self.traffic = Traffic(
            self.recorder,
            gate=None,
            in_flight_limit=NEVER_NS,
            backlog_limit=plan.backlog_limit,
            limit_bytes=plan.response_limit_bytes,
        )
        self.traffic.is_sending = True
        self.tasks: list[Task] = [task_of(r, i) for i, r in enumerate(plan.requests)]
        self.pools = [
            Pool(node, index, self.traffic, seed=1) for index, node in enumerate(plan.nodes)
        ]
        self.sockets: dict[Connection, FakeSocket] = {}
        self.transports: dict[Connection, FakeTransport] = {}

    @classmethod
    @contextmanager
    def of(cls, plan: Plan) -> Iterator[Self]:
        """Build a bench whose modules read the bench's clock."""
        clock = Clock()
        with (
            mock.patch.object(connection, "monotonic_ns", clock),
            mock.patch.object(pool, "monotonic_ns", clock),
            mock.patch.object(pacer, "monotonic_ns", clock),
            mock.patch.object(traffic, "monotonic_ns", clock),
            mock.patch.object(closed, "monotonic_ns", clock),
            mock.patch.object(pipelined, "monotonic_ns", clock),
        ):
            yield cls(plan, clock)

    def connect(self, index: int = 0) -> Connection:
        """Open one more connection to a node."""
        own, transport = FakeSocket(), FakeTransport()
        made = Connection(self.pools[index], self.traffic, cast("socket.socket", own))
        self.sockets[made], self.transports[made] = own, transport
        made.connection_made(transport)  # type: ignore[arg-type]  # a fake
        self.pools[index].wanted += 1
        self.pools[index].connected(made, self.clock.now_ns, 0)
        return made

    def begin(self, index: int = 0, request: int = 0) -> Connection:
        """Send one request, due now, on the next free connection."""
        now_ns = self.clock.now_ns
        made = cast("Connection", self.pools[index].free.popleft())
        code = self.plan.slots.slot(0, request, index)
        made.begin(now_ns, now_ns, code, self.tasks[request], b"GET / HTTP/1.1\r\n\r\n")
        return made

    def pacer(self) -> Pacer:
        """Build the pacer of the whole plan."""
        catalogue = Catalogue(self.plan, run_id="run-1", environment={})
        share = Share(residue=0, modulus=1, from_ns=0)
        return Pacer(self.plan, share, catalogue, self.pools, self.traffic)

    def close(self) -> Window:
        """Close the open window."""
        return self.recorder.close(0, HEALTH).finish()

    def histogram(self, window: Window, kind: Kind) -> Histogram:
        """Histogram of a kind over all slots."""
        return histogram_of(window, kind, range(len(self.plan.slots)))

    def check_conservation(self, window: Window, *, in_flight: int = 0) -> None:
        """Totals, counters and histograms tell the same."""
        traffic = self.traffic
        ended = traffic.ok + traffic.client_error + traffic.failed
        assert traffic.sent == ended + in_flight
        assert window.total(Count.SENT) == traffic.sent
        assert window.total(Count.OK) == traffic.ok
        assert window.total(Count.CLIENT_ERROR) == traffic.client_error
        assert window.total(Count.FAILED) == traffic.failed
        assert window.total(Count.DROPPED) == traffic.dropped
        assert self.histogram(window, Kind.SERVICE).n == traffic.ok
        assert self.histogram(window, Kind.FAILED_SERVICE).n == ended - traffic.ok
        requests = len(self.plan.requests)
        space = self.plan.slots
        kinds = {
            label: count
            for label, count in window.errors.items()
            if space.indices(label[0])[1] < requests
        }
        assert sum(kinds.values()) == ended - traffic.ok
