"""Protobuf's wire format for what varies in a message: tags, lengths and numbers, in batches.

Source: "Encoding", protobuf.dev. Varints are minimal, as protobuf libraries write them.

Lengths in bytes; numbers within 64 bits.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from loadtests.plan.call import NumberEncoding
from loadtests.plan.cells import Cells, full, left_aligned

Numbers = NDArray[np.int64]
Words = NDArray[np.uint64]

FRAME_BYTES: Final = 5  # a flag and a length
_FRAME_HEAD: Final = np.dtype([("is_packed", "u1"), ("length", ">u4")])
MOST_VARINT_BYTES: Final = 10

VARINT_TYPE: Final = 0
FIXED64_TYPE: Final = 1
DELIMITED_TYPE: Final = 2
GROUP_START_TYPE: Final = 3
GROUP_END_TYPE: Final = 4
FIXED32_TYPE: Final = 5

_MASK64: Final = (1 << 64) - 1
_GROUP_BITS: Final = 7
_LOW_BITS: Final = 0x7F
_LOW = np.uint64(_LOW_BITS)
_SHIFTS: Final = np.arange(0, 64, _GROUP_BITS, dtype=np.uint64)[:, np.newaxis]
_WHOLE: Final = re.compile(rb"-?[0-9]{1,20}")
_DECIMAL: Final = re.compile(rb"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?|-?Infinity|NaN")

WIRE_TYPES: Final[Mapping[NumberEncoding, int]] = {
    NumberEncoding.VARINT: VARINT_TYPE,
    NumberEncoding.ZIGZAG: VARINT_TYPE,
    NumberEncoding.FIXED32: FIXED32_TYPE,
    NumberEncoding.SFIXED32: FIXED32_TYPE,
    NumberEncoding.FLOAT: FIXED32_TYPE,
    NumberEncoding.FIXED64: FIXED64_TYPE,
    NumberEncoding.SFIXED64: FIXED64_TYPE,
    NumberEncoding.DOUBLE: FIXED64_TYPE,
}
# struct's letter and NumPy's type of the encodings that always have the same width.
_FIXED: Final[Mapping[NumberEncoding, tuple[str, str]]] = {
    NumberEncoding.FIXED32: ("<I", "<u4"),
    NumberEncoding.SFIXED32: ("<i", "<i4"),
    NumberEncoding.FIXED64: ("<Q", "<u8"),
    NumberEncoding.SFIXED64: ("<q", "<i8"),
    NumberEncoding.FLOAT: ("<f", "<f4"),
    NumberEncoding.DOUBLE: ("<d", "<f8"),
}
_FLOATING: Final = frozenset({NumberEncoding.FLOAT, NumberEncoding.DOUBLE})


def varint(value: int) -> bytes:
    """Base-128 varint of 0 <= value < 2**64."""
    out = bytearray()
    while value > _LOW_BITS:
        out.append(value & _LOW_BITS | 0x80)
        value >>= _GROUP_BITS
    out.append(value)
    return bytes(out)


def tag(number: int, wire_type: int) -> bytes:
    """What stands before a field's content."""
    return varint(number << 3 | wire_type)


def varints(numbers: Words | Numbers) -> Cells:
    """`varint` of each number, a negative one as 64 bits."""
    values = numbers.astype(np.uint64)
    width = max(1, -(-int(values.max(initial=0)).bit_length() // _GROUP_BITS))
    if width == 1:
        return full(values.astype(np.uint8)[:, np.newaxis])
    # A group's bits and those above it, in a row each: NumPy's inner loops are long.
    rests = values >> _SHIFTS[:width]
    more = rests > _LOW
    goes_on = more.view(np.uint8) << np.uint8(_GROUP_BITS)
    data = np.ascontiguousarray((rests.astype(np.uint8) & np.uint8(_LOW_BITS) | goes_on).T)
    return full(data) if more[-2].all() else left_aligned(data, more.sum(axis=0) + 1)


def framed(lengths: Numbers) -> Cells:
    """What gRPC puts before messages of these lengths, uncompressed ("Length-Prefixed-Message")."""
    heads = np.zeros(lengths.size, dtype=_FRAME_HEAD)
    heads["length"] = lengths
    return full(heads.view(np.uint8).reshape(-1, FRAME_BYTES))


def encode_number(text: bytes, encoding: NumberEncoding) -> bytes:
    """One number in decimal; ValueError when it is none or has no place in the encoding."""
    form = _DECIMAL if encoding in _FLOATING else _WHOLE
    if form.fullmatch(text) is None:
        raise ValueError(f"{text!r} is not a number for {encoding.value}")
    try:
        if encoding in _FLOATING:
            return struct.pack(_FIXED[encoding][0], float(text))
        number = int(text)
        if encoding in _FIXED:
            return struct.pack(_FIXED[encoding][0], number)
    except (struct.error, OverflowError) as error:
        raise ValueError(f"{text!r} does not fit {encoding.value}") from error
    is_zigzag = encoding is NumberEncoding.ZIGZAG
    if not -1 << 63 <= number < (1 << 63 if is_zigzag else 1 << 64):
        raise ValueError(f"{text!r} does not fit {encoding.value}")
    return varint((number << 1 ^ number >> 63 if is_zigzag else number) & _MASK64)


def encode_numbers(numbers: Numbers, encoding: NumberEncoding) -> Cells:
    """`encode_number` of each of many whole numbers."""
    if encoding is NumberEncoding.VARINT:
        return varints(numbers)
    if encoding is NumberEncoding.ZIGZAG:
        return varints(numbers << np.int64(1) ^ numbers >> np.int64(63))
    kind = _FIXED[encoding][1]
    # By way of a double, as protobuf libraries take a float from a whole number.
    source = numbers.astype(np.float64) if kind[1] == "f" else numbers
    return full(source.astype(kind)[:, np.newaxis].view(np.uint8))


def number_width(encoding: NumberEncoding) -> int | None:
    """Bytes of every number of an encoding, None for varints."""
    return struct.calcsize(_FIXED[encoding][0]) if encoding in _FIXED else None
