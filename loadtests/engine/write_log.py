"""What became of each write, kept until the window closes; off unless the plan has an audit.

Two list operations a write. Bounded: what goes beyond is counted and makes the audit
incomplete, it never costs memory without end.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from loadtests.record.writes import WriteOutcome, Writes, outcome_of, writes_of

MOST_ENTRIES: Final = 4_000_000  # of an engine in its run: 44 MB on their way
_OK: Final = int(WriteOutcome.OK)


class WriteLog:
    """Entries of the open second; `slots` are those of the request that is audited."""

    __slots__ = ("_entries", "_left", "_slots", "_t0_ns", "_unlogged")

    def __init__(self, slots: Iterable[int], most: int = MOST_ENTRIES) -> None:
        self._slots = frozenset(slots)
        self._entries: list[int] = []  # three numbers each
        self._left = most
        self._unlogged = 0
        self._t0_ns = 0

    def begin(self, t0_ns: int) -> None:
        """Learn T0: entries have the time from it."""
        self._t0_ns = t0_ns

    def ended_ok(self, slot: int, due_ns: int) -> None:
        """Note a request that was acknowledged, if it is a write."""
        if slot in self._slots:
            self._note(slot, due_ns, _OK)

    def ended_badly(self, slot: int, due_ns: int, kind: str) -> None:
        """Note a request that was not, if it is a write."""
        if slot in self._slots:
            self._note(slot, due_ns, int(outcome_of(kind)))

    def _note(self, slot: int, due_ns: int, outcome: int) -> None:
        if self._left:
            self._left -= 1
            self._entries.extend((due_ns - self._t0_ns, slot, outcome))
        else:
            self._unlogged += 1

    def take(self) -> Writes:
        """All entries since the last call."""
        entries, self._entries = self._entries, []
        unlogged, self._unlogged = self._unlogged, 0
        return writes_of(entries, unlogged)
