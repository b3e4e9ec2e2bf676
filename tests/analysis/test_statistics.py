"""Statistics against values that others published or computed, never against themselves."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from statistical_runs import ar1, blocks_of_ns

from analysis.blocks import Blocks
from analysis.statistics.block_bootstrap import block_weights
from analysis.statistics.block_length import politis_white
from analysis.statistics.families import holm
from analysis.statistics.interval import Interval, TooSmall, seed_of
from analysis.statistics.log_ratio import LogValue, of_runs, unpaired
from analysis.statistics.quantiles import percentile_interval
from analysis.statistics.rank_test import least_values, mann_whitney, shift_of_logs
from analysis.statistics.ratios import (
    Worth,
    clopper_pearson,
    detectable_ratio,
    exact_ratio_interval,
    fisher_p,
    ratio_difference,
    ratio_interval,
    worth_of,
)
from analysis.statistics.silence import silence_of
from analysis.statistics.totals import rate_interval


def worth(hits: float, trials: float) -> Worth:
    """Counts of independent requests."""
    return Worth(hits=hits, trials=trials, windows=1, block_windows=1.0)


def log_value(log: float, error: float = 0.0, degrees: float = 1.0) -> LogValue:
    """One run's logarithm."""
    return LogValue(log=log, error=error, degrees=degrees, floor=0.0)


def test_clopper_pearson_gives_the_interval_of_rs_binom_test() -> None:
    """R, ?binom.test: binom.test(682, 682 + 243), Mendel's peas, 0.7076683 to 0.7654066."""
    low, high = clopper_pearson(682, 682 + 243, 0.95)
    assert (round(low, 7), round(high, 7)) == (0.7076683, 0.7654066)


def test_no_error_in_n_has_the_exact_upper_bound() -> None:
    """0 of n: the upper bound is 1 - (alpha / 2) ** (1 / n), the lower one 0."""
    interval = exact_ratio_interval(0, 5000)
    assert interval.low == 0
    assert interval.high == pytest.approx(1 - 0.025 ** (1 / 5000), rel=1e-9)


def test_fisher_gives_the_p_values_of_rs_examples() -> None:
    """R, ?fisher.test: the tea taster 0.4857, Fisher's twins (convictions) 0.0005367."""
    assert round(fisher_p(worth(3, 4), worth(1, 4)), 4) == 0.4857
    assert round(fisher_p(worth(2, 17), worth(10, 13)), 7) == 0.0005367


def wilson(hits: int, trials: int) -> Interval:
    """Wilson's score interval, by scipy."""
    found = stats.binomtest(hits, trials).proportion_ci(method="wilson")
    return Interval(
        value=hits / trials, low=found.low, high=found.high, confidence=0.95,
        windows=1, block_windows=1.0, method="Wilson",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((56, 70, 48, 80), (0.0524, 0.3339)),
        ((9, 10, 3, 10), (0.1705, 0.8090)),
        ((10, 10, 0, 20), (0.6791, 1.0)),
    ],
)
def test_a_difference_of_ratios_is_newcombes(
    counts: tuple[int, int, int, int], expected: tuple[float, float]
) -> None:
    """Newcombe (1998), Statistics in Medicine 17:873, table II, method 10: of Wilson's."""
    x, n, y, m = counts
    low, high = ratio_difference(wilson(y, m), wilson(x, n))
    assert (round(low, 4), round(high, 4)) == pytest.approx(expected, abs=1e-4)


def test_holm_corrects_as_in_the_textbook() -> None:
    """0.01, 0.04, 0.03, 0.005: R's p.adjust(p, "holm") is 0.03, 0.06, 0.06, 0.02."""
    assert holm((0.01, 0.04, 0.03, 0.005)) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm(()) == ()


@given(st.lists(st.floats(0, 1), max_size=20))
def test_holm_is_between_the_p_value_and_bonferroni(p_values: list[float]) -> None:
    """Corrected values are at least the raw ones, at most n times them, and keep their order."""
    adjusted = holm(p_values)
    for raw, new in zip(p_values, adjusted, strict=True):
        assert raw <= new <= 1
    order = np.argsort(p_values, kind="stable")
    assert np.all(np.diff(np.array(adjusted)[order]) >= 0)


