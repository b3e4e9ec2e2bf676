"""A trial is the scenario at one rate: one warm-up, one judged stage, its own criteria."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path

import pytest
from plan_builders import good_plan, node

from loadtests.clock import NS_PER_S
from loadtests.errors import TargetError
from loadtests.plan.authorisation import AuthorisedTarget, Configuration, authorised_per_s
from loadtests.plan.engines import GeneratorCosts, RequestKind, highest_per_s
from loadtests.plan.model import Hold, Plan
from loadtests.plan.objectives import parse_objective
from loadtests.plan.scenario import load_scenario, resolve
from loadtests.plan.schedule import Schedule
from loadtests.plan.trial import trial_plan

SCENARIOS = Path(__file__).resolve().parents[2] / "scenarios"
NOW = datetime(2026, 11, 26, tzinfo=UTC)


def trial(scenario: str, rate: float, *, stage: str, seconds: int = 10) -> Plan:
    """A trial of a shipped scenario."""
    file = load_scenario(SCENARIOS / f"{scenario}.toml")
    peak = next(s for s in resolve(file).stages if s.name == stage).profile
    assert isinstance(peak, Hold)
    plan = resolve(file, scale=rate / peak.level)
    own = next(s for s in plan.stages if s.name == stage)
    return trial_plan(
        plan, own, rate, warm_up_ns=3 * NS_PER_S, trial_ns=seconds * NS_PER_S, ceiling=float("inf")
    )


def test_a_trial_offers_exactly_its_rate() -> None:
    """As many arrivals as rate * seconds in the judged stage, after a ramp that is not judged."""
    plan = trial("smoke", 437.0, stage="steady")
    warm_up, judged = Schedule(plan).totals
    assert judged == 4370
    assert warm_up < 3 * 437
    assert [stage.is_judged for stage in plan.stages] == [False, True]
    assert plan.scenario_name == "smoke-search"
    assert plan.scale == pytest.approx(437 / 200)
    assert plan.max_rate_per_s >= 437


def test_throughput_objectives_follow_the_rate() -> None:
    """100 % of the offered rate is still 100 % of it."""
    plan = trial("rest-100", 1552.0, stage="profile")
    limits = {o.text: o.limit for o in plan.objectives}
    assert limits["throughput >= 776000 rps"] == pytest.approx(1552.0)
    assert limits["p95 < 200 ms"] == 200_000_000


def test_only_the_criteria_of_its_stage_are_judged() -> None:
    """Of a ramp to the knee, one level and what is said of every stage."""
    plan = trial("rest-ramp-to-knee", 1940.0, stage="level-025")
    assert [o.text for o in plan.objectives] == [
        "p95 < 200 ms",
        "p99 < 500 ms",
        "error_ratio < 0.1 %",
        "throughput >= 25 % of rest in level-025",
    ]


@pytest.mark.parametrize(("seconds", "sustain_s"), [(5, 3), (10, 4), (30, 10)])
def test_what_is_beyond_hope_ends_early(seconds: int, sustain_s: int) -> None:
    """Half late or half bad for a third of the trial: five times more than any of them allows."""
    plan = trial("smoke", 400.0, stage="steady", seconds=seconds)
    own = plan.aborts[1:]
    assert plan.aborts[0].objective.text == "error_ratio > 50 % for 5 s"
    assert [a.sustain_ns for a in own] == [sustain_s * NS_PER_S] * 3
    assert [(a.objective.measure.quantile, a.objective.limit) for a in own] == [
        (0.5, 200_000_000.0),
        (0.5, 500_000_000.0),
        (None, 0.5),
    ]
    least_part = 0.5 * sustain_s / seconds
    assert least_part > 3 * 0.05  # of p95, the objective that allows most


def test_an_objective_that_allows_much_ends_nothing_early() -> None:
    """Half of the answers late says nothing of a median."""
    plan = trial("smoke", 400.0, stage="steady")
    loose = dataclasses.replace(
        plan, aborts=(), objectives=(parse_objective("p50 < 1 s"), parse_objective("max < 9 s"))
    )
    stage = plan.stages[1]
    again = trial_plan(loose, stage, 400.0, warm_up_ns=NS_PER_S, trial_ns=NS_PER_S, ceiling=1e9)
    assert again.aborts == ()


def entry(host: str, rate: float) -> AuthorisedTarget:
    """An entry of a configuration."""
    return AuthorisedTarget(host=host, owner="team", max_rate_per_s=rate, expires=None, proof=None)


def test_the_authorised_rate_is_that_of_the_tightest_node() -> None:
    """Each host's part of the load stays within what its owner allows."""
    nodes = (
        node("a", host="a.example", weight=3.0),
        node("b", host="b.example", weight=1.0),
        node("c", host="127.0.0.1", weight=4.0),
    )
    plan = good_plan(nodes=nodes)
    both = Configuration(path=None, targets=(entry("a.example", 300.0), entry("b.example", 90.0)))
    assert authorised_per_s(plan, both, NOW) == pytest.approx(min(300 / (3 / 8), 90 / (1 / 8)))
    with pytest.raises(TargetError, match=r"b\.example"):
        authorised_per_s(plan, Configuration(path=None, targets=both.targets[:1]), NOW)
    assert authorised_per_s(good_plan(), both, NOW) == float("inf")


def test_the_ceiling_of_a_trial_is_no_higher_than_what_is_allowed() -> None:
    """Neither a backlog nor a mistake can send more than the owner allows."""
    plan = good_plan()
    own = plan.stages[0]
    made = trial_plan(plan, own, 10.0, warm_up_ns=NS_PER_S, trial_ns=NS_PER_S, ceiling=12.0)
    assert made.max_rate_per_s == 12.0


def test_the_generators_highest_rate_is_its_calibrated_cost() -> None:
    """90 % of as many cores as there are engines; unknown without a calibration."""
    costs = GeneratorCosts(request_ns={RequestKind.HTTP1: 20_000.0}, basis="2026-11-26")
    assert highest_per_s(good_plan(), costs, cores=2, engines=1) == pytest.approx(45_000.0)
    assert highest_per_s(good_plan(), costs, cores=2, engines=5) == pytest.approx(90_000.0)
    assert highest_per_s(good_plan(), None, cores=2, engines=1) is None
