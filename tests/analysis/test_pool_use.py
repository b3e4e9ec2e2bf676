"""Objectives and alerts on the use of the stream pool, judged from archives."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import pytest
from synthetic_run import MS, T0_S, S, good_plan, good_traces, write_run

from analysis.figures import build_figures
from analysis.judging import State
from analysis.run_tables import build_tables
from analysis.verdict import AlertState, Verdict, judge
from loadtests.plan.call import Multiplexing
from loadtests.plan.model import Plan
from loadtests.plan.objectives import parse_alert, parse_objective
from loadtests.record.window import EngineHealth, Window

FIRST_S, LAST_S = T0_S + 2, T0_S + 11  # the judged seconds of the good plan
Change = Callable[[EngineHealth, int], EngineHealth]


def plan_of(objective: str = "pool_use <= 80 %", alert: str = "pool_use > 90 % for 4 s") -> Plan:
    """The good plan over two channels of 100 streams."""
    channels = Multiplexing(connections=2, streams=100, keepalive_ns=0, authority=None)
    return good_plan(
        multiplexing=channels,
        objectives=(parse_objective(objective),),
        alerts=(parse_alert(alert),),
    )


def used(levels: Mapping[int, int], *, otherwise: int = 40, streams: int = 100) -> Change:
    """Streams that each engine has in use in these seconds of the stage."""

    def change(health: EngineHealth, second: int) -> EngineHealth:
        in_use = levels.get(second - FIRST_S, otherwise)
        return msgspec.structs.replace(health, streams=streams, streams_in_use=in_use)

    return change


def verdict_of(folder: Path, plan: Plan, change: Change) -> Verdict:
    """The verdict of the good requests with another health."""

    def change_window(window: Window) -> Window:
        health = tuple(change(one, window.start_s) for one in window.health)
        return dataclasses.replace(window, health=health)

    return judge(write_run(folder, plan, good_traces(plan), change_window=change_window))


def test_a_pool_with_room_in_every_second_passes(tmp_path: Path) -> None:
    """The limit itself is met; the alert held at no time."""
    verdict = verdict_of(tmp_path, plan_of(), used({3: 80}))
    (result,), (alert,) = verdict.objectives, verdict.alerts
    assert (result.state, result.reading.value) == (State.PASS, 0.8)
    assert (result.reading.samples, result.reading.resolution) == (10, 0.01)
    assert (alert.state, alert.reading.value) == (AlertState.CLEAR, 0.4)


def test_one_full_second_misses_the_limit(tmp_path: Path) -> None:
    """A mean over the stage would hide it, and so would a percentile."""
    verdict = verdict_of(tmp_path, plan_of(), used({7: 81}))
    assert verdict.state is State.FAIL
    assert verdict.reasons == (
        "pool_use <= 80 % (stage steady): 81.0 %, limit missed in 1 of 10 s",
    )


def test_engines_count_by_their_streams(tmp_path: Path) -> None:
    """A small engine's full pool does not speak for all: 100 of 100 and 20 of 300 are 30 %."""

    def change(health: EngineHealth, _second: int) -> EngineHealth:
        streams, in_use = (100, 100) if health.engine == "a1/0" else (300, 20)
        return msgspec.structs.replace(health, streams=streams, streams_in_use=in_use)

    (result,) = verdict_of(tmp_path, plan_of(), change).objectives
    assert (result.state, result.reading.value) == (State.PASS, 0.3)


@pytest.mark.parametrize("lasting_s", [1, 2])
def test_channels_that_are_replaced_are_no_smaller_pool(tmp_path: Path, lasting_s: int) -> None:
    """Closed at the end of one second they are back; closed for longer they are lost."""

    def change(health: EngineHealth, second: int) -> EngineHealth:
        is_short = 0 <= second - FIRST_S - 4 < lasting_s
        return msgspec.structs.replace(health, streams=40 if is_short else 100, streams_in_use=40)

    (result,) = verdict_of(tmp_path, plan_of(), change).objectives
    assert result.reading.value == (0.4 if lasting_s == 1 else 1.0)
    assert result.state is (State.PASS if lasting_s == 1 else State.FAIL)


@pytest.mark.parametrize(
    ("stalled_ms", "in_use", "state"),
    [
        (0, 85, State.FAIL),
        (400, 85, State.INCONCLUSIVE),
        (20, 100, State.FAIL),
        (400, 100, State.INCONCLUSIVE),
    ],
)
def test_a_generator_that_stood_still_blames_no_target(
    tmp_path: Path, stalled_ms: int, in_use: int, state: State
) -> None:
    """What the stall of a loop can have added to the use of its second is the generator's."""

    def change(health: EngineHealth, second: int) -> EngineHealth:
        health = used({5: in_use})(health, second)
        stalled_ns = stalled_ms * MS if second == FIRST_S + 5 else 0
        return msgspec.structs.replace(health, stalled_ns=stalled_ns)

    verdict = verdict_of(tmp_path, plan_of(), change)
    (result,) = verdict.objectives
    assert result.state is state
    assert ("the generator was not well" in result.reason) == (state is State.INCONCLUSIVE)


