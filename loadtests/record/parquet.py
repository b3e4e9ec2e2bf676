"""Parquet files of an archive: written when a run is over, read with checks.

A Parquet writer keeps a kilobyte of every column of every row group until its end, between
blocks that come and go: a master of 1,000 agents grew by it for as long as it ran. So rows
are spooled as windows come, as a stream of Arrow's that keeps nothing, into a file without a
name; `close` makes the Parquet file of it, in few large row groups. A run that dies is read
from its journal instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from loadtests.errors import HarnessError
from loadtests.record.files import AppendFile, read_file
from loadtests.record.tables import ALL_SCHEMAS, table_of, with_added

SPOOLED_WINDOWS: Final = 60  # at a time: a batch of few rows takes twenty times their bytes
GROUP_BYTES: Final = 32 << 20  # of a row group, in memory; the last minute may exceed it


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
        self._path, self._name = path, name
        self._spool = AppendFile(path, is_spool=True)
        self._sink = _Sink(self._spool)
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        self._stream = pa.ipc.new_stream(self._sink, ALL_SCHEMAS[name], options=options)
        self._waiting: list[pa.RecordBatch] = []

    def append(self, batch: pa.RecordBatch) -> bool:
        """Take the rows of a window; True when they were spooled, with those before them."""
        self._waiting.append(batch)
        if len(self._waiting) < SPOOLED_WINDOWS:
            return False
        self._flush()
        return True

    def close(self) -> None:
        """Write the Parquet file of all rows, sync; HarnessError on disk errors."""
        self._flush()
        self._stream.close()
        file = AppendFile(self._path)
        try:
            with self._spool.read_again() as spool:
                self._write(file, spool)
            file.sync()
        except pa.ArrowException as error:
            why = str(error).split("\n")[0]
            seen = f"rows spooled while the run lasted: {why}"
            expected = "a disk that gives back what was written; the journal has all of it"
            raise HarnessError(where=str(self._path), seen=seen, expected=expected) from error
        finally:
            file.close()
            self._spool.close()

    def discard(self) -> None:
        """Make no file: nobody would read it. Harmless after `close`."""
        self._waiting.clear()
        self._sink.is_discarded = True
        self._spool.close()

    def _flush(self) -> None:
        batches = [batch for batch in self._waiting if batch.num_rows]
        self._waiting.clear()
        if batches:
            self._stream.write_table(self._together(batches))

    def _together(self, batches: list[pa.RecordBatch]) -> pa.Table:
        """One piece of many."""
        return table_of(self._name, batches).combine_chunks()

    def _write(self, file: AppendFile, spool: BufferedReader) -> None:
        sink = _Sink(file)
        # No statistics: nobody reads them.
        writer = pq.ParquetWriter(
            sink, ALL_SCHEMAS[self._name], compression="zstd", write_statistics=False
        )
        try:
            for group in self._groups(pa.ipc.open_stream(spool)):
                writer.write_table(group)
            writer.close()
        except BaseException:
            sink.is_discarded = True
            raise

    def _groups(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
        """Put batches together into row groups."""
        waiting, size = list[pa.RecordBatch](), 0
        for batch in batches:
            waiting.append(batch)
            size += batch.nbytes
            if size >= GROUP_BYTES:
                yield self._together(waiting)
                waiting, size = [], 0
        if waiting:
            yield self._together(waiting)


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
