"""Tables of an archive: which columns they have and how a window becomes rows.

`windows`: one row per window and slot that had anything. `errors`: one per window, slot
and error kind, with a sample message. `engines` and `hiccups`: one per window and engine
or host. The same code makes the rows of a Parquet file and of a partial run read back
from its journal, so both are the same table.

Law: rows only ever add up. A window that arrives in parts has rows in parts (`part` 0,
1, ...): counts are summed by the reader, quantiles of a part are its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from loadtests.record.bin_rows import BINS, BINS_TABLE, bins_batch
from loadtests.record.manifest import Manifest
from loadtests.record.part_numbers import PartNumbers
from loadtests.record.server import SERVER, SERVER_TABLE
from loadtests.record.summary import Segments, segments_of
from loadtests.record.window import Count, EngineHealth, Hiccup, Kind, Window
from loadtests.record.writes import WRITES, WRITES_TABLE, writes_batch

_NAME: Final = pa.dictionary(pa.int32(), pa.string())
_QUANTILES: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
# Which quantiles of which kind a row carries; the logs have all of everything.
_SUMMARY: Final[dict[Kind, tuple[str, ...]]] = {
    Kind.RESPONSE: ("p50", "p95", "p99", "max"),
    Kind.SERVICE: ("p50", "p99"),
    Kind.FAILED_RESPONSE: ("p50", "p99", "max"),
    Kind.SEND_LAG: ("p50", "p99", "max"),
    Kind.CONNECT: ("p50", "p99", "max"),
    Kind.STREAM_SETUP: ("p50", "p99"),
    Kind.FIRST_MESSAGE: ("p50", "p99"),
    Kind.MESSAGE: ("p50", "p99"),
}
_OUTCOMES: Final = [Count.OK, Count.CLIENT_ERROR, Count.FAILED]

_SLOT_FIELDS: Final = [
    pa.field("window_s", pa.int64()),
    pa.field("part", pa.int32()),
    pa.field("stage", _NAME),
    pa.field("request", _NAME),
    pa.field("node", _NAME),
    pa.field("judged", pa.bool_()),
]
WINDOWS: Final = pa.schema(
    [
        *_SLOT_FIELDS,
        *(pa.field(count.name.lower(), pa.int64()) for count in Count),
        pa.field("in_flight", pa.int64()),
        *(pa.field(f"{kind.name.lower()}_n", pa.int64()) for kind in Kind),
        pa.field("overflow", pa.int64()),
        *(
            pa.field(f"{kind.name.lower()}_{quantile}_us", pa.float64())
            for kind, quantiles in _SUMMARY.items()
            for quantile in quantiles
        ),
    ]
)
ERRORS: Final = pa.schema(
    [
        *_SLOT_FIELDS,
        pa.field("kind", _NAME),
        pa.field("count", pa.int64()),
        pa.field("message", pa.string()),
    ]
)


def _struct_schema(struct: type[msgspec.Struct]) -> pa.Schema:
    fields = msgspec.structs.fields(struct)
    columns = [pa.field(f.name, _NAME if f.type is str else pa.int64()) for f in fields]
    return pa.schema([pa.field("window_s", pa.int64()), *columns])


ENGINES: Final = _struct_schema(EngineHealth)
HICCUPS: Final = _struct_schema(Hiccup)

# Tables made of windows -> schema; the file is `<name>.parquet`.
SCHEMAS: Final = {"windows": WINDOWS, "errors": ERRORS, "engines": ENGINES, "hiccups": HICCUPS}
# All of them: these are there where a scenario asked for them.
ALL_SCHEMAS: Final = {**SCHEMAS, BINS_TABLE: BINS, SERVER_TABLE: SERVER, WRITES_TABLE: WRITES}

# Columns that archives of this schema version may lack, for they were added later: nothing
# of the kind was measured then, so a count is 0 and a latency unknown.
_ADDED_KINDS: Final = (Kind.STREAM_SETUP, Kind.FIRST_MESSAGE, Kind.MESSAGE)
ADDED: Final[dict[str, frozenset[str]]] = {
    "engines": frozenset({"streams", "streams_in_use"}),
    "windows": frozenset(
        field.name
        for field in WINDOWS
        if any(field.name.startswith(f"{kind.name.lower()}_") for kind in _ADDED_KINDS)
    ),
}


def with_added(table: pa.Table, name: str) -> pa.Table:
    """Put the columns that an older archive lacks where they belong."""
    expected = ALL_SCHEMAS[name]
    missing = frozenset(expected.names) - frozenset(table.schema.names)
    if not missing or not missing <= ADDED.get(name, frozenset()):
        return table
    columns = [
        _absent(field, table.num_rows) if field.name in missing else table.column(field.name)
        for field in expected
    ]
    return pa.table(columns, names=expected.names)


def _absent(field: pa.Field, rows: int) -> pa.Array:
    zero = 0 if pa.types.is_integer(field.type) else None
    return pa.array([zero] * rows, field.type)


class RowBuilder:
    """Makes rows of windows, in the order they are archived.

    Keeps what a row needs from the rows before it: requests in flight per slot, and how
    many parts of a window there were. `clean` makes a message from outside fit to keep.
    """

    def __init__(self, manifest: Manifest, clean: Callable[[str], str]) -> None:
        self._slots = slots = manifest.slots
        self._manifest = manifest
        self._clean = clean
        self._names = [pa.array(words, pa.string()) for words in
                       (slots.stages, slots.requests, slots.nodes)]  # fmt: skip
        self._requests, self._nodes = len(slots.requests), len(slots.nodes)
        self._in_flight = np.zeros(len(slots), dtype=np.int64)
        self._parts = PartNumbers()

    def batches(self, window: Window) -> dict[str, pa.RecordBatch]:
        """Rows of one window (or a further part of it) by table name."""
        part = self._parts.take(window.start_s)
        return {
            **self._asked_for(window),
            "windows": self._window_rows(window, part),
            "errors": self._error_rows(window, part),
            "engines": _struct_rows(ENGINES, window.start_s, window.health),
            "hiccups": _struct_rows(HICCUPS, window.start_s, window.hiccups),
        }

    def _asked_for(self, window: Window) -> dict[str, pa.RecordBatch]:
        """Rows of what only some scenarios ask for."""
        rows = {}
        if len(window.bins):
            rows[BINS_TABLE] = bins_batch(window.start_s, window.bins, self._slots)
        if len(window.writes) or window.writes.unlogged:
            rows[WRITES_TABLE] = writes_batch(window.start_s, window.writes)
        return rows

    def _window_rows(self, window: Window, part: int) -> pa.RecordBatch:
        segments = segments_of(window)
        slots = np.union1d(window.slots.astype(np.int64), segments.slots)
        counters = np.zeros((slots.size, len(Count)), dtype=np.int64)
        counters[np.searchsorted(slots, window.slots)] = window.counters
        done = counters[:, _OUTCOMES].sum(axis=1)
        self._in_flight[slots] += counters[:, Count.SENT] - done
        columns = self._slot_columns(window.start_s, part, slots)
        columns.extend(counters.T)
        columns.append(self._in_flight[slots])
        columns.extend(_summary_columns(slots, segments))
        return pa.RecordBatch.from_arrays(
            [pa.array(column, field.type, from_pandas=True) if isinstance(column, np.ndarray)
             else column for column, field in zip(columns, WINDOWS, strict=True)],
            schema=WINDOWS,
        )  # fmt: skip

    def _slot_columns(self, start_s: int, part: int, slots: NDArray[np.int64]) -> list[Any]:
        rest, nodes = np.divmod(slots, self._nodes)
        stages, requests = np.divmod(rest, self._requests)
        judged = [self._manifest.judges(stage, start_s) for stage in
                  range(len(self._manifest.stages))]  # fmt: skip
        named = [
            pa.DictionaryArray.from_arrays(pa.array(index.astype(np.int32)), names)
            for index, names in zip((stages, requests, nodes), self._names, strict=True)
        ]
        return [
            np.full(slots.size, start_s, dtype=np.int64),
            np.full(slots.size, part, dtype=np.int32),
            *named,
            np.array(judged, dtype=np.bool_)[stages],
        ]

    def _error_rows(self, window: Window, part: int) -> pa.RecordBatch:
        labels = sorted(window.errors)
        slots = np.array([slot for slot, _ in labels], dtype=np.int64)
        messages = [window.messages.get(label) for label in labels]
        columns = [
            *self._slot_columns(window.start_s, part, slots),
            pa.array([kind for _, kind in labels], pa.string()).dictionary_encode(),
            [window.errors[label] for label in labels],
            [None if text is None else self._clean(text) for text in messages],
        ]
        return pa.RecordBatch.from_arrays(
            [column if isinstance(column, pa.Array) else pa.array(column, field.type)
             for column, field in zip(columns, ERRORS, strict=True)],
            schema=ERRORS,
        )  # fmt: skip


def _summary_columns(slots: NDArray[np.int64], segments: Segments) -> list[NDArray[Any]]:
    rows = np.searchsorted(slots, segments.slots)
    samples = np.zeros((len(Kind), slots.size), dtype=np.int64)
    samples[segments.kinds, rows] = segments.n
    overflow = np.zeros(slots.size, dtype=np.int64)
    np.add.at(overflow, rows, segments.overflow)
    columns: list[NDArray[Any]] = [*samples, overflow]
    quantiles = {name: segments.quantile_us(q) for name, q in _QUANTILES.items()}
    for kind, names in _SUMMARY.items():
        of_kind = segments.kinds == kind
        for name in names:
            column = np.full(slots.size, np.nan)  # no samples: null in the file
            column[rows[of_kind]] = quantiles[name][of_kind]
            columns.append(column)
    return columns


def _struct_rows(
    schema: pa.Schema, start_s: int, values: tuple[msgspec.Struct, ...]
) -> pa.RecordBatch:
    rows = [{"window_s": start_s, **msgspec.structs.asdict(value)} for value in values]
    arrays = [
        pa.array([row[field.name] for row in rows], pa.string()).dictionary_encode()
        if field.type == _NAME
        else pa.array([row[field.name] for row in rows], field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def table_of(name: str, batches: list[pa.RecordBatch]) -> pa.Table:
    """One table of many batches; the dictionaries of names become one."""
    table: pa.Table = pa.Table.from_batches(batches, schema=ALL_SCHEMAS[name]).unify_dictionaries()
    return table


def frame_of(table: pa.Table) -> pd.DataFrame:
    """A table as pandas: names are categories, absent quantiles NaN."""
    frame: pd.DataFrame = table.to_pandas()
    return frame