# golang/perf, cmd/benchstat/doc.go: the two benchmarks of its documented example, ns/op.
JSON_OLD = (1726, 1723, 1707, 1707, 1713, 1729, 1736, 1707, 1705, 1774)
JSON_NEW = (1423, 1416, 1411, 1413, 1412, 1426, 1424, 1447, 1425, 1422)
GOB_OLD = (3069, 3075, 3069, 3067, 3207, 3064, 3064, 3058, 3059, 3062)
GOB_NEW = (3075, 3065, 3059, 3060, 3081, 3186, 3135, 3087, 3062, 3062)


def test_mann_whitney_decides_as_benchstats_documented_example() -> None:
    """Benchstat prints -17.20% (p=0.000) for json and `~` for gob, of ten runs a side.

    Its p-value for gob, 0.446, is that of its own treatment of ties; scipy's exact permutation
    of the same values is 0.565, which the normal approximation with ties has to come close to.
    """
    assert mann_whitney(JSON_OLD, JSON_NEW, 0.05) == pytest.approx(0.0, abs=0.0005)
    assert mann_whitney(GOB_OLD, GOB_NEW, 0.05) == pytest.approx(0.565, abs=0.01)
    assert math.expm1(shift_of_logs(JSON_OLD, JSON_NEW)) == pytest.approx(-0.172, abs=0.002)


def test_mann_whitney_says_how_many_values_it_needs() -> None:
    """benchstat: "need >= 4 samples to detect a difference at alpha level 0.05"."""
    assert least_values(0.05) == 4
    assert mann_whitney((1, 2, 3), (4, 5, 6), 0.05) == TooSmall(
        have=3, need=4, what="values a side"
    )
    assert mann_whitney((1, 2, 3, 4), (5, 6, 7, 8), 0.05) == pytest.approx(2 / 70)


# R's data set `sleep`, as in ?t.test.
SLEEP_1 = (0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0)
SLEEP_2 = (1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4)


def test_runs_as_units_are_compared_as_by_rs_t_test() -> None:
    """R: t.test(extra ~ group, sleep): df 17.776, p 0.07939, interval -3.36548 .. 0.20548."""
    ratio = of_runs([log_value(x) for x in SLEEP_1], [log_value(x) for x in SLEEP_2])
    assert round(ratio.degrees, 3) == 17.776
    assert round(ratio.p_value, 5) == 0.07939
    low, high = (math.log1p(bound) for bound in ratio.bounds(0.95))
    assert (round(low, 5), round(high, 5)) == (-0.20548, 3.36548)


def test_one_run_against_several_is_a_prediction() -> None:
    """The textbook prediction interval: mean +- t(n - 1) s sqrt(1 + 1 / n), n the several."""
    ratio = of_runs([log_value(x) for x in SLEEP_1], [log_value(3.0)])
    n, s = len(SLEEP_1), np.std(SLEEP_1, ddof=1)
    reach = stats.t.ppf(0.975, n - 1) * s * math.sqrt(1 + 1 / n)
    assert ratio.reach(0.95) == pytest.approx(reach)
    assert ratio.degrees == n - 1


def test_runs_are_never_surer_than_their_windows() -> None:
    """Two runs that happen to agree do not make an interval of no width."""
    same = [log_value(1.0, error=0.1, degrees=20)] * 2
    assert of_runs(same, same).error == pytest.approx(0.1)


def test_an_effect_as_large_as_detectable_is_found_in_four_of_five() -> None:
    """Drawn from Student's t: the power at the detectable effect is what it says."""
    random = np.random.default_rng(5)
    degrees, error = 40.0, 0.02
    pair = unpaired(log_value(0, error, degrees), log_value(0, error, degrees))
    effect = math.log1p(pair.detectable(0.05))
    seen = effect + pair.error * random.standard_normal(20_000)
    spread = pair.error * np.sqrt(random.chisquare(pair.degrees, seen.size) / pair.degrees)
    p_values = 2 * stats.t.sf(np.abs(seen) / spread, pair.degrees)
    assert (p_values < 0.05).mean() == pytest.approx(0.8, abs=0.02)


