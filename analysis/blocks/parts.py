"""The histograms of one kind, second by second, from whatever a run left.

A complete archive has them in `latency.hlog`, a partial run in its journal. Both are read as
a stream, in the order they were written, and only the kind asked for is decoded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.blocks.stretches import Stretch
from loadtests.errors import HarnessError
from loadtests.record.archive import Run
from loadtests.record.directory import JOURNAL_FILE
from loadtests.record.histogram import OVERFLOW
from loadtests.record.hlog import encode_tag, read_batches
from loadtests.record.hold_back import windows_in_order
from loadtests.record.journal import JournalReader
from loadtests.record.summary import segments_of
from loadtests.record.window import Kind, SlotSpace


class Part(NamedTuple):
    """What one slot counted in one second, or a part of it; stage and request by number."""

    stage: int
    request: int
    second: int
    buckets: NDArray[np.int64]
    counts: NDArray[np.int64]


def logged(stretch: Stretch, slots: SlotSpace, kind: Kind) -> Iterator[Part]:
    """All parts of a kind in a stretch of a log; HarnessError when it is not the run's."""
    tags = _tags_of(slots)

    def is_wanted(tag: bytes) -> bool:
        if tag not in tags:
            raise ValueError(f"{tag[:80]!r} names a stage, request, node or kind of another run")
        return tags[tag][2] is kind

    try:
        for batch in read_batches(stretch.lines(), is_wanted):
            for row, tag in enumerate(batch.tags):
                stage, request, _ = tags[tag]
                buckets, counts = batch.counts_of(row)
                if overflow := batch.overflow[row]:
                    buckets, counts = np.append(buckets, OVERFLOW), np.append(counts, overflow)
                yield Part(stage, request, batch.start_s[row], buckets, counts)
    except ValueError as error:
        raise HarnessError(
            where=str(stretch.path), seen=str(error), expected="a log of this run's intervals"
        ) from error


def _tags_of(slots: SlotSpace) -> dict[bytes, tuple[int, int, Kind]]:
    """Every tag that the run's log may hold, with the numbers of stage and request."""
    return {
        encode_tag((stage, request, node, kind.name.lower())).encode("ascii"): (at, number, kind)
        for at, stage in enumerate(slots.stages)
        for number, request in enumerate(slots.requests)
        for node in slots.nodes
        for kind in Kind
    }


def journalled(run: Run, kind: Kind) -> Iterator[Part]:
    """All parts of a kind in the journal of a partial run."""
    path = run.path / JOURNAL_FILE
    if not path.exists():
        return  # it died before the first window
    for window in windows_in_order(JournalReader(path, run.slots)):
        segments = segments_of(window)
        for at in np.flatnonzero(segments.kinds == kind).tolist():
            stage, request, _ = run.slots.indices(int(segments.slots[at]))
            entries = slice(int(segments.starts[at]), int(segments.ends[at]))
            yield Part(
                stage, request, window.start_s, segments.buckets[entries], window.counts[entries]
            )
