"""Open load: hands every arrival of the engine's shares to its node when it is due.

Arrivals are computed a *stretch* (70 ms) at a time and made into bytes a *slice* at a
time: while one slice is handed out the next is prepared, in steps too short to hold up
what is due. All that is due leaves together; the next time is that of the next arrival,
but not sooner than a *quantum* after the last. At high rates that halves the kernel's
work: sent one by one, arrivals wake the engine, and the target's process on its idle
core, for each (`make bench`, open load). Over HTTP/2 what is due to a node leaves in one
piece. Whoever looks at the clock first sends: the timer, or a connection that has just
ended a request.

The law: an arrival keeps its intended time for ever, is planned in the second of that
time, and is sent, dropped, failed or waiting exactly once.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from time import monotonic_ns
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from loadtests.clock import NS_PER_MS
from loadtests.engine.catalogue import Catalogue
from loadtests.engine.lanes import lanes_of, lanes_of_slots
from loadtests.engine.manner import STRAINED, Manner
from loadtests.engine.multiplexed_pool import MultiplexedPool
from loadtests.engine.pool import Pool
from loadtests.engine.task import Parcel
from loadtests.engine.traffic import NEVER_NS, Traffic
from loadtests.plan.model import Plan, Share
from loadtests.plan.schedule import Schedule

# Whole slices of either manner. At 150,000 arrivals/s one takes 0.1 ms; 250 ms, whose arrays
# leave the cache, 1.3 ms, in which nothing is sent.
STRETCH_NS: Final = 70 * NS_PER_MS
_MOST_ARRIVALS: Final = 512  # in one turn of the loop: up to 3 ms
# Arrivals of a slice: by time where they are many, by number where they are few.
_FEWEST_TOGETHER: Final = 512
_MOST_TOGETHER: Final = 4096
_HASTE: Final = 1.25  # a slice is prepared by so much faster than the one before is handed out
_DONE: Final = object()
_GONE: Final[list[Any]] = [None] * _MOST_ARRIVALS  # in place of parcels

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Arrivals by time; offsets from T0 in ns, parallel arrays."""

    offsets_ns: Integers
    sequences: Integers
    slots: Integers

    def part(self, begin: int, end: int) -> _Stretch:
        return _Stretch(
            self.offsets_ns[begin:end], self.sequences[begin:end], self.slots[begin:end]
        )


@dataclass(slots=True)
class _Slice:
    """Arrivals as they are handed out; parallel lists, times in ns of CLOCK_MONOTONIC."""

    stretch: _Stretch
    dues_ns: list[int]
    pools: list[Pool]
    parcels: list[Parcel] = field(default_factory=list)


def _merged(parts: Sequence[_Stretch]) -> _Stretch:
    if len(parts) == 1:
        return parts[0]
    offsets = np.concatenate([part.offsets_ns for part in parts])
    order = np.argsort(offsets, kind="stable")
    return _Stretch(
        offsets[order],
        np.concatenate([part.sequences for part in parts])[order],
        np.concatenate([part.slots for part in parts])[order],
    )


