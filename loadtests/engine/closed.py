"""Closed load: every connection sends its next request after the answer and a pause.

Owns how many connections there are at any time (the level of the stage, divided over
engines and nodes) and what each sends next. Intended time is the time of sending: in
closed load stalls of the target are under-counted, and the archive says which model ran.
Sequence numbers come from the engine's share, so payloads are unique over the run.
"""

from __future__ import annotations

from collections import deque
from time import monotonic_ns
from typing import Final

import numpy as np

from loadtests.engine.catalogue import Catalogue
from loadtests.engine.pool import Carrier, Pool
from loadtests.engine.shares import connections_per_node, portion
from loadtests.engine.task import Parcel
from loadtests.engine.traffic import NEVER_NS, Traffic
from loadtests.plan.model import Node, Plan, Share
from loadtests.plan.schedule import Schedule

_BATCH: Final = 256
_READY_BATCH: Final = 1024  # of what only has to be looked up


class Supply:
    """Requests of the engine's shares in batches, and the level they ask for."""

    __slots__ = (
        "_catalogue",
        "_level",
        "_level_of",
        "_plan",
        "_positions",
        "_schedule",
        "_shares",
        "_turn",
    )

    def __init__(self, plan: Plan, share: Share, catalogue: Catalogue) -> None:
        self._plan, self._catalogue = plan, catalogue
        self._schedule = Schedule(plan)
        self._shares = [share]
        self._positions = [0]
        self._turn = 0
        self._level_of: tuple[int, int] | None = None  # what the last level was made of
        self._level: list[int] = []

    def take_over(self, share: Share) -> None:
        """Send for another share, too."""
        self._shares.append(share)
        self._positions.append(0)

    def batch(self, node: int) -> list[Parcel]:
        """Return the next requests for a node, last one first, with the slots of stage 0."""
        self._turn = (self._turn + 1) % len(self._shares)
        share, position = self._shares[self._turn], self._positions[self._turn]
        most = _READY_BATCH if self._catalogue.is_ready else _BATCH
        numbers = np.arange(position, position + most, dtype=np.int64)
        sequences = share.residue + share.modulus * numbers
        slots = self._schedule.mix(sequences)[0] * len(self._plan.nodes) + node
        size = self._catalogue.most_together(slots, most)
        self._positions[self._turn] += size
        batch = self._catalogue.undated(sequences[:size], slots[:size])
        batch.reverse()
        return batch

    def level(self, offset_ns: int, turn: int) -> list[int]:
        """Connections that this engine holds to each node at an offset from T0.

        The same list as long as nothing changes: it is asked for a hundred times a second.
        """
        total = self._schedule.connections_at(offset_ns)
        mine = sum(
            portion(total, share.residue, share.modulus)
            for share in self._shares
            if offset_ns >= share.from_ns
        )
        if self._level_of != (mine, turn):
            self._level_of, self._level = (mine, turn), self._divided(mine, turn)
        return self._level

    def _divided(self, mine: int, turn: int) -> list[int]:
        weights = [node.weight for node in self._plan.nodes]
        if mine < len(weights):
            order = [(turn + index) % len(weights) for index in range(mine)]
            return [int(index in order) for index in range(len(weights))]
        return connections_per_node(mine, weights, turn)


class ClosedPool(Pool):
    """Connections to one node under closed load; free ones only wait for permission."""

    __slots__ = ("_supply", "_think_ns", "batch", "stage_code", "thinking")

    def __init__(
        self, node: Node, index: int, traffic: Traffic, *, seed: int, supply: Supply, think_ns: int
    ) -> None:
        super().__init__(node, index, traffic, seed=seed)
        self.park = None
        self._supply, self._think_ns = supply, think_ns
        self.batch: list[Parcel] = []
        self.stage_code = 0  # what the current stage adds to a code of stage 0
        self.thinking: deque[tuple[int, Carrier]] = deque()

    def release(self, connection: Carrier, now_ns: int) -> None:
        """Let the connection pause or send again."""
        if len(self.connections) > self.wanted:
            connection.close()
        elif not self._traffic.is_sending:
            self.free.append(connection)
        elif self._think_ns:
            self.thinking.append((now_ns + self._think_ns, connection))
        else:
            self._begin(connection, now_ns)

    def _begin(self, connection: Carrier, now_ns: int) -> None:
        traffic = self._traffic
        gate = traffic.gate
        if gate is not None and not gate.take(now_ns):
            self.free.append(connection)
            return
        if not self.batch:
            self.batch = self._supply.batch(self.index)
            now_ns = monotonic_ns()
        _, code, task, payload = self.batch.pop()
        traffic.planned += 1
        connection.begin(now_ns, now_ns, code + self.stage_code, task, payload)
        if gate is not None:
            traffic.flush()

    def serve(self, now_ns: int) -> None:
        """Begin on free connections while the ceiling allows, and where a pause is over."""
        traffic, thinking = self._traffic, self.thinking
        while thinking and thinking[0][0] <= now_ns and traffic.is_sending:
            connection = thinking.popleft()[1]
            if not connection.is_open:
                continue
            if len(self.connections) > self.wanted:
                connection.close()
            else:
                self._begin(connection, monotonic_ns())
        for _ in range(len(self.free)):
            gate = traffic.gate
            if not traffic.is_sending or (gate is not None and gate.opens_ns() > now_ns):
                return
            connection = self.free.popleft()
            if len(self.connections) > self.wanted:
                connection.close()
            else:
                self._begin(connection, monotonic_ns())

    def wake_ns(self) -> int:
        """When the next pause is over."""
        return self.thinking[0][0] if self.thinking else NEVER_NS
