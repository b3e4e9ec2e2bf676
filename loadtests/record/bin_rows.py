"""The table of bins: one row per tick and slot of a window that has bins.

`at_ms` (unix time) is where a bin of 100 ms, or a tick of 10 ms, begins; see `bins.py` for
what belongs to which. Rows only ever add up, and by window and slot to those of `windows`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa

from loadtests.clock import NS_PER_MS
from loadtests.record.bins import COUNTED, DUE_OF, TICK_NS, BinCount, Bins
from loadtests.record.window import SlotSpace

BINS_TABLE: Final = "bins"
MS_PER_TICK: Final = TICK_NS // NS_PER_MS
_NAME: Final = pa.dictionary(pa.int32(), pa.string())
BINS: Final = pa.schema(
    [
        pa.field("window_s", pa.int64()),
        pa.field("at_ms", pa.int64()),
        pa.field("stage", _NAME),
        pa.field("request", _NAME),
        pa.field("node", _NAME),
        *(pa.field(count.name.lower(), pa.int64()) for count in BinCount),
    ]
)
COLUMNS: Final = tuple(count.name.lower() for count in BinCount)
_SLOT: Final = ["window_s", "stage", "request", "node"]


def bins_batch(start_s: int, bins: Bins, slots: SlotSpace) -> pa.RecordBatch:
    """Rows of the bins of the window `start_s`."""
    rest, nodes = np.divmod(bins.slots, len(slots.nodes))
    stages, requests = np.divmod(rest, len(slots.requests))
    words = (slots.stages, slots.requests, slots.nodes)
    named = [
        pa.DictionaryArray.from_arrays(pa.array(index.astype(np.int32)), pa.array(names))
        for index, names in zip((stages, requests, nodes), words, strict=True)
    ]
    window_s = np.full(len(bins), start_s, dtype=np.int64)
    columns = [window_s, bins.ticks * MS_PER_TICK, *named, *bins.counters.T]
    return pa.RecordBatch.from_arrays(
        [pa.array(column) if isinstance(column, np.ndarray) else column for column in columns],
        schema=BINS,
    )


def bin_differences(windows: pd.DataFrame, bins: pd.DataFrame) -> Iterator[str]:
    """What contradicts the law that bins add up to their windows, a sentence each."""
    counted = [column.name.lower() for column in COUNTED]
    seen = bins.groupby(_SLOT, observed=True)[list(COLUMNS)].sum()
    expected = windows.groupby(_SLOT, observed=True)[counted].sum()
    both = seen.reindex(expected.index.union(seen.index), fill_value=0)
    expected = expected.reindex(both.index, fill_value=0)
    for column in counted:
        wrong = int((both[column] != expected[column]).sum())
        if wrong:
            yield (
                f"bins of {wrong} windows and slots do not add up: saw {int(both[column].sum())} "
                f"{column}; expected {int(expected[column].sum())}"
            )
    for due, ended in DUE_OF.items():
        by_due, by_end = both[due.name.lower()], both[ended.name.lower()]
        if (by_due != by_end).any():
            yield (
                f"bins: saw {int(by_due.sum())} {ended.name.lower()} by intended time; "
                f"expected {int(by_end.sum())}"
            )
