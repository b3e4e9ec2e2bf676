"""The engine against grpcio's own server (C-core), over sockets: statuses, sizes, counts, times."""

from __future__ import annotations

import dataclasses
import random
import ssl
from pathlib import Path

import grpc
import numpy as np
import pytest
from driver import EngineDriver, RunResult, run_plan
from engine_plans import node, request, stage
from google.protobuf import descriptor_pb2, wrappers_pb2
from grpc_plans import call, grpc_plan, multiplexing, run_many
from grpc_service import grpc_service
from hostile_server import hostile_server
from test_engine_tls import Authority

from loadtests.clock import NS_PER_MS, NS_PER_S
from loadtests.engine.messages import EngineError, Ready
from loadtests.plan.call import Compression, Endpoint, FieldEquals, Text
from loadtests.plan.model import Hold, LoadModel, Plan, Request, Tls
from loadtests.record.histogram import Histogram
from loadtests.record.window import CONNECTION, Count, Kind

pytestmark = pytest.mark.system

_BLAMED = {1, 3, 5, 6, 7, 9, 11, 12, 16}  # codes that blame the request
_CODES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """The authority that the plan trusts."""
    return Authority(tmp_path, "good")


def by_request(result: RunResult, count: Count) -> dict[str, int]:
    """Sums of a counter by request."""
    found: dict[str, int] = {}
    space, merged = result.plan.slots, result.merged
    for slot, row in zip(merged.slots.tolist(), merged.counters.tolist(), strict=True):
        name = space.requests[space.indices(slot)[1]]
        found[name] = found.get(name, 0) + row[count]
    return found


def test_unary_calls_are_answered_and_counted() -> None:
    """All of them ok on both sides, over as many connections as the plan says."""
    with grpc_service() as service:
        plan = grpc_plan(service.port, [call("Echo", headers=(("X-Tenant", "a"),))], level=500)
        result = run_plan(plan)
    result.check_conservation()
    assert result.final.ok == 500
    assert service.report["seen"] == {"Echo": 500}
    assert service.report["peers"] == 2
    assert service.report["metadata"]["x-tenant"] == "a"
    assert 1.0 < service.report["deadlines_s"][0] <= 2.0
    connects = result.histogram(Kind.CONNECT)
    assert connects.n == 2
    health = [window.health[0] for window in result.windows[:-1]]
    assert all(h.streams == 100 for h in health)


def test_streams_in_use_are_as_little_says() -> None:
    """Calls that take 100 ms, 200 a second: about 20 streams of the pool are in use at a time."""
    with grpc_service() as service:
        plan = grpc_plan(service.port, [call("Wait", b"100000")], level=200)
        result = run_plan(plan)
    result.check_conservation()
    busiest = max(window.health[0].streams_in_use for window in result.windows)
    answers = result.histogram(Kind.SERVICE)
    assert 200 * 0.1 / 2 <= busiest <= 200 * answers.max_us() / 1e6 + 1


def test_every_code_has_its_kind() -> None:
    """All sixteen codes come from trailers or trailers alone, with the message decoded."""
    requests = [call("Fail", b"%d" % code.value[0], name=code.name.lower()) for code in _CODES]
    with grpc_service() as service:
        result = run_plan(grpc_plan(service.port, requests, level=320))
    result.check_conservation()
    expected = {f"grpc_{code.value[0]}" for code in _CODES}
    assert set(result.kinds()) == expected
    assert result.final.ok == 0
    client = {code.name.lower() for code in _CODES if code.value[0] in _BLAMED}
    assert {n for n, c in by_request(result, Count.CLIENT_ERROR).items() if c} == client
    assert any("wrong: 100 % \u00fcml\u00e4ut" in text for text in result.merged.messages.values())


def test_expected_codes_replace_the_default() -> None:
    """A scenario that expects NOT_FOUND gets ok for it; an OK is then unexpected and failed."""
    wanted = call("Fail", b"5", name="wanted", expected_codes=(5,))
    unwanted = call("Echo", name="unwanted", expected_codes=(5,))
    with grpc_service() as service:
        result = run_plan(grpc_plan(service.port, [wanted, unwanted], level=100))
    result.check_conservation()
    assert set(result.kinds()) == {"grpc_0"}
    assert by_request(result, Count.OK)["wanted"] == result.final.ok
    assert result.final.client_error == 0


def test_an_unknown_method_is_unimplemented() -> None:
    """What the server does not have is code 12, which blames the request."""
    with grpc_service() as service:
        result = run_plan(grpc_plan(service.port, [call("Nothing")], level=50))
    result.check_conservation()
    assert result.kinds() == {"grpc_12": 50}
    assert result.final.client_error == 50