def test_a_detectable_ratio_is_found_by_fisher() -> None:
    """Errors of 0 and of the detectable ratio: Fisher finds them in at least three of four."""
    random, n = np.random.default_rng(6), 5000
    ratio = detectable_ratio(worth(50, n), worth(50, n), 0.05, 0.8)
    rows = zip(random.binomial(n, 0.01, 300), random.binomial(n, 0.01 + ratio, 300), strict=True)
    found = [fisher_p(worth(x, n), worth(y, n)) < 0.05 for x, y in rows]
    assert 0.7 < np.mean(found) < 0.9


# arch 8.0.0, arch.bootstrap.optimal_block_length(x)["circular"], of the series of `ar1`.
ARCH = (
    (1, 600, 0.0, 2.3772622440497946),
    (2, 600, 0.5, 8.66518870183212),
    (3, 600, 0.8, 23.032295931574357),
    (5, 300, -0.4, 8.483195111332696),
    (6, 1000, 0.95, 51.94713216378195),
)


@pytest.mark.parametrize(("seed", "n", "phi", "expected"), ARCH)
def test_block_lengths_are_those_of_arch(seed: int, n: int, phi: float, expected: float) -> None:
    """Politis and White's choice as another implementation makes it."""
    assert politis_white(ar1(seed, n, phi)) == pytest.approx(expected, rel=1e-9)


def test_a_series_that_does_not_vary_needs_no_blocks() -> None:
    """A constant rate and a single value have a block of one."""
    assert politis_white(np.ones(100)) == 1
    assert politis_white(np.ones(1)) == 1


@given(st.integers(2, 60), st.integers(1, 60), st.integers(0, 99))
def test_every_replicate_has_as_many_windows_as_the_run(rows: int, block: int, seed: int) -> None:
    """Weights are whole, not negative, add up to the windows, and come from whole blocks."""
    weights = block_weights(rows, min(block, rows), seed, replicates=20)
    assert weights.shape == (20, rows)
    assert np.all(weights.sum(axis=1) == rows)
    assert np.all((weights >= 0) & (weights == np.round(weights)))


def test_blocks_are_runs_of_neighbours() -> None:
    """With one block a replicate is the whole circle: every window once."""
    assert np.all(block_weights(12, 12, seed=1, replicates=5) == 1)
    expected = block_weights(200, 8, seed=1, replicates=400).mean(axis=0)
    assert expected == pytest.approx(np.ones(200), abs=0.3)


def lognormal_blocks(seed: int, windows: int, each: int) -> tuple[Blocks, NDArray[np.float64]]:
    """Independent latencies, and their histograms by window."""
    values_us = np.random.default_rng(seed).lognormal(9, 0.5, windows * each)
    return blocks_of_ns(values_us * 1000, windows), values_us


@pytest.mark.parametrize("q", [0.5, 0.95])
def test_independent_windows_have_the_spread_that_scipys_bootstrap_finds(q: float) -> None:
    """scipy.stats.bootstrap resamples the requests themselves; here their windows are."""
    blocks, values_us = lognormal_blocks(3, 600, 20)
    found = percentile_interval(blocks, q, seed=1)
    assert isinstance(found, Interval)
    reference = stats.bootstrap(
        (np.log(values_us),), lambda x, axis: np.quantile(x, q, axis=axis),
        n_resamples=200, batch=50, rng=np.random.default_rng(1), method="percentile",
    )  # fmt: skip
    width = math.log(found.high / found.low)
    assert width / (2 * stats.t.ppf(0.975, 22)) == pytest.approx(
        float(reference.standard_error), rel=0.25
    )
    assert found.low < math.exp(9 + 0.5 * stats.norm.ppf(q)) < found.high


def test_an_interval_needs_samples_and_windows() -> None:
    """90 samples for p95 and 46 windows: below, the numbers say what is missing."""
    few, _ = lognormal_blocks(1, 20, 100)
    assert percentile_interval(few, 0.5, seed=1) == TooSmall(have=20, need=46, what="windows")
    rare, _ = lognormal_blocks(1, 85, 1)
    assert percentile_interval(rare, 0.95, seed=1) == TooSmall(have=85, need=90, what="samples")
    assert str(TooSmall(have=80, need=90, what="samples")) == "n too small: 80 samples, needs 90"


