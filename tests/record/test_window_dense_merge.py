"""The two ways of adding histograms in `merge_windows` are one function."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.record import window as window_module
from loadtests.record.window import Window, merge_windows

_KEYS = st.dictionaries(st.integers(0, 400), st.integers(1, 2**40), max_size=60)


def _window(histogram: dict[int, int]) -> Window:
    keys = sorted(histogram)
    return dataclasses.replace(
        Window.empty(7),
        keys=np.array(keys, dtype=np.uint32),
        counts=np.array([histogram[key] for key in keys], dtype=np.int64),
    )


@given(parts=st.lists(_KEYS, max_size=12), offset=st.sampled_from([0, 2**31, 2**32 - 401]))
def test_dense_and_sorted_merges_are_equal(parts: list[dict[int, int]], offset: int) -> None:
    """Adding into a dense array gives the keys, counts and types that sorting gives."""
    windows = [_window({key + offset: n for key, n in part.items()}) for part in parts]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(window_module, "_DENSE_GAIN", 10**9)
        dense = merge_windows(7, windows)
        patch.setattr(window_module, "_DENSE_KEYS", 0)
        by_sorting = merge_windows(7, windows)
    for field in ("keys", "counts"):
        left, right = getattr(dense, field), getattr(by_sorting, field)
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)
