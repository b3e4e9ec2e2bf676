"""From engines' windows to numbered batches that wait for their acknowledgement.

Pure bookkeeping of one agent: windows come in per engine and in order, a label is closed
when every living engine has passed it, and a closed batch never changes again. It stays
here until the master has journalled it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from loadtests.record.window import Hiccup, Window, merge_windows, pack_window
from loadtests.swarm.merge import add_totals, totals_of
from loadtests.swarm.messages import NO_TOTALS, Batch, Progress, Totals

SNAPSHOT_BYTES: Final = 4 * 1024 * 1024  # batches beyond this wait for the next snapshot


@dataclass(slots=True)
class _Label:
    """What has come in for one second."""

    windows: list[Window] = field(default_factory=list)
    packed: list[bytes] = field(default_factory=list)
    growth: dict[int, tuple[int, Totals]] = field(default_factory=dict)
    has_hiccup: bool = False
    complete_ns: int | None = None


class Batcher:
    """Collects, closes, keeps until acknowledged."""

    __slots__ = (
        "_expects_hiccups",
        "_hiccup_wait_ns",
        "_labels",
        "_totals",
        "_unacknowledged",
        "last_batch",
    )

    def __init__(self, *, expects_hiccups: bool, hiccup_wait_ns: int) -> None:
        self._expects_hiccups = expects_hiccups
        self._hiccup_wait_ns = hiccup_wait_ns
        self._labels: dict[int, _Label] = {}
        self._totals: dict[int, Totals] = {}
        self._unacknowledged: deque[Batch] = deque()
        self.last_batch = 0

    def add_window(self, index: int, sequence: int, window: Window, packed: bytes) -> None:
        """Take the window number `sequence` of engine `index`, decoded and as it came."""
        label = self._labels.setdefault(window.start_s, _Label())
        label.windows.append(window)
        label.packed.append(packed)
        _, before = label.growth.get(index, (0, NO_TOTALS))
        label.growth[index] = (sequence, add_totals(before, totals_of(window)))

    def add_hiccup(self, start_s: int, hiccup: Hiccup) -> None:
        """Take the ticker's figures of a second."""
        empty = Window.empty(start_s)
        label = self._labels.setdefault(start_s, _Label())
        label.windows.append(
            Window(
                start_s=start_s,
                slots=empty.slots,
                counters=empty.counters,
                keys=empty.keys,
                counts=empty.counts,
                errors={},
                messages={},
                health=(),
                hiccups=(hiccup,),
            )
        )
        label.has_hiccup = True

    def close(self, through_s: int | None, now_ns: int) -> bool:
        """Close labels up to `through_s` (None: all that there is); True if any was closed."""
        before = self.last_batch
        for start_s in sorted(self._labels):
            if through_s is not None and (
                start_s > through_s or self._waits(self._labels[start_s], now_ns)
            ):
                break
            self._close(start_s, self._labels.pop(start_s))
        return self.last_batch > before

    def _waits(self, label: _Label, now_ns: int) -> bool:
        if not self._expects_hiccups or label.has_hiccup:
            return False
        if label.complete_ns is None:
            label.complete_ns = now_ns
        return now_ns - label.complete_ns < self._hiccup_wait_ns

    def _close(self, start_s: int, label: _Label) -> None:
        is_single = len(label.windows) == 1 and len(label.packed) == 1
        packed = (
            label.packed[0] if is_single else pack_window(merge_windows(start_s, label.windows))
        )
        progress = []
        for index, (sequence, growth) in sorted(label.growth.items()):
            total = add_totals(self._totals.get(index, NO_TOTALS), growth)
            self._totals[index] = total
            progress.append(Progress(index, sequence, start_s, total))
        self.last_batch += 1
        self._unacknowledged.append(Batch(self.last_batch, start_s, packed, tuple(progress)))

    def closed_through_s(self, through_s: int | None) -> int | None:
        """Last second of which everything is batched, if engines have passed `through_s`."""
        if through_s is None:
            return None
        lowest = min(self._labels, default=None)
        return through_s if lowest is None else min(through_s, lowest - 1)

    def acknowledge(self, number: int) -> None:
        """Forget batches that the master has journalled; a number never given changes nothing."""
        if number > self.last_batch:
            return
        while self._unacknowledged and self._unacknowledged[0].number <= number:
            self._unacknowledged.popleft()

    def unacknowledged(self) -> tuple[Batch, ...]:
        """Oldest first, as many as fit into a snapshot and at least one."""
        chosen: list[Batch] = []
        size = 0
        for batch in self._unacknowledged:
            size += len(batch.window)
            if chosen and size > SNAPSHOT_BYTES:
                break
            chosen.append(batch)
        return tuple(chosen)

    @property
    def waiting(self) -> int:
        """Batches without an acknowledgement."""
        return len(self._unacknowledged)