def test_the_same_archive_gives_the_same_interval() -> None:
    """The seed is a function of words; another seed moves the bounds a little."""
    blocks, _ = lognormal_blocks(2, 100, 20)
    seed = seed_of("20260921T142640Z_good_0123abcd", "steady")
    assert seed == seed_of("20260921T142640Z_good_0123abcd", "steady") != seed_of("other")
    first, again = (percentile_interval(blocks, 0.95, seed=seed) for _ in range(2))
    other = percentile_interval(blocks, 0.95, seed=seed + 1)
    assert first == again != other
    assert isinstance(first, Interval)
    assert isinstance(other, Interval)
    assert other.low == pytest.approx(first.low, rel=0.02)


def test_errors_in_bursts_are_worth_less() -> None:
    """Independent errors keep nearly all of their worth, those that come ten at a time do not."""
    random = np.random.default_rng(8)
    trials = np.full(600, 500)
    alone = worth_of(random.binomial(trials, 0.02), trials)
    bursts = worth_of(10 * random.binomial(trials // 10, 0.02), trials)
    assert isinstance(alone, Worth)
    assert isinstance(bursts, Worth)
    assert 0.6 < alone.trials / trials.sum() <= 1
    assert 0.05 < bursts.trials / trials.sum() < 0.2
    assert bursts.ratio == pytest.approx(0.02, abs=0.004)


def test_without_errors_bursts_cannot_be_seen() -> None:
    """0 errors in few windows still have an exact bound; some errors in few windows have none."""
    trials = np.full(10, 300)
    none = ratio_interval(np.zeros(10, dtype=np.int64), trials)
    assert isinstance(none, Interval)
    assert none.high == pytest.approx(1 - 0.025 ** (1 / 3000), rel=1e-9)
    assert isinstance(ratio_interval(trials // 100, trials), TooSmall)


def test_a_rate_of_poisson_arrivals_has_the_textbook_spread() -> None:
    """Counts of independent arrivals: the standard error of the mean is sqrt(rate / n)."""
    counts = np.random.default_rng(4).poisson(100, 3600)
    found = rate_interval(counts)
    assert isinstance(found, Interval)
    assert found.value == counts.mean()
    reach = (found.high - found.low) / 2
    # Some twenty blocks know their own spread to 16 %.
    assert reach == pytest.approx(2.09 * math.sqrt(100 / 3600), rel=0.3)


def test_a_constant_rate_has_no_spread() -> None:
    """Open load of equal seconds: both bounds are the rate."""
    found = rate_interval(np.full(120, 7))
    assert isinstance(found, Interval)
    assert (found.low, found.value, found.high) == (7, 7, 7)


def test_a_rate_against_silence_is_scipys_binomial_test() -> None:
    """Of 400 answers all fell on the side that had a third of the time; its spread is Poisson's."""
    value = LogValue(log=0.0, error=1 / math.sqrt(400), degrees=1e9, floor=0.0)
    found = silence_of([value], 500, answering_s=100.0, silent_s=200.0, is_after=True)
    assert found.worth == pytest.approx(400)
    reference = stats.binomtest(400, 400, 1 / 3)
    assert math.log(found.p_value / 2) == pytest.approx(400 * math.log(1 / 3))
    assert found.p_value >= reference.pvalue
    share = 1 - float(reference.proportion_ci(0.95, "exact").low)  # of the silent side
    low, high = found.bounds(0.95)
    assert (low, found.change) == (-1.0, -1.0)
    assert high + 1 == pytest.approx(share / (1 - share) * 100 / 200)
    other = dataclasses.replace(found, is_after=False)
    assert other.change == math.inf
    assert other.bounds(0.95)[0] == pytest.approx(1 / (high + 1) - 1)


def test_few_answers_before_silence_decide_nothing() -> None:
    """No more than were counted, and few blocks are worth less."""
    value = LogValue(log=0.0, error=0.01, degrees=4.0, floor=0.0)
    few = silence_of([value], 3, answering_s=50.0, silent_s=50.0, is_after=True)
    assert (few.worth, few.p_value) == (3.0, 0.25)
    many = silence_of([value], 100_000, answering_s=50.0, silent_s=50.0, is_after=True)
    assert many.worth == pytest.approx(1e4 / (stats.t.ppf(0.975, 4) / 1.959964) ** 2, rel=1e-5)
