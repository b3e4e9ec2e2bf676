"""Bins of 100 ms: their exact merge, their bytes, their laws and their table."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from record_builders import PLAN, T0_S, finished, good_manifest, window_of

from loadtests.record.archive import create_archive, load_run, verify
from loadtests.record.bins import (
    COUNTED,
    DUE_OF,
    NO_BINS,
    TICKS_PER_BIN,
    TICKS_PER_S,
    BinCount,
    Bins,
    keys_of,
    pack_bins,
    sum_bins,
    unpack_bins,
)
from loadtests.record.window import (
    Count,
    Window,
    check_bins,
    merge_windows,
    pack_window,
    unpack_window,
)

SLOTS = good_manifest().slots


def with_bins(window: Window, rng: np.random.Generator) -> Window:
    """The window, its counts spread over ten bins and its bad requests over ticks before it."""
    parts = []
    for slot, counters in zip(window.slots.tolist(), window.counters, strict=True):
        ticks = window.start_s * TICKS_PER_S + np.arange(10) * TICKS_PER_BIN
        rows = np.zeros((10, len(BinCount)), dtype=np.int64)
        for column in COUNTED:
            total = int(counters[Count[column.name]])
            rows[:, column] = rng.multinomial(total, [0.1] * 10)
        parts.append(Bins(keys=keys_of(ticks, np.full(10, slot)), counters=rows))
        for due, ended in DUE_OF.items():
            total = int(counters[Count[ended.name]])
            rows = np.zeros((total, len(BinCount)), dtype=np.int64)
            rows[:, due] = 1
            ticks = window.start_s * TICKS_PER_S - rng.integers(-50, 250, total)
            parts.append(Bins(keys=keys_of(ticks, np.full(total, slot)), counters=rows))
    return dataclasses.replace(window, bins=sum_bins(parts))


def window_with_bins(seed: int, start_s: int = T0_S) -> Window:
    """An honest window of a few slots."""
    rng = np.random.default_rng(seed)
    slots = sorted(rng.choice(len(SLOTS), 5, replace=False).tolist())
    return with_bins(window_of(start_s, SLOTS, rng, wanted=slots), rng)


def same(one: Bins, other: Bins) -> bool:
    """Equal keys and counters."""
    equal_keys = np.array_equal(one.keys, other.keys)
    return equal_keys and np.array_equal(one.counters, other.counters)


def test_a_merge_is_exact_in_any_order_and_grouping_and_keeps_the_law() -> None:
    """Whoever adds up first, agent or master: the same rows, and they are the windows' sums."""
    windows = [window_with_bins(seed) for seed in range(6)]
    whole = merge_windows(T0_S, windows)
    check_bins(whole)
    draw = random.Random(5)
    for _ in range(20):
        parts = windows[:]
        draw.shuffle(parts)
        at = draw.randrange(1, 6)
        grouped = [merge_windows(T0_S, parts[:at]), merge_windows(T0_S, parts[at:])]
        assert same(merge_windows(T0_S, grouped).bins, whole.bins)
    assert same(merge_windows(T0_S, [whole, Window.empty(T0_S)]).bins, whole.bins)


def test_packed_windows_hold_their_bins_and_those_without_cost_one_byte() -> None:
    """Bins survive the way to the master; a frame of before there were any still reads."""
    window = window_with_bins(1)
    assert same(unpack_window(pack_window(window)).bins, window.bins)
    bare = dataclasses.replace(window, bins=NO_BINS)
    assert len(unpack_window(pack_window(bare)).bins) == 0
    for highest in (1, 255, 256, 70_000, 2**40):
        rows = np.full((1, len(BinCount)), highest, dtype=np.int64)
        bins = Bins(keys=np.array([5], dtype=np.int64), counters=rows)
        assert same(unpack_bins(pack_bins(bins)), bins)


@pytest.mark.parametrize("damage", ["short", "order", "width", "negative"])
def test_damaged_bins_are_refused(damage: str) -> None:
    """Arrays that contradict each other never become counts."""
    packed = pack_bins(window_with_bins(2).bins)
    assert packed is not None
    match damage:
        case "short":
            packed.counters = packed.counters[:-8]
        case "order":
            packed.keys = packed.keys[8:16] + packed.keys[:8] + packed.keys[16:]
        case "width":
            packed.width = 9
        case _:
            rows = len(packed.keys) // 8 * len(BinCount)
            packed.width, packed.counters = 3, np.full(rows, -1, dtype="<i8").tobytes()
    with pytest.raises(ValueError, match="bin"):
        unpack_bins(packed)


