"""Sparse histograms added up and joined in arrays are what plain sums of dense ones are."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.log_rows import sparse
from analysis.log_rows.sparse import Rows, Sparse, added_up, chain, join, narrow
from loadtests.record.histogram import LENGTH

BUCKETS = st.integers(0, LENGTH - 1)
COUNTS = st.integers(1, 2**40)
ROWS = st.lists(st.dictionaries(BUCKETS, COUNTS, min_size=1, max_size=5), min_size=1, max_size=9)
Row = dict[int, int]


def packed(rows: list[Row]) -> Sparse:
    """Rows as arrays."""
    ordered = [dict(sorted(row.items())) for row in rows]
    return Sparse(
        np.cumsum([0, *map(len, ordered)]),
        np.array([bucket for row in ordered for bucket in row], dtype=np.int64),
        np.array([count for row in ordered for count in row.values()], dtype=np.int64),
    )


def unpacked(found: Sparse) -> list[Row]:
    """Arrays as rows."""
    edges = found.starts.tolist()
    return [
        dict(zip(found.buckets[a:b].tolist(), found.counts[a:b].tolist(), strict=True))
        for a, b in pairwise(edges)
    ]


def summed(rows: list[Row]) -> Row:
    """Plain addition."""
    found: Row = {}
    for row in rows:
        for bucket, count in row.items():
            found[bucket] = found.get(bucket, 0) + count
    return dict(sorted(found.items()))


@given(ROWS, st.data())
def test_groups_are_added_up_exactly(rows: list[Row], data: st.DataObject) -> None:
    """In any order, and whatever fits into a table at a time."""
    drawn = data.draw(st.lists(st.integers(0, 3), min_size=len(rows), max_size=len(rows)))
    names, groups = np.unique(drawn, return_inverse=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sparse, "_CELLS", data.draw(st.sampled_from([1, 1 << 19])))
        found = unpacked(added_up(groups, names.size, packed(rows)))
    expected = [
        summed([row for row, own in zip(rows, drawn, strict=True) if own == name])
        for name in names.tolist()
    ]
    assert found == expected


@given(st.lists(st.dictionaries(st.integers(0, 6), st.dictionaries(BUCKETS, COUNTS, min_size=1),
                                min_size=1), min_size=1, max_size=4))  # fmt: skip
def test_rows_of_several_parts_are_one_row(parts: list[dict[int, Row]]) -> None:
    """Joined in order of time; a window that lies in several parts is their sum."""
    several = [
        Rows(
            window_s=np.array(sorted(part), dtype=np.int64),
            sparse=narrow(packed([part[second] for second in sorted(part)])),
        )
        for part in parts
    ]
    found = join(several)
    seconds = sorted({second for part in parts for second in part})
    assert found.window_s.tolist() == seconds
    assert unpacked(found.sparse) == [
        summed([part[second] for part in parts if second in part]) for second in seconds
    ]


def test_narrow_rows_take_three_bytes_a_bucket() -> None:
    """Counts up to 255 take one byte each, buckets two; joining keeps it so."""
    part = narrow(packed([{1: 255, LENGTH - 1: 1}, {7: 3}]))
    assert (part.buckets.itemsize, part.counts.itemsize) == (2, 1)
    assert unpacked(chain([part, part])) == 2 * unpacked(part)
    rows = Rows(window_s=np.array([5, 6]), sparse=part)
    assert join([rows, rows]).sparse.buckets.itemsize == 2
