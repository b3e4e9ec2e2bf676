"""Counts travel in as few bytes as hold them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from record_builders import T0_S

from loadtests.record.histogram import LENGTH
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
