"""A search finds the limit, claims nothing that its trials do not carry, and says what it met."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import geometric_mean

import numpy as np
import pytest
from rich.console import Console
from scipy.stats import norm
from simulated_target import (
    LIMIT_NS,
    SimulatedTarget,
    probe,
    search,
    settings,
    targets,
    trial,
)

from analysis.capacity.search.belief import FLUKE, LAPSE, SCATTERS, believe, held_chances
from analysis.capacity.search.bounds import CONFIDENCE, Bounds, find_bounds
from analysis.capacity.search.decide import HIGHEST_STEP, Ending, Step, decide
from analysis.capacity.search.drift import find_drift_ratio
from analysis.capacity.search.pages import (
    bounds_table,
    headline,
    notes,
    page,
    to_page,
    trials_table,
)
from analysis.capacity.search.result import (
    SearchResult,
    Subject,
    build_result,
    critical_rate,
    encode_result,
    load_result,
    write_result,
)
from analysis.capacity.search.settings import CRITICAL_NS, Settings, ladder
from analysis.capacity.search.trials import (
    OBJECTIVES,
    Purpose,
    Trial,
    TrialState,
    evidence,
    not_recovered,
)
from analysis.tables import to_rows
from loadtests.errors import HarnessError, ScenarioError

GOLDEN = Path(__file__).parent / "golden"
ALONE = settings(critical_ns=())
FAST, SLOW = 1_000_000.0, 1_000_000_000.0  # p99 in ns, below and above the limit
SUBJECT = Subject(
    scenario="good <b>|",
    stage="steady",
    objectives=("p99 < 200 ms",),
    nodes=("http://127.0.0.1:9003",),
    seed=7,
    created_unix_ns=1_790_000_000_000_000_000,
)


def target(
    capacity_per_s: float = 4000.0, noise: float = 0.02, **changes: object
) -> SimulatedTarget:
    """One simulated target, always the same."""
    random = np.random.default_rng(5)
    return SimulatedTarget(
        capacity_per_s=capacity_per_s,
        noise_ratio=noise,
        random=random,
        **changes,  # type: ignore[arg-type]  # typed by the class itself
    )


def bounds_of(trials: Sequence[Trial], asked: Settings = ALONE) -> Bounds:
    """The bounds of the objectives."""
    return find_bounds(asked, trials, asked.goals[0])


def has_truth(bounds: Bounds, truth_per_s: float) -> bool:
    """Whether the truth is not outside of the bounds."""
    lower = 0.0 if bounds.lower is None else bounds.lower.rate_per_s
    upper = math.inf if bounds.upper is None else bounds.upper.rate_per_s
    return lower <= truth_per_s <= upper


def result_of(trials: Sequence[Trial], ending: Ending, asked: Settings = ALONE) -> SearchResult:
    """A result with a fixed id."""
    name = "20260921T131320Z_good-search_0123abcd"
    return build_result(name, SUBJECT, asked, trials, ending=ending)


def row(*pairs: tuple[float, float]) -> list[Trial]:
    """Probes of (rate, p99) one after the other."""
    return [trial(probe(rate), n, p99_ns=p99) for n, (rate, p99) in enumerate(pairs, start=1)]


def test_bounds_contain_the_truth_of_seeded_searches() -> None:
    """A sample of `make test-statistics`: of 16 searches with 2 and 5 % noise, 15 at least."""
    found = []
    for noise in (0.02, 0.05):
        for one in targets(8, noise, seed=20):
            trials, ending = search(one, ALONE)
            bounds = bounds_of(trials)
            assert len(trials) <= ALONE.max_trials
            assert ending in {Ending.PRECISE, Ending.TRIALS_USED}
            assert bounds.lower is not None or bounds.upper is not None
            found.append(has_truth(bounds, one.truth_per_s()))
    assert found.count(False) <= 1


def test_a_target_without_noise_is_found_to_the_precision() -> None:
    """Both bounds, 5 % apart, with the truth between them, before the trials are used up."""
    one = target(noise=0.0)
    trials, ending = search(one, ALONE)
    bounds = bounds_of(trials)
    assert ending is Ending.PRECISE
    assert len(trials) < ALONE.max_trials
    assert bounds.width_ratio is not None
    assert bounds.width_ratio <= 0.051
    assert has_truth(bounds, one.truth_per_s())


def test_every_bound_is_a_tried_rate_with_its_trials() -> None:
    """A bound is never computed: trials of that very rate, with the right outcome, carry it."""
    trials, _ = search(target(noise=0.03), settings())
    asked = settings()
    for goal in asked.goals:
        bounds = find_bounds(asked, trials, goal)
        for bound, wanted in ((bounds.lower, TrialState.HELD), (bounds.upper, TrialState.MISSED)):
            if bound is None:
                continue
            own = [trials[number - 1] for number in bound.trials]
            assert {one.rate_per_s for one in own} == {bound.rate_per_s}
            assert wanted in {one.states[goal.name] for one in own}
            assert bound.probability >= CONFIDENCE
            assert bound.agreeing >= 2
        if bounds.lower is not None and bounds.upper is not None:
            assert bounds.lower.rate_per_s < bounds.upper.rate_per_s


def test_the_limit_is_met_from_below() -> None:
    """The lowest rate first, then at most four times what held; never above the highest."""
    for one in targets(6, 0.03, seed=3):
        held = ALONE.min_per_s / HIGHEST_STEP
        for number, made in enumerate(search(one, ALONE)[0]):
            assert (number == 0) == (made.number == 1)
            assert made.rate_per_s <= max(held * HIGHEST_STEP * 1.01, ALONE.min_per_s)
            assert ALONE.min_per_s <= made.rate_per_s <= ALONE.max_per_s
            if made.state is TrialState.HELD:
                held = max(held, made.rate_per_s)


def changed(trials: Sequence[Trial], number: int, **fields: object) -> list[Trial]:
    """The trials with one of them changed."""
    return [dataclasses.replace(t, **fields) if t.number == number else t for t in trials]  # type: ignore[arg-type]  # fields by name


def test_a_void_trial_moves_no_bound() -> None:
    """Adding void trials, at any rate, changes neither the belief nor a bound."""
    trials, _ = search(target(), ALONE)
    before = bounds_of(trials)
    voids = [
        trial(probe(rate), 100 + n, p99_ns=p99, is_void=True)
        for n, (rate, p99) in enumerate(((150.0, SLOW), (3900.0, FAST), (9000.0, FAST)))
    ]
    after = bounds_of([*trials, *voids])
    assert after == before


def test_a_bound_is_not_claimed_on_void_trials() -> None:
    """When the trials that carry a bound are void, the rate is a bound no more."""
    trials, _ = search(target(), ALONE)
    before = bounds_of(trials)
    assert before.lower is not None
    assert before.upper is not None
    void = {goal.name: TrialState.VOID for goal in ALONE.goals}
    for bound in (before.lower, before.upper):
        less = list(trials)
        for number in bound.trials:
            less = changed(less, number, states=void)
        after = bounds_of(less)
        kept = {b.rate_per_s for b in (after.lower, after.upper) if b is not None}
        assert bound.rate_per_s not in kept


def test_a_bound_is_not_claimed_on_a_trial_that_was_too_short() -> None:
    """A hold over a part of the trial is no hold; a miss is one however early it was seen."""
    trials = row((1000.0, FAST), (1000.0, FAST), (8000.0, SLOW), (1000.0, FAST), (8000.0, SLOW))
    whole = bounds_of(trials)
    assert whole.lower is not None
    assert whole.upper is not None
    cut = [dataclasses.replace(t, judged_s=0.0) for t in trials]
    assert bounds_of(cut).lower is None
    assert len(evidence(cut, OBJECTIVES, ALONE.trial_s)) == 2


def test_a_bound_is_not_claimed_on_one_trial() -> None:
    """One accident must not decide, however far from the limit it seems to be."""
    once = bounds_of(row((1000.0, FAST), (8000.0, SLOW)))
    assert once.lower is None
    assert once.upper is None


def test_misses_alone_are_no_upper_bound() -> None:
    """A row of misses may be one long overload: one must follow a trial that held."""
    ill = row((8000.0, SLOW), (1000.0, SLOW), (1000.0, SLOW), (1000.0, SLOW))
    bounds = bounds_of(ill)
    assert bounds.upper is None or bounds.upper.rate_per_s == 8000.0
    well = row((100.0, FAST), (1000.0, SLOW), (100.0, FAST), (1000.0, SLOW), (1000.0, SLOW))
    upper = bounds_of(well).upper
    assert upper is not None
    assert upper.rate_per_s == 1000.0


def test_the_generators_limit_is_never_the_targets() -> None:
    """Above the generator's limit all is void: no upper bound, and the truth is said."""
    one = target(8000.0, generator_per_s=3000.0)
    trials, ending = search(one, ALONE)
    result = result_of(trials, ending)
    assert ending is Ending.GENERATOR_LIMITED
    assert result.objectives.upper is None
    assert result.objectives.lower is not None
    assert result.objectives.lower.rate_per_s <= 3000.0
    assert not result.is_found
    assert any("the generator's limit is" in text for text in notes(result))
    assert any("the target holds at least" in text for text in notes(result))


