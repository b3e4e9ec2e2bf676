"""Which nodes a fault strikes, decided when it is due: the leader is asked for then."""

from __future__ import annotations

import random

from loadtests.failover.asking import find_leader
from loadtests.failover.strike import FaultError
from loadtests.plan.failover import Chosen, Failover, Fault, FaultNode, static_choice


def choose_nodes(fault: Fault, failover: Failover, seed: int) -> tuple[FaultNode, ...]:
    """The nodes to strike; FaultError when no leader can be found.

    What is drawn depends on the seed and on the fault's name alone, so that the same plan
    strikes the same nodes again (followers: as long as the same node leads).
    """
    chosen = fault.on.chosen
    if chosen in {Chosen.NODE, Chosen.ZONE, Chosen.ALL}:
        return static_choice(fault.on, failover.nodes)
    candidates = list(failover.nodes)
    if chosen is not Chosen.RANDOM:
        if failover.leader is None:
            raise FaultError(where=fault.name, seen="no leader query", expected="one")
        leader = find_leader(failover.nodes, failover.leader)
        if chosen is Chosen.LEADER:
            return (leader,)
        candidates.remove(leader)
    drawn = random.Random(f"{seed}/{fault.name}")  # noqa: S311 - reproducible, no secret
    return tuple(drawn.sample(candidates, fault.on.count))
