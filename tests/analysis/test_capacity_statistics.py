"""How often bounds hold the truth, over hundreds of seeded searches (`make test-statistics`).

The truth is that of `simulated_target`: the rate that meets the limit on p99 exactly, at the
median capacity. The promise is 95 % of 200 searches in a median of 25 trials at most.
"""

from __future__ import annotations

import math
from statistics import median

import pytest
from simulated_target import LIMIT_NS, NOISES, SimulatedTarget, search, settings, targets

from analysis.capacity.search.bounds import find_bounds
from analysis.capacity.search.decide import Ending
from analysis.capacity.search.drift import find_drift_ratio
from analysis.capacity.search.settings import Goal, Settings
from analysis.capacity.search.trials import Trial

pytestmark = [pytest.mark.statistics, pytest.mark.timeout(1200)]

SEARCHES = 200
ALONE = settings(critical_ns=())


def contains(one: SimulatedTarget, trials: tuple[Trial, ...], asked: Settings, goal: Goal) -> bool:
    """Whether the bounds of a goal, as far as there are any, hold the truth."""
    bounds = find_bounds(asked, trials, goal)
    truth = one.truth_per_s(goal.limit_ns or LIMIT_NS)
    lower = 0.0 if bounds.lower is None else bounds.lower.rate_per_s
    upper = math.inf if bounds.upper is None else bounds.upper.rate_per_s
    return lower <= truth <= upper


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.035, 0.05])
def test_the_promise(noise: float) -> None:
    """95 % of 200 searches hold the truth; both bounds in 95 %; a median of 25 trials at most."""
    found, both, lengths, widths = 0, 0, [], []
    for one in targets(SEARCHES, noise, seed=2026):
        trials, _ = search(one, ALONE)
        width = find_bounds(ALONE, trials, ALONE.goals[0]).width_ratio
        found += contains(one, trials, ALONE, ALONE.goals[0])
        both += width is not None
        lengths.append(len(trials))
        widths.append(math.inf if width is None else width)
    print(  # noqa: T201 - the figures of the suite
        f"noise {noise:.1%}: {found} of {SEARCHES} hold the truth, {both} have both bounds, "
        f"median {median(lengths)} trials, {median(widths):.1%} apart"
    )
    assert found >= 0.95 * SEARCHES
    assert both >= 0.95 * SEARCHES
    assert median(lengths) <= 25
    assert median(widths) <= 0.15


@pytest.mark.parametrize("shape", [shape for shape in NOISES if shape != "normal"])
def test_the_promise_does_not_rest_on_the_normal_distribution(shape: str) -> None:
    """Heavy tails, a box, a skew, accidents: noise of 4 % of other shapes."""
    found = 0
    for one in targets(SEARCHES, 0.04, seed=7, shape=shape):
        trials, _ = search(one, ALONE)
        found += contains(one, trials, ALONE, ALONE.goals[0])
    assert found >= 0.95 * SEARCHES


@pytest.mark.parametrize("ill_trials", [1, 3])
def test_the_promise_holds_for_targets_that_recover_slowly(ill_trials: int) -> None:
    """After each overload everything is missed for some trials."""
    found = 0
    for one in targets(SEARCHES // 2, 0.03, seed=8, ill_trials=ill_trials):
        trials, _ = search(one, ALONE)
        found += contains(one, trials, ALONE, ALONE.goals[0])
    assert found >= 0.93 * SEARCHES // 2


def test_the_bounds_at_every_p99_limit_hold() -> None:
    """With the critical rate asked for, 95 % of all bounds of all goals."""
    asked = settings()
    found = [
        contains(one, trials, asked, goal)
        for one in targets(SEARCHES // 4, 0.03, seed=9)
        for trials, _ in [search(one, asked)]
        for goal in asked.goals
    ]
    assert sum(found) >= 0.95 * len(found)


def test_a_generators_limit_is_never_an_upper_bound() -> None:
    """With the generator at half of the truth: no upper bound, a lower one below its limit."""
    for one in targets(SEARCHES // 4, 0.03, seed=10):
        one.generator_per_s = one.truth_per_s() / 2
        trials, ending = search(one, ALONE)
        bounds = find_bounds(ALONE, trials, ALONE.goals[0])
        assert ending is Ending.GENERATOR_LIMITED
        assert bounds.upper is None
        assert bounds.lower is None or bounds.lower.rate_per_s <= one.generator_per_s


def test_a_steady_target_is_seldom_called_unstable() -> None:
    """False alarms of drift: at most 3 in 100."""
    alarms = sum(
        find_drift_ratio(ALONE, search(one, ALONE)[0]) is not None
        for one in targets(SEARCHES, 0.03, seed=11)
    )
    assert alarms <= 0.03 * SEARCHES


def test_a_target_that_gets_worse_is_found_out() -> None:
    """2 % of the capacity lost with each trial: found in 80 of 100 searches."""
    found = sum(
        (find_drift_ratio(ALONE, search(one, ALONE)[0]) or 0.0) < 0
        for one in targets(SEARCHES // 2, 0.02, seed=12, loss_ratio=0.02)
    )
    assert found >= 0.8 * SEARCHES // 2
