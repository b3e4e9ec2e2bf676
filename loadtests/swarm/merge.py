"""Merging without loss or doubling: an agent's book at the master, labels into windows.

A `Ledger` takes the batches of one incarnation, each exactly once and in order, whatever
comes in; it refuses a batch whose window does not add up to the growth of the cumulative
totals beside it, so that the archive cannot differ from what engines counted.
`Assembly` collects windows by label and releases a label when it is complete; what comes
later is released as a further part with the same label, never dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from loadtests.record.window import (
    Count,
    SlotSpace,
    Window,
    check_bins,
    check_slots,
    merge_windows,
    unpack_window,
)
from loadtests.swarm.messages import NO_TOTALS, Batch, Progress, Totals

_COLUMNS: Final = [
    Count.PLANNED,
    Count.SENT,
    Count.DROPPED,
    Count.OK,
    Count.CLIENT_ERROR,
    Count.FAILED,
]


class LedgerError(ValueError):
    """A batch that contradicts what came before, or itself; `kind` names how."""

    def __init__(self, kind: str, text: str) -> None:
        self.kind = kind
        super().__init__(text)


def totals_of(window: Window) -> Totals:
    """Sums of a window over all slots."""
    sums = window.counters.sum(axis=0).tolist()
    return Totals(*(sums[column] for column in _COLUMNS))


def add_totals(left: Totals, right: Totals) -> Totals:
    """Counter by counter."""
    return Totals(
        left.planned + right.planned,
        left.sent + right.sent,
        left.dropped + right.dropped,
        left.ok + right.ok,
        left.client_error + right.client_error,
        left.failed + right.failed,
    )


def subtract_totals(left: Totals, right: Totals) -> tuple[int, ...]:
    """Counter by counter, in the order of `Totals`; may be negative."""
    return (
        left.planned - right.planned,
        left.sent - right.sent,
        left.dropped - right.dropped,
        left.ok - right.ok,
        left.client_error - right.client_error,
        left.failed - right.failed,
    )


class Ledger:
    """The master's book of one incarnation: batches taken, cumulative totals per engine."""

    __slots__ = ("_indices", "_slots", "contiguous", "progress")

    def __init__(self, indices: range, slots: SlotSpace) -> None:
        self._indices, self._slots = indices, slots  # engines of the agent; what the run has
        self.contiguous = 0  # every batch up to this number has been taken
        self.progress: dict[int, Progress] = {}

    def take(self, batch: Batch) -> Window | None:
        """Return the window of a batch that is new, None for one that is known.

        `LedgerError` leaves the book as it was.
        """
        if batch.number <= self.contiguous:
            return None
        self._check_follows(batch.number)
        try:
            window = unpack_window(batch.window)
        except ValueError as error:
            raise LedgerError("batch_damaged", f"batch {batch.number}: {error}") from error
        if window.start_s != batch.start_s:
            raise LedgerError("batch_label", f"window {window.start_s} in batch {batch.start_s}")
        self.admit(batch.number, window, batch.progress)
        return window

    def admit(self, number: int, window: Window, progress: Sequence[Progress]) -> None:
        """Take the batch that follows, unpacked; `LedgerError` leaves the book as it was."""
        self._check_follows(number)
        self._check(number, window, progress)
        for entry in progress:
            self.progress[entry.index] = entry
        self.contiguous = number

    def _check_follows(self, number: int) -> None:
        if number != self.contiguous + 1:
            raise LedgerError("batch_gap", f"batch {number} after {self.contiguous}")

    def _check(self, number: int, window: Window, progress: Sequence[Progress]) -> None:
        if len({entry.index for entry in progress}) != len(progress):
            raise LedgerError("batch_engine", f"batch {number} names an engine twice")
        try:
            check_slots(window, self._slots)
        except ValueError as error:
            raise LedgerError("batch_slot", f"batch {number}: {error}") from error
        try:
            check_bins(window)
        except ValueError as error:
            raise LedgerError("batch_bins", f"batch {number}: {error}") from error
        growths = [self._growth(entry) for entry in progress]
        growth = [sum(column) for column in zip((0,) * len(_COLUMNS), *growths, strict=True)]
        sums = np.add.reduce(window.counters).tolist()
        seen = [sums[column] for column in _COLUMNS]
        if seen != growth:
            raise LedgerError(
                "batch_sums", f"batch {number}: windows add up to {seen}, totals to {growth}"
            )

    def _growth(self, progress: Progress) -> tuple[int, ...]:
        if progress.index not in self._indices:
            raise LedgerError("batch_engine", f"engine {progress.index} is not of this agent")
        before = self.progress.get(progress.index)
        growth = subtract_totals(progress.totals, before.totals if before else NO_TOTALS)
        if min(growth) < 0 or progress.windows <= (before.windows if before else 0):
            raise LedgerError("counters_backwards", f"engine {progress.index}: {growth}")
        return growth

    def totals(self, index: int) -> Totals:
        """Cumulative totals that an engine has handed over."""
        progress = self.progress.get(index)
        return progress.totals if progress else NO_TOTALS

    def through_s(self, index: int) -> int | None:
        """Label of the last window that an engine has handed over."""
        progress = self.progress.get(index)
        return progress.through_s if progress else None


class Assembly:
    """Windows by label, until every living agent has passed the label."""

    __slots__ = ("_late", "_pending", "_sums", "released_through_s")

    def __init__(self) -> None:
        self._pending: dict[int, list[Window]] = {}
        self._late: dict[int, list[Window]] = {}
        self._sums: NDArray[np.int64] = np.zeros(len(Count), dtype=np.int64)
        self.released_through_s: int | None = None

    def add(self, window: Window) -> None:
        """Take a window of one agent."""
        through_s = self.released_through_s
        is_late = through_s is not None and window.start_s <= through_s
        book = self._late if is_late else self._pending
        book.setdefault(window.start_s, []).append(window)

    def release(self, through_s: int | None) -> list[tuple[Window, bool]]:
        """Merged windows up to a label (None: all), oldest first, and whether each is late."""
        released = [(self._merged(label, self._late), True) for label in sorted(self._late)]
        for label in sorted(self._pending):
            if through_s is not None and label > through_s:
                break
            released.append((self._merged(label, self._pending), False))
            self._pass(label)
        if through_s is not None:
            self._pass(through_s)
        return released

    def _pass(self, label: int) -> None:
        self.released_through_s = max(label, self.released_through_s or label)

    def _merged(self, label: int, book: dict[int, list[Window]]) -> Window:
        parts = book.pop(label)
        window = parts[0] if len(parts) == 1 else merge_windows(label, parts)
        self._sums += window.counters.sum(axis=0)
        return window

    @property
    def is_empty(self) -> bool:
        """True if everything taken was released."""
        return not self._pending and not self._late

    @property
    def totals(self) -> Totals:
        """Sums of everything released: what the archive holds."""
        sums = self._sums.tolist()
        return Totals(*(sums[column] for column in _COLUMNS))
