"""The parts of a partial run: its journal holds what the latency log of a whole one does."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from analysis.log_rows.parts import Parts
from analysis.log_rows.sparse import Sparse
from loadtests.record.archive import Run
from loadtests.record.directory import JOURNAL_FILE
from loadtests.record.hold_back import windows_in_order
from loadtests.record.journal import JournalReader
from loadtests.record.summary import segments_of
from loadtests.record.window import Kind


def journalled(run: Run, kind: Kind) -> Iterator[Parts]:
    """All parts of a kind, a window at a time."""
    path = run.path / JOURNAL_FILE
    if not path.exists():
        return  # it died before the first window
    nodes, requests = len(run.slots.nodes), len(run.slots.requests)
    for window in windows_in_order(JournalReader(path, run.slots)):
        segments = segments_of(window)
        rows = np.flatnonzero(segments.kinds == kind)
        if not rows.size:
            continue
        all_starts = np.append(segments.starts, segments.ends[-1:])
        numbers = segments.slots[rows] // nodes
        yield Parts(
            stage=numbers // requests,
            request=numbers % requests,
            second=np.full(rows.size, window.start_s, dtype=np.int64),
            sparse=Sparse(all_starts, segments.buckets, window.counts).taken(rows),
        )
