"""Parquet files of an archive: written in row groups as windows come, read with checks.

A row group takes the windows of ten minutes, or 8 MB, but one minute's at least: its writer
keeps 870 bytes of every column of every group until the end of the run, and a narrow table
in groups of a minute is slow to read; all in one would hold it in memory. A Parquet file
has no end until it is closed; a run that dies is read from its journal instead.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from loadtests.errors import HarnessError
from loadtests.record.files import AppendFile, read_file
from loadtests.record.tables import ALL_SCHEMAS, table_of, with_added

FEWEST_WINDOWS: Final = 60  # of a row group
MOST_WINDOWS: Final = 600
ENOUGH_BYTES: Final = 8 << 20


class _Sink:
    """What pyarrow needs of a Python file, over an `AppendFile`: its errors are ours.

    Once discarded it swallows what pyarrow still writes when its writer is destroyed.
    """

    def __init__(self, file: AppendFile) -> None:
        self._file = file
        self.closed = False
        self.is_discarded = False

    def write(self, data: bytes) -> int:
        if not self.is_discarded:
            self._file.append(data)
        return len(data)

    def tell(self) -> int:
        return self._file.size_bytes

    def flush(self) -> None:
        """Appends are in the kernel already."""

    def close(self) -> None:
        self.closed = True


class TableFile:
    """A new Parquet file that takes the rows of one window, or scrape, after the other."""

    def __init__(self, path: Path, name: str) -> None:
        self._name = name
        self._file = AppendFile(path)
        self._sink = _Sink(self._file)
        # No statistics: the writer keeps those of every row group, 30 kB each, until its end.
        self._writer = pq.ParquetWriter(
            self._sink, ALL_SCHEMAS[name], compression="zstd", write_statistics=False
        )
        self._waiting: list[pa.RecordBatch] = []
        self._packed: list[pa.Table] = []  # those of the minutes before, small batches no more
        self._packed_windows = 0

    def append(self, batch: pa.RecordBatch) -> bool:
        """Take the rows of a window; True when they filled a row group, which was written."""
        self._waiting.append(batch)
        if len(self._waiting) < FEWEST_WINDOWS:
            return False
        self._pack()
        size = sum(table.nbytes for table in self._packed)
        is_full = size >= ENOUGH_BYTES or self._packed_windows >= MOST_WINDOWS
        if is_full:
            self._flush()
        return is_full

    def close(self) -> None:
        """Write what waits and the footer, sync; HarnessError on disk errors."""
        self._flush()
        self._writer.close()
        self._file.sync()
        self._file.close()

    def discard(self) -> None:
        """Leave the file as it is, without an end: nobody reads it. Harmless after `close`."""
        self._waiting.clear()
        self._packed.clear()
        self._sink.is_discarded = True
        self._file.close()

    def _pack(self) -> None:
        """Put what waits into one piece: a batch of few rows takes twenty times their bytes."""
        batches = [batch for batch in self._waiting if batch.num_rows]
        self._packed_windows += len(self._waiting)
        self._waiting.clear()
        if batches:
            self._packed.append(table_of(self._name, batches).combine_chunks())

    def _flush(self) -> None:
        self._pack()
        tables = [*self._packed]
        self._packed.clear()
        self._packed_windows = 0
        if tables:
            whole = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
            self._writer.write_table(whole)


def read_table(path: Path, name: str) -> pa.Table:
    """All rows of a file; HarnessError when it is damaged or has other columns than it may."""
    data = read_file(path)
    try:
        # Not `read_table`: through a dataset, a row group costs four times as much.
        table: pa.Table = pq.ParquetFile(pa.BufferReader(data)).read()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise HarnessError(
            where=str(path), seen=str(error).split("\n")[0], expected="an undamaged Parquet file"
        ) from error
    table = with_added(table, name)
    expected = ALL_SCHEMAS[name]
    if table.schema.names != expected.names or table.schema.types != expected.types:
        raise HarnessError(
            where=str(path),
            seen=f"columns {table.schema.names}",
            expected=f"columns {expected.names}",
        )
    return table
