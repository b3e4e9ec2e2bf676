"""Pools of HTTP/2 connections: a connection is free as long as it has room for a stream.

Open load takes the free ones in turn, so that all of them see their part; what is due at the
same moment, up to 128 requests, goes to one of them and leaves in one piece. Under closed
load users are more than connections: a user sends its next request on the connection that
has just answered it, which lets all that a read brought leave together.

The law: a connection is among the free ones once while it has room, and never otherwise.
"""

from __future__ import annotations

from collections import deque
from time import monotonic_ns
from typing import Final, cast

from loadtests.engine.closed import Supply
from loadtests.engine.multiplexed import MultiplexedConnection
from loadtests.engine.pool import Carrier, Pool
from loadtests.engine.task import Parcel
from loadtests.engine.traffic import NEVER_NS, Traffic
from loadtests.plan.call import Protocol
from loadtests.plan.model import Node

# Requests of open load that may leave together on one connection while others are free. What
# is due at the same moment costs a third when it shares a `send`, a read, and the server's as
# well (`make bench`, gRPC, open load): about what a quantum brings to one engine at most; a
# stall's worth of arrivals is still spread.
_TURN: Final = 128


class MultiplexedPool(Pool):
    """Connections to one node that carry many requests each, under open load."""

    __slots__ = ("members", "turn")

    def __init__(
        self, node: Node, index: int, traffic: Traffic, *, seed: int, protocol: Protocol
    ) -> None:
        super().__init__(node, index, traffic, seed=seed, protocol=protocol)
        self.park = None
        self.turn = _TURN
        # All that joined and are not closed. Those that are none of `connections` any more
        # finish what is under way and take nothing more.
        self.members: set[MultiplexedConnection] = set()

    def joined(self, connection: MultiplexedConnection, now_ns: int) -> None:
        """Take a connection whose server has sent its SETTINGS."""
        self.accepted()
        self.connections.add(connection)
        self.members.add(connection)
        connection.join(now_ns)

    def all_connections(self) -> list[Carrier]:
        """Everything that may have a request in flight."""
        return list(self.members)

    def settled(self, connection: MultiplexedConnection, ended: int, now_ns: int) -> None:
        """So many requests of a connection have ended, or its room has changed."""
        del ended
        if len(self.connections) > self.wanted:
            connection.close()
            return
        connection.park()
        if self.backlog:
            self.serve(now_ns)

    def take_due(self, parcels: list[Parcel]) -> None:
        """Begin all that is due at the same moment and may be begun; the rest waits."""
        now_ns = monotonic_ns()
        count = 0 if self.backlog else self._permitted(len(parcels), now_ns)
        if count == len(parcels):
            self._begin(parcels)
        else:
            self._begin(parcels[:count])
            self._wait(parcels[count:], now_ns)

    def _wait(self, parcels: list[Parcel], now_ns: int) -> None:
        """`offer` of many: an engine that falls behind must not take longer for each."""
        traffic = self._traffic
        is_down = self.down is not None and not self.connections
        room = 0 if is_down else traffic.backlog_limit - traffic.backlog_size
        count = max(0, min(len(parcels), room))
        traffic.backlog_size += count
        self.backlog += parcels[:count]
        for due_ns, code, task, payload in parcels[count:]:
            self.offer(due_ns, now_ns, code, task, payload)

    def serve(self, now_ns: int) -> None:
        """Send from the backlog: all that there is room and permission for leaves together."""
        traffic, backlog = self._traffic, self.backlog
        self.expire_waiting(now_ns)
        if backlog and self.free and traffic.is_sending:
            ready: list[Parcel] = []
            left = self._permitted(len(backlog), now_ns)
            while left and backlog:
                parcel = backlog.popleft()
                if now_ns - parcel[0] < parcel[2].timeout_ns:
                    ready.append(parcel)
                    left -= 1
                else:
                    backlog.appendleft(parcel)
                    self.expire_waiting(now_ns)
            if left and traffic.gate is not None:  # others wait for what was too late
                traffic.gate.give_back(left)
            traffic.backlog_size -= len(ready)
            self._begin(ready)
        if traffic.unsent or traffic.gate is not None:
            traffic.flush()

    def _permitted(self, wanted: int, now_ns: int) -> int:
        """How many requests there is room for, and permission."""
        free = cast("deque[MultiplexedConnection]", self.free)
        room = sum(connection.room for connection in free)
        return self._traffic.permitted(min(wanted, room), now_ns)

    def _begin(self, parcels: list[Parcel]) -> None:
        """Begin requests on free connections, a turn of them on each; there is room for all."""
        at = 0
        while at < len(parcels):
            connection = cast("MultiplexedConnection", self.free.popleft())
            part = parcels[at : at + min(connection.room, self.turn)]
            connection.begin_part(part)
            at += len(part)

    def leave(self, connection: MultiplexedConnection) -> None:
        """Keep a connection that takes no more requests apart; another one may replace it."""
        self.connections.discard(connection)
        self.on_loss(self)

    def lost(
        self, connection: Carrier, *, was_idle: bool, why: tuple[str, str] | None = None
    ) -> None:
        """A connection has ended."""
        self.members.discard(cast("MultiplexedConnection", connection))
        super().lost(connection, was_idle=was_idle, why=why)


