"""Bins of 100 ms within a window, for failovers: what a second hides, and their exact merge.

A row belongs to a *tick* (10 ms of unix time) and a slot, and its counters only ever add up.
Two kinds of rows share the table:

- of a bin, at its first tick: what a window counts, by the time of the event as there (so a
  dropped arrival is in the bin in which it was shed), and how many answers came later than
  each of the plan's marks. PLANNED is by the intended time.
- of a tick: requests that ended badly, by their *intended* time. An outage of a target that
  answers nothing is over long before the last timeout is, so whether arrivals of a moment
  succeeded can only be said by when they were due; and the first and the last of them bound
  an outage closer than two whole bins do.

Laws: a window's bins add up to its counters, slot by slot; each bad request is in one row of
each kind. A window's bins lie within its second; ticks of bad arrivals may lie before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from loadtests.clock import NS_PER_MS, NS_PER_S

BIN_NS: Final = 100 * NS_PER_MS
TICK_NS: Final = 10 * NS_PER_MS
TICKS_PER_BIN: Final = BIN_NS // TICK_NS
TICKS_PER_S: Final = NS_PER_S // TICK_NS
MOST_MARKS: Final = 6  # latency limits that answers can be late for
_SLOT_BITS: Final = 16  # record.window.MAX_SLOTS is 20,261
_WIDTHS: Final = ("<u1", "<u2", "<u4", "<i8")

Integers = NDArray[np.int64]


class BinCount(IntEnum):
    """Columns of the rows, in the order of the archive."""

    PLANNED = 0
    SENT = 1
    DROPPED = 2
    OK = 3
    CLIENT_ERROR = 4
    FAILED = 5
    CONNECTS = 6  # request CONNECTION
    CONNECT_FAILURES = 7
    OPEN = 8  # connections open when the bin ended: adds up over engines, not over time
    DUE_CLIENT_ERROR = 9  # by intended time, in rows of ticks
    DUE_FAILED = 10
    LATE_0 = 11  # ok, and later than the plan's mark 0
    LATE_1 = 12
    LATE_2 = 13
    LATE_3 = 14
    LATE_4 = 15
    LATE_5 = 16


COUNTED: Final = (  # those of a window's counters that are in its bins
    BinCount.PLANNED,
    BinCount.SENT,
    BinCount.DROPPED,
    BinCount.OK,
    BinCount.CLIENT_ERROR,
    BinCount.FAILED,
    BinCount.CONNECTS,
    BinCount.CONNECT_FAILURES,
)
DUE_OF: Final = {
    BinCount.DUE_CLIENT_ERROR: BinCount.CLIENT_ERROR,
    BinCount.DUE_FAILED: BinCount.FAILED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bins:
    """Sparse rows: `keys` (n,) int64, sorted unique, `counters` (n, len(BinCount)) int64."""

    keys: Integers
    counters: Integers

    def __len__(self) -> int:
        return self.keys.size

    @property
    def ticks(self) -> Integers:
        """Unix time of each row in ticks."""
        return self.keys >> _SLOT_BITS

    @property
    def slots(self) -> Integers:
        """Slot of each row."""
        return self.keys & ((1 << _SLOT_BITS) - 1)


NO_BINS: Final = Bins(
    keys=np.empty(0, dtype=np.int64), counters=np.empty((0, len(BinCount)), dtype=np.int64)
)


def keys_of(ticks: Integers | int, slots: Integers) -> Integers:
    """Keys of rows, which sort by time."""
    return (np.asarray(ticks, dtype=np.int64) << _SLOT_BITS) | slots


def sum_bins(parts: Sequence[Bins]) -> Bins:
    """Add rows of equal keys; the keys of a part need not be sorted or unique."""
    filled = [part for part in parts if len(part)]
    if not filled:
        return NO_BINS
    keys = np.concatenate([part.keys for part in filled])
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    starts = np.flatnonzero(np.diff(keys, prepend=keys[0] - 1))
    rows = np.concatenate([part.counters for part in filled])[order]
    return Bins(keys=keys[starts], counters=np.add.reduceat(rows, starts, axis=0))


def broken_bin_law(
    bins: Bins, start_s: int, slots: NDArray[np.uint32], counters: Integers
) -> str | None:
    """How the bins of a window contradict its counters, or None.

    `counters` begins with the columns of `record.window.Count`, one row for each of `slots`.
    """
    own = bins.counters
    is_bin = own[:, : BinCount.DUE_CLIENT_ERROR].any(axis=1)
    if (bins.ticks[is_bin] // TICKS_PER_S != start_s).any():
        return "a bin lies outside of its second"
    missing = np.setdiff1d(bins.slots, slots)
    if missing.size and own[np.isin(bins.slots, missing)][:, list(COUNTED)].any():
        return f"bins of slot {missing[0]}, which the window does not have"
    sums = np.zeros((slots.size, len(BinCount)), dtype=np.int64)
    known = np.isin(bins.slots, slots)
    np.add.at(sums, np.searchsorted(slots, bins.slots[known]), own[known])
    for column in COUNTED:
        expected = counters[:, _column_in_window(column)]
        if not np.array_equal(sums[:, column], expected):
            seen, wanted = int(sums[:, column].sum()), int(expected.sum())
            return f"bins hold {seen} {column.name.lower()}, their window {wanted}"
    for due, ended in DUE_OF.items():
        if not np.array_equal(sums[:, due], sums[:, ended]):
            seen, wanted = int(sums[:, due].sum()), int(sums[:, ended].sum())
            return f"{seen} {ended.name.lower()} by intended time, {wanted} by their end"
    return None


def _column_in_window(column: BinCount) -> int:
    """Column of `record.window.Count`: the bytes in the middle are not in bins."""
    return column if column <= BinCount.FAILED else column + 2


class PackedBins(msgspec.Struct, array_like=True):
    """Rows in bytes; all numbers are little endian, counters as narrow as they may be."""

    keys: bytes  # i8
    counters: bytes  # row by row
    width: int  # number of the counters' type


def pack_bins(bins: Bins) -> PackedBins | None:
    """Encode; None where there are none."""
    if not len(bins):
        return None
    highest = int(bins.counters.max())
    width = next(
        i for i, limit in enumerate((1 << 8, 1 << 16, 1 << 32, 1 << 63)) if highest < limit
    )
    return PackedBins(
        bins.keys.astype("<i8").tobytes(), bins.counters.astype(_WIDTHS[width]).tobytes(), width
    )


def unpack_bins(packed: PackedBins | None) -> Bins:
    """Inverse of `pack_bins`; ValueError when the parts contradict each other."""
    if packed is None:
        return NO_BINS
    if not 0 <= packed.width < len(_WIDTHS):
        raise ValueError("bins of an unknown width")
    keys = np.frombuffer(packed.keys, dtype="<i8").astype(np.int64)
    counters = np.frombuffer(packed.counters, dtype=_WIDTHS[packed.width]).astype(np.int64)
    if counters.size != keys.size * len(BinCount):
        raise ValueError("bin arrays differ in length")
    if (keys[1:] <= keys[:-1]).any() or keys.min(initial=0) < 0:
        raise ValueError("bin keys are not sorted and unique")
    if counters.min(initial=0) < 0:
        raise ValueError("bins hold a negative count")
    return Bins(keys=keys, counters=counters.reshape(-1, len(BinCount)))
