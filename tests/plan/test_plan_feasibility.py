"""Feasibility: the arithmetic before a run, each rule on a plan that breaks only it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from plan_builders import good_plan, node, request, stages

from loadtests.clock import NS_PER_MS, NS_PER_S
from loadtests.plan.call import Call, CallShape, Compression, Multiplexing, Protocol
from loadtests.plan.feasibility import (
    Feasibility,
    Finding,
    GeneratorCosts,
    HostLimits,
    RequestKind,
    Severity,
    assess,
)
from loadtests.plan.model import ArrivalProcess, Hold, LoadModel, Plan, Ramp, Request
from loadtests.plan.objectives import parse_alert, parse_objective
from loadtests.plan.scenario import load_scenario, resolve

LIMITS = HostLimits(cores=8, descriptors=20_000, ephemeral_ports=28_000)
COSTS = GeneratorCosts(
    request_ns={RequestKind.HTTP1: 14_000.0, RequestKind.UNARY: 7_000.0}, basis="2026-11-26"
)
SCENARIOS = Path(__file__).parent.parent.parent / "scenarios"


def judged(
    plan: Plan, *, hosts: int = 1, engines: int = 2, limits: HostLimits = LIMITS
) -> Feasibility:
    """Assessment on one good host."""
    return assess(plan, limits, COSTS, hosts=hosts, engines=engines)


def serious(feasibility: Feasibility) -> list[Finding]:
    """Findings beyond information."""
    return [finding for finding in feasibility.findings if finding.severity is not Severity.INFO]


def with_objectives(plan: Plan, *texts: str) -> Plan:
    """The plan with these objectives."""
    return dataclasses.replace(plan, objectives=tuple(map(parse_objective, texts)))


PLAN = with_objectives(
    good_plan(connections=64, in_flight_limit=64),
    "p95 < 200 ms",
    "error_ratio < 1 %",
    "throughput >= 100 rps",
)


def test_a_good_plan_has_nothing_to_be_said_against() -> None:
    """100/s for 10 s on 64 connections is feasible without a warning."""
    feasibility = judged(PLAN)
    assert feasibility.can_reach
    assert serious(feasibility) == []
    assert feasibility.in_flight_needed == pytest.approx(20.0)
    assert feasibility.peak_per_s == 100.0
    assert feasibility.engines_needed == 1
    assert (feasibility.connections_per_engine, feasibility.descriptors_per_engine) == (32, 96)


def test_the_policy_figures_of_littles_law() -> None:
    """776,000/s at 200 ms are 155,200 in flight."""
    plan = resolve(load_scenario(SCENARIOS / "rest-100.toml"))
    feasibility = judged(plan, hosts=8, engines=64)
    assert feasibility.in_flight_needed == pytest.approx(155_200)
    assert feasibility.engines_needed == 13
    assert feasibility.can_reach


@pytest.mark.parametrize(
    "name",
    [
        *("rest-100", "rest-150", "rest-200", "rest-soak", "rest-spike", "rest-ramp-to-knee"),
        *("grpc-100", "grpc-150", "grpc-200", "grpc-soak", "mixed-100"),
    ],
)
def test_shipped_scenarios_are_feasible_on_enough_hosts(name: str) -> None:
    """16 hosts of 8 cores carry each shipped scenario; one host of 2 cores carries none."""
    plan = resolve(load_scenario(SCENARIOS / f"{name}.toml"))
    assert serious(judged(plan, hosts=16, engines=128)) == []
    small = HostLimits(cores=2, descriptors=20_000, ephemeral_ports=28_000)
    assert not judged(plan, limits=small).can_reach


def refusals(plan: Plan, **where: int) -> list[str]:
    """Texts of refusals."""
    feasibility = judged(plan, **where)  # type: ignore[arg-type]  # hosts and engines by name
    assert not feasibility.can_reach
    return [f.text for f in feasibility.findings if f.severity is Severity.REFUSAL]


def warnings(plan: Plan) -> list[str]:
    """Texts of warnings of a plan that is not refused."""
    feasibility = judged(plan)
    assert feasibility.can_reach
    return [f.text for f in feasibility.findings if f.severity is Severity.WARNING]


def test_too_few_connections_for_the_limit_are_refused() -> None:
    """20 in flight do not fit 19 connections, nor an in-flight cap of 19."""
    for change in ({"connections": 19}, {"in_flight_limit": 19}):
        (text,) = refusals(dataclasses.replace(PLAN, **change))  # type: ignore[arg-type]  # ints
        assert "20 in flight" in text
    assert judged(dataclasses.replace(PLAN, connections=20, in_flight_limit=20)).can_reach
    assert judged(
        dataclasses.replace(PLAN, connections=10, in_flight_limit=20, pipelining=2)
    ).can_reach


def test_unjudged_stages_need_no_latency() -> None:
    """A stage that is not judged has no latency limit; objectives of other stages do not apply."""
    plan = good_plan(of_stages=stages(("warm-up", 5, Hold(level=1e4)), ("a", 9, Hold(level=99))))
    feasibility = judged(with_objectives(plan, "p95 < 100 ms in a"))
    assert [need.in_flight for need in feasibility.stages] == [None, pytest.approx(9.9)]


def test_the_p95_of_all_requests_decides() -> None:
    """p95 over all comes first, then the lowest percentile, then single requests'."""
    for texts, in_flight in (
        (("p99 < 500 ms", "p95 < 200 ms", "p50 < 50 ms", "p95 < 1 s on health"), 20.0),
        (("p99 < 500 ms", "p90 < 150 ms", "p25 < 10 ms"), 15.0),
        (("p95 < 300 ms on health", "p99 < 400 ms on health"), 30.0),
        (("service_p95 < 300 ms", "error_ratio < 1 %"), None),
    ):
        assert judged(with_objectives(PLAN, *texts)).in_flight_needed == in_flight