def test_an_engine_short_of_its_core_blames_no_target(tmp_path: Path) -> None:
    """One busy second is no law broken, but what was seen in it is the generator's."""

    def change(health: EngineHealth, second: int) -> EngineHealth:
        health = used({5: 100})(health, second)
        cpu_ns = S if second == FIRST_S + 5 else S // 4
        return msgspec.structs.replace(health, cpu_ns=cpu_ns)

    (result,) = verdict_of(tmp_path, plan_of(), change).objectives
    assert result.state is State.INCONCLUSIVE
    assert result.reason == "missed in 1 s, in which the generator was not well"


def test_seconds_without_a_connection_are_not_a_pool_with_room(tmp_path: Path) -> None:
    """Two of ten without an open channel at either end: nobody knows, so it cannot pass."""

    def change(health: EngineHealth, second: int) -> EngineHealth:
        is_gone = 4 <= second - FIRST_S <= 6
        return used({}, otherwise=0 if is_gone else 40, streams=0 if is_gone else 100)(
            health, second
        )

    verdict = verdict_of(tmp_path, plan_of(alert="pool_use > 90 %"), change)
    (result,), (alert,) = verdict.objectives, verdict.alerts
    assert result.state is State.INCONCLUSIVE
    assert result.reason == "connections were open in 8 of 10 s, needed: 10"
    assert alert.state is AlertState.UNKNOWN


def test_a_pool_that_never_was_has_no_use(tmp_path: Path) -> None:
    """No data is never a PASS."""
    (result,) = verdict_of(tmp_path, plan_of(), lambda health, _second: health).objectives
    assert (result.state, result.reason) == (State.INCONCLUSIVE, "no data")


@pytest.mark.parametrize(
    ("full", "alert", "value", "state"),
    [
        (range(2, 6), "pool_use > 90 % for 4 s", 0.95, AlertState.RAISED),
        (range(2, 5), "pool_use > 90 % for 4 s", 0.4, AlertState.CLEAR),
        ((0, 1, 3, 4), "pool_use > 90 % for 3 s", 0.4, AlertState.CLEAR),
        ((9,), "pool_use > 90 %", 0.95, AlertState.RAISED),
        (range(10), "pool_use > 90 % for 10 s", 0.95, AlertState.RAISED),
        (range(10), "pool_use > 90 % for 11 s", None, AlertState.UNKNOWN),
    ],
)
def test_a_sustained_alert_is_about_seconds_on_end(
    tmp_path: Path, full: range, alert: str, value: float | None, state: AlertState
) -> None:
    """Its value is the highest level that held for so long; a stage shorter than that has none."""
    change = used(dict.fromkeys(full, 95))
    (result,) = verdict_of(tmp_path, plan_of(alert=alert), change).alerts
    assert (result.reading.value, result.state) == (value, state)


def test_an_unknown_second_ends_a_stretch(tmp_path: Path) -> None:
    """A gap is not bridged: four known seconds, one that is not and five known ones."""

    def change(health: EngineHealth, second: int) -> EngineHealth:
        is_gone = second - FIRST_S in {4, 5}
        return used({}, otherwise=0 if is_gone else 95, streams=0 if is_gone else 100)(
            health, second
        )

    (alert,) = verdict_of(tmp_path, plan_of(alert="pool_use > 90 % for 6 s"), change).alerts
    assert (alert.reading.value, alert.state) == (None, AlertState.UNKNOWN)


def test_the_tables_show_the_use_as_percent(tmp_path: Path) -> None:
    """Limit, value and the pool's own table say the same."""
    plan = plan_of()

    def change_window(window: Window) -> Window:
        health = tuple(used({3: 90})(one, window.start_s) for one in window.health)
        return dataclasses.replace(window, health=health)

    run = write_run(tmp_path, plan, good_traces(plan), change_window=change_window)
    tables = {t.name: t for t in build_tables(run, judge(run), build_figures(run))}
    (objective,), (pool,) = tables["objectives"].rows, tables["stream_pool"].rows
    assert [cell.text for cell in objective[1:6]] == [
        "pool_use <= 80 %",
        "80.0 %",
        "90.0 %",
        "10",
        "±1.00 %",
    ]
    assert pool[-1].text == "90.0 %"
