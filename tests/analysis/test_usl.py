"""The Universal Scalability Law: fits against R's package `usl`, scipy, and simulated truth."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.optimize import least_squares
from scipy.stats import t

from analysis.capacity.model.estimates import Figure, estimates_of, has_no_knee
from analysis.capacity.model.intervals import (
    bootstrap,
    leave_one_out,
    stability_of,
)
from analysis.capacity.model.usl import Errors, Floats, Usl, fit_usl

# Data sets of R's package usl 3.0.3, and what its documentation and tests print of them
# (tests/summary.Rout.save, confint.Rout.save, coef.Rout.save, residuals.Rout.save and
# *.scalability.R). It minimises absolute residuals and calls sigma alpha and kappa beta.
SPECSDM91 = (
    np.array([1.0, 18.0, 36.0, 72.0, 108.0, 144.0, 216.0]),
    np.array([64.9, 995.9, 1652.4, 1853.2, 1828.9, 1775.0, 1702.2]),
)
RAYTRACER = (
    np.array([1.0, 4.0, 8.0, 12.0, 16.0, 20.0, 24.0, 28.0, 32.0, 48.0, 64.0]),
    np.array([20.0, 78.0, 130.0, 170.0, 190.0, 200.0, 210.0, 230.0, 260.0, 280.0, 310.0]),
)
TEXTBOOK = (
    np.array([1.0, 2.0, 4.0, 6.0, 8.0, 10.0]),
    np.array([1.0, 1.8868, 3.0769, 3.5294, 3.5398, 3.3557]),
)
TRUTH = Usl(gamma=200_000.0, sigma=0.03, kappa=0.002)
SIZES = np.array([1.0, 1.0, 2.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0])


def test_specsdm91_has_the_coefficients_of_r() -> None:
    """Coefficients, residuals, and the three points that R derives from them."""
    law = fit_usl(*SPECSDM91, Errors.ABSOLUTE)
    assert law.gamma == pytest.approx(89.9952330, rel=1e-5)
    assert law.sigma == pytest.approx(0.0277285, rel=1e-4)
    assert law.kappa == pytest.approx(0.0001044, rel=1e-3)
    n, x = SPECSDM91
    residuals = [-25.10, -81.66, 111.09, 3.05, -49.99, -46.60, 56.00]
    assert x - law.throughput(n) == pytest.approx(residuals, abs=0.01)
    assert law.peak_n == pytest.approx(96.51956, rel=1e-4)
    assert law.peak_per_s == pytest.approx(1884, abs=0.5)
    assert law.knee_n == pytest.approx(36.06401, rel=1e-4)
    assert law.at(law.knee_n) == pytest.approx(1542, abs=0.5)
    assert law.gamma / law.sigma == pytest.approx(3245.589, rel=1e-4)


def test_raytracer_has_the_coefficients_of_r() -> None:
    """R's test takes the first six rows."""
    n, x = RAYTRACER
    law = fit_usl(n[:6], x[:6], Errors.ABSOLUTE)
    assert law.gamma == pytest.approx(20.85605, rel=1e-5)
    assert law.sigma == pytest.approx(0.02444, abs=5e-6)
    assert law.kappa == pytest.approx(0.00163, abs=5e-6)


@pytest.mark.parametrize("errors", Errors)
def test_the_textbook_series_has_the_coefficients_of_r(errors: Errors) -> None:
    """Data without noise: both kinds of errors find 0.02, 0.02 and 1."""
    law = fit_usl(*TEXTBOOK, errors)
    assert (law.sigma, law.kappa, law.gamma) == pytest.approx((0.02, 0.02, 1.0), rel=1e-3)


def test_intervals_are_those_of_r_within_their_own_noise() -> None:
    """R's confint of the first six rows of raytracer: the same standard errors.

    R multiplies them by qt(0.95, n - 1); two sides and the three degrees of freedom that a fit
    of three parameters leaves take qt(0.975, n - 3), which is 1.58 times as much.
    """
    n, x = RAYTRACER[0][:6], RAYTRACER[1][:6]
    law = fit_usl(n, x, Errors.ABSOLUTE)
    replicates = bootstrap(law, n, x, Errors.ABSOLUTE, 200)
    published = {
        Figure.SIGMA: (0.00754, 0.04135),
        Figure.KAPPA: (0.00110, 0.00215),
        Figure.GAMMA: (19.26717, 22.44492),
    }
    for figure, (low, high) in published.items():
        ours = replicates.range_of(figure.of)
        wider = t.ppf(0.975, 3) / t.ppf(0.95, 5)
        assert (ours.high - ours.low) / (high - low) == pytest.approx(wider, rel=0.25), figure
        assert (ours.high + ours.low) / 2 == pytest.approx((high + low) / 2, abs=0.3 * (high - low))


@pytest.mark.parametrize("seed", range(6))
def test_the_relative_fit_is_where_scipys_solver_ends(seed: int) -> None:
    """The linear problem has the same minimum as the law itself, found from another start."""
    random = np.random.default_rng(seed)
    x = TRUTH.throughput(SIZES) * random.normal(1, 0.05, len(SIZES))

    def residuals(parameters: Floats) -> Floats:
        gamma, sigma, kappa = (float(value) for value in parameters)
        return x / Usl(gamma=gamma * 1e5, sigma=sigma, kappa=kappa).throughput(SIZES) - 1

    other = least_squares(residuals, [1.0, 0.1, 0.01], bounds=([0, 0, 0], [math.inf, 1, 1]))
    law = fit_usl(SIZES, x)
    ours = float(np.square(residuals(np.array([law.gamma / 1e5, law.sigma, law.kappa]))).sum()) / 2
    assert ours <= other.cost * (1 + 1e-6)
    assert law.gamma == pytest.approx(other.x[0] * 1e5, rel=1e-3)
    assert law.kappa == pytest.approx(other.x[2], rel=1e-2, abs=1e-5)