def test_deadlines_are_kept_on_both_sides() -> None:
    """A call that takes longer ends as a timeout at its deadline, and the connection stays."""
    slow = call("Wait", b"5000000", timeout_ns=200 * NS_PER_MS)
    with grpc_service() as service:
        result = run_plan(grpc_plan(service.port, [slow, call("Echo")], level=100))
    result.check_conservation()
    kinds = result.kinds()
    assert set(kinds) <= {"timeout", "grpc_4"}
    assert sum(kinds.values()) == by_request(result, Count.FAILED)["Wait"] > 30
    assert by_request(result, Count.OK)["Echo"] > 30
    assert result.histogram(Kind.FAILED_SERVICE).max_us() < 1_000_000
    assert service.report["peers"] == 2


def test_large_messages_go_both_ways() -> None:
    """1 MB up and 1 MB down: flow control moves both, sizes are counted."""
    megabyte = 1_000_000
    requests = [call("Echo", b"x" * megabyte), call("Large", b"%d" % megabyte)]
    with grpc_service() as service:
        result = run_plan(grpc_plan(service.port, requests, level=20))
    result.check_conservation()
    assert result.final.ok == 20
    oks = by_request(result, Count.OK)
    assert by_request(result, Count.BYTES_SENT)["Echo"] >= oks["Echo"] * megabyte
    assert by_request(result, Count.BYTES_RECEIVED)["Large"] >= oks["Large"] * megabyte


def test_answers_above_the_limit_are_too_large() -> None:
    """A message of the limit passes, one more byte does not; the connection stays."""
    requests = [call("Large", b"%d" % size, name=f"{size}") for size in (100_000, 100_001)]
    with grpc_service() as service:
        plan = grpc_plan(service.port, requests, level=40, response_limit_bytes=100_000)
        result = run_plan(plan)
    result.check_conservation()
    assert result.kinds() == {"too_large": by_request(result, Count.SENT)["100001"]}
    assert service.report["peers"] == 2


def _string_plan(port: int, requests: list[Request]) -> Plan:
    files = descriptor_pb2.FileDescriptorSet()
    wrappers_pb2.DESCRIPTOR.CopyToProto(files.file.add())
    return grpc_plan(port, requests, level=60, descriptors=files.SerializeToString())


@pytest.mark.parametrize("compression", Compression)
def test_checks_look_into_messages(compression: Compression) -> None:
    """Fields are compared, of plain and packed messages."""
    sent = wrappers_pb2.StringValue(value="right").SerializeToString()

    def checked(name: str, value: str) -> Request:
        return call(
            "Echo",
            sent,
            name=name,
            compression=compression,
            checks=(FieldEquals(path="value", value=value),),
            response_type="google.protobuf.StringValue",
        )

    with grpc_service() as service:
        plan = _string_plan(service.port, [checked("holds", "right"), checked("fails", "wrong")])
        result = run_plan(plan)
    result.check_conservation()
    assert result.kinds() == {"check": by_request(result, Count.SENT)["fails"]}
    assert result.final.ok == by_request(result, Count.SENT)["holds"] > 0


def test_packed_answers_are_taken() -> None:
    """The server packs its answers, because we say that we read gzip; checks see the message."""
    sent = wrappers_pb2.StringValue(value="x" * 10_000).SerializeToString()
    checks = (FieldEquals(path="value", value="x" * 10_000),)
    looked_into = call("Echo", sent, checks=checks, response_type="google.protobuf.StringValue")
    gzip_all = {"grpc.default_compression_algorithm": 2}
    with grpc_service(gzip_all) as service:
        plan = _string_plan(service.port, [looked_into, call("Echo", sent, name="unseen")])
        result = run_plan(plan)
    result.check_conservation()
    assert result.final.ok == 60
    assert result.total(Count.BYTES_RECEIVED) < 60 * 5_000


def test_messages_with_placeholders_are_each_their_own() -> None:
    """What the sequence brings in arrives; lengths around it are right."""
    uploaded = call("Wait", (Text(source=b"${int:1:999}"),))
    with grpc_service() as service:
        result = run_plan(grpc_plan(service.port, [uploaded], level=200))
    result.check_conservation()
    assert result.final.ok == 200
    assert len(service.report["waited_ns"]) == 200


def test_many_calls_are_all_accounted_for() -> None:
    """Closed load of 20,000 calls: the server saw as many as were sent, all ended.

    `make test-interop` has 100,000 with each foreign server.
    """
    with grpc_service() as service:
        result = run_many(
            service.port, [call("Echo", b"x" * 64)], least=20_000, in_flight_limit=400
        )
    assert result.final.ok == result.final.sent == service.report["seen"]["Echo"] >= 20_000
    assert service.report["peers"] == 8


