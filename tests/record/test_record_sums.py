"""Totals and quantiles of many histograms at once equal those taken one by one."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_builders import T0_S, good_manifest, only_slots, replaced, window_of

from loadtests.record.histogram import Histogram
from loadtests.record.summary import segments_of
from loadtests.record.totals import Totals, intervals_of, keys_of
from loadtests.record.window import (
    Count,
    Kind,
    Window,
    check_slots,
    histogram_of,
    merge_windows,
)
from loadtests.record.window_sum import WindowSum

MANIFEST = good_manifest()
SLOTS = MANIFEST.slots
seeds = st.integers(min_value=0, max_value=2**32 - 1)


def window(seed: int, start_s: int = T0_S) -> Window:
    """A random window of some slots, now and then with overflow."""
    rng = np.random.default_rng(seed)
    wanted = np.flatnonzero(rng.random(len(SLOTS)) < 0.4).tolist() or [1]
    return window_of(start_s, SLOTS, rng, wanted=wanted, samples=20, overflow=seed % 3)


def assert_same_counts(one: Window, other: Window) -> None:
    """Equal counters, histograms, errors and messages."""
    for name in ("slots", "counters", "keys", "counts"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert dict(one.errors) == dict(other.errors)
    assert dict(one.messages) == dict(other.messages)


@settings(max_examples=40)
@given(st.lists(seeds, max_size=6))
def test_a_sum_as_it_goes_equals_the_merge(parts: list[int]) -> None:
    """Adding windows one by one into touched memory equals merging them all at once."""
    windows = [window(seed) for seed in parts]
    total = WindowSum(T0_S)
    for one in windows:
        total.add(one)
    assert_same_counts(total.value(), merge_windows(T0_S, windows))


def test_a_sum_of_more_histograms_than_one_chunk_is_exact() -> None:
    """Rows in several chunks of memory do not mix: 72 histograms, added in two orders."""
    rng = np.random.default_rng(9)
    full = window_of(T0_S, SLOTS, rng, samples=30)
    some = window_of(T0_S, SLOTS, rng, wanted=[11, 3], samples=30)
    total = WindowSum(T0_S)
    for one in (some, full, some):
        total.add(one)
    assert_same_counts(total.value(), merge_windows(T0_S, [some, full, some]))
    assert len(total._chunks) == 2


@settings(max_examples=40)
@given(seeds, st.sampled_from([0.001, 0.5, 0.95, 0.99, 1.0]))
def test_quantiles_at_once_equal_quantiles_one_by_one(seed: int, q: float) -> None:
    """Each histogram's n, overflow and quantile equal those of that histogram taken out."""
    one = window(seed)
    segments = segments_of(one)
    values = segments.quantile_us(q)
    for index, (slot, kind) in enumerate(zip(segments.slots, segments.kinds, strict=True)):
        histogram = histogram_of(one, Kind(int(kind)), [int(slot)])
        assert segments.n[index] == histogram.n
        assert segments.overflow[index] == histogram.overflow
        assert values[index] == histogram.quantile_us(q)


def test_an_empty_window_has_no_histograms() -> None:
    """Nothing in, nothing out: no row, no quantile, no interval."""
    segments = segments_of(Window.empty(T0_S))
    assert segments.n.size == segments.quantile_us(0.5).size == 0
    assert list(intervals_of(Window.empty(T0_S), SLOTS, 1, ())) == []


@given(seeds)
@settings(max_examples=20)
def test_intervals_are_the_window_and_back(seed: int) -> None:
    """Log intervals of a window carry every sample, overflow included, under their names."""
    one = window(seed)
    keys = [keys_of(interval, SLOTS) for interval in intervals_of(one, SLOTS, 1, ("judged",))]
    np.testing.assert_array_equal(np.concatenate([k for k, _ in keys]), one.keys)
    np.testing.assert_array_equal(np.concatenate([c for _, c in keys]), one.counts)


def test_totals_judge_by_stage_and_second() -> None:
    """With T0 inside a second, edge windows count for everything and for no stage's figures."""
    manifest = replaced(MANIFEST, t0_unix_ns=T0_S * 1_000_000_000 + 500_000_000)
    totals = Totals(manifest)
    windows = [window(seed, T0_S + seed) for seed in range(9)]
    for one in windows:
        totals.add(one)
    assert_same_counts(totals.everything(), merge_windows(0, windows))
    judged = totals.judged()
    for stage, seconds in enumerate(([1, 3, 4, 5, 6, 7, 8], [3, 4, 5, 7, 8])):
        slots = [SLOTS.slot(stage, request, node) for request in range(3) for node in range(2)]
        parts = [one for one in windows if one.start_s - T0_S in seconds]
        for kind in Kind:
            expected = sum(
                (histogram_of(one, kind, slots) for one in parts), start=Histogram.empty()
            )
            np.testing.assert_array_equal(histogram_of(judged, kind, slots).counts, expected.counts)
        at = np.isin(judged.slots, slots)
        planned = sum(
            int(one.counters[np.isin(one.slots, slots), Count.PLANNED].sum()) for one in parts
        )
        assert int(judged.counters[at, Count.PLANNED].sum()) == planned


@pytest.mark.parametrize("field", ["slots", "keys", "errors", "messages"])
def test_a_window_of_another_run_is_refused(field: str) -> None:
    """A slot that the run does not have, wherever it is named, is a ValueError."""
    one = only_slots(window(4), T0_S)
    check_slots(one, SLOTS)
    errors = {(len(SLOTS), "timeout"): 1}
    outside = {
        "slots": dataclasses.replace(one, slots=np.array([len(SLOTS)], dtype=np.uint32)),
        "keys": dataclasses.replace(one, keys=np.array([2**32 - 1], dtype=np.uint32)),
        "errors": dataclasses.replace(one, errors=errors),
        "messages": dataclasses.replace(one, messages={(-1, "timeout"): "text"}),
    }
    with pytest.raises(ValueError, match="this run has 12"):
        check_slots(outside[field], SLOTS)
