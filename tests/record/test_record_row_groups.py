"""Tables of an archive: spooled while a run lasts, written in few row groups when it is over."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from loadtests.errors import HarnessError
from loadtests.record.parquet import GROUP_BYTES, SPOOLED_WINDOWS, TableFile, read_table
from loadtests.record.server import SERVER, SERVER_TABLE


def _batch(window: int, rows: int) -> pa.RecordBatch:
    """Rows of one scrape; names differ between windows, so dictionaries have to be unified."""
    columns = []
    for field in SERVER:
        if pa.types.is_dictionary(field.type):
            names = pa.array([f"name-{window % 7}-{row % 3}" for row in range(rows)], pa.string())
            columns.append(names.dictionary_encode().cast(field.type))
        else:
            columns.append(pa.array([window] * rows, pa.int64()).cast(field.type))
    return pa.RecordBatch.from_arrays(columns, schema=SERVER)


@pytest.mark.parametrize(
    ("windows", "rows"),
    [(SPOOLED_WINDOWS - 1, 3), (SPOOLED_WINDOWS, 2), (7 * SPOOLED_WINDOWS + 1, 2), (65, 0), (0, 0)],
)
def test_a_table_has_all_rows_in_order_in_one_group(
    tmp_path: Path, windows: int, rows: int
) -> None:
    """Whatever was spooled before the end and what was not; windows without rows are none."""
    assert _sizes(tmp_path, windows, rows) == ([windows * rows] if rows else [])


def test_a_large_table_has_groups_of_bounded_size(tmp_path: Path) -> None:
    """What is in memory at the end is a group, not the run: here a minute is half of one."""
    bytes_per_row = _batch(0, 1000).nbytes / 1000
    rows = round(GROUP_BYTES * 0.55 / bytes_per_row / SPOOLED_WINDOWS)
    group = 2 * SPOOLED_WINDOWS * rows
    assert _sizes(tmp_path, 5 * SPOOLED_WINDOWS, rows) == [group, group, group // 2]


def _sizes(folder: Path, windows: int, rows: int) -> list[int]:
    """Rows of each group of a file of so many windows; what was written is read again."""
    path = folder / f"{SERVER_TABLE}.parquet"
    file = TableFile(path, SERVER_TABLE)
    for window in range(windows):
        assert file.append(_batch(window, rows)) == (window % SPOOLED_WINDOWS == 59)
    file.close()
    table = read_table(path, SERVER_TABLE)
    numbers = next(f.name for f in SERVER if pa.types.is_int64(f.type))
    expected = [window for window in range(windows) for _ in range(rows)]
    assert table.column(numbers).to_pylist() == expected
    texts = next(f.name for f in SERVER if pa.types.is_dictionary(f.type))
    names = [f"name-{window % 7}-{row % 3}" for window in range(windows) for row in range(rows)]
    assert table.column(texts).to_pylist() == names
    metadata = pq.ParquetFile(path).metadata
    return [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]


def test_nothing_is_in_the_folder_before_the_end_nor_without_one(tmp_path: Path) -> None:
    """A run that dies leaves no table, and nothing that another run would have to remove."""
    path = tmp_path / f"{SERVER_TABLE}.parquet"
    file = TableFile(path, SERVER_TABLE)
    for window in range(2 * SPOOLED_WINDOWS):
        file.append(_batch(window, 2))
    assert list(tmp_path.iterdir()) == []
    file.discard()
    assert list(tmp_path.iterdir()) == []
    second = TableFile(path, SERVER_TABLE)
    second.close()
    second.discard()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("windows", "step"),
    [(SPOOLED_WINDOWS - 1, lambda file: file.append(_batch(0, 2))), (5, TableFile.close)],
    ids=["spooling", "at the end"],
)
def test_a_full_disk_is_told_with_the_name_of_the_table(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    windows: int,
    step: Callable[[TableFile], object],
) -> None:
    """While rows are spooled, and while the file is made of them; nothing else is raised later."""
    file = TableFile(tmp_path / f"{SERVER_TABLE}.parquet", SERVER_TABLE)
    for window in range(windows):
        file.append(_batch(window, 2))

    def full(_descriptor: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(HarnessError, match=r"server\.parquet.*ENOSPC"):
            step(file)
    file.discard()


def test_a_spool_that_the_disk_damages_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the table's name, as every error of a disk; here all of it reads as zeros."""
    file = TableFile(tmp_path / f"{SERVER_TABLE}.parquet", SERVER_TABLE)
    for window in range(SPOOLED_WINDOWS):
        file.append(_batch(window, 2))
    spools = list[int]()
    write = os.write

    def noted(descriptor: int, data: bytes) -> int:
        spools.append(descriptor)
        return write(descriptor, data)

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", noted)
        for window in range(SPOOLED_WINDOWS):
            file.append(_batch(window, 2))
    size = os.fstat(spools[0]).st_size
    os.ftruncate(spools[0], 0)
    os.ftruncate(spools[0], size)
    with pytest.raises(HarnessError, match=r"server\.parquet.*spooled"):
        file.close()
    file.discard()


# A process of its own, in which nobody else takes memory. Hours of narrow windows, and what the
# C library has given out after the first and after each of the others.
_SCRIPT = """
import ctypes, sys
from pathlib import Path
import pyarrow as pa
from loadtests.record.parquet import SPOOLED_WINDOWS, TableFile
from loadtests.record.tables import WINDOWS

class Usage(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks used free keep"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

usage = ctypes.CDLL(None).mallinfo2
usage.restype = Usage
none = pa.RecordBatch.from_pylist([{}] * 20, schema=WINDOWS)
table = TableFile(Path(sys.argv[1]) / "windows.parquet", "windows")
for hour in range(5):
    for _ in range(3600):
        table.append(none)
    print(usage().used)
table.discard()
"""


def test_a_table_that_grows_keeps_nothing_of_its_rows(tmp_path: Path) -> None:
    """A Parquet writer kept 300 kB an hour, where a group was written every ten minutes."""
    command = [sys.executable, "-c", _SCRIPT, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    used = [int(line) for line in done.stdout.split()]
    growths = [after - before for before, after in pairwise(used[1:])]
    assert max(growths) < 20_000, growths