def test_a_generator_that_measures_nothing_ends_the_search() -> None:
    """All void: no bound, after few trials, with the reason."""
    trials, ending = search(target(generator_per_s=1.0), ALONE)
    result = result_of(trials, ending)
    assert ending is Ending.GENERATOR_LIMITED
    assert len(trials) == 3
    assert (result.objectives.lower, result.objectives.upper) == (None, None)
    assert any("send lag" in text for text in notes(result))


def test_void_trials_by_accident_do_not_bend_the_bounds() -> None:
    """A noisy host voids one trial in six: the bounds still hold the truth."""
    found = []
    for one in targets(6, 0.03, seed=9, void_ratio=1 / 6):
        trials, _ = search(one, ALONE)
        found.append(has_truth(bounds_of(trials), one.truth_per_s()))
    assert found.count(False) <= 1


def test_the_highest_rate_may_hold_and_the_lowest_may_not() -> None:
    """Both are said, with the one bound that there is."""
    trials, ending = search(target(50_000.0), ALONE)
    assert ending is Ending.MAX_HOLDS
    lower = bounds_of(trials).lower
    assert lower is not None
    assert lower.rate_per_s == ALONE.max_per_s
    trials, ending = search(target(50.0), ALONE)
    assert ending is Ending.MIN_MISSED
    assert {one.rate_per_s for one in trials} == {ALONE.min_per_s}
    assert bounds_of(trials).lower is None


