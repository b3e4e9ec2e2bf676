"""The open second of one engine, cut into bins of 100 ms where the plan asks for them.

Nothing is done for a request that went well: at each edge of a bin the recorder bins what it
has buffered, and the growth of its counters since the last edge is the bin. Only what is
rare is looked at one by one: bad requests, by when they were due, and, a batch at a time,
answers later than the plan's marks.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from loadtests.plan.model import LateMark
from loadtests.record.bins import COUNTED, TICK_NS, BinCount, Bins, keys_of, sum_bins
from loadtests.record.window import Count, Kind

Integers = NDArray[np.int64]

_COLUMNS: Final = [int(Count[column.name]) for column in COUNTED]  # of a window's counters
_DUE: Final = {Count.CLIENT_ERROR: BinCount.DUE_CLIENT_ERROR, Count.FAILED: BinCount.DUE_FAILED}


class BinBook:
    """Rows of the open second. `open_connections` gives (slot, connections) of every node."""

    __slots__ = (
        "_before",
        "_late",
        "_lowest_ns",
        "_marks",
        "_open_connections",
        "_parts",
        "_to_unix_ns",
    )

    def __init__(
        self,
        slots: int,
        marks: Sequence[LateMark],
        open_connections: Callable[[], Sequence[tuple[int, int]]],
    ) -> None:
        self._before = np.zeros((slots, len(_COLUMNS)), dtype=np.int64)
        self._late = np.zeros((slots, len(marks)), dtype=np.int64)
        self._marks = {
            kind: [(i, mark.limit_ns) for i, mark in enumerate(marks) if mark.kind is kind]
            for kind in (Kind.RESPONSE, Kind.SERVICE)
        }
        self._lowest_ns = {
            kind: min((limit_ns for _, limit_ns in marks), default=sys.maxsize)
            for kind, marks in self._marks.items()
        }
        self._open_connections = open_connections
        self._parts: list[Bins] = []
        self._to_unix_ns = 0

    def begin(self, to_unix_ns: int) -> None:
        """Learn what has to be added to CLOCK_MONOTONIC to label its times."""
        self._to_unix_ns = to_unix_ns

    def ended_ok(self, kind: Kind, slots: Integers, values_ns: Integers) -> None:
        """Count the answers that are later than a mark."""
        if values_ns.max(initial=0) <= self._lowest_ns[kind]:
            return  # nearly always
        for column, limit_ns in self._marks[kind]:
            late = slots[values_ns > limit_ns]
            if late.size:
                np.add.at(self._late[:, column], late, 1)

    def ended_badly(self, slots: Integers, counts: Integers, dues_ns: Integers) -> None:
        """Count requests by their intended time; `counts` says as what each ended."""
        rows = np.zeros((slots.size, len(BinCount)), dtype=np.int64)
        for count, column in _DUE.items():
            rows[:, column] = counts == count
        ticks = (dues_ns + self._to_unix_ns) // TICK_NS
        self._parts.append(sum_bins([Bins(keys=keys_of(ticks, slots), counters=rows)]))

    def cut(self, tick: int, counters: Integers) -> None:
        """End the bin that began at `tick`; `counters` are those of the open second so far."""
        now = counters[:, _COLUMNS]
        growth = now - self._before
        self._before = now
        for slot, connections in self._open_connections():
            self._note_open(tick, slot, connections)
        slots = np.flatnonzero(growth.any(axis=1))
        if not slots.size:
            return
        rows = np.zeros((slots.size, len(BinCount)), dtype=np.int64)
        rows[:, list(COUNTED)] = growth[slots]
        late = self._late.shape[1]
        rows[:, BinCount.LATE_0 : BinCount.LATE_0 + late] = self._late[slots]
        self._late[slots] = 0
        self._parts.append(Bins(keys=keys_of(tick, slots), counters=rows))

    def _note_open(self, tick: int, slot: int, connections: int) -> None:
        row = np.zeros((1, len(BinCount)), dtype=np.int64)
        row[0, BinCount.OPEN] = connections
        self._parts.append(Bins(keys=keys_of(tick, np.array([slot])), counters=row))

    def take(self) -> Bins:
        """All rows of the second, which is over: counters begin at zero again."""
        bins, self._parts = sum_bins(self._parts), []
        self._before[:] = 0
        return bins
