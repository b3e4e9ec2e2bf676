"""Predictions against the arithmetic of Raft and of HAProxy's manual."""

from __future__ import annotations

from dataclasses import replace

import pytest
from failover_rig import fault

from loadtests.clock import NS_PER_S
from loadtests.failover.prediction import detection_ns, majority_of, placement_text, predict
from loadtests.plan.failover import Failover, FaultNode, Haproxy, Quorum, SteadyState, System

HAPROXY = Haproxy(
    admin="/a", inter_ns=2 * NS_PER_S, fastinter_ns=NS_PER_S, check_timeout_ns=NS_PER_S // 2,
    fall=3, rise=2,
)  # fmt: skip


def nodes(zones: str) -> tuple[FaultNode, ...]:
    """node-1 .. in the zones of a text."""
    return tuple(
        FaultNode(
            name=f"node-{number}", zone=zone, url="", is_voter=True, pid_file="", start=(),
            servers=(), namespace="", interface="", proxy="", owner_pid=0,
        )
        for number, zone in enumerate(zones, start=1)
    )  # fmt: skip


def failover(zones: str, *faults: object, **changes: object) -> Failover:
    """Voters in zones behind HAProxy."""
    values: dict[str, object] = {
        "system": System.OWN,
        "quorum": Quorum.MAJORITY,
        "election_ns": 3 * NS_PER_S,
        "health_path": "",
        "steady": SteadyState(hold_ns=NS_PER_S, within_ns=NS_PER_S),
        "leader": None,
        "haproxy": HAPROXY,
        "nodes": nodes(zones),
        "faults": faults,
    }
    return Failover(**{**values, **changes})  # type: ignore[arg-type]  # a builder


@pytest.mark.parametrize(("voters", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (7, 4)])
def test_a_majority_is_more_than_half(voters: int, needed: int) -> None:
    """Raft: 4 voters need 3, as policy.md says."""
    assert majority_of(voters) == needed


@pytest.mark.parametrize(
    ("zones", "on", "has_quorum"),
    [
        ("abcd", "leader", True),
        ("abcd", "2 random", False),
        ("abcd", "zone a", True),
        ("aabc", "zone a", False),
        ("aabc", "zone b", True),
        ("aabcd", "zone a", True),
        ("abc", "2 follower", False),
        ("abcde", "2 follower", True),
        ("abcd", "all", False),
    ],
)
def test_quorum_follows_from_placement(zones: str, on: str, *, has_quorum: bool) -> None:
    """4 voters in fewer than 4 zones: one zone holds 2, and its loss halts consensus."""
    (expected,) = predict(failover(zones, fault("f", "kill", on)))
    assert expected.has_quorum is has_quorum
    assert ("NO QUORUM" in expected.text) is not has_quorum
    assert (expected.unavailable_ns is None) is not has_quorum


def test_the_placement_names_the_fatal_zones() -> None:
    """Printed first."""
    assert "the loss of a halts it" in placement_text(failover("aabc"))
    assert "any one zone may be lost" in placement_text(failover("abcd"))


def test_observers_are_no_voters() -> None:
    """A node that does not vote is no loss to the quorum."""
    plan = failover("abcd", fault("f", "kill", "node node-4"))
    learner = (*plan.nodes[:3], replace(plan.nodes[3], is_voter=False))
    (expected,) = predict(replace(plan, nodes=learner))
    assert expected.has_quorum
    assert "3 of 3 voters are left, 2 are needed" in expected.text


def test_haproxy_notices_a_refusal_after_fall_checks() -> None:
    """Fall 3, inter 2 s, fastinter 1 s: 2 s at the least, 4 s at the most."""
    assert detection_ns("kill", HAPROXY) == (2 * NS_PER_S, 4 * NS_PER_S)


def test_a_hang_costs_each_check_its_timeout() -> None:
    """Timeout check 0.5 s: 2.5 s at the least, 5.5 s at the most."""
    assert detection_ns("pause", HAPROXY) == (5 * NS_PER_S // 2, 11 * NS_PER_S // 2)


@pytest.mark.parametrize("action", ["drain", "maintenance", "weight"])
def test_an_orderly_action_should_fail_nothing(action: str) -> None:
    """The load balancer was told."""
    (expected,) = predict(failover("abcd", fault("f", action, "node node-1")))
    assert expected.unavailable_ns == 0
    assert "no request should fail" in expected.text


def test_what_is_not_known_is_not_predicted() -> None:
    """A user's own command, or no load balancer to reckon with."""
    (expected,) = predict(failover("abcd", fault("f", "exec", "node node-1")))
    assert expected.unavailable_ns is None
    (blind,) = predict(failover("abcd", fault("f", "kill", "node node-1"), haproxy=None))
    assert blind.detection_ns is None
    assert blind.unavailable_ns is None


def test_the_longer_of_detection_and_election_counts() -> None:
    """A follower needs no election."""
    slow = 9 * NS_PER_S
    leader, follower = predict(
        failover("abcd", fault("l", "kill", "leader"), fault("f", "kill", "follower"),
                 election_ns=slow)
    )  # fmt: skip
    assert leader.unavailable_ns == slow
    assert follower.unavailable_ns == 4 * NS_PER_S
