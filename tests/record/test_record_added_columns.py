"""Archives that were written before a column existed are still read."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from loadtests.errors import HarnessError
from loadtests.record.parquet import read_table
from loadtests.record.tables import ADDED, SCHEMAS

_ROWS = 3


def _written(path: Path, name: str, without: frozenset[str]) -> Path:
    """A file of a few rows that lacks these columns."""
    fields = [field for field in SCHEMAS[name] if field.name not in without]
    columns = [pa.nulls(_ROWS, field.type) for field in fields]
    pq.write_table(pa.table(columns, schema=pa.schema(fields)), path)
    return path


@pytest.mark.parametrize("name", sorted(ADDED))
def test_columns_added_later_may_be_missing(tmp_path: Path, name: str) -> None:
    """Counts of what was not measured are 0, latencies are unknown, the order is the schema's."""
    table = read_table(_written(tmp_path / "old.parquet", name, ADDED[name]), name)
    assert table.schema.names == SCHEMAS[name].names
    assert table.schema.types == SCHEMAS[name].types
    for field in SCHEMAS[name]:
        if field.name in ADDED[name]:
            expected = 0 if pa.types.is_integer(field.type) else None
            assert table.column(field.name).to_pylist() == [expected] * _ROWS


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_any_other_column_must_be_there(tmp_path: Path, name: str) -> None:
    """A column that the schema always had is not made up."""
    without = ADDED.get(name, frozenset()) | {"window_s"}
    with pytest.raises(HarnessError, match="columns"):
        read_table(_written(tmp_path / "wrong.parquet", name, without), name)


def test_the_added_columns_are_columns() -> None:
    """The list names what the schemas have, or it would excuse what nobody added."""
    for name, columns in ADDED.items():
        assert columns
        assert columns <= set(SCHEMAS[name].names)
