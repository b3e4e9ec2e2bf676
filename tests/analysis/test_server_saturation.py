"""Which saturated first: the generator, its connections, or the target's CPU."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from server_rows import plan_with, rows_of
from synthetic_run import T0_S, S, good_traces, write_run

from analysis.figures import build_figures
from analysis.server_side.saturation import Resource, Saturation, find_saturation
from analysis.server_side.series import build_server_side
from loadtests.plan.model import LoadModel, Plan
from loadtests.record.window import EngineHealth, Window

Change = Callable[[EngineHealth, int], EngineHealth]
SECONDS = 20


def found(
    folder: Path,
    plan: Plan,
    cpu: Callable[[float], float | None],
    change: Change = lambda health, _second: health,
) -> Saturation:
    """What saturated first; `change` is of an engine's health in a second from T0."""

    def change_window(window: Window) -> Window:
        second = window.start_s - T0_S
        return dataclasses.replace(
            window, health=tuple(change(health, second) for health in window.health)
        )

    rows = rows_of(plan, lambda second, _node: cpu(second))
    run = write_run(folder, plan, good_traces(plan), change_window=change_window, server=rows)
    return find_saturation(run, plan, build_figures(run), build_server_side(run, plan))


def busy(first: int, last: int) -> Change:
    """Engines without a moment to spare in these seconds."""

    def change(health: EngineHealth, second: int) -> EngineHealth:
        is_busy = first <= second <= last
        return msgspec.structs.replace(health, cpu_ns=S if is_busy else health.cpu_ns)

    return change


def full(first: int, last: int) -> Change:
    """Arrivals that wait for taken connections in these seconds."""

    def change(health: EngineHealth, second: int) -> EngineHealth:
        if not first <= second <= last:
            return health
        return msgspec.structs.replace(health, backlog=10, in_flight=32, connections=32)

    return change


def resources(saturation: Saturation) -> list[tuple[Resource, float]]:
    """Each crossing and its second in the stage."""
    return [(one.resource, round(one.offset_s)) for one in saturation.crossings]


def test_nothing_saturates_a_run_with_room(tmp_path: Path) -> None:
    """All three are known, none was at its limit."""
    saturation = found(tmp_path, plan_with(seconds=SECONDS), lambda _second: 0.5)
    assert (saturation.crossings, saturation.first, saturation.unknown) == ((), (), ())
    assert saturation.sentences == (
        "nothing saturated: neither generator nor connections nor server CPU",
    )


def test_the_generator_was_first(tmp_path: Path) -> None:
    """Its engines were out of CPU before the target was."""
    plan = plan_with("server.cpu < 80 %", seconds=SECONDS)
    cpu = lambda second: 0.95 if second >= 14 else 0.3  # noqa: E731
    saturation = found(tmp_path, plan, cpu, busy(6, 12))
    assert resources(saturation) == [(Resource.GENERATOR, 4), (Resource.SERVER_CPU, 12)]
    assert saturation.first == (Resource.GENERATOR,)
    assert saturation.sentences[0] == "generator saturated first"
    assert "an engine at 100 % of its core" in saturation.sentences[1]


def test_the_targets_cpu_was_first(tmp_path: Path) -> None:
    """Connections filled up when it had been at its limit for a while."""
    plan = plan_with("server.cpu < 80 %", seconds=SECONDS)
    cpu = lambda second: 0.85 if second >= 6 else 0.3  # noqa: E731
    saturation = found(tmp_path, plan, cpu, full(12, 18))
    assert resources(saturation) == [(Resource.SERVER_CPU, 4), (Resource.CONNECTIONS, 10)]
    assert saturation.first == (Resource.SERVER_CPU,)
    cpu_line = saturation.sentences[1]
    assert "node n0 at 85.0 % (max(cpu)), limit 80.0 %" in cpu_line
    assert "64 in flight of 64 allowed, 20 waiting, 0 dropped" in saturation.sentences[2]


