"""The engine against a server that misbehaves on purpose: every request ends in its kind."""

from __future__ import annotations

import dataclasses

import pytest
from driver import run_plan
from engine_plans import plan_for, request
from hostile_server import hostile_server

from loadtests.clock import NS_PER_MS, NS_PER_S
from loadtests.plan.model import BodyContains, JsonEquals, LoadModel, MaxBytes, Request
from loadtests.record.window import Count, Kind, histogram_of

pytestmark = pytest.mark.system

KEPT = ("ok", "chunked", "no-content", "continue", "informational", "several-1xx", "json")
CLOSED = ("says-close", "last", "old", "until-close")
GOOD = (*KEPT, *CLOSED)
# behaviour -> the kind that it must be counted as
BAD = {
    "302": "status_302",
    "404": "status_404",
    "429": "status_429",
    "503": "status_503",
    "reset": "reset",
    "close": "closed_before_response",
    "truncate": "closed",
    "half-head": "closed",
    "garbage": "protocol",
    "ten-gigabytes": "too_large",
    "endless-head": "protocol",
    "bad-chunk": "protocol",
    "cut-chunk": "closed",
    "flood-1xx": "protocol",
    "two-lengths": "protocol",
    "negative-length": "protocol",
    "length-and-chunked": "protocol",
    "stall": "timeout",
    "trickle": "timeout",
}


@pytest.mark.parametrize("behaviour", GOOD)
def test_every_legal_framing_is_ok(behaviour: str) -> None:
    """Length, chunks, no body, 1xx before, close after, HTTP/1.0 and no length are all ok."""
    with hostile_server() as server:
        result = run_plan(plan_for(server.port, [request(f"/{behaviour}")], level=60, seconds=0.5))
    result.check_conservation()
    assert result.final.ok == result.final.sent == server.seen[behaviour] == 30
    assert not result.kinds()
    # Kept alive, 16 connections carry all; else each answer costs one.
    assert server.connections == 16 if behaviour in KEPT else server.connections >= 30


@pytest.mark.parametrize("behaviour", BAD)
def test_every_misbehaviour_has_its_kind(behaviour: str) -> None:
    """What a server does wrong is counted as its own kind, once per request."""
    wrong = request(f"/{behaviour}", timeout_ns=150 * NS_PER_MS)
    with hostile_server() as server:
        plan = plan_for(server.port, [wrong], level=40, seconds=0.5, grace_ns=500 * NS_PER_MS)
        result = run_plan(plan)
    result.check_conservation()
    done = result.final.client_error + result.final.failed
    assert result.final.sent == done == 20
    assert result.kinds().get(BAD[behaviour], 0) == done, result.kinds()
    assert result.final.client_error == (20 if behaviour == "404" else 0)
    assert server.seen[behaviour] <= result.final.sent


def test_a_mix_of_all_is_conserved_to_the_request() -> None:
    """With every behaviour at once nothing is lost or doubled, and the server saw ok..sent."""
    requests = [
        # What is answered in the end may take its time on a busy machine.
        *(request(f"/{name}", timeout_ns=20 * NS_PER_S) for name in GOOD),
        *(request(f"/{name}", timeout_ns=200 * NS_PER_MS) for name in (*BAD, "extra")),
    ]
    with hostile_server() as server:
        plan = plan_for(
            server.port, requests, level=250, seconds=2, connections=64, in_flight_limit=64
        )
        result = run_plan(plan)
    result.check_conservation()
    assert result.final.planned == 500
    seen = server.seen.total()
    assert result.final.ok <= seen <= result.final.sent
    space, merged = plan.slots, result.merged
    for slot, row in zip(merged.slots.tolist(), merged.counters.tolist(), strict=True):
        _, index, _ = space.indices(slot)
        if index == len(requests):
            continue
        name = requests[index].name
        ended = row[Count.OK] + row[Count.CLIENT_ERROR] + row[Count.FAILED]
        assert ended == row[Count.SENT], name
        assert row[Count.OK] <= server.seen[name] <= row[Count.SENT], name
        if name in GOOD:
            races = merged.errors.get((slot, "closed_before_response"), 0)
            assert row[Count.OK] + races == row[Count.SENT], name


@pytest.mark.parametrize("behaviour", ["extra", "late-garbage"])
def test_bytes_behind_a_response_close_the_connection_only(behaviour: str) -> None:
    """A finished request keeps its outcome; the fault is the connection's."""
    with hostile_server() as server:
        plan = plan_for(
            server.port, [request(f"/{behaviour}")], level=20, seconds=0.5, connections=8
        )
        result = run_plan(plan)
    result.check_conservation()
    assert result.final.ok == 10
    kinds = result.kinds()
    assert set(kinds) == {"protocol"}
    if behaviour == "extra":
        assert kinds["protocol"] == 10
    else:  # what comes after the last answers may come after the run's end
        assert 1 <= kinds["protocol"] <= 10
    assert server.connections > 8


