"""Objectives on failovers: their grammar, and what they ask of a scenario."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.clock import NS_PER_S
from loadtests.errors import ScenarioError
from loadtests.plan.model import Comparison, MeasureKind
from loadtests.plan.objectives import is_met, parse_abort, parse_alert, parse_objective
from loadtests.plan.rehearsal import rehearse_failover
from loadtests.plan.scenario import load_scenario, resolve
from loadtests.plan.units import UnitError
from loadtests.record.window import Kind

SCENARIO = """
version = 1
name = "failover"
[target]
nodes = ["http://127.0.0.1:9003"]
[load]
connections = 8
{load}
[[requests]]
name = "get"
path = "/"
[[stages]]
name = "load"
duration = "60 s"
{level}
[criteria]
objectives = [{objectives}]
{criteria}
"""


def write(folder: Path, *objectives: str, load: str = "", criteria: str = "",
          level: str = 'rate = "100 rps"') -> Path:  # fmt: skip
    """A scenario with these objectives."""
    path = folder / "failover.toml"
    texts = ", ".join(f'"{text}"' for text in objectives)
    path.write_text(SCENARIO.format(load=load, objectives=texts, criteria=criteria, level=level))
    return path


@pytest.mark.parametrize(
    ("text", "kind", "limit"),
    [
        ("time_to_recover < 300 s", MeasureKind.TIME_TO_RECOVER, 300e9),
        ("time_to_detect <= 10 s on get", MeasureKind.TIME_TO_DETECT, 10e9),
        ("unavailability < 30 s", MeasureKind.UNAVAILABILITY, 30e9),
        ("longest_outage < 5 s", MeasureKind.LONGEST_OUTAGE, 5e9),
        ("blackout < 1 s", MeasureKind.BLACKOUT, 1e9),
        ("downtime == none", MeasureKind.DOWNTIME, 0.0),
        ("lost_writes == 0", MeasureKind.LOST_WRITES, 0.0),
        ("duplicated_writes <= 3", MeasureKind.DUPLICATED_WRITES, 3.0),
        ("error_budget_spent < 10 %", MeasureKind.ERROR_BUDGET_SPENT, 0.1),
    ],
)
def test_the_grammar_has_each_measure(text: str, kind: MeasureKind, limit: float) -> None:
    """Limits come in the measure's own unit."""
    objective = parse_objective(text)
    assert (objective.measure.kind, objective.limit) == (kind, limit)


def test_equality_is_met_by_the_value_alone() -> None:
    """`lost_writes == 0` is missed by one lost write."""
    objective = parse_objective("lost_writes == 0")
    assert objective.comparison is Comparison.EQUALS
    assert is_met(objective, 0.0)
    assert not is_met(objective, 1.0)


@pytest.mark.parametrize(
    "text",
    [
        "time_to_recover > 300 s",
        "time_to_recover == 300 s",
        "unavailability < 30 s in load",
        "downtime < 3",
        "downtime == 0",
        "downtime == little",
        "lost_writes == 0 on get",
        "lost_writes == none",
        "lost_writes >= 0",
        "p95 == 200 ms",
        "error_budget_spent < 10",
        "time_to_recover < 300 s for 5 s",
    ],
)
def test_what_makes_no_sense_is_refused(text: str) -> None:
    """Wrong directions, units, scopes and equalities of what is no whole number."""
    with pytest.raises(UnitError):
        parse_objective(text)


def test_alerts_and_aborts_cannot_wait_for_a_recovery() -> None:
    """What is known after the run is of no use while it runs."""
    with pytest.raises(UnitError, match="after the run"):
        parse_alert("unavailability > 30 s")
    with pytest.raises(UnitError, match="after the run"):
        parse_abort("unavailability > 30 s for 5 s")


def test_bins_are_off_until_something_asks_for_them(tmp_path: Path) -> None:
    """By itself where an objective needs them, else by `load.bins`; marks are the limits."""
    limits = ("p95 < 200 ms", "p99 < 500 ms", "service_p99 < 500 ms", "max < 500 ms")
    plain = resolve(load_scenario(write(tmp_path, *limits)))
    assert plain.binning is None
    for asks in (
        write(tmp_path, *limits, load="bins = true"),
        write(tmp_path, *limits, "unavailability < 30 s"),
    ):
        binning = resolve(load_scenario(asks)).binning
        assert binning is not None
        assert [(mark.kind, mark.limit_ns) for mark in binning.marks] == [
            (Kind.RESPONSE, 200_000_000),
            (Kind.RESPONSE, 500_000_000),
            (Kind.SERVICE, 500_000_000),
        ]


def mistakes(path: Path) -> str:
    """All that is said against a scenario."""
    with pytest.raises(ScenarioError) as caught:
        load_scenario(path)
    return str(caught.value)


def test_every_mistake_is_named_with_its_place(tmp_path: Path) -> None:
    """Closed load, too many limits, a budget without an SLO, and an SLO of everything."""
    many = [f"p{number} < {number} ms" for number in range(90, 97)]
    assert "criteria.slo" in mistakes(write(tmp_path, "error_budget_spent < 10 %"))
    assert "criteria.slo" in mistakes(write(tmp_path, "p95 < 1 s", criteria='slo = "100 %"'))
    assert "at most 6" in mistakes(write(tmp_path, *many, load="bins = true"))
    closed = write(
        tmp_path, "unavailability < 30 s", load='model = "closed"', level="connections = 4"
    )
    assert "open load" in mistakes(closed)


def test_the_slo_is_of_the_plan(tmp_path: Path) -> None:
    """The error budget is computed from the SLO and its window, never typed in."""
    path = write(tmp_path, "error_budget_spent < 10 %", criteria='slo = "99.99 %"')
    slo = resolve(load_scenario(path)).slo
    assert slo is not None
    assert (slo.ratio, slo.window_days) == (0.9999, 30)
    budget_s = (1 - slo.ratio) * slo.window_days * 86_400
    assert budget_s == pytest.approx(259.2)  # 4.32 min


def test_a_scenario_with_faults_is_recorded_in_bins() -> None:
    """Whoever injects faults wants to see what they cost."""
    path = Path(__file__).parent / "good" / "failover.toml"
    assert resolve(load_scenario(path)).binning is not None


def test_a_failover_in_short_keeps_the_distance_of_its_fault() -> None:
    """Stages are cut; the kill stays 2 s into the last one, and what it lasts is cut with them."""
    scenarios = Path(__file__).resolve().parents[2] / "scenarios"
    plan = resolve(load_scenario(scenarios / "failover-full.toml"))
    short = rehearse_failover(
        plan,
        warm_up_ns=2 * NS_PER_S,
        before_ns=4 * NS_PER_S,
        steady_ns=3 * NS_PER_S,
        down_ns=5 * NS_PER_S,
        after_ns=38 * NS_PER_S,
    )
    assert [(s.start_ns / NS_PER_S, s.end_ns / NS_PER_S) for s in short.stages] == [
        (0, 2),
        (2, 6),
        (6, 44),
    ]
    assert short.failover is not None
    (fault,) = short.failover.faults
    assert (fault.at_ns, fault.undo_after_ns) == (8 * NS_PER_S, 5 * NS_PER_S)
    assert short.failover.steady.hold_ns == 3 * NS_PER_S
    assert short.scenario_name == "failover-full-rehearsal"
    assert (short.objectives, short.binning) == (plan.objectives, plan.binning)
