"""Header blocks that mean the same whatever the dynamic table holds (RFC 7541, 2.3).

Such a block refers to static entries and literals only. nginx writes no others, and asks for
each of its literals to be inserted all the same (6.2.1), so that every one of its blocks
changes the table. What such a block means is known after its first decoding; what it inserts
is owed to the table, and paid before a block is decoded for which the table might matter.

The law: whoever pays in time cannot tell the table from one that was paid at once. Bounded:
1,024 blocks; of what is owed, as many entries as the largest table can hold.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Generic, TypeVar

from hpack.table import HeaderTable

from loadtests.engine.frames import DEFAULT_TABLE_BYTES

_MOST_BLOCKS: Final = 1024
_ENTRY_BYTES: Final = 32  # at least so much counts an entry (RFC 7541, 4.1)
_FIRST_DYNAMIC: Final = HeaderTable.STATIC_TABLE_LENGTH + 1
_INDEXED, _INSERTED, _RESIZE, _KIND_OF_RESIZE = 0x80, 0x40, 0x20, 0xE0  # RFC 7541, 6

Entry = tuple[bytes, bytes]
Meaning = TypeVar("Meaning")


def _integer(block: bytes, at: int, prefix_bits: int) -> tuple[int, int]:
    """Read an integer (RFC 7541, 5.1) of a block that is well formed; where it ends, too."""
    most = (1 << prefix_bits) - 1
    value = block[at] & most
    at += 1
    if value < most:
        return value, at
    shift = 0
    while block[at] & 0x80:
        value += (block[at] & 0x7F) << shift
        shift += 7
        at += 1
    return value + (block[at] << shift), at + 1


def is_independent(block: bytes) -> bool:
    """Tell whether a well-formed block refers to nothing in the dynamic table, nor resizes it."""
    at = 0
    while at < len(block):
        first = block[at]
        if first & _KIND_OF_RESIZE == _RESIZE:
            return False
        is_indexed = bool(first & _INDEXED)
        index, at = _integer(block, at, 7 if is_indexed else 6 if first & _INSERTED else 4)
        if index >= _FIRST_DYNAMIC:
            return False
        if not is_indexed:
            for _ in range(1 if index else 2):  # a value, and a name where there is no index
                length, at = _integer(block, at, 7)
                at += length
    return True


class IndependentBlocks(Generic[Meaning]):
    """What blocks that insert mean, and what is owed to the table of their connection."""

    __slots__ = ("_known", "_owed", "_table")

    def __init__(self, table: HeaderTable) -> None:
        self._table = table
        self._known: dict[bytes, tuple[Meaning, tuple[Entry, ...]]] = {}
        # What is forgotten here, all that follows would have evicted.
        self._owed: deque[Entry] = deque(maxlen=DEFAULT_TABLE_BYTES // _ENTRY_BYTES)

    def take(self, block: bytes) -> Meaning | None:
        """Return the meaning of a block, and owe what it inserts; None where it is not known."""
        known = self._known.get(block)
        if known is None:
            return None
        meaning, entries = known
        self._owed.extend(entries)
        return meaning

    def pay(self) -> None:
        """Insert what is owed."""
        for name, value in self._owed:
            self._table.add(name, value)
        self._owed.clear()

    def keep(self, block: bytes, meaning: Meaning, entries: tuple[Entry, ...]) -> None:
        """Remember what a block means, and what it has inserted."""
        if len(self._known) >= _MOST_BLOCKS:
            self._known.clear()
        self._known[block] = meaning, entries