class Pacer:
    """The arrivals of one engine in order of time; `begin` fixes T0."""

    __slots__ = (
        "_at",
        "_catalogue",
        "_coming",
        "_gathers",
        "_horizon_ns",
        "_late_ns",
        "_owed_steps",
        "_plan",
        "_pools",
        "_schedule",
        "_shares",
        "_slice",
        "_slice_from",
        "_steps",
        "_steps_per_arrival",
        "_steps_taken",
        "_stretch",
        "_t0_ns",
        "_traffic",
        "_uncounted",
        "manner",
    )

    def __init__(
        self,
        plan: Plan,
        share: Share,
        catalogue: Catalogue,
        pools: Sequence[Pool],
        traffic: Traffic,
    ) -> None:
        self._plan, self._catalogue = plan, catalogue
        self._schedule = Schedule(plan)
        self._shares = [share]
        self._traffic = traffic
        lanes = lanes_of_slots(plan, lanes_of(plan))
        self._pools = np.array([pools[lane] for lane in lanes], dtype=object)
        self._gathers = any(isinstance(pool, MultiplexedPool) for pool in pools)
        self._t0_ns = 0
        self._horizon_ns = 0  # arrivals below this offset have been computed
        self._stretch = self._compute(0, 0)
        self._slice_from = 0  # first arrival of the stretch that no slice has held
        self._slice = _Slice(self._stretch, [], [])
        self._at = 0  # first arrival of the slice that has not been handed out
        self._coming: _Slice | None = None  # the slice behind it, as far as it is prepared
        self._steps: Iterator[None] = iter(())  # what is left of preparing that
        self._steps_taken = 0
        self._steps_per_arrival = self._owed_steps = 0.0
        self._uncounted: list[_Stretch] = []  # computed, not yet counted as planned
        self._late_ns = 0  # the latest that arrivals were handed out since it was last asked
        self.manner: Manner = STRAINED  # until the engine knows better

    def begin(self, t0_ns: int) -> None:
        """Fix T0 and prepare the first arrivals."""
        self._t0_ns = t0_ns
        self._steps = self._preparing()
        self._advance()

    def _compute(self, from_ns: int, to_ns: int, shares: Sequence[Share] | None = None) -> _Stretch:
        slots = self._plan.slots
        parts = []
        for share in self._shares if shares is None else shares:
            found = self._schedule.arrivals(share, from_ns, to_ns)
            row = found.stages * len(slots.requests) + found.requests
            at = row * len(slots.nodes) + found.nodes
            parts.append(_Stretch(found.offsets_ns, found.sequences, at))
        return _merged(parts)

    def _advance(self) -> None:
        """Make the next arrivals current; NEVER_NS is due when there are none."""
        self._steps_taken += sum(1 for _ in self._steps)
        coming, self._coming, self._at = self._coming, None, 0
        if coming is None:
            self._slice = _Slice(self._stretch.part(0, 0), [], [])
            self._traffic.due_ns = NEVER_NS
            return
        self._slice = coming
        self._traffic.due_ns = coming.dues_ns[0]
        # The slice behind it will take about as many steps: each arrival pays for its part.
        self._steps_per_arrival = _HASTE * self._steps_taken / len(coming.dues_ns)
        self._steps, self._steps_taken, self._owed_steps = self._preparing(), 0, 0.0

    def _preparing(self) -> Iterator[None]:
        """Prepare the slice behind the current one, in steps; none when there are no more."""
        while self._slice_from >= len(self._stretch.offsets_ns):
            if self._horizon_ns >= self._plan.duration_ns:
                return
            self._extend()
            yield
            if not self._stretch.sequences.size:
                self._leap()
                yield
        count = self._worth_preparing()
        part = self._stretch.part(self._slice_from, self._slice_from + count)
        dues_ns = (part.offsets_ns + self._t0_ns).tolist()
        yield
        to = self._pools[part.slots].tolist()
        self._slice_from += len(part.offsets_ns)
        self._coming = coming = _Slice(part, dues_ns, to)
        yield
        coming.parcels = yield from self._catalogue.prepare(dues_ns, part.sequences, part.slots)

    def _worth_preparing(self) -> int:
        """How many arrivals the next slice has: what is prepared together costs less for each."""
        begin, stretch = self._slice_from, self._stretch
        until_ns = int(stretch.offsets_ns[begin]) + self.manner.slice_ns
        in_time = int(np.searchsorted(stretch.offsets_ns, until_ns)) - begin
        most = min(max(in_time, _FEWEST_TOGETHER), _MOST_TOGETHER)
        return self._catalogue.most_together(stretch.slots[begin:], most)

    def _extend(self) -> None:
        """Compute one more stretch behind the current one, which is used up."""
        to_ns = min(self._horizon_ns + STRETCH_NS, self._plan.duration_ns)
        self._stretch = self._compute(self._horizon_ns, to_ns)
        self._slice_from = 0
        self._horizon_ns = to_ns
        self._uncounted.append(self._stretch)

    def _leap(self) -> None:
        """Leave out time in which nothing is planned: a pause of an hour has 51,000 stretches."""
        leap_ns, is_growing = STRETCH_NS, True
        while leap_ns >= STRETCH_NS and self._horizon_ns < self._plan.duration_ns:
            to_ns = min(self._horizon_ns + leap_ns, self._plan.duration_ns)
            if any(self._schedule.planned(one, self._horizon_ns, to_ns) for one in self._shares):
                leap_ns, is_growing = leap_ns // 2, False
            else:
                self._horizon_ns = to_ns
                leap_ns = 2 * leap_ns if is_growing else leap_ns // 2

    def dispatch(self, now_ns: int) -> bool:
        """Hand out the arrivals that are due; the caller arms the timer.

        All of them, unless they come faster than they can be handed out: then the rest stays
        due, so that answers are read in between. True where steps of preparing followed.
        """
        traffic = self._traffic
        self._late_ns = max(self._late_ns, now_ns - traffic.due_ns)
        count = self._dispatch_due(now_ns, _MOST_ARRIVALS)
        if count and not self._gathers:
            # What has become due meanwhile leaves as well, once: an engine that is busy would
            # go on with ever less, and read no answer for milliseconds. Not where requests
            # leave in groups, whose size is what makes them cheap.
            now_ns = monotonic_ns()
            count += self._dispatch_due(now_ns, _MOST_ARRIVALS - count)
            now_ns = monotonic_ns()
        if count and now_ns < traffic.due_ns < NEVER_NS:
            traffic.due_ns = max(traffic.due_ns, now_ns + self.manner.quantum_ns)
        self._owed_steps += count * self._steps_per_arrival
        has_prepared = False
        while self._owed_steps >= 1:
            self._owed_steps -= 1
            has_prepared = self.step() or has_prepared
        return has_prepared

    def step(self) -> bool:
        """Take one step towards the next slice, if any is left: where arrivals are rare, rounds do.

        Else all of it would be left for the moment after an arrival, when its answer comes.
        """
        if next(self._steps, _DONE) is _DONE:
            return False
        self._steps_taken += 1
        return True

    def take_late_ns(self) -> int:
        """The latest that arrivals were handed out after their quantum, since this was asked."""
        late_ns, self._late_ns = self._late_ns, 0
        return late_ns

    def _dispatch_due(self, now_ns: int, most: int) -> int:
        """Hand out what is due at a time, at most so many; how many they were."""
        traffic, count = self._traffic, 0
        while traffic.due_ns <= now_ns and count < most:
            count += self._dispatch_slice(now_ns, most - count)
            if self._at == len(self._slice.dues_ns):
                self._advance()
            else:
                traffic.due_ns = self._slice.dues_ns[self._at]
        return count

    def _dispatch_slice(self, now_ns: int, most: int) -> int:
        """Hand out what is due of the current slice, at most so many; how many they were."""
        # While this runs nothing may dispatch again, or stop: connections that fail call back.
        traffic = self._traffic
        alarm_ns, traffic.alarm_ns, traffic.due_ns = traffic.alarm_ns, NEVER_NS, NEVER_NS
        begin = self._at
        end = min(bisect_right(self._slice.dues_ns, now_ns, begin), begin + most)
        parcels, pools = self._slice.parcels[begin:end], self._slice.pools[begin:end]
        # Nothing keeps them once they have left: freed while the cache has them, they make room
        # there for those that are being prepared.
        self._slice.parcels[begin:end] = _GONE[: end - begin]
        if self._gathers:
            self._gather(parcels, pools)
        else:
            self._hand_out(parcels, pools)
        if traffic.unsent or traffic.gate is not None:
            traffic.flush()
        self._at = end
        traffic.planned += end - begin
        traffic.alarm_ns = alarm_ns
        return end - begin

    def _hand_out(self, parcels: Sequence[Parcel], pools: Sequence[Pool]) -> None:
        """Give each arrival to its pool's next free connection, with the time of its sending."""
        traffic, count = self._traffic, len(parcels)
        if all(len(pool.free) >= count and not pool.backlog for pool in set(pools)):
            # The usual case: whoever may go now has a connection, so one question is enough.
            count = traffic.permitted(count, monotonic_ns())
            for (due_ns, code, task, payload), pool in zip(parcels[:count], pools, strict=False):
                pool.free.popleft().begin(due_ns, monotonic_ns(), code, task, payload)
            parcels, pools = parcels[count:], pools[count:]
        gate, is_bounded = traffic.gate, traffic.in_flight_limit < NEVER_NS
        for (due_ns, code, task, payload), pool in zip(parcels, pools, strict=True):
            sent_ns = monotonic_ns()
            if (
                pool.free
                and not pool.backlog
                and (not is_bounded or traffic.in_flight < traffic.in_flight_limit)
                and (gate is None or gate.take(sent_ns))
            ):
                pool.free.popleft().begin(due_ns, sent_ns, code, task, payload)
            else:
                pool.offer(due_ns, sent_ns, code, task, payload)

    def _gather(self, parcels: list[Parcel], pools: list[Pool]) -> None:
        """Give each pool what is due on it, all at once, in the order of their first arrivals."""
        gathered: dict[Pool, list[Parcel]] = {}
        if pools.count(pools[0]) == len(pools):  # few, or of one node
            gathered[pools[0]] = parcels
        else:
            for parcel, pool in zip(parcels, pools, strict=True):
                gathered.setdefault(pool, []).append(parcel)
        for pool, mine in gathered.items():
            if isinstance(pool, MultiplexedPool):
                pool.take_due(mine)
            else:
                self._hand_out(mine, [pool] * len(mine))

    def count_planned(self, until_ns: int) -> None:
        """Count the arrivals intended before a CLOCK_MONOTONIC time, once each."""
        until = until_ns - self._t0_ns
        while self._horizon_ns < min(until, self._plan.duration_ns):
            self._extend_behind()
        left = []
        for stretch in self._uncounted:
            end = int(np.searchsorted(stretch.offsets_ns, until))
            if end:
                self._traffic.recorder.planned(stretch.slots[:end])
            if end < len(stretch.offsets_ns):
                left.append(stretch.part(end, len(stretch.offsets_ns)))
        self._uncounted = left

    def _extend_behind(self) -> None:
        """Compute a stretch although the current one is not used up: the loop had stalled."""
        to_ns = min(self._horizon_ns + STRETCH_NS, self._plan.duration_ns)
        more = self._compute(self._horizon_ns, to_ns)
        rest = self._stretch.part(self._slice_from, len(self._stretch.offsets_ns))
        self._stretch, self._slice_from = _merged([rest, more]), 0
        self._horizon_ns = to_ns
        self._uncounted.append(more)

    def _waiting(self) -> list[_Stretch]:
        """All that has been computed and not handed out, in order."""
        current = self._slice.stretch
        coming = [] if self._coming is None else [self._coming.stretch]
        return [
            current.part(self._at, len(current.offsets_ns)),
            *coming,
            self._stretch.part(self._slice_from, len(self._stretch.offsets_ns)),
        ]

    def take_over(self, share: Share) -> None:
        """Send another share, too: what of it is overdue goes at once, the rest on time."""
        added = self._compute(share.from_ns, self._horizon_ns, [share])
        self._shares.append(share)
        self._stretch, self._slice_from = _merged([*self._waiting(), added]), 0
        self._uncounted.append(added)
        self._coming, self._steps = None, self._preparing()
        self._advance()

    def stop(self, now_ns: int) -> None:
        """Hand out nothing more: what is due and was not handed out is dropped."""
        self.count_planned(now_ns + 1)
        until = now_ns - self._t0_ns
        traffic = self._traffic
        for stretch in self._waiting():
            for slot in stretch.slots[stretch.offsets_ns <= until].tolist():
                traffic.planned += 1
                traffic.drop(slot)
        self._shares.clear()
        self._stretch, self._slice_from = self._stretch.part(0, 0), 0
        self._coming, self._steps = None, iter(())
        self._horizon_ns = self._plan.duration_ns
        self._uncounted.clear()
        self._advance()
