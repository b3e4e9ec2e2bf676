"""Row groups of an archive's tables: few, for their writer keeps something of each to the end."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from loadtests.record.parquet import (
    ENOUGH_BYTES,
    FEWEST_WINDOWS,
    MOST_WINDOWS,
    TableFile,
    read_table,
)
from loadtests.record.server import SERVER, SERVER_TABLE


def _batch(window: int, rows: int) -> pa.RecordBatch:
    """Rows of one scrape; names differ between windows, so dictionaries have to be unified."""
    columns = []
    for field in SERVER:
        if pa.types.is_dictionary(field.type):
            names = pa.array([f"name-{window % 7}"] * rows, pa.string())
            columns.append(names.dictionary_encode().cast(field.type))
        else:
            columns.append(pa.array([window] * rows, pa.int64()).cast(field.type))
    return pa.RecordBatch.from_arrays(columns, schema=SERVER)


@pytest.mark.parametrize(
    ("windows", "rows", "groups"),
    [
        (FEWEST_WINDOWS - 1, 3, [177]),
        (MOST_WINDOWS, 2, [1200]),
        (2 * MOST_WINDOWS + 1, 2, [1200, 1200, 2]),
        (MOST_WINDOWS + 5, 0, []),
    ],
)
def test_a_narrow_table_has_a_row_group_every_ten_minutes(
    tmp_path: Path, windows: int, rows: int, groups: list[int]
) -> None:
    """Windows without rows count as well; nothing is lost and the order is kept."""
    assert _sizes(tmp_path, windows, rows) == groups


def test_a_wide_table_has_one_as_soon_as_it_is_large_but_not_within_a_minute(
    tmp_path: Path,
) -> None:
    """Here a minute has 2/3 of the bytes that are enough: a group takes two."""
    bytes_per_row = _batch(0, 1000).nbytes / 1000
    rows = round(ENOUGH_BYTES * 2 / 3 / bytes_per_row / FEWEST_WINDOWS)
    group = 2 * FEWEST_WINDOWS * rows
    assert _sizes(tmp_path, 5 * FEWEST_WINDOWS, rows) == [group, group, group // 2]


def _sizes(folder: Path, windows: int, rows: int) -> list[int]:
    """Rows of each group of a file of so many windows; what was written is read again."""
    path = folder / f"{SERVER_TABLE}.parquet"
    file = TableFile(path, SERVER_TABLE)
    for window in range(windows):
        file.append(_batch(window, rows))
    file.close()
    table = read_table(path, SERVER_TABLE)
    numbers = next(f.name for f in SERVER if pa.types.is_int64(f.type))
    expected = [window for window in range(windows) for _ in range(rows)]
    assert table.column(numbers).to_pylist() == expected
    metadata = pq.ParquetFile(path).metadata
    return [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
