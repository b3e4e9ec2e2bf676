"""What the target said of itself, in the archive: whole, cut off by a crash, or never asked."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from record_builders import PLAN, T0_S, finished, good_manifest, window_of

from loadtests.errors import HarnessError
from loadtests.record.archive import create_archive, load_run, verify
from loadtests.record.server import SCRAPE, ScrapeFailure, ServerRow
from loadtests.record.writer import ArchiveWriter

S = 1_000_000_000


def row(
    second: int, *, measure: str = "cpu", value: float | None = 0.5, **rest: object
) -> ServerRow:
    """One value of node n1."""
    good = ServerRow(
        at_unix_ns=(T0_S + second) * S,
        node="n1",
        measure=measure,
        series="max(process_cpu_usage)",
        value=value,
        duration_ns=3_000_000,
        failure=None if value is not None else ScrapeFailure.MISSING,
        message=None,
    )
    return msgspec.structs.replace(good, **rest)


def writer_of(results: Path) -> ArchiveWriter:
    """A run under way."""
    return create_archive(results, good_manifest(), PLAN)


def test_rows_read_back_as_they_were_written(tmp_path: Path) -> None:
    """Values, holes and failures, in order, in a file with a checksum."""
    writer = writer_of(tmp_path)
    writer.append_server([])
    writer.append_server([row(0), row(0, measure="memory", value=None)])
    failed = row(5, measure=SCRAPE, value=0.0, failure=ScrapeFailure.TIMEOUT, message="not in time")
    writer.append_server([failed])
    path = writer.finish(finished(writer.manifest))
    run = load_run(path)
    assert "server.parquet" in run.manifest.checksums
    assert run.server["value"].tolist()[0] == 0.5
    assert run.server["value"].isna().tolist() == [False, True, False]
    assert run.server["failure"].astype(object).tolist()[1:] == ["missing", "timeout"]
    assert run.server["message"].tolist()[2] == "not in time"
    assert run.server["at_unix_ns"].tolist() == [T0_S * S, T0_S * S, (T0_S + 5) * S]
    assert verify(path) == ()


def test_scraping_without_a_row_is_told_from_no_scraping(tmp_path: Path) -> None:
    """An empty table says that the target was to be asked; without it nobody was."""
    for name, asked in (("with", True), ("without", False)):
        writer = writer_of(tmp_path / name)
        if asked:
            writer.append_server([])
        run = load_run(writer.finish(finished(writer.manifest)))
        assert ("server.parquet" in run.manifest.checksums) is asked
        assert len(run.server) == 0
        assert "measure" in run.server.columns


def test_a_crash_leaves_every_row_that_was_taken(tmp_path: Path) -> None:
    """The journal has them; the table was never closed."""
    writer = writer_of(tmp_path)
    window = window_of(T0_S, good_manifest().slots, np.random.default_rng(1))
    writer.journal_windows("a1@i1", [window])
    writer.append_server([row(0)])
    writer.append_server([row(5, value=0.7), row(5, measure="memory", value=None)])
    run = load_run(writer.abandon("power"))
    assert not run.is_complete
    assert run.server["value"].dropna().tolist() == [0.5, 0.7]
    assert len(run.server) == 3
    assert len(run.windows)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    """One bit off, or gone: the archive is not read."""
    writer = writer_of(tmp_path)
    writer.append_server([row(0)])
    path = writer.finish(finished(writer.manifest))
    file = path / "server.parquet"
    data = bytearray(file.read_bytes())
    data[20] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(HarnessError, match=r"server\.parquet"):
        load_run(path)
    file.unlink()
    with pytest.raises(HarnessError, match=r"server\.parquet"):
        load_run(path)


def test_texts_of_the_target_are_made_fit_to_keep(tmp_path: Path) -> None:
    """No secret, no control character and no endless text, in the table and in the journal."""
    writer = writer_of(tmp_path)
    hostile = "Authorization: Bearer abcdefgh12345 \x1b[2J" + "x" * 9_000
    bad = row(0, value=0.0, measure=SCRAPE, failure=ScrapeFailure.STATUS, message=hostile)
    writer.append_server([msgspec.structs.replace(bad, node="n\x00\u202e", series=hostile)])
    journal = (writer.path / "journal.bin").read_bytes()
    assert b"abcdefgh12345" not in journal
    run = load_run(writer.finish(finished(writer.manifest)))
    for column in ("node", "series", "message"):
        text = str(run.server[column].iloc[0])
        assert "abcdefgh" not in text
        assert "\x1b" not in text
        assert "\x00" not in text
        assert len(text) < 2_100
