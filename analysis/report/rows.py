"""Parts of `Blocks`: some of its rows, a few rows at a time, several rows added up to one.

Exact: rows are chosen or added, no sample is lost on the way.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from analysis.blocks import Blocks
from loadtests.record.histogram import LENGTH
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
    firsts = np.arange(0, len(blocks), each)
    found: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    for first in firsts.tolist():
        part = rows_between(blocks, first, min(first + each, len(blocks)))
        dense = np.zeros(LENGTH, dtype=np.int64)
        np.add.at(dense, part.buckets.astype(np.int64), part.counts.astype(np.int64))
        hit = np.flatnonzero(dense)
        found.append((hit, dense[hit]))
    return Blocks(
        step_s=blocks.step_s * each,
        window_s=blocks.window_s[firsts],
        starts=np.cumsum([0, *(hit.size for hit, _ in found)]),
        buckets=np.concatenate([hit for hit, _ in found]).astype(np.uint16),
        counts=np.concatenate([counts for _, counts in found]),
    )
