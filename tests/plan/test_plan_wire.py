"""Wire format: batches equal single values, and both equal protobuf's own."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.plan.call import NumberEncoding
from loadtests.plan.wire import (
    encode_number,
    encode_numbers,
    framed,
    number_width,
    varint,
    varints,
)

EDGES = [edge + near for bits in range(0, 64, 7) for edge in (1 << bits,) for near in (-1, 0, 1)]
FLOATS = {NumberEncoding.FLOAT, NumberEncoding.DOUBLE}
RANGES = {
    NumberEncoding.FIXED32: (0, 2**32 - 1),
    NumberEncoding.SFIXED32: (-(2**31), 2**31 - 1),
    NumberEncoding.FIXED64: (0, 2**62),
}


@given(st.lists(st.one_of(st.integers(0, 2**64 - 1), st.sampled_from(EDGES)), max_size=20))
def test_varints_in_batches_are_varints(values: list[int]) -> None:
    """Batches are the bytes of single varints, zero included, and so are their lengths."""
    cells = varints(np.array(values, dtype=np.uint64))
    singles = [varint(value) for value in values]
    assert list(cells.texts()) == singles
    lengths = np.broadcast_to(cells.lengths, len(values))
    assert lengths.tolist() == [len(single) for single in singles]


def test_varints_are_the_documented_ones() -> None:
    """Examples of protobuf.dev, and the ends of the range."""
    assert varint(0) == b"\x00"
    assert varint(150) == b"\x96\x01"
    assert varint(2**64 - 1) == b"\xff" * 9 + b"\x01"
    assert list(varints(np.array([], dtype=np.uint64)).texts()) == []


@pytest.mark.parametrize("encoding", list(NumberEncoding), ids=lambda encoding: encoding.value)
@given(data=st.data())
def test_numbers_in_batches_are_single_numbers(
    encoding: NumberEncoding, data: st.DataObject
) -> None:
    """Every encoding gives the same bytes for a batch as for each number's text."""
    low, high = RANGES.get(encoding, (-(2**62), 2**62))
    values = data.draw(st.lists(st.integers(low, high), min_size=1, max_size=20))
    batch = list(encode_numbers(np.array(values, dtype=np.int64), encoding).texts())
    assert batch == [encode_number(b"%d" % value, encoding) for value in values]
    width = number_width(encoding)
    assert width is None or {len(item) for item in batch} == {width}


def test_numbers_have_protobufs_form() -> None:
    """Negative varints have ten bytes, zigzag is short, fixed ones are little-endian."""
    assert encode_number(b"-1", NumberEncoding.VARINT) == b"\xff" * 9 + b"\x01"
    assert encode_number(b"-1", NumberEncoding.ZIGZAG) == b"\x01"
    assert encode_number(b"2147483647", NumberEncoding.ZIGZAG) == b"\xfe\xff\xff\xff\x0f"
    assert encode_number(b"1", NumberEncoding.SFIXED64) == b"\x01" + bytes(7)
    assert encode_number(b"0.5", NumberEncoding.DOUBLE) == struct.pack("<d", 0.5)
    assert encode_number(b"-Infinity", NumberEncoding.FLOAT) == struct.pack("<f", float("-inf"))


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (b"", NumberEncoding.VARINT),
        (b"1.0", NumberEncoding.VARINT),
        (b"1_0", NumberEncoding.VARINT),
        (b" 1", NumberEncoding.VARINT),
        (b"0x1", NumberEncoding.DOUBLE),
        (b"nan", NumberEncoding.DOUBLE),
        (b"18446744073709551616", NumberEncoding.VARINT),
        (b"9223372036854775808", NumberEncoding.ZIGZAG),
        (b"4294967296", NumberEncoding.FIXED32),
        (b"-1", NumberEncoding.FIXED64),
        (b"1e39", NumberEncoding.FLOAT),
    ],
)
def test_what_is_no_number_of_an_encoding_is_refused(text: bytes, encoding: NumberEncoding) -> None:
    """A text is a number in range or a ValueError, never a guess."""
    with pytest.raises(ValueError, match=encoding.value):
        encode_number(text, encoding)


@given(st.lists(st.integers(0, 2**32 - 1), max_size=20))
def test_frames_are_a_flag_and_a_length(lengths: list[int]) -> None:
    """Five bytes before each message: not compressed, and how long it is, big-endian."""
    heads = list(framed(np.array(lengths, dtype=np.int64)).texts())
    assert heads == [struct.pack(">BI", 0, length) for length in lengths]
