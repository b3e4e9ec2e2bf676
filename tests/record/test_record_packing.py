"""Keys and counts travel in few bytes, come back exactly, and cannot contradict each other."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_builders import T0_S

from loadtests.record.histogram import LENGTH
from loadtests.record.packing import pack_counts, unpack_counts
from loadtests.record.window import Window, pack_window, unpack_window


@pytest.mark.parametrize("count", [1, 255, 256, 2**16, 2**32 - 1, 2**32, 2**63 - 1])
def test_counts_of_any_size_are_packed_exactly(count: int) -> None:
    """A count at either side of each width comes back the same, with the keys beside it."""
    one = dataclasses.replace(
        Window.empty(T0_S),
        keys=np.array([0, LENGTH - 1, LENGTH, 2**32 - LENGTH], dtype=np.uint32),
        counts=np.array([1, count, 1, count], dtype=np.int64),
    )
    read = unpack_window(pack_window(one))
    np.testing.assert_array_equal(read.keys, one.keys)
    np.testing.assert_array_equal(read.counts, one.counts)


@given(st.dictionaries(st.integers(0, 2**32 - 1), st.integers(1, 2**63 - 1)))
def test_any_keys_and_counts_come_back(content: dict[int, int]) -> None:
    """Whatever the gaps and counts, reading is the inverse of writing."""
    keys = np.array(sorted(content), dtype=np.uint32)
    counts = np.array([content[int(key)] for key in keys], dtype=np.int64)
    read_keys, read_counts = unpack_counts(pack_counts(keys, counts))
    np.testing.assert_array_equal(read_keys, keys)
    np.testing.assert_array_equal(read_counts, counts)
    assert (read_keys.dtype, read_counts.dtype) == (keys.dtype, counts.dtype)


@pytest.mark.parametrize("gap", [0, 1, 254, 255, 256, 65_535, 65_536, 2**32 - 2])
def test_a_gap_of_any_size_is_packed_exactly(gap: int) -> None:
    """A gap at either side of the one that stands for a far one comes back the same."""
    keys = np.array([0, gap + 1], dtype=np.uint32)
    read, _ = unpack_counts(pack_counts(keys, np.ones(2, dtype=np.int64)))
    assert read.tolist() == keys.tolist()


@pytest.mark.parametrize(
    ("field", "change", "message"),
    [
        ("gaps", lambda data: data + b"\x00" * 8, "differ in length"),
        ("gaps", lambda data: b"\x00" * len(data), "differ in length"),
        ("far_gaps", lambda _: b"", "differ in length"),
        ("far_gaps", lambda data: data + b"\x00", "differ in length"),
        ("far_gaps", lambda data: b"\xff" * len(data), "beyond the key space"),
        ("is_many", lambda data: data + b"\x00", "differ in length"),
        ("is_many", lambda data: b"\x00" * len(data), "differ in length"),
        ("many", lambda _: b"", "differ in length"),
        ("many", lambda data: data + b"\x02", "differ in length"),
        ("many", lambda data: b"\x00" * len(data), "negative count"),
        ("many", lambda data: b"\xff" * 4 * len(data), "negative count"),
    ],
    ids=[
        "more gaps than bits",
        "no far gap, but its size",
        "a far gap without size",
        "a size too long",
        "keys beyond the key space",
        "more bits than gaps",
        "counts without bits",
        "bits without counts",
        "counts of no width",
        "counts of zero",
        "counts below zero",
    ],
)
def test_parts_that_contradict_each_other_are_refused(
    field: str, change: Callable[[bytes], bytes], message: str
) -> None:
    """Nothing is made up when keys, gaps and counts differ in number or range."""
    keys = np.array([5, 6, 40_000, 80_000], dtype=np.uint32)
    packed = pack_counts(keys, np.array([1, 40_000, 1, 300], dtype=np.int64))
    lying = msgspec.structs.replace(packed, **{field: change(getattr(packed, field))})
    with pytest.raises(ValueError, match=message):
        unpack_counts(lying)