def test_n_for_is_the_inverse_of_the_law() -> None:
    """On the rising side; beyond the peak no N will do, at N = 1 one is enough."""
    for n in (1.0, 2.0, 7.5, 20.0):
        assert TRUTH.n_for(TRUTH.at(n)) == pytest.approx(n)
    assert math.isinf(TRUTH.n_for(TRUTH.peak_per_s * 1.001))
    assert TRUTH.n_for(1.0) == 1.0
    assert Usl(gamma=10.0, sigma=0.0, kappa=0.0).n_for(95.0) == pytest.approx(9.5)
    assert Usl(gamma=10.0, sigma=0.5, kappa=0.0).n_for(20.0) == math.inf


def test_a_law_without_costs_has_no_knee_and_no_peak() -> None:
    """Linear data end at both bounds, and so do all intervals."""
    n = np.arange(1.0, 9.0)
    x = 1000.0 * n
    law = fit_usl(n, x)
    assert (law.sigma, law.kappa) == pytest.approx((0.0, 0.0), abs=1e-9)
    x = x * np.random.default_rng(1).normal(1, 0.02, 8)
    law = fit_usl(n, x)
    interval = bootstrap(law, n, x, Errors.RELATIVE, 200).range_of(Figure.PEAK_N.of)
    assert math.isinf(interval.high)


@pytest.mark.parametrize(
    "n", [SIZES[:5], np.array([1.0, 1.0, 2.0, 2.0, 3.0, 3.0]), np.array([], dtype=np.float64)]
)
def test_too_few_points_are_refused(n: Floats) -> None:
    """Fewer than six, or six at three sizes: three parameters go through anything."""
    with pytest.raises(ValueError, match="points at"):
        fit_usl(n, TRUTH.throughput(n))


def test_a_point_that_decides_alone_makes_the_knee_unstable() -> None:
    """Without the last point the peak is elsewhere; without noise it stays where it is."""
    x = TRUTH.throughput(SIZES)
    law = fit_usl(SIZES, x)
    others = leave_one_out(SIZES, x, Errors.RELATIVE)
    assert stability_of(law, others, Figure.PEAK_N.of).is_stable
    x[-1] *= 0.5
    law = fit_usl(SIZES, x)
    others = leave_one_out(SIZES, x, Errors.RELATIVE)
    stability = stability_of(law, others, Figure.PEAK_N.of)
    assert not stability.is_stable
    assert stability.low <= law.peak_n <= stability.high
    assert not stability_of(law, (), Figure.PEAK_N.of).is_stable


FIGURES: dict[str, Callable[[Usl], float]] = {
    "gamma": lambda law: law.gamma,
    "sigma": lambda law: law.sigma,
    "kappa": lambda law: law.kappa,
    "peak_n": lambda law: law.peak_n,
    "peak": lambda law: law.peak_per_s,
    "X(20)": lambda law: law.at(20.0),
}


def coverage(sizes: Floats, simulations: int, replicates: int, seed: int) -> dict[str, float]:
    """Part of simulated measurements whose intervals hold the truth; 2 % noise."""
    random, held = np.random.default_rng(seed), dict.fromkeys(FIGURES, 0)
    for _ in range(simulations):
        x = TRUTH.throughput(sizes) * random.normal(1, 0.02, len(sizes))
        drawn = bootstrap(fit_usl(sizes, x), sizes, x, Errors.RELATIVE, replicates)
        for name, figure in FIGURES.items():
            interval = drawn.range_of(figure)
            held[name] += interval.low <= figure(TRUTH) <= interval.high
    return {name: count / simulations for name, count in held.items()}


def test_intervals_hold_the_truth() -> None:
    """A short simulation; the long one is of `make test-statistics`."""
    assert min(coverage(SIZES, 40, 150, seed=1).values()) > 0.85


@pytest.mark.statistics
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("sizes", [SIZES, SIZES[2:9]])
def test_coverage_of_the_intervals(sizes: Floats) -> None:
    """95 % of them hold the truth, 2 points more or less, with 10 and with 7 points."""
    reached = coverage(sizes, 800, 600, seed=2)
    print(f"{len(sizes)} points: " + ", ".join(f"{k} {v:.1%}" for k, v in reached.items()))  # noqa: T201 - the figure
    for name, part in reached.items():
        assert part == pytest.approx(0.95, abs=0.02), name


@pytest.mark.statistics
@pytest.mark.timeout(1800)
def test_sizes_that_tell_too_little_make_the_intervals_too_wide_never_too_narrow() -> None:
    """Four nodes at most cannot tell contention from coherency: one of both is at its bound."""
    reached = coverage(np.repeat([1.0, 2.0, 3.0, 4.0], 3), 400, 300, seed=2)
    print("4 nodes: " + ", ".join(f"{k} {v:.1%}" for k, v in reached.items()))  # noqa: T201 - the figure
    assert min(reached.values()) >= 0.93


@pytest.mark.parametrize(("sigma", "expected"), [(0.1, False), (0.0, True)])
def test_a_knee_at_the_peak_is_said_to_be_none(sigma: float, expected: bool) -> None:  # noqa: FBT001 - a parameter
    """Without contention growth is even until coherency ends it: the knee is the peak."""
    law = Usl(gamma=1000.0, sigma=sigma, kappa=0.002)
    x = law.throughput(SIZES)
    drawn = bootstrap(law, SIZES, x, Errors.RELATIVE, 20)
    assert has_no_knee(estimates_of(law, SIZES, x, Errors.RELATIVE, drawn)) is expected
