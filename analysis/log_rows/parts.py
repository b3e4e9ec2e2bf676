"""What the log of a run holds of one kind: parts of seconds, in the order they were written.

A part is what one slot counted in one second, or in a piece of it; stage and request by number.
Only what is asked for is decoded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np

from analysis.log_rows.sparse import Ints, Sparse, chain
from analysis.log_rows.stretches import Stretch
from loadtests.errors import HarnessError
from loadtests.record.histogram import OVERFLOW
from loadtests.record.hlog import IntervalBatch, encode_tag, read_batches
from loadtests.record.window import Kind, SlotSpace


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Some parts; arrays of equal length, and a row of `sparse` each, overflow included."""

    stage: Ints
    request: Ints
    second: Ints
    sparse: Sparse

    def __len__(self) -> int:
        return int(self.second.size)

    def between(self, first: int, end: int) -> Parts:
        """Those from `first` up to `end`, exclusive; a view."""
        return Parts(
            stage=self.stage[first:end],
            request=self.request[first:end],
            second=self.second[first:end],
            sparse=self.sparse.between(first, end),
        )

    def taken(self, rows: Ints) -> Parts:
        """These in this order."""
        return Parts(
            stage=self.stage[rows],
            request=self.request[rows],
            second=self.second[rows],
            sparse=self.sparse.taken(rows),
        )


def chain_parts(several: Collection[Parts]) -> Parts:
    """All of them, one after the other."""
    return Parts(
        stage=np.concatenate([parts.stage for parts in several]),
        request=np.concatenate([parts.request for parts in several]),
        second=np.concatenate([parts.second for parts in several]),
        sparse=chain([parts.sparse for parts in several]),
    )


def logged(
    stretch: Stretch, slots: SlotSpace, kind: Kind, requests: Collection[int]
) -> Iterator[Parts]:
    """Parts of a kind and of these requests; HarnessError when the log is not the run's."""
    tags = _tags_of(slots)
    wanted = {
        tag: (stage, request)
        for tag, (stage, request, own) in tags.items()
        if own is kind and request in requests
    }

    def is_wanted(tag: bytes) -> bool:
        if tag in wanted:
            return True
        if tag not in tags:
            raise ValueError(f"{tag[:80]!r} names a stage, request, node or kind of another run")
        return False

    try:
        for batch in read_batches(stretch.lines(), is_wanted):
            numbers = np.array([wanted[tag] for tag in batch.tags], dtype=np.int64)
            yield Parts(
                stage=numbers[:, 0],
                request=numbers[:, 1],
                second=np.array(batch.start_s, dtype=np.int64),
                sparse=_with_overflow(batch),
            )
    except ValueError as error:
        raise HarnessError(
            where=str(stretch.path), seen=str(error), expected="a log of this run's intervals"
        ) from error


def _with_overflow(batch: IntervalBatch) -> Sparse:
    """The overflow of a line as the last bucket of its row."""
    overflow = np.array(batch.overflow, dtype=np.int64)
    rows = np.flatnonzero(overflow)
    starts = np.concatenate(([0], batch.ends))
    if not rows.size:
        return Sparse(starts, batch.buckets, batch.counts)
    starts[1:] += np.cumsum(overflow > 0)
    return Sparse(
        starts,
        np.insert(batch.buckets, batch.ends[rows], OVERFLOW),
        np.insert(batch.counts, batch.ends[rows], overflow[rows]),
    )


def _tags_of(slots: SlotSpace) -> dict[bytes, tuple[int, int, Kind]]:
    """Every tag that the run's log may hold, with the numbers of stage and request."""
    return {
        encode_tag((stage, request, node, kind.name.lower())).encode("ascii"): (at, number, kind)
        for at, stage in enumerate(slots.stages)
        for number, request in enumerate(slots.requests)
        for node in slots.nodes
        for kind in Kind
    }