@pytest.mark.parametrize(("connections", "streams", "users"), [(4, 1, 4), (2, 10, 7), (4, 4, 3)])
def test_closed_load_has_as_many_users_as_it_says(
    connections: int, streams: int, users: int
) -> None:
    """Users share connections; requests in flight are never more than users."""
    with grpc_service() as service:
        plan = grpc_plan(
            service.port,
            [call("Wait", b"20000")],
            load_model=LoadModel.CLOSED,
            multiplexing=multiplexing(connections=connections, streams=streams),
            stages=(stage(Hold(level=users), seconds=1.5),),
        )
        result = run_plan(plan)
    result.check_conservation()
    assert result.final.dropped == 0
    assert result.final.ok == result.final.sent
    middle = result.windows[1:-1] or result.windows
    in_flight = max(window.health[0].in_flight_ns / window.health[0].wall_ns for window in middle)
    assert users * 0.8 < in_flight <= users + 0.01
    assert service.report["peers"] == min(connections, users)


def test_closed_load_may_pause() -> None:
    """With think time each user sends less often."""
    with grpc_service() as service:
        plan = grpc_plan(
            service.port,
            [call("Echo")],
            load_model=LoadModel.CLOSED,
            think_time_ns=100 * NS_PER_MS,
            stages=(stage(Hold(level=10), seconds=1),),
        )
        result = run_plan(plan)
    result.check_conservation()
    assert 50 <= result.final.ok <= 110


def test_mixed_closed_load_is_refused() -> None:
    """A user holds one connection, so it speaks one protocol."""
    plan = grpc_plan(1, [call("Echo"), request("/ok")], load_model=LoadModel.CLOSED, connections=4)
    with EngineDriver(plan) as driver:
        answer = driver.configure()
    assert isinstance(answer, EngineError)
    assert (answer.family, answer.seen) == ("scenario", "requests: http1 and grpc")


def test_rest_and_grpc_are_loaded_together() -> None:
    """One plan, one schedule: each protocol on its own connections, each node by its endpoint."""
    with grpc_service() as service, hostile_server() as rest:
        both = dataclasses.replace(
            node(rest.port), grpc=Endpoint(scheme="http", host="127.0.0.1", port=service.port)
        )
        plan = grpc_plan(1, [call("Echo"), request("/ok")], level=400, connections=4, nodes=(both,))
        result = run_plan(plan)
    result.check_conservation()
    assert result.final.ok == 400
    assert service.report["seen"]["Echo"] == by_request(result, Count.OK)["Echo"]
    assert rest.seen["ok"] == by_request(result, Count.OK)["ok"]
    assert (rest.connections, service.report["peers"]) == (4, 2)
    assert result.histogram(Kind.CONNECT).n == 6


def test_load_goes_round_over_nodes() -> None:
    """Two servers see half each, on as many connections."""
    with grpc_service() as one, grpc_service() as two:
        nodes = (node(one.port), node(two.port, name="n2"))
        result = run_plan(grpc_plan(1, [call("Echo")], level=400, nodes=nodes))
    result.check_conservation()
    assert one.report["seen"]["Echo"] + two.report["seen"]["Echo"] == 400
    assert 160 <= one.report["seen"]["Echo"] <= 240
    assert (one.report["peers"], two.report["peers"]) == (1, 1)


def test_connections_of_limited_age_are_replaced() -> None:
    """A server that ends connections after 500 ms: nothing fails, new ones take over."""
    options = {
        "grpc.max_connection_age_ms": 500,
        "grpc.max_connection_age_grace_ms": 5000,
    }
    with grpc_service(options) as service:
        result = run_plan(grpc_plan(service.port, [call("Echo")], level=300, seconds=3))
    result.check_conservation()
    assert set(result.kinds()) <= {"goaway"}
    assert result.final.ok >= result.final.sent - 5
    assert service.report["peers"] >= 4
    assert result.histogram(Kind.CONNECT).n >= 4


def test_a_server_that_allows_few_streams_is_not_asked_for_more() -> None:
    """MAX_CONCURRENT_STREAMS 3 of the server beats 50 of the plan: nothing is refused."""
    with grpc_service({"grpc.max_concurrent_streams": 3}) as service:
        plan = grpc_plan(service.port, [call("Wait", b"20000")], level=100, backlog_limit=1000)
        result = run_plan(plan)
    result.check_conservation()
    assert result.final.ok == 100
    assert max(window.health[0].streams for window in result.windows) == 6


