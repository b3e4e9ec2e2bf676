"""Whom a fault strikes: the leader as nodes say, others, and the same for the same seed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from failover_rig import fault

from loadtests.failover.choosing import choose_nodes
from loadtests.failover.strike import FaultError
from loadtests.plan.failover import (
    Failover,
    FaultNode,
    LeaderQuery,
    Quorum,
    SteadyState,
    System,
)


class Nodes(ThreadingHTTPServer):
    """Five nodes that all say who leads."""

    leader = "n3"


class Answer(BaseHTTPRequestHandler):
    """One of them."""

    def do_GET(self) -> None:
        """Say who leads."""
        assert isinstance(self.server, Nodes)
        body = f'{{"leader": "{self.server.leader}"}}'.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    """They answer on one port."""
    with Nodes(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def failover(nodes: Nodes) -> Failover:
    """Five nodes in two zones."""
    plain = FaultNode(
        name="", zone="", url=f"http://127.0.0.1:{nodes.server_port}", is_voter=True, pid_file="",
        start=(), servers=(), namespace="", interface="", proxy="", owner_pid=0,
    )  # fmt: skip
    return Failover(
        system=System.OWN, quorum=Quorum.MAJORITY, election_ns=0, health_path="",
        steady=SteadyState(hold_ns=1, within_ns=1), haproxy=None, faults=(),
        leader=LeaderQuery(method="GET", path="/", body="", pointer="/leader", own=None),
        nodes=tuple(replace(plain, name=f"n{n}", zone="ab"[n % 2]) for n in range(1, 6)),
    )  # fmt: skip


def chosen(nodes: Nodes, on: str, *, seed: int = 1, name: str = "f") -> list[str]:
    """Names of the nodes."""
    return [one.name for one in choose_nodes(fault(name, "noop", on), failover(nodes), seed)]


def test_leader_node_zone_and_all_are_who_they_say(nodes: Nodes) -> None:
    """The leader is asked for each time."""
    assert chosen(nodes, "leader") == ["n3"]
    nodes.leader = "n5"
    assert chosen(nodes, "leader") == ["n5"]
    assert chosen(nodes, "node n2") == ["n2"]
    assert chosen(nodes, "zone b") == ["n1", "n3", "n5"]
    assert chosen(nodes, "all") == ["n1", "n2", "n3", "n4", "n5"]


def test_followers_are_never_the_leader_and_all_of_them_come_up(nodes: Nodes) -> None:
    """Of many seeds each follower is drawn, the leader never."""
    drawn = {name for seed in range(60) for name in chosen(nodes, "follower", seed=seed)}
    assert drawn == {"n1", "n2", "n4", "n5"}
    assert sorted(chosen(nodes, "4 follower")) == ["n1", "n2", "n4", "n5"]


def test_the_same_seed_draws_the_same_and_another_fault_others(nodes: Nodes) -> None:
    """Reproducible from the plan alone; faults of one run do not all strike the same nodes."""
    once, again = (chosen(nodes, "2 random", seed=7) for _ in range(2))
    assert once == again
    assert len(set(once)) == 2
    others = {tuple(chosen(nodes, "2 random", seed=7, name=f"f{n}")) for n in range(20)}
    assert len(others) > 1


def test_a_leader_that_nobody_knows_is_no_guess(nodes: Nodes) -> None:
    """Neither for a leader nor for its followers."""
    nodes.leader = "stranger"
    for on in ("leader", "follower"):
        with pytest.raises(FaultError, match="stranger"):
            chosen(nodes, on)
