"""The histogram layout: HdrHistogram's, with the promised error and exact merging."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given
from hypothesis import strategies as st

from loadtests.record.histogram import (
    BUCKETS,
    HIGHEST_EQUIVALENT_US,
    HIGHEST_US,
    LENGTH,
    LOWEST_EQUIVALENT_US,
    OVERFLOW,
    Histogram,
    buckets_of_ns,
)

latencies_ns = st.integers(min_value=0, max_value=2 * HIGHEST_US * 1000)


def of_us(values_us: list[int]) -> Histogram:
    """A histogram of whole microseconds."""
    return Histogram.of_ns(np.array(values_us, dtype=np.int64) * 1000)


def test_every_bucket_is_where_the_public_package_puts_it() -> None:
    """Lowest and highest value of every bucket have this index in PyPI's hdrhistogram too."""
    reference = HdrHistogram(1, HIGHEST_US, 3)
    assert reference.counts_len == BUCKETS
    for index in range(BUCKETS):
        lowest, highest = int(LOWEST_EQUIVALENT_US[index]), int(HIGHEST_EQUIVALENT_US[index])
        assert reference.get_counts_array_index(lowest) == index
        assert reference.get_counts_array_index(highest) == index
        assert reference.get_value_from_index(index) == lowest


def test_every_bucket_is_computed_from_its_bounds() -> None:
    """Binning the lowest and the highest value of a bucket gives that bucket, up to one hour."""
    for bounds in (LOWEST_EQUIVALENT_US, HIGHEST_EQUIVALENT_US):
        expected = np.where(bounds > HIGHEST_US, OVERFLOW, np.arange(BUCKETS))
        assert np.array_equal(buckets_of_ns(bounds * 1000), expected)


@given(latencies_ns)
def test_a_value_read_back_is_within_the_promised_error(value_ns: int) -> None:
    """Up to an hour, the value read back is at most 0.1 % or 1 us above; above, it is infinite."""
    value_us = value_ns // 1000
    read_us = Histogram.of_ns(np.array([value_ns])).quantile_us(1.0)
    if value_us > HIGHEST_US:
        assert read_us == math.inf
    else:
        assert value_us <= read_us <= max(value_us * 1.001, value_us + 1)


def test_the_worked_example_of_the_docstring_holds() -> None:
    """1.2345 s lies in bucket 11 445, whose highest value is 1 234 943 us."""
    assert buckets_of_ns(np.array([1_234_500_000])).tolist() == [11_445]
    assert HIGHEST_EQUIVALENT_US[11_445] == 1_234_943


def test_p99_of_one_to_a_hundred_is_99() -> None:
    """The rank is ceil(q * n): p99 of 1..100 is 99, p50 is 50, p100 is 100, p0.1 is 1."""
    histogram = of_us(list(range(1, 101)))
    assert [histogram.quantile_us(q) for q in (0.001, 0.5, 0.99, 1.0)] == [1, 50, 99, 100]


@pytest.mark.parametrize("q", [0.07, 0.29, 0.57, 0.58, 0.9, 0.95, 0.99, 0.999])
def test_a_decimal_quantile_is_not_one_rank_too_high(q: float) -> None:
    """Where q * 1000 is a whole number in decimal it is the rank, whatever binary makes of it."""
    assert of_us(list(range(1, 1001))).quantile_us(q) == round(q * 1000)


@given(st.lists(latencies_ns, min_size=1, max_size=60), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_is_the_sample_of_its_rank(values_ns: list[int], q: float) -> None:
    """The quantile is the highest equivalent value of the sorted sample at ceil(q * n)."""
    histogram = Histogram.of_ns(np.array(values_ns))
    rank = math.ceil(round(q * len(values_ns), 6))
    sample_us = sorted(values_ns)[rank - 1] // 1000
    expected = histogram_upper_us(sample_us)
    assert histogram.quantile_us(q) == expected


def histogram_upper_us(value_us: int) -> float:
    """Highest value that shares a bucket with this one, by search instead of arithmetic."""
    if value_us > HIGHEST_US:
        return math.inf
    return float(HIGHEST_EQUIVALENT_US[np.searchsorted(HIGHEST_EQUIVALENT_US, value_us)])


@given(st.lists(st.lists(latencies_ns, max_size=20), max_size=6))
def test_merging_equals_the_whole(parts: list[list[int]]) -> None:
    """The sum of histograms of parts is the histogram of all, in any order of addition."""
    whole = Histogram.of_ns(np.array([v for part in parts for v in part], dtype=np.int64))
    forward, backward = Histogram.empty(), Histogram.empty()
    for part in parts:
        forward += Histogram.of_ns(np.array(part, dtype=np.int64))
    for part in reversed(parts):
        backward = Histogram.of_ns(np.array(part, dtype=np.int64)) + backward
    assert np.array_equal(forward.counts, whole.counts)
    assert np.array_equal(backward.counts, whole.counts)


def test_values_above_an_hour_are_counted_apart() -> None:
    """An overflow is a sample, shows in its counter, and makes the maximum infinite."""
    histogram = of_us([5, HIGHEST_US, HIGHEST_US + 1])
    assert (histogram.n, histogram.overflow, histogram.max_us()) == (3, 1, math.inf)
    assert histogram.quantile_us(0.5) == histogram_upper_us(HIGHEST_US)


def test_a_negative_latency_is_refused() -> None:
    """A request that ends before it began is a programming error, not a sample."""
    with pytest.raises(ValueError, match="below zero"):
        buckets_of_ns(np.array([5, -1]))


def test_a_foreign_layout_is_refused() -> None:
    """Counts of another length cannot be merged by mistake: they make no histogram."""
    with pytest.raises(ValueError, match="shape"):
        Histogram(counts=np.zeros(LENGTH - 1, dtype=np.int64))


@pytest.mark.parametrize("question", ["max_us", "mean_us"])
def test_an_empty_histogram_answers_nothing(question: str) -> None:
    """No samples have no maximum and no mean: zero would be a good result."""
    with pytest.raises(ValueError, match="0 samples"):
        getattr(Histogram.empty(), question)()
    with pytest.raises(ValueError, match="0 samples"):
        Histogram.empty().share_above(1.0)


@pytest.mark.parametrize("q", [0.0, -0.1, 1.1, math.nan])
def test_a_quantile_outside_its_range_is_refused(q: float) -> None:
    """A quantile lies in (0, 1]; nothing else has a rank."""
    with pytest.raises(ValueError, match="quantile"):
        of_us([1]).quantile_us(q)


def test_mean_and_share_above_come_from_the_buckets() -> None:
    """The mean is of bucket middles; a share counts buckets wholly above the limit."""
    histogram = of_us([100, 300])
    assert histogram.mean_us() == pytest.approx(200.5)
    assert histogram.share_above(100) == 0.5
    assert histogram.share_above(99) == 1.0
    assert histogram.share_above(300) == 0.0
