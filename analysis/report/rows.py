"""Parts of `Blocks`: some of its rows, a few rows at a time, several rows added up to one.

Exact: rows are chosen or added, no sample is lost on the way.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from analysis.blocks import Blocks
from analysis.log_rows import sparse as sums
from analysis.log_rows.sparse import Sparse, narrow
from loadtests.record.manifest import Manifest

_ENTRIES: Final = 1 << 20  # of a chunk: what is computed from it stays some tens of MB


def rows_between(blocks: Blocks, first: int, end: int) -> Blocks:
    """Rows `first` up to `end`, exclusive; a view."""
    starts = blocks.starts[first : end + 1]
    return Blocks(
        step_s=blocks.step_s,
        window_s=blocks.window_s[first:end],
        starts=starts - starts[0],
        buckets=blocks.buckets[starts[0] : starts[-1]],
        counts=blocks.counts[starts[0] : starts[-1]],
    )


def chunks_of(blocks: Blocks) -> Iterator[Blocks]:
    """All rows in order, so many at a time that working on them takes little memory."""
    first = 0
    while first < len(blocks):
        end = int(np.searchsorted(blocks.starts, blocks.starts[first] + _ENTRIES, "right")) - 1
        end = min(max(end, first + 1), len(blocks))
        yield rows_between(blocks, first, end)
        first = end


def judged_rows(blocks: Blocks, manifest: Manifest, stage: int) -> Blocks:
    """The rows that begin in a judged second of their stage: at both ends those that do not go."""
    judged = np.array([manifest.judges(stage, second) for second in blocks.window_s.tolist()])
    if judged.all():
        return blocks
    sizes = np.diff(blocks.starts)
    kept = np.repeat(judged, sizes)
    return Blocks(
        step_s=blocks.step_s,
        window_s=blocks.window_s[judged],
        starts=np.concatenate(([0], np.cumsum(sizes[judged]))),
        buckets=blocks.buckets[kept],
        counts=blocks.counts[kept],
    )


def added_up(blocks: Blocks, rows: int) -> Blocks:
    """At most so many rows: those of the same number of neighbours added up to one."""
    each = -(-len(blocks) // rows)
    if each <= 1:
        return blocks
    groups = np.arange(len(blocks)) // each
    every = Sparse(blocks.starts, blocks.buckets, blocks.counts)
    starts, buckets, counts = narrow(sums.added_up(groups, int(groups[-1]) + 1, every))
    return Blocks(
        step_s=blocks.step_s * each,
        window_s=blocks.window_s[::each],
        starts=starts,
        buckets=buckets,
        counts=counts,
    )
