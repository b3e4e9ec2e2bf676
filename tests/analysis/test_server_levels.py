"""Objectives and alerts on what the target says of itself, judged from archives."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import pytest
from server_rows import Values, failed_scrape, of_prometheus, plan_with, rows_of, run_with, scraping
from synthetic_run import T0_S, S, write_run

from analysis.figures import build_figures
from analysis.judging import ObjectiveResult, State
from analysis.run_tables import build_tables
from analysis.server_side.series import build_server_side
from analysis.text import reading_text
from analysis.verdict import AlertState, Verdict, judge
from loadtests.plan.model import Plan
from loadtests.record.server import SCRAPE, ServerRow


def verdict_of(plan: Plan, rows: list[ServerRow]) -> Verdict:
    """The verdict of the good requests beside these scrapes."""
    return judge(run_with(plan, rows))


def constant(level: float) -> Values:
    """The same at any time, on any node."""
    return lambda _second, _node: level


def only(verdict: Verdict) -> ObjectiveResult:
    """Its one objective."""
    (result,) = verdict.objectives
    return result


def test_the_worst_node_decides() -> None:
    """One node at 90 % misses a limit that the mean of both would meet."""
    plan = plan_with("server.cpu < 80 %")
    rows = rows_of(plan, lambda _second, node: 0.9 if node == "n1" else 0.1)
    verdict = verdict_of(plan, rows)
    result = only(verdict)
    assert (result.state, result.reason) == (State.FAIL, "limit missed by node n1")
    assert result.reading.value == pytest.approx(0.9)
    assert verdict.reasons == ("server.cpu < 80 % (stage steady): 90.0 %, limit missed by node n1",)


@pytest.mark.parametrize(
    ("text", "level", "state", "shown"),
    [
        ("server.cpu < 80 %", 0.799, State.PASS, "79.9 %"),
        ("server.cpu < 80 %", 0.8, State.FAIL, "80.0 %"),
        ("server.memory < 512 MB", 511.9e6, State.PASS, "512 MB"),
        ("server.memory < 512 MB", 512e6, State.FAIL, "512 MB"),
        ("server.pool_in_use <= 80", 80.0, State.PASS, "80"),
        ("server.pool_in_use <= 80", 80.5, State.FAIL, "80.50"),
    ],
)
def test_a_limit_holds_or_not_in_its_own_unit(
    text: str, level: float, state: State, shown: str
) -> None:
    """Value, unit and text of each kind of measure."""
    plan = plan_with(text)
    measure = plan.objectives[0].measure.server
    assert measure is not None
    verdict = verdict_of(plan, rows_of(plan, constant(level), measure=measure))
    result = only(verdict)
    assert result.state is state
    assert reading_text(result.reading) == shown


def test_the_level_is_the_highest_mean_over_a_minute() -> None:
    """60 of 120 s at 90 % are one full minute; 20 s of 100 % in a quiet one are not."""
    plan = plan_with("server.cpu < 80 %", seconds=120, every_s=5.0)
    long = rows_of(plan, lambda second, _node: 0.9 if 42 <= second < 102 else 0.1)
    result = only(verdict_of(plan, long))
    assert result.state is State.FAIL
    assert result.reading.value == pytest.approx(0.9)
    short = rows_of(plan, lambda second, _node: 1.0 if 42 <= second < 62 else 0.1)
    result = only(verdict_of(plan, short))
    assert result.state is State.PASS
    assert result.reading.value == pytest.approx((4 * 1.0 + 8 * 0.1) / 12)


def test_a_minute_lies_inside_its_stage() -> None:
    """What a node did in the warm-up is not the stage's."""
    plan = plan_with("server.cpu < 80 %")
    rows = rows_of(plan, lambda second, _node: 1.0 if second < 2 else 0.1)
    assert only(verdict_of(plan, rows)).reading.value == pytest.approx(0.1)


def test_a_series_that_no_node_has_is_inconclusive() -> None:
    """It is named, with the node: never a PASS."""
    plan = plan_with("server.pool_in_use <= 80")
    rows = rows_of(plan, lambda *_: None, measure="pool_in_use")
    result = only(verdict_of(plan, rows))
    assert result.state is State.INCONCLUSIVE
    assert result.reason == "node n0 has no value of max(pool_in_use)"


def test_a_series_that_one_node_lacks_is_inconclusive() -> None:
    """The others' health says nothing of it."""
    plan = plan_with("server.cpu < 80 %")
    rows = rows_of(plan, lambda _second, node: None if node == "n1" else 0.1)
    result = only(verdict_of(plan, rows))
    assert (result.state, result.reason) == (
        State.INCONCLUSIVE,
        "node n1 has no value of max(cpu)",
    )


def test_no_scrape_at_all_is_inconclusive() -> None:
    """A scraper that died at once left nothing."""
    plan = plan_with("server.cpu < 80 %", alerts=["server.cpu > 85 %"])
    verdict = verdict_of(plan, [])
    assert only(verdict).state is State.INCONCLUSIVE
    assert "no value of server.cpu" in only(verdict).reason
    assert verdict.alerts[0].state is AlertState.UNKNOWN


def test_too_few_samples_are_inconclusive() -> None:
    """Every second scrape of ten failed: five of eight needed."""
    plan = plan_with("server.cpu < 80 %")
    rows = rows_of(plan, lambda second, _node: 0.1 if second % 2 else None)
    result = only(verdict_of(plan, rows))
    assert result.state is State.INCONCLUSIVE
    assert result.reading.value is None


