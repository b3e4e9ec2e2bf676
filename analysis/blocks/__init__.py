"""Histograms of every window of a run, one population at a time, in little memory.

`load_blocks` reads `latency.hlog` (or the journal of a partial run) as a stream and gives a
`Blocks` for each stage and request, and for all requests together; their sums are checked
against the archive's totals. `load_counts` gives the counters of the same windows.

Reading order: `rows.py` (the value and what is asked of it), `loading.py` (where it comes from:
`analysis.log_rows` for a log, `journalled.py` for a journal; checked), `counts.py` (counters).
"""

from analysis.blocks.counts import WindowCounts, load_counts
from analysis.blocks.loading import Key, load_blocks, reading_blocks, step_for
from analysis.blocks.rows import Blocks

__all__ = [
    "Blocks",
    "Key",
    "WindowCounts",
    "load_blocks",
    "load_counts",
    "reading_blocks",
    "step_for",
]