@pytest.mark.parametrize(
    "bodiless",
    [
        request("/head", method="HEAD"),
        request("/head-chunked", method="HEAD"),
        request("/not-modified", expected_statuses=(304,)),
        request("/not-modified-slowly", expected_statuses=(304,)),
    ],
    ids=lambda asked: asked.name,
)
def test_there_is_no_body_whatever_its_length_says(bodiless: Request) -> None:
    """Answers to HEAD and 304 state a body's framing without one (RFC 9112, 6.3): in step."""
    with hostile_server() as server:
        result = run_plan(plan_for(server.port, [bodiless], level=60, seconds=0.5))
    result.check_conservation()
    assert result.final.ok == 30
    assert server.connections == 16


def test_each_request_has_its_own_timeout() -> None:
    """Two that are never answered: each waits for as long as it may, and fails then."""
    timeouts_ns = (100 * NS_PER_MS, 500 * NS_PER_MS)
    requests = [
        request("/stall", name=f"stall-{timeout_ns}", timeout_ns=timeout_ns)
        for timeout_ns in timeouts_ns
    ]
    with hostile_server() as server:
        plan = plan_for(server.port, requests, level=40, seconds=0.5, connections=40)
        result = run_plan(dataclasses.replace(plan, in_flight_limit=40))
    result.check_conservation()
    assert result.kinds() == {"timeout": 20}
    for index, timeout_ns in enumerate(timeouts_ns):
        waited = histogram_of(result.merged, Kind.FAILED_SERVICE, [plan.slots.slot(0, index, 0)])
        assert waited.n > 0
        assert waited.share_above(0.999 * timeout_ns / 1000) == 1.0
    short = histogram_of(result.merged, Kind.FAILED_SERVICE, [plan.slots.slot(0, 0, 0)])
    assert short.quantile_us(0.5) < timeouts_ns[1] / 1000


@pytest.mark.parametrize(
    ("size_bytes", "is_ok"), [(10, True), (100_000, True), (100_001, False), (900_000, False)]
)
def test_the_response_limit_is_exact(size_bytes: int, *, is_ok: bool) -> None:
    """A body of the limit passes, one more byte is too_large; large bodies need many reads."""
    with hostile_server() as server:
        plan = plan_for(
            server.port,
            [request(f"/body?{size_bytes}", name="body")],
            level=20,
            seconds=0.5,
            response_limit_bytes=100_000,
        )
        result = run_plan(plan)
    result.check_conservation()
    assert result.final.ok == (10 if is_ok else 0)
    assert result.kinds() == ({} if is_ok else {"too_large": 10})
    if is_ok:
        assert result.total(Count.BYTES_RECEIVED) >= 10 * size_bytes


def test_checks_decide_the_outcome() -> None:
    """A response with an expected status and a failed check is failed, with kind check."""
    holds = (
        JsonEquals(pointer="/a/b/1", value=2),
        BodyContains(text='"a"'),
        MaxBytes(size_bytes=17),
    )
    fails = (JsonEquals(pointer="/a/c", value=2),)
    with hostile_server() as server:
        plan = plan_for(
            server.port,
            [
                request("/json", name="holds", checks=holds),
                request("/json", name="fails", checks=fails),
            ],
            level=40,
            seconds=0.5,
        )
        result = run_plan(plan)
    result.check_conservation()
    assert result.final.ok + result.final.failed == 20
    assert result.kinds() == {"check": result.final.failed}
    assert 8 <= result.final.failed <= 12


def test_expected_statuses_replace_the_default() -> None:
    """A scenario that expects 404 gets ok for it; a 200 is then unexpected and failed."""
    with hostile_server() as server:
        plan = plan_for(
            server.port,
            [
                request("/404", expected_statuses=(404,), name="wanted"),
                request("/ok", expected_statuses=(201,), name="unwanted"),
            ],
            level=40,
            seconds=0.5,
        )
        result = run_plan(plan)
    result.check_conservation()
    assert set(result.kinds()) == {"status_200"}
    assert result.final.client_error == 0


def test_accept_and_never_read_ends_in_timeouts() -> None:
    """A server that accepts and reads nothing costs a timeout each, and nothing hangs."""
    slow = request("/ok", method="POST", body=b"x" * 500_000, timeout_ns=200 * NS_PER_MS)
    with hostile_server() as server:
        server.refuses_reads = True
        result = run_plan(plan_for(server.port, [slow], level=20, seconds=0.5, connections=4))
    result.check_conservation()
    assert result.kinds() == {"timeout": result.final.failed}
    assert result.final.ok == 0


def test_nobody_listens_is_known_before_the_start() -> None:
    """An engine whose every node refuses says so and ends, instead of loading nothing."""
    with hostile_server() as server:
        port = server.port
    plan = plan_for(port, [request("/ok")])
    with pytest.raises(AssertionError, match="connect_refused"):
        run_plan(plan)


def test_closed_load_counts_the_same() -> None:
    """Closed load: planned is what was sent, response time is service time."""
    with hostile_server() as server:
        plan = plan_for(
            server.port,
            [request("/ok"), request("/503", weight=0.5)],
            level=8,
            seconds=1,
            load_model=LoadModel.CLOSED,
            think_time_ns=5 * NS_PER_MS,
        )
        result = run_plan(plan)
    result.check_conservation()
    assert result.final.dropped == 0
    assert server.seen.total() == result.final.sent > 100
    assert set(result.kinds()) == {"status_503"}
    assert server.connections == 8