def test_descriptors_are_counted_per_engine() -> None:
    """Connections of one engine and a reserve must fit its limit."""
    plan = dataclasses.replace(PLAN, connections=40_000)
    assert "20,064 descriptors per engine" in refusals(plan, hosts=2)[0]
    assert judged(plan, hosts=2, engines=3).can_reach


def test_ports_are_counted_per_host_and_node() -> None:
    """Connections of one host to one node must fit the ephemeral range; weights count."""
    wide = dataclasses.replace(PLAN, connections=30_000)
    assert "30,000 connections from one host to one node" in refusals(wide)[0]
    assert judged(wide, hosts=2).can_reach
    two = dataclasses.replace(wide, nodes=(node("a"), node("b", port=9004)))
    assert judged(two).can_reach
    uneven = dataclasses.replace(wide, nodes=(node("a", weight=99.0), node("b", port=9004)))
    assert "29,700 connections" in refusals(uneven)[0]


def test_engines_need_connections() -> None:
    """Fewer connections than engines is refused; fewer than engines x nodes is a warning."""
    plan = with_objectives(good_plan(connections=3, in_flight_limit=3))
    assert "some would have none" in refusals(plan, engines=4)[0]
    four = dataclasses.replace(plan, nodes=tuple(node(f"n{n}", port=n + 1) for n in range(4)))
    assert any("hold one to every node" in text for text in warnings(four))


def test_engines_are_counted_at_the_measured_cost() -> None:
    """Lambda x cost / 0.9 engines, of which no more count than there are cores."""
    plan = good_plan(of_stages=stages(("a", 10, Hold(level=200_000.0))), connections=1000)
    assert "take 4 engines" in refusals(plan)[0]
    assert judged(plan, engines=4).can_reach
    two_cores = dataclasses.replace(LIMITS, cores=2)
    assert not judged(plan, engines=4, limits=two_cores).can_reach
    assert judged(plan, engines=4, hosts=2, limits=two_cores).can_reach


def test_an_unknown_cost_is_said_and_not_invented() -> None:
    """Without calibration there is a warning and no number of engines."""
    feasibility = assess(PLAN, LIMITS, None, hosts=1, engines=1)
    assert feasibility.can_reach
    assert feasibility.engines_needed is None
    assert serious(feasibility)[0].text == (
        "the cost of a request over HTTP/1.1 is not known here, nor how many engines the plan "
        "takes: headroom calibrate measures HTTP/1.1"
    )


def call(name: str, *, weight: float = 1.0, shape: CallShape = CallShape.UNARY) -> Request:
    """A gRPC call without a message."""
    return dataclasses.replace(
        request(name, weight=weight),
        protocol=Protocol.GRPC,
        call=Call(
            method="a.B/C",
            shape=shape,
            message=(),
            messages=1,
            pace_ns=0,
            compression=Compression.IDENTITY,
            expected_codes=(0,),
            checks=(),
            response_type="a.D",
        ),
    )


def cpu_text(plan: Plan, costs: GeneratorCosts | None = COSTS) -> str:
    """What is said last: the engines that a plan takes."""
    return assess(plan, LIMITS, costs, hosts=1, engines=2).findings[-1].text