@pytest.mark.parametrize("ill_trials", [1, 2, 3])
def test_a_target_that_recovers_slowly_is_waited_for(ill_trials: int) -> None:
    """What is missed while an overload lasts on is not held against lower rates."""
    found = []
    for one in targets(6, 0.02, seed=31, ill_trials=ill_trials):
        trials, _ = search(one, ALONE)
        found.append(has_truth(bounds_of(trials), one.truth_per_s()))
    assert found.count(False) <= 1


def test_a_target_that_does_not_recover_ends_the_search() -> None:
    """Checks at a rate that held, with longer and longer pauses; then the truth."""
    trials, ending = search(target(ill_trials=99), ALONE)
    assert ending is Ending.NOT_RECOVERED
    checks = [one for one in trials if one.purpose is Purpose.RECOVERY]
    assert len(checks) == 4
    bounds = bounds_of(trials)
    assert has_truth(bounds, target().truth_per_s())
    assert not result_of(trials, ending).is_found
    pauses = [
        step.pause_s
        for n in range(len(trials) - 4, len(trials))
        if isinstance(step := decide(ALONE, trials[:n]), Step)
    ]
    assert pauses == [1.0, 2.0, 4.0, 8.0]


def test_what_a_target_still_ill_missed_is_not_counted() -> None:
    """The overload counts, the misses after it do not, once a low rate shows it was ill."""
    trials = row((1000.0, FAST), (4000.0, SLOW), (2000.0, SLOW), (1500.0, SLOW))
    check = Step(rate_per_s=1000.0, purpose=Purpose.RECOVERY, pause_s=1.0)
    assert not_recovered([*trials, trial(check, 5, p99_ns=FAST)]) == frozenset()
    ill = [*trials, trial(check, 5, p99_ns=SLOW), trial(check, 6, p99_ns=FAST)]
    assert not_recovered(ill) == {3, 4}
    assert [t.number for t in evidence(ill, OBJECTIVES, 10.0)] == [1, 2]


