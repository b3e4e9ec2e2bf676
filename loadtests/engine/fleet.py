"""The pools of an engine: one for each lane, of the kind that lane and load model ask for.

Owns how many connections each should hold at any time, and the counts over all of them.
It refuses closed load over several protocols at once, because a user holds one connection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from loadtests.engine.closed import ClosedPool, Supply
from loadtests.engine.lanes import Lanes, lanes_of
from loadtests.engine.multiplexed_pool import ClosedMultiplexedPool, MultiplexedPool
from loadtests.engine.pool import Pool
from loadtests.engine.shares import portion
from loadtests.engine.traffic import NEVER_NS, Traffic
from loadtests.errors import Mistake, ScenarioError
from loadtests.plan.call import Protocol
from loadtests.plan.model import LoadModel, Node, Plan

_NOBODY: Final[Sequence[int]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What of a run's totals belongs to one engine; `turn` numbers it."""

    connections: int  # of HTTP/1.1
    multiplexed: int  # of HTTP/2
    in_flight_limit: int
    turn: int

    def carried(self, plan: Plan) -> int:
        """Requests that these connections can have in flight."""
        single = self.connections * plan.pipelining
        return single + self.multiplexed * plan.multiplexing.streams


def parts_of(plan: Plan, index: int, engines: int, warn: Callable[[str], None]) -> Parts:
    """Take an engine's part of each total that its lanes need; a part of 0 is raised to 1."""
    lanes = lanes_of(plan)

    def part(name: str, total: int) -> int:
        found = portion(total, index, engines)
        if found == 0:
            warn(f"{name} {total} for {engines} engines: this one takes 1 more")
        return max(1, found)

    is_single = Protocol.HTTP1 in lanes.protocols
    return Parts(
        connections=part("connections", plan.connections) if is_single else 0,
        multiplexed=(
            part("multiplexing.connections", plan.multiplexing.connections)
            if lanes.multiplexed
            else 0
        ),
        in_flight_limit=part("in_flight_limit", plan.in_flight_limit),
        turn=index,
    )


class Fleet:
    """All pools of an engine; `pools` is in the order of the lanes."""

    __slots__ = (
        "_aimed",
        "_closed",
        "_lanes",
        "_multiplexed",
        "_parts",
        "_plan",
        "_supply",
        "pools",
    )

    def __init__(self, plan: Plan, parts: Parts, traffic: Traffic, supply: Supply) -> None:
        self._plan, self._parts, self._supply = plan, parts, supply
        self._lanes: Lanes = lanes_of(plan)
        self._aimed: Sequence[int] | None = None  # the level that the pools know
        self._closed: list[ClosedPool | ClosedMultiplexedPool] = []
        self._multiplexed: list[MultiplexedPool] = []
        if plan.load_model is LoadModel.CLOSED and len(self._lanes.protocols) > 1:
            words = " and ".join(protocol.value for protocol in self._lanes.protocols)
            mistake = Mistake(where="requests", seen=words, expected="one protocol in closed load")
            raise ScenarioError(plan.scenario_name, (mistake,))
        self.pools: list[Pool] = [
            self._build(protocol, node, number, traffic)
            for protocol in self._lanes.protocols
            for number, node in enumerate(plan.nodes)
        ]

    def _build(self, protocol: Protocol, node: Node, index: int, traffic: Traffic) -> Pool:
        plan, seed = self._plan, self._plan.seed + self._parts.turn
        supply, think_ns = self._supply, plan.think_time_ns
        is_closed = plan.load_model is LoadModel.CLOSED
        if protocol is Protocol.HTTP1:
            if not is_closed:
                return Pool(node, index, traffic, seed=seed)
            single = ClosedPool(node, index, traffic, seed=seed, supply=supply, think_ns=think_ns)
            self._closed.append(single)
            return single
        if not is_closed:
            many = MultiplexedPool(node, index, traffic, seed=seed, protocol=protocol)
            self._multiplexed.append(many)
            return many
        shared = ClosedMultiplexedPool(
            node,
            index,
            traffic,
            seed=seed,
            protocol=protocol,
            supply=supply,
            think_ns=think_ns,
        )
        self._closed.append(shared)
        self._multiplexed.append(shared)
        return shared

    def aim(self, offset_ns: int) -> None:
        """Tell the pools how many connections, or users, they should hold at this time."""
        parts = self._parts
        users = self._supply.level(offset_ns, parts.turn) if self._closed else _NOBODY
        if users is self._aimed:
            return
        self._aimed = users
        wanted = self._lanes.connections(parts.connections, parts.multiplexed, parts.turn)
        for pool, part in zip(self.pools, wanted, strict=True):
            pool.wanted = part
        if self._closed:
            for closed, level in zip(self._closed, users, strict=True):
                self._set_users(closed, level)

    def _set_users(self, pool: ClosedPool | ClosedMultiplexedPool, level: int) -> None:
        if isinstance(pool, ClosedPool):
            pool.wanted = level
            return
        pool.users = level
        # Fewer users than connections need no more than one each; none needs none.
        pool.wanted = min(pool.wanted, level)

    def enter_stage(self, code: int) -> None:
        """Count what closed load sends from now on for a stage."""
        for pool in self._closed:
            pool.stage_code = code

    def wake_ns(self) -> int:
        """When the next user's pause is over."""
        return min((pool.wake_ns() for pool in self._closed), default=NEVER_NS)

    def connections(self) -> int:
        """Open connections that take requests."""
        return sum(len(pool.connections) for pool in self.pools)

    def streams(self) -> tuple[int, int]:
        """Streams in use, and how many the open HTTP/2 connections could carry at once."""
        members = [member for pool in self._multiplexed for member in pool.members]
        used = sum(member.in_flight for member in members)
        return used, sum(member.capacity for member in members if not member.is_leaving)
