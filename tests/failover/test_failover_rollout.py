"""Rollouts as pure machines: what a look says, when traffic moves on, when it moves back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.clock import NS_PER_S
from loadtests.failover.looking import Counted, Look, judge_trigger, read_counts, sum_counts
from loadtests.failover.rollout import (
    Gap,
    Move,
    Passed,
    RollBack,
    RolloutClock,
    RolloutStep,
    Says,
    judge_look,
)
from loadtests.plan.failover import (
    Failover,
    FaultNode,
    Quorum,
    Rollout,
    RolloutPhase,
    SteadyState,
    System,
)
from loadtests.plan.rollout import HIGHEST_WEIGHT, parse_trigger, weights_for

ERRORS, SLOW = parse_trigger("error_ratio > 1 %"), parse_trigger("p95 > 300 ms")


def rollout(*shares: float, hold: int = 10, sustain: int = 5, gap: int = 3) -> Rollout:
    """A rollout that is looked at every second."""
    return Rollout(
        to="2",
        phases=tuple(
            RolloutPhase(
                traffic_ratio=share, hold_ns=hold * NS_PER_S, triggers=(ERRORS, SLOW)
            )
            for share in shares
        ),
        every_ns=NS_PER_S,
        window_ns=5 * NS_PER_S,
        sustain_ns=sustain * NS_PER_S,
        gap_ns=gap * NS_PER_S,
        metrics_path="/q/metrics",
        timers=(),
        ignore="",
        timeout_ns=NS_PER_S,
    )  # fmt: skip


def counted(requests: int, *, errors: int = 0, slow: int = 0) -> Counted:
    """So many requests, of which some took up to 0.5 s and the others up to 0.1 s."""
    buckets = {0.1: requests - slow, 0.3: requests - slow, 0.5: requests, float("inf"): requests}
    return Counted(requests=requests, errors=errors, buckets=buckets)


def look(at: float, what: Counted | None = None, down: tuple[str, ...] | None = ()) -> Look:
    """A look at the new version; without counts nothing is known."""
    unread = ("node-4",) if what is None else ()
    return Look(at_ns=round(at * NS_PER_S), counted=what, unread=unread, down=down)


GOOD, BAD = counted(1000), counted(1000, errors=20)


def run(clock: RolloutClock, looks: list[Look]) -> list[tuple[int, RolloutStep]]:
    """What comes of looks, and when; a move is done at once."""
    found = []
    for one in looks:
        for step in clock.looked(one)[1]:
            found.append((one.at_ns // NS_PER_S, step))
            if isinstance(step, Move):
                clock.moved(one.at_ns)
    return found


def begun(*shares: float, **times: int) -> RolloutClock:
    """A rollout whose first phase is in force since T0."""
    clock = RolloutClock(rollout(*shares, **times))
    (first,) = clock.begin()
    assert isinstance(first, Move)
    assert first.number == 0
    clock.moved(0)
    return clock


def test_a_good_version_goes_through_every_phase_and_stays() -> None:
    """Each phase is held for its time of good looks, the last one too."""
    steps = run(begun(0.1, 0.25, 0.5), [look(at, GOOD) for at in range(1, 60)])
    assert [(at, type(step)) for at, step in steps] == [(10, Move), (20, Move), (30, Passed)]
    assert [step.number for _, step in steps if isinstance(step, Move)] == [1, 2]


def test_a_trigger_that_holds_rolls_back_once_with_its_figures() -> None:
    """Five seconds on end, in its own phase; afterwards nothing moves any more."""
    looks = [look(at, GOOD if at < 13 else BAD) for at in range(1, 40)]
    steps = run(begun(0.1, 0.25), looks)
    assert [(at, type(step)) for at, step in steps] == [(10, Move), (18, RollBack)]
    decided = steps[1][1]
    assert isinstance(decided, RollBack)
    assert decided.number == 1
    assert decided.reason == "error_ratio > 1 %: 20 of 1000 requests failed"


def test_a_trigger_that_pauses_begins_anew() -> None:
    """Four bad seconds, a good one, four bad ones: never for five on end; nor does it move on."""
    looks = [look(at, GOOD if at % 5 == 0 else BAD) for at in range(1, 10)]
    assert run(begun(0.1), looks) == []
    assert isinstance(run(begun(0.1), [look(at, BAD) for at in range(1, 7)])[0][1], RollBack)


def test_what_is_not_known_holds_the_phase_and_says_so_once() -> None:
    """A hole longer than the gap: told, not counted, and no trigger is sustained across it."""
    looks = [look(at, None if 4 <= at < 12 else GOOD) for at in range(1, 30)]
    steps = run(begun(0.1, 0.5), looks)
    assert [(at, type(step)) for at, step in steps] == [(7, Gap), (19, Move), (29, Passed)]
    across = [look(at, None if 4 <= at < 12 else BAD) for at in range(1, 16)]
    assert [type(step) for _, step in run(begun(0.1), across)] == [Gap]


def test_a_short_hole_counts_as_known() -> None:
    """Three seconds are forgiven, of a phase and of a trigger."""
    looks = [look(at, None if at in {4, 5} else GOOD) for at in range(1, 11)]
    assert [(at, type(step)) for at, step in run(begun(0.1), looks)] == [(10, Passed)]
    bad = [look(at, None if at in {4, 5} else BAD) for at in range(1, 7)]
    assert [at for at, _ in run(begun(0.1), bad)] == [6]


@given(st.lists(st.sampled_from(["good", "bad", "unknown"]), max_size=80))
def test_no_traffic_moves_on_beside_what_is_not_good(words: list[str]) -> None:
    """A move follows a good look, a rollback a bad one, and nothing follows a rollback."""
    seen = {"good": GOOD, "bad": BAD, "unknown": None}
    clock, is_back = begun(0.1, 0.25, 0.5, hold=3, sustain=2), False
    for at, word in enumerate(words, start=1):
        for _, step in run(clock, [look(at, seen[word])]):
            assert not is_back
            wanted = {Move: "good", Passed: "good", RollBack: "bad", Gap: "unknown"}
            assert wanted[type(step)] == word
            is_back = isinstance(step, RollBack)


@pytest.mark.parametrize(
    ("what", "says"),
    [
        (counted(1000, errors=10), Says.GOOD),  # 1 % is not more than 1 %
        (counted(1000, errors=11), Says.BAD),
        (counted(458), Says.UNKNOWN),  # too few to say that less than 1 % fail
        (counted(459), Says.GOOD),
        (counted(20, errors=4), Says.UNKNOWN),
        (counted(20, errors=20), Says.BAD),  # however good the 439 that are missing
        (counted(1000, slow=50), Says.GOOD),  # the 950th is fast
        (counted(1000, slow=51), Says.BAD),
        (None, Says.UNKNOWN),
    ],
)
def test_a_look_says_no_more_than_its_requests_do(what: Counted | None, says: Says) -> None:
    """Too few requests are neither good nor, unless they are bad enough, bad."""
    assert judge_look(look(1, what), (ERRORS, SLOW)).says is says


def test_a_node_that_is_down_is_bad_and_a_silent_balancer_is_unknown() -> None:
    """The load balancer's word comes before the node's own."""
    assert judge_look(look(1, GOOD, ("node-4",)), (ERRORS,)).says is Says.BAD
    assert judge_look(look(1, GOOD, None), (ERRORS,)).says is Says.UNKNOWN


def test_a_limit_between_two_bounds_is_not_told_apart() -> None:
    """p95 between 0.3 and 0.5 s: above 300 ms, not above 500 ms, and nothing is said of 400 ms."""
    slow = counted(1000, slow=100)
    assert judge_trigger(parse_trigger("p95 > 300 ms"), slow) is True
    assert judge_trigger(parse_trigger("p95 > 400 ms"), slow) is None
    assert judge_trigger(parse_trigger("p95 > 500 ms"), slow) is False
    without = Counted(requests=1000, errors=0, buckets={})
    assert judge_trigger(parse_trigger("p95 > 500 ms"), without) is None


PAGE = """# TYPE http_server_requests_seconds histogram
http_server_requests_seconds_bucket{status="200",uri="/api/a",le="0.1"} 8
http_server_requests_seconds_bucket{status="200",uri="/api/a",le="+Inf"} 10
http_server_requests_seconds_count{status="200",uri="/api/a"} 10
http_server_requests_seconds_count{status="404",uri="/api/a"} 2
http_server_requests_seconds_bucket{status="404",uri="/api/a",le="+Inf"} 2
http_server_requests_seconds_bucket{status="404",uri="/api/a",le="0.1"} 2
http_server_requests_seconds_count{status="503",uri="/q/health/ready"} 99
grpc_server_processing_duration_seconds_count{statusCode="OK"} 5
grpc_server_processing_duration_seconds_bucket{statusCode="OK",le="0.1"} 5
grpc_server_processing_duration_seconds_bucket{statusCode="OK",le="+Inf"} 5
grpc_server_processing_duration_seconds_count{statusCode="UNAVAILABLE"} 1
grpc_server_processing_duration_seconds_bucket{statusCode="UNAVAILABLE",le="0.1"} 0
grpc_server_processing_duration_seconds_bucket{statusCode="UNAVAILABLE",le="+Inf"} 1
other_bucket{le="1"} 7
"""


def test_a_page_of_metrics_is_counted_without_health_checks() -> None:
    """4xx, 5xx and every gRPC code but OK are errors; both protocols add up."""
    timers = ("http_server_requests_seconds", "grpc_server_processing_duration_seconds")
    found = read_counts(PAGE, timers, "/q/")
    assert (found.requests, found.errors) == (18, 3)
    assert found.buckets == {0.1: 15, float("inf"): 18}
    assert read_counts("nothing of the kind", timers, "/q/").requests == 0


def test_nodes_add_up_in_the_bounds_that_they_share() -> None:
    """A node without requests says nothing of bounds."""
    idle = Counted(requests=0, errors=0, buckets={})
    other = Counted(requests=2, errors=1, buckets={0.1: 1, float("inf"): 2})
    both = sum_counts([counted(10), idle, other])
    assert (both.requests, both.errors) == (12, 1)
    assert both.buckets == {0.1: 11, float("inf"): 12}


@given(st.floats(0.01, 0.9), st.integers(1, 8), st.integers(1, 4))
def test_weights_are_what_haproxy_takes_and_the_share_is_near(
    ratio: float, old: int, new: int
) -> None:
    """Whole, within 0 to 256, and within two percent of the traffic for shares of 1 to 90 %."""
    weights = weights_for(ratio, old, new)
    assert 0 <= weights.old <= HIGHEST_WEIGHT
    assert 1 <= weights.new <= HIGHEST_WEIGHT
    assert weights.share(old, new) == pytest.approx(ratio, abs=0.02)


def test_without_a_rollout_no_node_is_new() -> None:
    """Else a failover's own HAProxy would begin without weights."""
    nodes = (node("n1", ""), node("n2", "2"))
    plain = failover(rollout=None, nodes=nodes)
    assert plain.nodes_of(is_new=True) == ()
    assert plain.nodes_of(is_new=False) == nodes
    moved = failover(rollout=rollout(0.1), nodes=nodes)
    assert moved.nodes_of(is_new=True) == nodes[1:]
    assert moved.nodes_of(is_new=False) == nodes[:1]


def node(name: str, version: str) -> FaultNode:
    """One of a version."""
    return FaultNode(
        name=name, zone="", url="", is_voter=True, pid_file="", start=(), servers=(),
        namespace="", interface="", proxy="", owner_pid=0, version=version,
    )  # fmt: skip


def failover(rollout: Rollout | None, nodes: tuple[FaultNode, ...]) -> Failover:
    """Nodes, and what is done to them."""
    return Failover(
        system=System.EMBEDDED, quorum=Quorum.NONE, election_ns=0, health_path="", leader=None,
        steady=SteadyState(hold_ns=1, within_ns=1), haproxy=None, nodes=nodes, faults=(),
        rollout=rollout,
    )  # fmt: skip


def test_the_requirements_shares_are_exact_with_four_nodes() -> None:
    """10, 25, 50 and 100 % over three nodes and one."""
    for ratio in (0.1, 0.25, 0.5, 1.0):
        assert weights_for(ratio, 3, 1).share(3, 1) == pytest.approx(ratio, abs=1e-9)