def test_a_target_that_gets_worse_is_called_unstable() -> None:
    """It loses 2 % of its capacity with each trial: seen as a fall, and no limit is claimed."""
    trials, ending = search(target(noise=0.01, loss_ratio=0.02), ALONE)
    result = result_of(trials, ending)
    assert result.drift_ratio is not None
    assert result.drift_ratio < -0.1
    assert not result.is_found
    assert any("the limit fell by about" in text for text in notes(result))


def test_a_steady_target_is_not_called_unstable() -> None:
    """No drift where there is none."""
    drifts = [find_drift_ratio(ALONE, search(one, ALONE)[0]) for one in targets(8, 0.03, seed=40)]
    assert drifts.count(None) >= 7


def test_the_belief_is_bayes_rule() -> None:
    """Against scipy's normal distribution, cell by cell."""
    trials = row((1000.0, FAST), (1200.0, SLOW))
    belief = believe(ALONE, trials, OBJECTIVES)
    expected = np.zeros_like(belief.weights)
    for i, scatter in enumerate(SCATTERS.tolist()):
        z = np.log(1000.0), np.log(1200.0)
        held, missed = (
            FLUKE + (1 - LAPSE - FLUKE) * norm.cdf((belief.log_limits - at) / scatter) for at in z
        )
        expected[i] = held * (1 - missed) * norm.pdf(np.log(scatter), np.log(0.025), 0.9)
    np.testing.assert_allclose(belief.weights, expected / expected.sum(), atol=1e-12)
    chances = held_chances(math.log(1000.0), np.array([math.log(1000.0)]))
    np.testing.assert_allclose(chances, FLUKE + (1 - LAPSE - FLUKE) / 2)


def test_the_ladder_has_both_ends_and_equal_steps() -> None:
    """Rates rise by at most a fifth of the precision, rounded to four digits."""
    rates = ladder(120.0, 7_777.7, 0.05)
    assert rates[0] == 120.0
    assert rates[-1] == 7_777.7
    ratios = [b / a for a, b in pairwise(rates)]
    assert min(ratios) > 1
    assert max(ratios) < 1.05 ** (1 / 5) + 0.002


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_per_s": 0.0},
        {"min_per_s": 20_000.0},
        {"precision_ratio": 0.0},
        {"max_trials": 0},
        {"trial_s": 0.0},
    ],
)
def test_a_search_for_nothing_is_refused(wrong: dict[str, float]) -> None:
    """Settings are checked where they are made."""
    with pytest.raises(ValueError, match=r"rates from|asks for nothing"):
        settings(**wrong)


def test_the_critical_rate_is_the_geometric_mean_of_bounds() -> None:
    """Of lower and of upper bounds, as Python's own; unknown as soon as one is missing."""
    asked = settings(max_trials=60)
    trials, _ = search(target(noise=0.0), asked)
    result = result_of(trials, Ending.PRECISE, asked)
    critical = result.critical
    assert critical is not None
    lowers = [b.lower.rate_per_s for b in result.bounds[1:] if b.lower is not None]
    uppers = [b.upper.rate_per_s for b in result.bounds[1:] if b.upper is not None]
    assert len(lowers) == len(uppers) == len(CRITICAL_NS)
    assert critical.lower_per_s == pytest.approx(geometric_mean(lowers))
    assert critical.upper_per_s == pytest.approx(geometric_mean(uppers))
    truth = geometric_mean([target().truth_per_s(limit) for limit in CRITICAL_NS])
    assert lowers[0] * 0.8 < critical.lower_per_s <= truth <= critical.upper_per_s  # type: ignore[operator]  # known, see above
    without = [*result.bounds[1:-1], dataclasses.replace(result.bounds[-1], upper=None)]
    assert critical_rate(without).upper_per_s is None