def test_each_protocol_has_its_own_price() -> None:
    """The cost of HTTP/1.1 says nothing about calls; a mixed plan takes both by their parts."""
    at = stages(("a", 10, Hold(level=100_000.0)))
    plan = good_plan(of_stages=at, connections=1000, multiplexing=channels_plan(3).multiplexing)
    of_calls = dataclasses.replace(plan, requests=(call("c"),))
    assert judged(plan).engines_needed == 2
    assert judged(of_calls).engines_needed == 1
    assert "at 7.0 us each (calibrated here for gRPC on 2026-11-26) take 1 engine" in cpu_text(
        of_calls
    )
    mixed = dataclasses.replace(plan, requests=(request("r"), call("c", weight=3)))
    assert "(25% HTTP/1.1 at 14.0 us, 75% gRPC at 7.0 us: calibrated here on" in cpu_text(mixed)
    assert judged(mixed, limits=LIMITS).engines_needed == 1
    faster = dataclasses.replace(mixed, stages=stages(("a", 10, Hold(level=110_000.0))))
    assert judged(faster).engines_needed == 2


def test_a_protocol_without_a_calibration_is_named() -> None:
    """What is calibrated for one protocol is not taken for another one's price."""
    plan = dataclasses.replace(channels_plan(3), requests=(request("r"), call("c")), connections=64)
    rest_alone = dataclasses.replace(COSTS, request_ns={RequestKind.HTTP1: 14_000.0})
    assert cpu_text(plan, rest_alone).endswith("headroom calibrate measures gRPC")
    stream = call("s", shape=CallShape.SERVER_STREAM)
    over_http2 = dataclasses.replace(request("h"), protocol=Protocol.HTTP2)
    others = dataclasses.replace(plan, requests=(over_http2, stream))
    assert cpu_text(others) == (
        "the cost of a request over HTTP/2 and streaming gRPC is not known here, nor how many "
        "engines the plan takes: there is no calibration for HTTP/2 and streaming gRPC"
    )


def test_a_throughput_above_the_planned_rate_is_refused() -> None:
    """No target can answer more than it is sent; exactly the planned rate is allowed."""
    assert "sent" in refusals(with_objectives(PLAN, "throughput >= 101 rps"))[0]
    assert judged(with_objectives(PLAN, "throughput >= 100 rps")).can_reach
    ramp = good_plan(of_stages=stages(("a", 10, Ramp(start=0.0, end=100.0))))
    assert "50/s" in refusals(with_objectives(ramp, "throughput >= 100 rps"))[0]


def test_a_request_gets_its_part_of_the_rate() -> None:
    """A throughput objective on one request is held against its weight's part."""
    plan = dataclasses.replace(PLAN, requests=(request("a", weight=3), request("b")))
    assert judged(with_objectives(plan, "throughput >= 75 rps on a")).can_reach
    assert "75/s" in refusals(with_objectives(plan, "throughput >= 76 rps on a"))[0]


def test_chance_decides_a_poisson_plan_at_its_own_rate() -> None:
    """A throughput limit within three standard deviations of a Poisson plan is a warning."""
    plan = dataclasses.replace(PLAN, arrival_process=ArrivalProcess.POISSON)
    mean = judged(plan).stages[0].planned / 10
    assert "Poisson" in warnings(with_objectives(plan, f"throughput >= {mean:.0f} rps"))[0]
    assert warnings(with_objectives(plan, "throughput >= 80 rps")) == []


def test_too_few_samples_are_a_warning() -> None:
    """p99.9 needs 4,603 samples; 1,000 are planned; requests have their part only."""
    (text,) = warnings(with_objectives(PLAN, "p99.9 < 1 s"))
    assert "4,603" in text
    assert "1,000" in text
    rare = dataclasses.replace(PLAN, requests=(request("a", weight=19), request("b")))
    assert "90 samples" in warnings(with_objectives(rare, "p95 < 100 ms on b"))[0]


def test_short_stages_are_a_warning() -> None:
    """A judged stage under 3 s is judged on fewer windows than that, and on how many is said."""
    plan = good_plan(of_stages=stages(("a", 2, Hold(level=1000.0)), ("warm-up", 1, Hold(level=1))))
    (text,) = warnings(plan)
    assert "stage a lasts 2 s" in text
    assert "so 2 are judged" in text


def test_timeouts_below_the_limit_are_a_warning() -> None:
    """A request that times out before its limit can never be seen to miss it."""
    slow = dataclasses.replace(request(), timeout_ns=200 * NS_PER_MS)
    plan = dataclasses.replace(PLAN, requests=(slow,))
    assert "times out after 200 ms" in warnings(plan)[0]


