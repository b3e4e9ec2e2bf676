"""What foreign servers do to connections: limits of streams, age, and ends in mid-flight."""

from __future__ import annotations

from pathlib import Path

import pytest
from conformance_plans import SHAPES, carry_out, conformance_plan, counts_of, ordered
from driver import EngineDriver
from engine_plans import stage
from grpc_plans import multiplexing
from proxies import PROXIES
from servers import KINDS, Limits, serve

from loadtests.clock import NS_PER_S
from loadtests.engine.messages import Ready
from loadtests.plan.model import Hold, LoadModel
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


@pytest.mark.parametrize("kind", KINDS)
def test_connections_that_end_by_age(kind: str, tmp_path: Path) -> None:
    """GOAWAY: calls under way end well, what was not taken is counted apart, none is lost."""
    requests = [
        ordered("Unary", weight=20.0),
        ordered("Download", {"responses": 10, "delay_us": 30_000}),
        ordered("Talk", {"delay_us": 30_000}, messages=5),
    ]
    with serve(kind, tmp_path, Limits(age_ms=400)) as server:
        plan = conformance_plan(server.port, requests, level=300, seconds=3)
        result, seen = carry_out(server, plan)
    assert set(result.kinds()) <= {"goaway"}
    assert result.final.ok + result.kinds().get("goaway", 0) == result.final.sent == 900
    assert result.final.ok >= 850
    assert seen.calls == counts_of(result, Count.OK)
    assert result.histogram(Kind.CONNECT).n >= 6


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
    if kind in PROXIES:  # which answers for the server, or resets the streams that it had begun
        assert f"status_{PROXIES[kind].status}" in kinds, result.merged.messages
    else:
        assert set(kinds) <= {"reset", "closed_before_response", "closed", "connect_refused"}


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
