"""What only HTTP/2 and streaming calls have: the pool's use, latencies inside calls."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import numpy as np
import pytest
from synthetic_run import good_plan, write_run

from analysis.figures import build_figures
from analysis.run_tables import build_tables
from analysis.tables import Table
from analysis.verdict import judge
from loadtests.record.archive import Run
from loadtests.record.histogram import LENGTH, buckets_of_ns
from loadtests.record.window import Kind, Window


def tables_of(run: Run) -> dict[str, Table]:
    """All tables of a run by name."""
    tables = build_tables(run, judge(run), build_figures(run))
    return {table.name: table for table in tables}


def with_streams(window: Window) -> Window:
    """Each engine carries 3 of 100 streams, and 5 of 50 for two seconds in ten."""
    is_peak = window.start_s % 10 in {5, 6}
    streams, used = (50, 5) if is_peak else (100, 3)
    health = tuple(
        msgspec.structs.replace(one, streams=streams, streams_in_use=used) for one in window.health
    )
    return dataclasses.replace(window, health=health)


def with_messages(window: Window) -> Window:
    """One first message a second after 2 ms, in the judged stage's first slot."""
    plan = good_plan()
    slot = plan.slots.slot(1, 0, 0)
    (bucket,) = buckets_of_ns(np.array([2_000_000])).tolist()
    key = (slot * len(Kind) + Kind.FIRST_MESSAGE) * LENGTH + bucket
    at = int(np.searchsorted(window.keys, key))
    return dataclasses.replace(
        window,
        keys=np.insert(window.keys, at, np.uint32(key)),
        counts=np.insert(window.counts, at, 1),
    )


def test_the_use_of_the_stream_pool_is_its_streams_in_use(tmp_path: Path) -> None:
    """Mean and worst second, over all engines."""
    (row,) = tables_of(write_run(tmp_path, change_window=with_streams))["stream_pool"].rows
    stage, size, in_use_mean, in_use_max, use_mean, use_max = (cell.value for cell in row)
    assert (stage, size, in_use_max) == ("steady", 200, 10)
    assert in_use_mean == pytest.approx(6.8)
    # Of the two seconds only one has 50 streams at both of its ends.
    assert use_mean == pytest.approx((8 * 0.03 + 0.05 + 0.1) / 10)
    assert use_max == 0.1


def test_latencies_inside_calls_have_rows_of_their_own(tmp_path: Path) -> None:
    """Only what was measured is shown."""
    (row,) = tables_of(write_run(tmp_path, change_window=with_messages))["streaming_calls"].rows
    assert row[2].text == "first message"
    assert row[-1].text == "2.00 ms"


def test_a_run_without_streams_has_neither_table(tmp_path: Path) -> None:
    """No empty table."""
    assert not {"stream_pool", "streaming_calls"} & set(tables_of(write_run(tmp_path)))