def test_a_server_that_dies_is_counted_and_found_again() -> None:
    """Requests in flight are reset or closed, later ones refused."""
    with grpc_service() as service:
        plan = grpc_plan(service.port, [call("Wait", b"50000")], level=100, seconds=2)
        with EngineDriver(plan) as driver:
            assert isinstance(driver.configure(), Ready)
            driver.start()
            driver.wait_window()
            service.report = {"killed": True}
            service.process.kill()
            result = driver.finish()
    result.check_conservation()
    assert result.final.failed > 20
    begun = {"reset", "closed_before_response", "closed"}
    # A last connection may be accepted by the kernel, and then by nobody.
    unsent = {"connect_refused", "connect_closed", "connect_reset"}
    assert set(result.kinds()) <= begun | unsent


def test_a_server_of_http1_is_no_target() -> None:
    """Prior knowledge that is wrong: the first bytes are no SETTINGS, and no load begins."""
    with hostile_server() as server:
        plan = grpc_plan(server.port, [call("Echo")])
        with pytest.raises(AssertionError, match="family='target'"):
            run_plan(plan)


# TLS


def _secure(plan: Plan, port: int, tls: Tls) -> Plan:
    return dataclasses.replace(plan, nodes=(node(port, scheme="https"),), tls=tls)


def _tls(authority: Authority, client: tuple[str, str] | None = None) -> Tls:
    return Tls(
        verify=True,
        ca_pem=authority.pem,
        client_certificate_path=client[0] if client else None,
        client_key_path=client[1] if client else None,
        server_name=None,
    )


@pytest.mark.parametrize("is_mutual", [False, True])
def test_tls_with_alpn(authority: Authority, *, is_mutual: bool) -> None:
    """h2 is negotiated, the server's certificate verified, ours shown where it is asked for."""
    certificate, key = authority.issue("127.0.0.1")
    files = (key, certificate, str(authority.path) if is_mutual else "")
    with grpc_service(tls=files) as service:
        client = authority.issue("engine") if is_mutual else None
        plan = grpc_plan(service.port, [call("Echo", b"x" * 100_000), call("Echo", name="small")])
        result = run_plan(_secure(plan, service.port, _tls(authority, client)))
    result.check_conservation()
    assert result.final.ok == 200


def test_a_server_without_h2_is_refused(authority: Authority) -> None:
    """TLS works, but ALPN gives http/1.1: no request is sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("127.0.0.1"))
    context.set_alpn_protocols(["http/1.1"])
    with hostile_server(context=context) as server:
        plan = _secure(grpc_plan(server.port, [call("Echo")]), server.port, _tls(authority))
        with pytest.raises(AssertionError, match="tls"):
            run_plan(plan)
        assert server.seen.total() == 0


# Truth


def test_percentiles_match_what_the_server_waited() -> None:
    """Multiplexed answers out of order: the distribution is the server's, at least from below."""
    source = random.Random(3)
    waits_us = [int(min(200_000, 20_000 + source.expovariate(1 / 30_000))) for _ in range(40)]
    requests = [call("Wait", b"%d" % us, name=f"wait {i}") for i, us in enumerate(waits_us)]
    with grpc_service() as service:
        result = run_plan(grpc_plan(service.port, requests, level=100, seconds=2))
    result.check_conservation()
    truth = Histogram.of_ns(np.array(service.report["waited_ns"], dtype=np.int64))
    seen = result.histogram(Kind.SERVICE)
    assert seen.n == truth.n == 200
    for q in (0.05, 0.25, 0.5, 0.75, 0.9):
        exact_us = truth.quantile_us(q)
        assert exact_us * 0.998 - 200 <= seen.quantile_us(q)


def test_a_freeze_shows_in_response_time() -> None:
    """The server stops answering for 1 s: what was due then waited, in response time."""
    with grpc_service() as service:
        plan = grpc_plan(
            service.port,
            [call("Frozen", timeout_ns=5 * NS_PER_S)],
            level=200,
            seconds=4,
            multiplexing=multiplexing(connections=2, streams=4),
            in_flight_limit=8,
        )
        result = run_plan(plan)
    result.check_conservation()
    assert result.final.ok == 800
    response, service_time = result.histogram(Kind.RESPONSE), result.histogram(Kind.SERVICE)
    # By hand: 200 of 800 arrivals fall into the freeze; half of them wait 0.5 s or more.
    assert response.share_above(500_000) >= 95 / 800
    assert response.max_us() >= 990_000
    assert service_time.share_above(500_000) <= 20 / 800


def test_connection_figures_belong_to_no_request() -> None:
    """Attempts are counted under the pseudo request of connections."""
    with grpc_service() as service:
        result = run_plan(grpc_plan(service.port, [call("Echo")], level=50))
    connects = by_request(result, Count.CONNECTS)
    assert {name: count for name, count in connects.items() if count} == {CONNECTION: 2}