@pytest.mark.parametrize("column", [*COUNTED, *DUE_OF])
def test_one_request_too_many_in_a_bin_breaks_the_law(column: BinCount) -> None:
    """Each counted column, and bad requests by their intended time, must add up."""
    window = window_with_bins(3)
    check_bins(window)
    counters = window.bins.counters.copy()
    row = np.flatnonzero(window.bins.ticks % TICKS_PER_S == 0)[0]
    counters[row, column] += 1
    wrong = dataclasses.replace(window.bins, counters=counters)
    with pytest.raises(ValueError, match=column.name.lower().removeprefix("due_")):
        check_bins(dataclasses.replace(window, bins=wrong))


def test_a_bin_of_another_second_breaks_the_law() -> None:
    """The sums may agree and the bin still lie in a second that was over."""
    window = window_with_bins(3)
    keys = window.bins.keys.copy()
    own = np.flatnonzero(window.bins.counters[:, BinCount.PLANNED])
    keys[own[-1]] += TICKS_PER_S << 16
    order = np.argsort(keys)
    moved = Bins(keys=keys[order], counters=window.bins.counters[order])
    with pytest.raises(ValueError, match="outside"):
        check_bins(dataclasses.replace(window, bins=moved))


def archived(results: Path, *, is_complete: bool) -> tuple[Path, list[Window]]:
    """A run of four seconds with bins, from two agents."""
    writer = create_archive(results, good_manifest(), PLAN)
    windows = [window_with_bins(seed, T0_S + seed // 2) for seed in range(8)]
    for index, window in enumerate(windows):
        writer.journal_windows(f"a{index % 2}", [window])
        writer.append_window(window)
    if is_complete:
        return writer.finish(finished(writer.manifest)), windows
    return writer.abandon("killed"), windows


@pytest.mark.parametrize("is_complete", [True, False])
def test_an_archive_reads_its_bins_back(tmp_path: Path, *, is_complete: bool) -> None:
    """Complete or rebuilt from its journal, a run has the same rows, and `verify` agrees."""
    path, windows = archived(tmp_path, is_complete=is_complete)
    run = load_run(path)
    whole = sum_bins([window.bins for window in windows])
    for column in BinCount:
        assert run.bins[column.name.lower()].sum() == whole.counters[:, column].sum()
    slots = pd.unique(run.bins[["stage", "request", "node"]].astype(str).agg("/".join, axis=1))
    expected = {SLOTS.indices(slot) for slot in whole.slots.tolist()}
    assert set(slots) == {
        f"{SLOTS.stages[s]}/{SLOTS.requests[r]}/{SLOTS.nodes[n]}" for s, r, n in expected
    }
    assert sorted(set(run.bins["at_ms"])) == sorted({10 * t for t in whole.ticks.tolist()})
    if is_complete:
        assert "bins.parquet" in run.manifest.checksums
        assert verify(path) == ()


def test_verify_finds_bins_that_do_not_add_up(tmp_path: Path) -> None:
    """A writer that loses a bin is found by the law, though every checksum is right."""
    writer = create_archive(tmp_path, good_manifest(), PLAN)
    window = window_with_bins(4)
    rows = np.flatnonzero(window.bins.counters[:, BinCount.PLANNED])
    kept = np.delete(np.arange(len(window.bins)), rows[0])
    lost = Bins(keys=window.bins.keys[kept], counters=window.bins.counters[kept])
    writer.append_window(dataclasses.replace(window, bins=lost))
    findings = verify(writer.finish(finished(writer.manifest)))
    assert any("do not add up" in finding for finding in findings)


def test_an_archive_without_bins_has_an_empty_table(tmp_path: Path) -> None:
    """What nobody asked for is neither written nor missed."""
    writer = create_archive(tmp_path, good_manifest(), PLAN)
    writer.append_window(dataclasses.replace(window_with_bins(5), bins=NO_BINS))
    path = writer.finish(finished(writer.manifest))
    run = load_run(path)
    assert run.bins.empty
    assert "bins.parquet" not in run.manifest.checksums
    assert verify(path) == ()