def test_the_connections_were_first(tmp_path: Path) -> None:
    """The target idled behind too few of them."""
    saturation = found(tmp_path, plan_with(seconds=SECONDS), lambda _second: 0.2, full(5, SECONDS))
    assert saturation.first == (Resource.CONNECTIONS,)
    assert resources(saturation) == [(Resource.CONNECTIONS, 3)]


def test_what_came_in_one_moment_is_not_told_apart(tmp_path: Path) -> None:
    """A scrape every 5 s cannot say whether CPU was there before the connections were."""
    plan = plan_with(seconds=SECONDS, every_s=5.0)
    cpu = lambda second: 0.95 if second >= 10 else 0.3  # noqa: E731
    saturation = found(tmp_path, plan, cpu, full(8, SECONDS))
    assert set(saturation.first) == {Resource.SERVER_CPU, Resource.CONNECTIONS}
    assert "too close in time to be told apart" in saturation.sentences[0]


@pytest.mark.parametrize("length", [1, 2])
def test_a_moment_is_no_saturation(tmp_path: Path, length: int) -> None:
    """Fewer than three seconds on end, of whatever it is."""
    plan = plan_with(seconds=SECONDS)
    high = range(6, 6 + length)
    saturation = found(
        tmp_path / "cpu", plan, lambda second: 0.95 if second in high else 0.3, busy(9, 8 + length)
    )
    assert saturation.crossings == ()
    assert found(tmp_path / "full", plan, lambda _second: 0.3, full(6, 5 + length)).first == ()


def test_the_objective_is_the_limit_else_90_percent(tmp_path: Path) -> None:
    """85 % saturates where 80 % is asked for, and not where nothing is."""
    cpu = lambda second: 0.85 if second >= 6 else 0.3  # noqa: E731
    asked = found(tmp_path / "a", plan_with("server.cpu < 80 %", seconds=SECONDS), cpu)
    assert asked.first == (Resource.SERVER_CPU,)
    assert found(tmp_path / "b", plan_with(seconds=SECONDS), cpu).first == ()


def test_cpu_that_was_not_seen_is_not_called_idle(tmp_path: Path) -> None:
    """Without values nobody knows: it may have been the limit."""
    saturation = found(tmp_path, plan_with(seconds=SECONDS), lambda _second: None)
    assert saturation.first == ()
    assert saturation.unknown == (Resource.SERVER_CPU,)
    assert saturation.sentences == (
        "nothing saturated: neither generator nor connections",
        "server CPU is not known for every node and stage: it may have been the limit",
    )


def test_connections_of_closed_load_are_always_taken(tmp_path: Path) -> None:
    """That is its design, not a limit that was met."""
    plan = plan_with(seconds=SECONDS)
    closed = dataclasses.replace(plan, load_model=LoadModel.CLOSED)
    rows = rows_of(plan, lambda *_: 0.2)
    run = write_run(tmp_path, plan, good_traces(plan), server=rows)
    saturation = find_saturation(run, closed, build_figures(run), build_server_side(run, closed))
    assert Resource.CONNECTIONS not in saturation.first


def test_a_busy_host_is_the_targets_only_where_the_generator_is_not(tmp_path: Path) -> None:
    """On loopback the host's CPU is the generator's as well; elsewhere it is the node's."""
    plan = plan_with(seconds=SECONDS)
    rows = rows_of(plan, lambda *_: 0.2) + [
        row
        for row in rows_of(plan, lambda *_: 1.0, measure="host_cpu")
        if row.measure == "host_cpu"
    ]
    run = write_run(tmp_path, plan, good_traces(plan), server=rows)
    side = build_server_side(run, plan)
    assert find_saturation(run, plan, build_figures(run), side).first == ()
    nodes = tuple(dataclasses.replace(node, host="api.example.net") for node in plan.nodes)
    far = dataclasses.replace(plan, nodes=nodes)
    assert find_saturation(run, far, build_figures(run), side).first == (Resource.SERVER_CPU,)
