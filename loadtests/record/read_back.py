"""`read_back.parquet`: what a read-back after the run found of each logged write.

Made after the archive was completed, from its own log, and sealed in `SHA256SUMS` like the
verdict. One row an id; `copies` is UNREAD where no node would say.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from loadtests.errors import HarnessError
from loadtests.record.checksums import add_file
from loadtests.record.directory import READ_BACK_FILE
from loadtests.record.files import read_file, sha256_of

UNREAD: Final = -1
READ_BACK: Final = pa.schema(
    [
        pa.field("sequence", pa.int64()),
        pa.field("id", pa.string()),
        pa.field("node", pa.string()),
        pa.field("copies", pa.int64()),
        pa.field("failure", pa.string()),
    ]
)


class ReadRow(msgspec.Struct, frozen=True, kw_only=True):
    """One id; `node` answered, or nobody did, and `failure` is what the last one met with."""

    sequence: int
    id: str
    node: str
    copies: int
    failure: str


def write_read_back(path: Path, rows: Sequence[ReadRow]) -> None:
    """Add the file to a complete archive."""
    table = pa.Table.from_pylist([msgspec.structs.asdict(row) for row in rows], schema=READ_BACK)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    add_file(path, READ_BACK_FILE, sink.getvalue().to_pybytes())


def load_read_back(path: Path, sums: dict[str, str]) -> pd.DataFrame | None:
    """The table, None where nobody has read back; HarnessError on damage."""
    if READ_BACK_FILE not in sums:
        return None
    where = path / READ_BACK_FILE
    seen = sha256_of(where)
    if seen != sums[READ_BACK_FILE]:
        raise HarnessError(
            where=str(where), seen=f"SHA-256 {seen}", expected="the one in SHA256SUMS"
        )
    try:
        table = pq.ParquetFile(pa.BufferReader(read_file(where))).read()
        frame: pd.DataFrame = table.cast(READ_BACK).to_pandas()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise HarnessError(
            where=str(where), seen=str(error).split("\n")[0], expected="a read-back of this program"
        ) from error
    return frame