def channels_plan(channels: int) -> Plan:
    """The good plan as calls over channels of ten streams."""
    multiplexing = Multiplexing(connections=channels, streams=10, keepalive_ns=0, authority=None)
    return dataclasses.replace(
        PLAN, requests=(call("c"),), connections=0, multiplexing=multiplexing, in_flight_limit=1000
    )


def test_a_pool_that_its_own_limits_fill_is_a_warning() -> None:
    """20 in flight are 80 % of 25 streams and 100 % of 20; 40 % is asked for of 50."""
    objectives = ("p95 < 200 ms", "pool_use <= 80 %")
    assert warnings(with_objectives(channels_plan(3), *objectives)) == []
    (text,) = warnings(with_objectives(channels_plan(2), *objectives))
    assert text == (
        "stage hold: a target that just meets its p95 limit would use 100% of 2 channels x 10 "
        "streams: pool_use <= 80 % asks for less, more channels give it room"
    )
    of_http1 = dataclasses.replace(channels_plan(2), requests=PLAN.requests, connections=20)
    assert warnings(with_objectives(of_http1, *objectives)) == []


def test_an_alert_that_outlasts_its_stage_is_a_warning() -> None:
    """What lasts five minutes cannot be seen in ten seconds."""
    for text, number in (("pool_use > 90 % for 5 min", 1), ("pool_use > 90 % for 10 s", 0)):
        plan = dataclasses.replace(channels_plan(3), alerts=(parse_alert(text),))
        assert len(warnings(plan)) == number


def test_the_ceiling_of_closed_load() -> None:
    """100 users with 350 ms of think time make at most 286/s, and 182/s at 200 ms."""
    plan = good_plan(
        of_stages=stages(("a", 60, Hold(level=100.0))),
        load_model=LoadModel.CLOSED,
        connections=100,
        in_flight_limit=100,
        think_time_ns=350 * NS_PER_MS,
    )
    feasibility = judged(with_objectives(plan, "p95 < 200 ms", "throughput >= 150 rps"))
    assert feasibility.can_reach
    assert feasibility.stages[0].ceiling_per_s == pytest.approx(100 / 0.55)
    # The plan that "776K TPS" was once claimed from.
    (text,) = refusals(with_objectives(plan, "throughput >= 776000 rps"))
    assert "at most 286 requests/s" in text
    without = dataclasses.replace(plan, think_time_ns=0)
    assert judged(with_objectives(without, "throughput >= 776000 rps")).can_reach


def test_closed_load_without_any_ceiling_says_so() -> None:
    """Without a pause and without a limit on response time only the target bounds the rate."""
    plan = good_plan(
        of_stages=stages(("a", 60, Hold(level=5.0))), load_model=LoadModel.CLOSED, connections=5
    )
    text = next(f.text for f in judged(plan).findings if f.text.startswith("stage a"))
    assert text.endswith("the target alone limits the rate")
    assert "inf" not in text
    assert judged(plan).peak_per_s is None
    assert cpu_text(plan) == (
        "closed load plans no rate; requests at 14.0 us each (calibrated here for HTTP/1.1 on "
        "2026-11-26) let one engine make at most 64,286/s below 90% of a core, 2 engines "
        "128,571/s"
    )


def test_numbers_stand_beside_the_text() -> None:
    """Every finding about a quantity carries it as a number for tables and JSON."""
    finding = judged(PLAN).findings[0]
    assert dict(finding.numbers) == {"in_flight_needed": 20.0, "in_flight_available": 64}


@pytest.mark.parametrize(("hosts", "engines"), [(0, 1), (1, 0)])
def test_no_host_or_engine_is_a_programming_error(hosts: int, engines: int) -> None:
    """There is nothing to assess without a host and an engine."""
    with pytest.raises(ValueError, match="1 or more"):
        assess(PLAN, LIMITS, COSTS, hosts=hosts, engines=engines)


def test_the_length_of_a_stage_is_reported() -> None:
    """Each stage's need names its length and its arrivals."""
    (need,) = judged(PLAN).stages
    assert (need.length_ns, need.planned) == (10 * NS_PER_S, 1000)


def test_a_limit_on_errors_needs_its_samples() -> None:
    """None of 1,000 failed is no evidence for 0.1 %: said before anything is sent."""
    (text,) = warnings(with_objectives(PLAN, "p95 < 200 ms", "error_ratio < 0.1 %"))
    assert "error_ratio < 0.1 % needs 4,603 samples and the plan sends 1,000" in text
    assert warnings(with_objectives(PLAN, "p95 < 200 ms", "error_ratio < 0.5 %")) == []
