"""Texts of many sequences as one matrix of bytes, a row each: what NumPy can put together.

A row may have holes, in the cells whose texts differ in length: their masks tell which bytes
belong to the texts. So numbers of different lengths, and groups that hold them, are put side
by side without moving a byte until all is joined and cut into texts, once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Integers = NDArray[np.int64]

_GROUP: Final = 10_000
_GROUP_DIGITS: Final = 4
# The four ASCII digits of each number below 10,000, as they lie in memory.
_DIGITS: Final = np.frombuffer(b"".join(b"%04d" % n for n in range(_GROUP)), dtype=np.uint32)
_POWERS: Final = 10 ** np.arange(1, 19, dtype=np.int64)  # of 2, 3 ... digits the lowest


# Columns from the first number on, (n, width) of them: which bytes belong to the texts.
Mask = tuple[int, NDArray[np.bool_]]


@dataclass(frozen=True, slots=True)
class Cells:
    """`data` is (n, width); all of it belongs to the texts but for what masks leave out.

    `lengths` are the bytes of each text, one number where all have the same. Where no text has
    a hole before or inside it (`is_left_aligned`), they tell all that the masks do. To iterate
    is to cut all of them at once.
    """

    data: Bytes
    masks: tuple[Mask, ...]
    lengths: Integers | int
    is_left_aligned: bool

    def __iter__(self) -> Iterator[bytes]:
        """Each text, in order."""
        return iter(self.texts())

    def part(self, rows: slice) -> Cells:
        """Some rows that follow each other; nothing is copied."""
        masks = tuple((at, mask[rows]) for at, mask in self.masks)
        lengths = self.lengths if isinstance(self.lengths, int) else self.lengths[rows]
        return Cells(self.data[rows], masks, lengths, self.is_left_aligned)

    def texts(self) -> list[bytes]:
        """Cut into texts, in order."""
        count, width = self.data.shape
        if not width:
            return [b""] * count
        # All at once, a fifth of what slices take; few texts are shorter than their rows.
        texts: list[bytes] = self.data.ravel().view(f"V{width}").tolist()
        if not isinstance(self.lengths, int):
            (short,) = (self.lengths < width).nonzero()
            rows, lengths = short.tolist(), self.lengths[short]
            if self.is_left_aligned:
                for row, length in zip(rows, lengths.tolist(), strict=True):
                    texts[row] = texts[row][:length]
                return texts
            rest = self.data[short][self._used(short)].tobytes()
            ends = lengths.cumsum().tolist()
            for row, begin, end in zip(rows, [0, *ends], ends, strict=False):
                texts[row] = rest[begin:end]
        return texts

    def _used(self, rows: Integers) -> NDArray[np.bool_]:
        """Which bytes of some rows belong to their texts."""
        used = np.ones((rows.size, self.data.shape[1]), dtype=np.bool_)
        for at, mask in self.masks:
            used[:, at : at + mask.shape[1]] = mask[rows]
        return used


def full(data: Bytes) -> Cells:
    """Texts of one length."""
    return Cells(data, (), data.shape[1], is_left_aligned=True)


def left_aligned(data: Bytes, lengths: Integers) -> Cells:
    """Texts that begin where their rows begin."""
    # A row for each byte of a text, turned around: NumPy's inner loops are long.
    used = (np.arange(data.shape[1])[:, np.newaxis] < lengths).T
    return Cells(data, ((0, used),), lengths, is_left_aligned=True)


def cells_of_texts(texts: Sequence[bytes]) -> Cells:
    """Put ready texts into cells."""
    lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    width = max(1, int(lengths.max(initial=0)))
    data = np.array(texts, dtype=f"S{width}").view(np.uint8).reshape(len(texts), width)
    return full(data) if lengths.size and lengths.min() == width else left_aligned(data, lengths)


def padded_decimals(numbers: Integers, digits: int) -> Bytes:
    """Numbers from 0 on in ASCII, with zeros before them: at least so many digits each."""
    groups = -(-digits // _GROUP_DIGITS)
    words = np.empty((numbers.size, groups), dtype=np.uint32)
    rest = numbers
    for group in range(groups - 1, 0, -1):
        rest, low = np.divmod(rest, _GROUP)
        words[:, group] = _DIGITS[low]
    words[:, 0] = _DIGITS[rest]
    return words.view(np.uint8)


def decimals(numbers: Integers) -> Cells:
    """Numbers within 2**62 in ASCII, as short as they can be, at the ends of their rows."""
    size = np.abs(numbers)
    digits = np.searchsorted(_POWERS, size, side="right") + 1
    most = int(digits.max(initial=1))
    data = padded_decimals(size, most)
    if numbers.min(initial=0) < 0:
        signed = np.empty((numbers.size, data.shape[1] + 1), dtype=np.uint8)
        signed[:, 1:] = data
        negative = np.flatnonzero(numbers < 0)
        signed[negative, data.shape[1] - digits[negative]] = ord("-")
        data, digits = signed, digits + (numbers < 0)
    elif digits.min(initial=most) == most:
        return full(data[:, -most:])
    width = data.shape[1]
    used = (np.arange(width)[:, np.newaxis] >= width - digits).T
    return Cells(data, ((0, used),), digits, is_left_aligned=False)


def joined(parts: Sequence[bytes | Cells], count: int) -> Cells:
    """Put literals and cells of `count` rows side by side."""
    widths = [len(part) if isinstance(part, bytes) else part.data.shape[1] for part in parts]
    line = b"".join(
        part if isinstance(part, bytes) else bytes(width)
        for part, width in zip(parts, widths, strict=True)
    )
    data = np.frombuffer(bytearray(line) * count, dtype=np.uint8).reshape(count, len(line))
    masks: list[Mask] = []
    lengths: Integers | int = 0
    at, is_left_aligned = 0, True
    for part, width in zip(parts, widths, strict=True):
        is_left_aligned = is_left_aligned and not (masks and width)  # a hole before it
        if isinstance(part, bytes):
            lengths = lengths + width
        else:
            if width:  # whole cells, not byte by byte
                cell = f"V{width}"
                data[:, at : at + width].view(cell)[:] = part.data.view(cell)
            lengths = lengths + part.lengths
            masks += [(at + inside, mask) for inside, mask in part.masks]
            is_left_aligned = is_left_aligned and part.is_left_aligned
        at += width
    return Cells(data, tuple(masks), lengths, is_left_aligned)
