"""Keys and counts of a window as few bytes: what a master takes in from every agent.

Sorted keys are written as the gaps between them, one byte each: the number of buckets
that were not hit since the key before. A gap of 255 or more (few within a histogram, one
between two) is the byte 255, and stands in a list of its own. Most buckets of a second
were hit once: one bit says which were hit more often, and only these have a count. That is
1.4 to 1.8 bytes a bucket where bucket number and count take 3, and reading it is cheaper too,
because gaps cannot be out of order: only the last key has to be checked.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

KeyCounts = tuple[NDArray[np.uint32], NDArray[np.int64]]  # sorted unique keys, their counts

_FAR: Final = 255  # stands for a gap in `far_gaps`
_KEYS: Final = 2**32
_WIDTHS: Final = {1: "<u1", 2: "<u2", 4: "<u4", 8: "<i8"}
# What every key adds to the gaps before it, for as many keys as windows usually have.
_NUMBERS: Final = np.arange(1 << 16, dtype=np.int64)


class PackedCounts(msgspec.Struct, array_like=True):
    """Keys and counts in bytes; all numbers are little endian."""

    gaps: bytes  # one for each key, u1
    far_gaps: bytes  # those of 255 and more, u4
    is_many: bytes  # one bit for each key, the highest bit first: the count is above one
    many: bytes  # the counts above one, of one, two, four or eight bytes each


def pack_counts(keys: NDArray[np.uint32], counts: NDArray[np.int64]) -> PackedCounts:
    """Encode sorted unique keys and their positive counts."""
    gaps = keys.copy()
    gaps[1:] -= keys[:-1] + np.uint32(1)
    far = (gaps >= _FAR).nonzero()[0]
    is_many = counts > 1
    many = counts[is_many.nonzero()[0]]  # picking by number takes half as long as by truth
    highest = int(many.max(initial=0))
    width = next(size for size in _WIDTHS if highest < 1 << (8 * size - (size == 8)))  # noqa: PLR2004 - int64 has a sign
    return PackedCounts(
        np.minimum(gaps, _FAR).astype("<u1").tobytes(),
        gaps[far].astype("<u4").tobytes(),
        np.packbits(is_many).tobytes(),
        many.astype(_WIDTHS[width]).tobytes(),
    )


def unpack_counts(packed: PackedCounts) -> KeyCounts:
    """Inverse of `pack_counts`; ValueError when the parts contradict each other."""
    gaps = np.frombuffer(packed.gaps, dtype="<u1")
    if len(packed.is_many) != -(-gaps.size // 8):
        raise ValueError("window arrays differ in length")
    return _unpack_keys(gaps, packed.far_gaps), _unpack_numbers(gaps.size, packed)


def _unpack_keys(gaps: NDArray[np.uint8], far_gaps: bytes) -> NDArray[np.uint32]:
    far = (gaps == _FAR).nonzero()[0]
    if len(far_gaps) != 4 * far.size:
        raise ValueError("window arrays differ in length")
    keys = gaps.astype(np.int64)
    keys[far] = np.frombuffer(far_gaps, dtype="<u4")
    keys.cumsum(out=keys)
    keys += _NUMBERS[: keys.size] if keys.size <= _NUMBERS.size else np.arange(keys.size)
    if keys.size and keys[-1] >= _KEYS:
        raise ValueError("window names a slot beyond the key space")
    return keys.astype(np.uint32)


def _unpack_numbers(size: int, packed: PackedCounts) -> NDArray[np.int64]:
    bits = np.unpackbits(np.frombuffer(packed.is_many, dtype=np.uint8), count=size)
    places = bits.view(np.bool_).nonzero()[0]
    counts = np.empty(size, dtype=np.int64)
    counts.fill(1)
    if not places.size and not packed.many:
        return counts
    width, rest = divmod(len(packed.many), max(1, places.size))
    if not places.size or rest or width not in _WIDTHS:
        raise ValueError("window arrays differ in length")
    many = np.frombuffer(packed.many, dtype=_WIDTHS[width])
    if np.minimum.reduce(many) <= 1:
        raise ValueError("window holds a negative count, or a single one as many")
    counts[places] = many.astype(np.int64)  # cast first: scattering two widths takes twice as long
    return counts
