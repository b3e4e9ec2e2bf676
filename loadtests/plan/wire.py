"""Protobuf's wire format for what varies in a message: tags, lengths and numbers, in batches.

Source: "Encoding", protobuf.dev. Varints are minimal, as protobuf libraries write them.
A minimal varint never ends in a zero byte, except that of zero: that is why a large batch
can be laid out as rows of fixed width by NumPy and cut by its own rule for texts, which
drops zeros at the end. Small numbers, and so nearly all lengths, come from a table.

Lengths in bytes; numbers within 64 bits.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from loadtests.plan.call import NumberEncoding

Numbers = NDArray[np.int64]
Words = NDArray[np.uint64]

VARINT_TYPE: Final = 0
FIXED64_TYPE: Final = 1
DELIMITED_TYPE: Final = 2
GROUP_START_TYPE: Final = 3
GROUP_END_TYPE: Final = 4
FIXED32_TYPE: Final = 5

_MASK64: Final = (1 << 64) - 1
_GROUP_BITS: Final = 7
_LOW_BITS: Final = 0x7F
_SMALL: Final = 1 << 2 * _GROUP_BITS  # 0.05 us each from the table
_WORTH_NUMPY: Final = 64  # values from which a batch is faster than its values one by one
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


@cache
def _small_varints() -> tuple[bytes, ...]:
    return tuple(map(varint, range(_SMALL)))


def _varint_rows(values: Words) -> list[bytes]:
    width = -(-int(values.max()).bit_length() // _GROUP_BITS)
    groups = values[:, np.newaxis] >> np.arange(
        0, _GROUP_BITS * width, _GROUP_BITS, dtype=np.uint64
    )
    rows = (groups & np.uint64(_LOW_BITS)).astype(np.uint8)
    rows |= (groups > np.uint64(_LOW_BITS)).astype(np.uint8) << np.uint8(_GROUP_BITS)
    texts: list[bytes] = rows.view(f"S{width}").ravel().tolist()
    return texts if values.all() else [text or b"\0" for text in texts]


def varints(values: Words) -> list[bytes]:
    """`varint` of each value: 0.1 instead of 0.6 us each in a large batch."""
    if int(values.max(initial=0)) < _SMALL:
        return list(map(_small_varints().__getitem__, values.tolist()))
    return (
        _varint_rows(values) if values.size >= _WORTH_NUMPY else list(map(varint, values.tolist()))
    )


def lengths_before(contents: Sequence[bytes]) -> list[bytes]:
    """The varint of the length of each."""
    try:
        return list(map(_small_varints().__getitem__, map(len, contents)))
    except IndexError:
        return [varint(len(content)) for content in contents]


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


def _zigzags(numbers: Numbers) -> list[bytes]:
    return varints((numbers << np.int64(1) ^ numbers >> np.int64(63)).view(np.uint64))


def _fixed(numbers: Numbers, kind: str) -> list[bytes]:
    # By way of a double, as protobuf libraries take a float from a whole number.
    source = numbers.astype(np.float64) if kind[1] == "f" else numbers
    rows = source.astype(kind)
    found: list[bytes] = rows.view(f"V{rows.itemsize}").tolist()
    return found


def number_encoder(encoding: NumberEncoding) -> Callable[[Numbers], list[bytes]]:
    """`encode_number` for batches of whole numbers."""
    if encoding is NumberEncoding.VARINT:
        return lambda numbers: varints(numbers.view(np.uint64))
    if encoding is NumberEncoding.ZIGZAG:
        return _zigzags
    kind = _FIXED[encoding][1]
    return lambda numbers: _fixed(numbers, kind)


def number_width(encoding: NumberEncoding) -> int | None:
    """Bytes of every number of an encoding, None for varints."""
    return struct.calcsize(_FIXED[encoding][0]) if encoding in _FIXED else None
