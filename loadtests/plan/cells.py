"""Texts of many sequences as one matrix of bytes, a row each: what NumPy can put together.

A row may have holes: `used` tells which bytes of the matrix belong to its texts. So numbers
of different lengths, and groups that hold them, are put side by side without moving a byte
until all is joined and cut into texts, once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Final

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Integers = NDArray[np.int64]

_GROUP: Final = 10_000
_GROUP_DIGITS: Final = 4
# The four ASCII digits of each number below 10,000, as they lie in memory.
_DIGITS: Final = np.frombuffer(b"".join(b"%04d" % n for n in range(_GROUP)), dtype=np.uint32)
_CUT_TOGETHER: Final = 256  # texts: 10 us of an engine's time, 40 where some are shorter
_FEW_LENGTHS: Final = 4  # each takes as long as some dozens of slices
_POWERS: Final = 10 ** np.arange(1, 19, dtype=np.int64)  # of 2, 3 ... digits the lowest


@dataclass(frozen=True, slots=True)
class Cells:
    """`data` is (n, width); `used` as large, None when all of it belongs to the texts.

    `lengths` are the bytes of each text, one number where all have the same.
    """

    data: Bytes
    used: NDArray[np.bool_] | None
    lengths: Integers | int

    def texts(self) -> Iterator[bytes]:
        """Cut into texts, in order; some at a time, when they are asked for."""
        count, width = self.data.shape
        if not width:
            return repeat(b"", count)
        return chain.from_iterable(map(self._cut, range(0, count, _CUT_TOGETHER)))

    def _cut(self, begin: int) -> Iterable[bytes]:
        """Cut the next texts: a few lengths at once each, many one by one when asked for."""
        data = self.data[begin : begin + _CUT_TOGETHER]
        if self.used is None:
            return _texts_of(data.ravel(), data.shape[1])
        flat = data[self.used[begin : begin + _CUT_TOGETHER]]
        lengths = np.broadcast_to(self.lengths, len(self.data))[begin : begin + _CUT_TOGETHER]
        ends = np.cumsum(lengths)
        different = np.flatnonzero(np.bincount(lengths)).tolist()
        if len(different) > _FEW_LENGTHS or not different[0]:
            edges = [0, *ends.tolist()]
            return map(flat.tobytes().__getitem__, map(slice, edges, edges[1:]))
        begins = ends - lengths
        texts = np.empty(len(data), dtype=object)
        for length in different:
            rows = np.flatnonzero(lengths == length)
            # A text of this length from every byte on: those that are meant are picked.
            anywhere = np.ndarray(flat.size - length + 1, f"V{length}", flat, strides=1)
            texts[rows] = anywhere[begins[rows]]
        found: list[bytes] = texts.tolist()
        return found


def _texts_of(flat: Bytes, length: int) -> list[bytes]:
    """Cut texts of one length, one behind the other."""
    texts: list[bytes] = flat.view(f"V{length}").tolist()
    return texts


def full(data: Bytes) -> Cells:
    """Texts of one length."""
    return Cells(data, None, data.shape[1])


def left_aligned(data: Bytes, lengths: Integers) -> Cells:
    """Texts that begin where their rows begin."""
    return Cells(data, np.arange(data.shape[1]) < lengths[:, np.newaxis], lengths)


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
    return Cells(data, np.arange(width) >= width - digits[:, np.newaxis], digits)


def joined(parts: Sequence[bytes | Cells], count: int) -> Cells:
    """Put literals and cells of `count` rows side by side."""
    widths = [len(part) if isinstance(part, bytes) else part.data.shape[1] for part in parts]
    line = b"".join(
        part if isinstance(part, bytes) else bytes(width)
        for part, width in zip(parts, widths, strict=True)
    )
    data = np.empty((count, len(line)), dtype=np.uint8)
    data[:] = np.frombuffer(line, dtype=np.uint8)
    used: NDArray[np.bool_] | None = None
    lengths: Integers | int = 0
    at = 0
    for part, width in zip(parts, widths, strict=True):
        if isinstance(part, bytes):
            lengths = lengths + width
        else:
            data[:, at : at + width] = part.data
            lengths = lengths + part.lengths
            if part.used is not None:
                if used is None:
                    used = np.ones(data.shape, dtype=np.bool_)
                used[:, at : at + width] = part.used
        at += width
    return Cells(data, used, lengths)