def test_a_hole_is_inconclusive_though_samples_abound() -> None:
    """20 s without a sample in 120 s at one every second: 100 of 96 needed, and one hole."""
    plan = plan_with("server.cpu < 80 %", seconds=120)
    rows = rows_of(
        plan, lambda *_: 0.1, missed=lambda second, node: node == "n0" and 40 <= second < 60
    )
    result = only(verdict_of(plan, rows))
    assert result.state is State.INCONCLUSIVE
    assert result.reason == "21 s without a sample of n0"


def test_what_was_seen_to_miss_its_limit_fails_in_spite_of_a_hole() -> None:
    """FAIL over INCONCLUSIVE: a whole minute at 95 % was seen."""
    plan = plan_with("server.cpu < 80 %", seconds=120)
    rows = rows_of(
        plan,
        lambda second, _node: 0.95 if second > 60 else 0.1,
        missed=lambda second, _node: 10 <= second < 40,
    )
    assert only(verdict_of(plan, rows)).state is State.FAIL


def test_a_scraper_that_died_half_way_is_inconclusive() -> None:
    """No rows from the middle of the stage on."""
    plan = plan_with("server.cpu < 80 %", seconds=60)
    rows = rows_of(plan, lambda *_: 0.1, missed=lambda second, _node: second >= 30)
    result = only(verdict_of(plan, rows))
    assert result.state is State.INCONCLUSIVE


def test_a_generator_that_was_not_well_judges_no_server() -> None:
    """A slow generator neither fails nor passes a target, by whatever measure."""
    for level in (0.1, 0.95):
        plan = plan_with("server.cpu < 80 %")
        run = run_with(plan, rows_of(plan, constant(level)))
        engines = run.engines.assign(cpu_ns=run.engines["wall_ns"])
        result = only(judge(dataclasses.replace(run, engines=engines)))
        assert (result.state, result.reason) == (
            State.INCONCLUSIVE,
            "generator-limited: engine CPU",
        )


def test_a_rate_is_the_growth_of_a_counter() -> None:
    """Between two scrapes; a counter that fell was reset, and its interval has no value."""
    plan = plan_with("server.requests < 60 /s", seconds=20)
    totals = lambda second, node: 50.0 * (second if node == "n0" or second < 8 else second - 8)  # noqa: E731
    run = run_with(plan, rows_of(plan, totals, measure="requests"))
    result = only(judge(run))
    assert result.reading.value == pytest.approx(50.0)
    assert result.state is State.PASS
    side = build_server_side(run, plan)
    assert side is not None
    first, second = side.of("requests")
    assert int((first.numbers != first.numbers).sum()) == 1  # the first scrape alone
    assert int((second.numbers != second.numbers).sum()) == 2  # and the reset


@pytest.mark.parametrize(
    ("high", "alert", "value", "state"),
    [
        (range(4, 8), "server.cpu > 85 % for 4 s", 0.9, AlertState.RAISED),
        (range(4, 7), "server.cpu > 85 % for 4 s", 0.2, AlertState.CLEAR),
        ((4, 5, 7, 8), "server.cpu > 85 % for 3 s", 0.2, AlertState.CLEAR),
        (range(12), "server.cpu > 85 %", 0.9, AlertState.RAISED),
        (range(12), "server.cpu > 85 % for 30 s", None, AlertState.UNKNOWN),
    ],
)
def test_an_alert_may_last(high: range, alert: str, value: float | None, state: AlertState) -> None:
    """Its value is the highest level that was not left for so long."""
    plan = plan_with("server.cpu < 99 %", alerts=[alert])
    rows = rows_of(plan, lambda second, _node: 0.9 if second in high else 0.2)
    (result,) = verdict_of(plan, rows).alerts
    assert result.state is state
    assert result.reading.value == (None if value is None else pytest.approx(value))


def test_nodes_that_a_prometheus_server_never_named_are_missed() -> None:
    """Two nodes are loaded and one is measured: INCONCLUSIVE; an aggregate is one level."""
    plan = plan_with("server.cpu < 80 %")
    plan = dataclasses.replace(plan, scraping=of_prometheus(scraping()))

    def renamed(row: ServerRow, node: str) -> ServerRow:
        return msgspec.structs.replace(row, node="all" if row.measure == SCRAPE else node)

    rows = rows_of(plan, lambda *_: 0.1, nodes=["n0"])
    one = only(verdict_of(plan, [renamed(row, "10.0.0.1:9003") for row in rows]))
    assert one.state is State.INCONCLUSIVE
    assert one.reason == "1 nodes were never named by the Prometheus server"
    every = only(verdict_of(plan, [renamed(row, "all") for row in rows]))
    assert every.state is State.PASS


def test_the_tables_show_levels_and_failures() -> None:
    """One row a measure with its worst node, and the scrapes that brought nothing, by reason."""
    plan = plan_with("server.cpu < 80 %")
    rows = rows_of(plan, lambda _second, node: 0.5 if node == "n1" else 0.25)
    rows += [failed_scrape(row) for row in rows if row.at_unix_ns < (T0_S + 2) * S]
    run = run_with(plan, rows)
    tables = {table.name: table for table in build_tables(run, judge(run), build_figures(run))}
    (row,) = tables["server"].rows
    assert [cell.text for cell in row] == [
        "steady", "cpu", "2", "10", "37.5 %", "50.0 %", "50.0 %", "n1", "max(cpu)",
    ]  # fmt: skip
    assert [[cell.text for cell in row] for row in tables["failed_scrapes"].rows] == [
        ["n0", "timeout", "4"],
        ["n1", "timeout", "4"],
    ]
    assert "saturation" in tables


def test_a_run_that_asked_for_nothing_shows_nothing(tmp_path: Path) -> None:
    """Tables and verdict are as before."""
    run = write_run(tmp_path)
    names = {table.name for table in build_tables(run, judge(run), build_figures(run))}
    assert names.isdisjoint({"server", "failed_scrapes", "saturation"})