def test_goals_share_their_trials() -> None:
    """The p99 limits are learnt from the objectives' trials: the same limit, the same bounds."""
    asked = settings()
    trials, _ = search(target(noise=0.02), asked)
    own = find_bounds(asked, trials, asked.goals[0])
    same = next(goal for goal in asked.goals if goal.limit_ns == LIMIT_NS)
    other = find_bounds(asked, trials, same)
    assert (own.lower, own.upper) == (other.lower, other.upper)


def test_a_search_can_be_taken_up_from_its_file(tmp_path: Path) -> None:
    """The file holds all that decides: the next trial after reading it is the same."""
    asked = settings()
    trials, ending = search(target(noise=0.02), asked)
    half = result_of(trials[:9], Ending.INTERRUPTED, asked)
    path = write_result(tmp_path, half)
    again = load_result(path)
    assert again == half
    assert encode_result(again) == path.read_bytes()
    assert decide(again.settings, again.trials) == decide(asked, trials[:9])
    assert result_of(trials, ending, asked).trials[:9] == again.trials


def test_a_damaged_file_of_a_search_is_named(tmp_path: Path) -> None:
    """Neither a missing nor a damaged file is a traceback."""
    with pytest.raises(ScenarioError, match=r"no such file"):
        load_result(tmp_path / "none.json")
    path = tmp_path / "bad.json"
    path.write_text('{"schema_version": 1}')
    with pytest.raises(HarnessError, match=r"bad\.json"):
        load_result(path)


def golden(name: str, text: str) -> None:
    """Compare with a golden file."""
    assert text == (GOLDEN / name).read_text(encoding="utf-8")


def test_pages_are_as_they_were() -> None:
    """Golden pages, with a hostile name: for a terminal and as Markdown."""
    asked = settings(max_trials=16)
    trials, ending = search(target(noise=0.03, void_ratio=0.1), asked)
    result = result_of(trials, ending, asked)
    console = Console(width=120, color_system=None, force_terminal=False)
    with console.capture() as captured:
        console.print(page(result))
    golden(
        "search-120.txt", "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"
    )
    golden("search.md", to_page(result, "no hosts are named: <why>"))


def test_tables_have_numbers_for_machines() -> None:
    """Rates, states and run ids of every trial; bounds with their rates."""
    trials, ending = search(target(), ALONE)
    result = result_of(trials, ending)
    rows = to_rows(trials_table(result))
    assert [one["run_id"] for one in rows] == [one.run_id for one in trials]
    assert [one["rate_per_s"] for one in rows] == [one.rate_per_s for one in trials]
    (bounds,) = to_rows(bounds_table(result))
    assert result.objectives.lower is not None
    assert bounds["lower_per_s"] == result.objectives.lower.rate_per_s


HOLDS = "the objectives hold at 700.0 requests/s at least; no upper bound: "
SINGLE = (
    "no bound yet, each takes 2 trials: 1 of 1 held, up to 500.0, nothing was missed up to 500.0"
)
MISSES = (
    "the objectives do not hold at 500.0 requests/s; no lower bound: nothing held down to 400.0"
)


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ([], "no bound: no trial has counted yet"),
        ([(500.0, FAST)], SINGLE),
        ([(500.0, FAST), (700.0, FAST), (700.0, FAST)], f"{HOLDS}nothing was missed up to 700.0"),
        (
            [(500.0, FAST), (700.0, FAST), (700.0, FAST), (2000.0, SLOW)],
            f"{HOLDS}1 of 4 missed, from 2,000 on",
        ),
        ([(500.0, SLOW), (400.0, SLOW), (400.0, SLOW)], MISSES),
    ],
)
def test_the_answer_says_why_a_bound_is_missing(
    pairs: list[tuple[float, float]], words: str
) -> None:
    """What was seen on that side, in words, however few trials there were."""
    assert headline(result_of(row(*pairs), Ending.TRIALS_USED)) == words