class ClosedMultiplexedPool(MultiplexedPool):
    """Users of one node who share connections, under closed load."""

    __slots__ = ("_batch", "_supply", "_think_ns", "busy", "stage_code", "thinking", "users")

    def __init__(
        self,
        node: Node,
        index: int,
        traffic: Traffic,
        *,
        seed: int,
        protocol: Protocol,
        supply: Supply,
        think_ns: int,
    ) -> None:
        super().__init__(node, index, traffic, seed=seed, protocol=protocol)
        self.turn = 1  # users are spread over all connections
        self._supply, self._think_ns = supply, think_ns
        self._batch: list[Parcel] = []
        self.stage_code = 0  # what the current stage adds to a code of stage 0
        self.users = 0  # how many there should be
        self.busy = 0  # of them, those with a request in flight
        self.thinking: deque[int] = deque()  # when the pauses of the others end

    def settled(self, connection: MultiplexedConnection, ended: int, now_ns: int) -> None:
        """Let the users whose requests have ended pause, or go on at once."""
        traffic, batch = self._traffic, self._batch
        if (
            ended == 1
            and batch
            and not traffic.unsent
            and self.busy == self.users
            and traffic.gate is None
            and traffic.is_sending
            and not self._think_ns
            and len(self.connections) <= self.wanted
        ):  # one user goes on where it was; all that follows would find just that
            traffic.planned += 1
            connection.send_next(self._staged([batch.pop()]))
            return
        self.busy -= ended
        if len(self.connections) > self.wanted:
            connection.close()
        elif not self._traffic.is_sending:
            connection.park()
        elif self._think_ns:
            self.thinking.extend([now_ns + self._think_ns] * ended)
            connection.park()
        else:
            missing = self.users - self.busy
            count = max(0, min(missing, ended, connection.room))
            connection.begin_many(self._take(count, now_ns))
            if missing > ended:
                self.serve(now_ns)

    def _take(self, count: int, now_ns: int) -> list[Parcel]:
        """Take the next requests, as many as the ceiling allows."""
        gate = self._traffic.gate
        if gate is not None:
            count = gate.take_many(now_ns, count)
        while len(self._batch) < count:
            self._batch = self._supply.batch(self.index) + self._batch
        split = len(self._batch) - count
        taken = self._batch[split:]
        del self._batch[split:]
        self.busy += count
        self._traffic.planned += count
        return self._staged(taken)

    def _staged(self, parcels: list[Parcel]) -> list[Parcel]:
        """Parcels of stage 0 as those of the current one."""
        stage_code = self.stage_code
        if stage_code:
            return [(0, code + stage_code, task, payload) for _, code, task, payload in parcels]
        return parcels

    def lost(
        self, connection: Carrier, *, was_idle: bool, why: tuple[str, str] | None = None
    ) -> None:
        """A connection has ended, and with it all its requests."""
        super().lost(connection, was_idle=was_idle, why=why)
        self.busy = sum(member.in_flight for member in self.members)

    def serve(self, now_ns: int) -> None:
        """Let users begin who are missing or whose pause is over, while the ceiling allows."""
        traffic, thinking, free = self._traffic, self.thinking, self.free
        while thinking and thinking[0] <= now_ns:
            thinking.popleft()
        while free and traffic.is_sending and self.busy + len(thinking) < self.users:
            taken = self._take(1, monotonic_ns())
            if not taken:
                break
            ((_, code, task, payload),) = taken
            free.popleft().begin(0, 0, code, task, payload)
        traffic.flush()

    def wake_ns(self) -> int:
        """When the next pause is over."""
        return self.thinking[0] if self.thinking else NEVER_NS
