"""100,000 calls with each foreign server, and every one of them on both sides' books."""

from __future__ import annotations

from pathlib import Path

import pytest
from conformance_plans import answer_of, conformance_plan, ordered
from driver import EngineDriver
from engine_plans import stage
from grpc_plans import multiplexing
from servers import KINDS, serve

from loadtests.clock import NS_PER_S
from loadtests.engine.messages import Ready, Stop
from loadtests.plan.model import Hold, LoadModel
from loadtests.record.window import Count, Kind

pytestmark = [pytest.mark.interop, pytest.mark.timeout(400)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_hundred_thousand_calls(kind: str, tmp_path: Path) -> None:
    """The server has seen as many as were sent, all were answered, on the connections planned."""
    with serve(kind, tmp_path) as server:
        fields = {"response_bytes": 64, "payload": b"x" * 64}
        plan = conformance_plan(
            server.port,
            [ordered("Unary", fields, checks=(answer_of(64),), timeout_ns=60 * NS_PER_S)],
            load_model=LoadModel.CLOSED,
            multiplexing=multiplexing(connections=8, streams=50),
            in_flight_limit=400,
            stages=(stage(Hold(level=400), seconds=380),),
        )
        server.seen()
        with EngineDriver(plan) as driver:
            assert isinstance(driver.configure(), Ready)
            driver.start()
            total = 0
            while total < 100_000:
                total += driver.wait_window(30).total(Count.OK)
            driver.send(Stop(grace_ns=60 * NS_PER_S, reason="enough"))
            result = driver.finish(90)
        seen = server.seen()
    result.check_conservation()
    assert result.final.ok == result.final.sent == seen.calls["Unary"] >= 100_000
    assert result.final.in_flight_at_stop == 0
    assert seen.payload_bytes["Unary"] == 64 * result.final.sent
    assert result.histogram(Kind.CONNECT).n == 8
