"""What foreign servers do to connections: limits of streams, age, and ends in mid-flight."""

from __future__ import annotations

from pathlib import Path

import pytest
from conformance_plans import SHAPES, carry_out, conformance_plan, counts_of, ordered
from driver import EngineDriver, RunResult
from engine_plans import stage
from grpc_plans import multiplexing
from proxies import PROXIES
from servers import KINDS, Limits, Seen, serve

from loadtests.clock import NS_PER_S
from loadtests.engine.messages import Ready
from loadtests.plan.model import Hold, LoadModel, Plan
from loadtests.record.window import Count, Kind

pytestmark = pytest.mark.interop

_STREAMS = 5


@pytest.mark.parametrize("kind", KINDS)
def test_streams_at_the_servers_limit(kind: str, tmp_path: Path) -> None:
    """40 users, but two connections of 5 streams: always all in use, never one refused."""
    requests = [ordered(method, {"responses": 1, "delay_us": 10_000}) for method in SHAPES]
    with serve(kind, tmp_path, Limits(streams=_STREAMS)) as server:
        plan = conformance_plan(
            server.port,
            requests,
            load_model=LoadModel.CLOSED,
            multiplexing=multiplexing(connections=2, streams=20),
            stages=(stage(Hold(level=40), seconds=1.5),),
        )
        result, seen = carry_out(server, plan)
    assert (result.kinds(), result.final.ok) == ({}, result.final.sent)
    assert seen.calls == counts_of(result, Count.OK)
    assert seen.most_at_once == 2 * _STREAMS
    assert max(window.health[0].streams for window in result.windows) == 2 * _STREAMS


def _mixed(port: int, seconds: float) -> Plan:
    """Short calls, and streams that a GOAWAY meets in the middle."""
    requests = [
        ordered("Unary", weight=20.0),
        ordered("Download", {"responses": 10, "delay_us": 30_000}),
        ordered("Talk", {"delay_us": 30_000}, messages=5),
    ]
    return conformance_plan(port, requests, level=300, seconds=seconds)


def _check_goaways(result: RunResult, seen: Seen) -> None:
    """What was taken ended well; what was not is counted apart, and the server never saw it."""
    result.check_conservation()
    assert set(result.kinds()) <= {"goaway"}
    assert result.final.ok + result.kinds().get("goaway", 0) == result.final.sent
    assert result.final.ok > result.final.sent // 2
    assert seen.calls == counts_of(result, Count.OK)


@pytest.mark.parametrize("kind", ["grpcio", "grpc-js", "nginx", "go"])
def test_connections_that_end_by_age(kind: str, tmp_path: Path) -> None:
    """Each connection is ended several times and replaced, with streams under way on it."""
    with serve(kind, tmp_path, Limits(age_ms=400)) as server:
        result, seen = carry_out(server, _mixed(server.port, 3))
    _check_goaways(result, seen)
    assert result.histogram(Kind.CONNECT).n >= 6


@pytest.mark.parametrize("kind", PROXIES)
def test_a_proxy_that_is_reloaded(kind: str, tmp_path: Path) -> None:
    """The old process sends GOAWAY and finishes, the new one takes the connections' successors."""
    with serve(kind, tmp_path) as server:
        assert server.front is not None
        server.seen()
        with EngineDriver(_mixed(server.port, 4)) as driver:
            assert isinstance(driver.configure(), Ready)
            driver.start()
            driver.wait_window()
            server.front.send_signal(PROXIES[kind].reload)
            result = driver.finish(60)
        seen = server.seen()
    _check_goaways(result, seen)
    assert result.histogram(Kind.CONNECT).n >= 4


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_dies_under_load(kind: str, tmp_path: Path) -> None:
    """Killed with calls of every shape in flight: each ends once, in a kind that says how."""
    requests = [
        ordered(method, {"responses": 2, "delay_us": 100_000}, timeout_ns=2 * NS_PER_S)
        for method in SHAPES
    ]
    with serve(kind, tmp_path) as server:
        plan = conformance_plan(server.port, requests, level=100, seconds=2.5)
        with EngineDriver(plan) as driver:
            assert isinstance(driver.configure(), Ready)
            driver.start()
            driver.wait_window()
            server.counter.kill()
            result = driver.finish(60)
    result.check_conservation()
    kinds = result.kinds()
    assert result.final.failed == sum(counts_of(result, Count.FAILED).values()) > 20
    if kind in PROXIES:
        # It answers for the server. Of what had begun it resets the streams; HAProxy ends some
        # as if they were complete, and then their status is missing.
        assert f"status_{PROXIES[kind].status}" in kinds
        others = {"h2_refused_stream", "h2_internal_error", "h2_cancel", "protocol"}
        assert set(kinds) <= {f"status_{PROXIES[kind].status}"} | others
    else:
        begun = {"reset", "closed_before_response", "closed"}
        # A last connection may be accepted by the kernel, and then by nobody.
        assert set(kinds) <= begun | {"connect_refused", "connect_closed", "connect_reset"}


@pytest.mark.parametrize("kind", PROXIES)
def test_a_proxy_without_a_server(kind: str, tmp_path: Path) -> None:
    """An answer of HTTP where gRPC was asked for is judged by its status."""
    requests = [ordered(method) for method in SHAPES]
    with serve(kind, tmp_path) as server:
        server.counter.kill()
        server.counter.wait(10)
        with EngineDriver(conformance_plan(server.port, requests, level=100)) as driver:
            assert isinstance(driver.configure(), Ready)
            driver.start()
            result = driver.finish(60)
    result.check_conservation()
    assert result.kinds() == {f"status_{PROXIES[kind].status}": 100}
    assert result.final.failed == 100
