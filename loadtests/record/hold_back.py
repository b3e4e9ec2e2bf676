"""Holds windows back for a while, so that parts of one second merge before it is archived.

Agents do not hand over a second at the same moment. What comes within `hold_s` of the
newest second is merged into one window; what comes later is handed out as a further part
of its second, never dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from loadtests.record.journal import Batch, ServerBatch
from loadtests.record.window import Window, merge_windows

# Agents' windows of one second lie within some seconds of each other in a journal; what a
# stalled agent hands over later than this becomes a further part of its second.
_JOURNAL_HOLD_S: Final = 60


class HoldBack:
    """Takes windows in any order, gives merged ones, oldest first; holds `hold_s` of them."""

    def __init__(self, hold_s: int) -> None:
        self._hold_s = hold_s
        self._held: dict[int, Window] = {}
        self.newest_s = 0  # the latest second seen

    def __len__(self) -> int:
        return len(self._held)

    def add(self, window: Window) -> None:
        """Take a window or a part of one."""
        label = window.start_s
        held = self._held.get(label)
        self._held[label] = window if held is None else merge_windows(label, [held, window])
        self.newest_s = max(self.newest_s, label)

    def due(self) -> Iterator[Window]:
        """Give what is old enough; a window leaves when the next one is asked for."""
        return self._give([at for at in self._held if at <= self.newest_s - self._hold_s])

    def rest(self) -> Iterator[Window]:
        """Give everything."""
        return self._give(list(self._held))

    def _give(self, labels: list[int]) -> Iterator[Window]:
        for label in sorted(labels):
            # Kept until it is dealt with: a failure on the way must not lose it.
            yield self._held[label]
            del self._held[label]


def windows_in_order(journal: Iterable[Batch | ServerBatch | bytes]) -> Iterator[Window]:
    """What all sources handed over, merged second by second.

    Windows are taken as they lie in the journal and let go when they are old enough, so a long
    run does not have to fit in memory.
    """
    held = HoldBack(_JOURNAL_HOLD_S)
    for batch in journal:
        if isinstance(batch, Batch):
            for window in batch.windows:
                held.add(window)
            yield from held.due()
    yield from held.rest()
