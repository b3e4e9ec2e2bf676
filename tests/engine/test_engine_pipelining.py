"""HTTP/1.1 pipelining: several requests in flight on a connection, each ended exactly once."""

from __future__ import annotations

import random
from typing import cast

import pytest
from bench_of_connections import Bench, FakeSocket, FakeTransport
from driver import run_plan
from engine_plans import plan_for, request
from hostile_server import OK, hostile_server
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.clock import NS_PER_MS
from loadtests.engine.pipelined import PipelinedConnection
from loadtests.record.window import Count, Kind

BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
LAST = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"


def _connect(bench: Bench, depth: int) -> PipelinedConnection:
    """Open one pipelined connection to the only node."""
    own, transport = FakeSocket(), FakeTransport()
    made = PipelinedConnection(bench.pools[0], bench.traffic, cast("None", own), depth=depth)
    bench.sockets[made], bench.transports[made] = own, transport
    made.connection_made(transport)  # type: ignore[arg-type]  # a fake
    bench.pools[0].wanted += 1
    bench.pools[0].connected(made, bench.clock.now_ns, 0)
    return made


def test_a_connection_takes_as_many_requests_as_its_depth() -> None:
    """Three leave on one connection of depth three, the fourth finds nothing free."""
    with Bench.of(plan_for(1, [request("/plain")])) as bench:
        made = _connect(bench, 3)
        for expected in (True, True, False):
            bench.begin()
            assert bool(bench.pools[0].free) is expected
        assert made.in_flight == 3
        made.data_received(OK)
        assert list(bench.pools[0].free) == [made]
        made.data_received(OK + OK)
        bench.check_conservation(bench.close())
        assert (bench.traffic.ok, bench.traffic.in_flight) == (3, 0)


def test_connections_with_more_room_come_first() -> None:
    """Requests go round: every connection gets its first before any gets its second."""
    with Bench.of(plan_for(1, [request("/plain")])) as bench:
        made = [_connect(bench, 2) for _ in range(3)]
        order = [bench.begin() for _ in range(6)]
        assert order == [*made, *made]


def test_answers_belong_to_the_requests_in_order() -> None:
    """Latencies and outcomes are those of the request that was sent first, and so on."""
    with Bench.of(plan_for(1, [request("/a"), request("/b")])) as bench:
        made = _connect(bench, 2)
        bench.begin(request=0)
        bench.clock.now_ns += 5 * NS_PER_MS
        bench.begin(request=1)
        bench.clock.now_ns += 5 * NS_PER_MS
        made.data_received(BUSY + OK)
        window = bench.close()
        bench.check_conservation(window)
        rows = dict(zip(window.slots.tolist(), window.counters.tolist(), strict=True))
        slots = bench.plan.slots
        assert rows[slots.slot(0, 0, 0)][Count.FAILED] == 1
        assert rows[slots.slot(0, 1, 0)][Count.OK] == 1
        failed = bench.histogram(window, Kind.FAILED_SERVICE)
        assert failed.max_us() == pytest.approx(10_000, rel=0.001)
        assert bench.histogram(window, Kind.SERVICE).max_us() == pytest.approx(5_000, rel=0.001)


@pytest.mark.parametrize(
    ("data", "is_lost", "kinds"),
    [
        (OK + b"garbage", False, {"protocol": 1, "closed_before_response": 1}),
        (OK, True, {"closed_before_response": 2}),
        (OK + OK[:20], True, {"closed": 1, "closed_before_response": 1}),
        (LAST, False, {"closed_before_response": 2}),
        (b"", True, {"closed_before_response": 3}),
        (OK * 3 + b"more", False, {}),
    ],
)
def test_what_ends_the_connection_ends_those_behind(
    data: bytes, kinds: dict[str, int], *, is_lost: bool
) -> None:
    """The oldest keeps the cause; those behind are unanswered; nothing is sent again."""
    with Bench.of(plan_for(1, [request("/plain")])) as bench:
        made = _connect(bench, 4)
        for _ in range(3):
            bench.begin()
        if data:
            made.data_received(data)
        if is_lost:
            made.connection_lost(None)
        assert not made.is_open
        assert not bench.pools[0].free
        assert not bench.pools[0].connections
        window = bench.close()
        bench.check_conservation(window)
        seen = {kind: n for (slot, kind), n in window.errors.items() if slot == 0}
        assert seen == kinds
        assert len(bench.sockets[made].sent) == 3


def test_a_timeout_of_the_oldest_ends_all() -> None:
    """Its answer could still come, so nothing behind it can be told apart any more."""
    with Bench.of(plan_for(1, [request("/plain")])) as bench:
        made = _connect(bench, 2)
        bench.begin()
        bench.begin()
        made.expire(bench.clock.now_ns + 10**9)
        window = bench.close()
        bench.check_conservation(window)
        errors = {kind: count for (_, kind), count in window.errors.items()}
        assert errors == {"timeout": 1, "closed_before_response": 1}


def test_a_rest_is_never_overtaken() -> None:
    """What the socket does not take goes to the transport, and so does all that follows."""
    with Bench.of(plan_for(1, [request("/plain")])) as bench:
        made = _connect(bench, 2)
        bench.sockets[made].taken = 5
        bench.begin()
        bench.begin()
        assert bench.sockets[made].sent == [b"GET /"]
        assert b"".join(bench.transports[made].written) == (
            b" HTTP/1.1\r\n\r\n" + b"GET / HTTP/1.1\r\n\r\n"
        )


@settings(max_examples=300)
@given(depth=st.integers(2, 6), seed=st.integers(0, 10**6))
def test_any_cut_of_any_pipeline_is_conserved(depth: int, seed: int) -> None:
    """Random answers in random reads, cut off at a random place: one outcome each."""
    source = random.Random(seed)
    with Bench.of(plan_for(1, [request("/plain")])) as bench:
        made = _connect(bench, depth)
        answers = b"".join(source.choices([OK, BUSY], k=depth)) + source.choice([b"", b"junk"])
        for _ in range(depth):
            bench.begin()
        data = answers[: source.randint(0, len(answers))]
        while data and made.is_open:
            size = source.randint(1, len(data))
            made.data_received(data[:size])
            data = data[size:]
        made.connection_lost(None)
        bench.check_conservation(bench.close())
        assert bench.traffic.in_flight == 0


@pytest.mark.system
def test_pipelining_carries_what_one_connection_could_not() -> None:
    """20 ms each and one connection: alone it serves 50/s, with depth 8 all of 200/s."""
    with hostile_server() as server:
        plan = plan_for(
            server.port,
            [request("/wait?20000")],
            level=200,
            seconds=1,
            connections=1,
            in_flight_limit=8,
            pipelining=8,
        )
        result = run_plan(plan)
    result.check_conservation()
    assert (result.final.ok, result.final.dropped) == (200, 0)
    assert server.connections == 1
