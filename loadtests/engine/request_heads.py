"""The header blocks of requests on one HTTP/2 connection: HPACK's encoder (RFC 7541).

A head that never changes is written once with all its fields put into the dynamic table;
from then on it is one or two bytes a field. What varies between requests is written as
literals that never enter the table (6.2.2), so that those bytes can be prepared before a
connection is known. Nothing is ever evicted by us: when the table is full, fields stay
literal. Strings are sent plain, because a Huffman code saves bytes and costs the peer time.

The law: `encode` must be called in the order in which its blocks are sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from hpack.table import HeaderTable

from loadtests.engine.frames import DEFAULT_TABLE_BYTES

Field = tuple[bytes, bytes]

_ENTRY_BYTES: Final = 32  # RFC 7541, 4.1
_STATIC: Final[dict[Field, int]] = {
    field: number for number, field in reversed(list(enumerate(HeaderTable.STATIC_TABLE, 1)))
}
_STATIC_NAMES: Final[dict[bytes, int]] = {
    name: number for number, (name, _) in reversed(list(enumerate(HeaderTable.STATIC_TABLE, 1)))
}
_FIRST_DYNAMIC: Final = len(HeaderTable.STATIC_TABLE) + 1


def integer(value: int, prefix_bits: int, pattern: int) -> bytes:
    """Write `value` behind the bits of a representation (RFC 7541, 5.1)."""
    most = (1 << prefix_bits) - 1
    if value < most:
        return bytes([pattern | value])
    out = bytearray([pattern | most])
    value -= most
    while value > 0x7F:  # noqa: PLR2004 - seven bits a byte
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _string(text: bytes) -> bytes:
    return integer(len(text), 7, 0) + text


def _literal(field: Field, prefix_bits: int, pattern: int) -> bytes:
    name, value = field
    number = _STATIC_NAMES.get(name, 0)
    head = integer(number, prefix_bits, pattern)
    return head + _string(value) if number else head + _string(name) + _string(value)


def plain_block(fields: Iterable[Field]) -> bytes:
    """Write a head that neither uses nor changes any dynamic table."""
    parts = []
    for field in fields:
        number = _STATIC.get(field)
        parts.append(integer(number, 7, 0x80) if number else _literal(field, 4, 0x00))
    return b"".join(parts)


class RequestHeads:
    """Encoder of one connection; `version` changes whenever blocks written before are stale."""

    __slots__ = ("_limit_bytes", "_numbers", "_size_bytes", "_updates", "version")

    def __init__(self) -> None:
        self._limit_bytes = DEFAULT_TABLE_BYTES
        self._numbers: dict[Field, int] = {}  # the first inserted is 0
        self._size_bytes = 0
        self._updates = b""  # table size updates that open the next block
        self.version = 0

    def resize(self, most_bytes: int) -> None:
        """Take the peer's SETTINGS_HEADER_TABLE_SIZE; a smaller table starts empty (4.2)."""
        limit_bytes = min(most_bytes, DEFAULT_TABLE_BYTES)
        if limit_bytes < self._limit_bytes:
            self._numbers.clear()
            self._size_bytes = 0
            self._updates = integer(0, 5, 0x20) + integer(limit_bytes, 5, 0x20)
            self.version += 1
        # A larger one again is not used: what was announced last stays true.
        self._limit_bytes = min(limit_bytes, self._limit_bytes)

    def encode(self, fields: Iterable[Field]) -> bytes:
        """Write a constant head and remember its fields where they fit."""
        out = [self._updates]
        self._updates = b""
        for field in fields:
            static, number = _STATIC.get(field), self._numbers.get(field)
            if static:
                out.append(integer(static, 7, 0x80))
            elif number is not None:
                out.append(integer(_FIRST_DYNAMIC + len(self._numbers) - 1 - number, 7, 0x80))
            elif self._remember(field):
                out.append(_literal(field, 6, 0x40))
            else:
                out.append(_literal(field, 4, 0x00))
        return b"".join(out)

    def encode_plain(self, block: bytes) -> bytes:
        """Put what must open the next block before one of `plain_block`."""
        block, self._updates = self._updates + block, b""
        return block

    def _remember(self, field: Field) -> bool:
        size_bytes = len(field[0]) + len(field[1]) + _ENTRY_BYTES
        if self._size_bytes + size_bytes > self._limit_bytes:
            return False
        self._size_bytes += size_bytes
        self._numbers[field] = len(self._numbers)
        self.version += 1
        return True
