"""Which saturated first: the generator, its connections, or the target's CPU."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from server_rows import plan_with, rows_of, run_with
from synthetic_run import T0_S, S

from analysis.figures import build_figures
from analysis.server_side.saturation import Resource, Saturation, find_saturation
from analysis.server_side.series import build_server_side
from loadtests.plan.model import LoadModel, Plan

Change = Callable[[pd.DataFrame, NDArray[np.bool_]], None]
SECONDS = 20


def found(
    plan: Plan, cpu: Callable[[float], float | None], *changes: tuple[Change, int, int]
) -> Saturation:
    """What saturated first; a change is of the engines in some seconds from T0."""
    run = run_with(plan, rows_of(plan, lambda second, _node: cpu(second)))
    engines = run.engines.copy()
    for change, first, last in changes:
        change(engines, engines["window_s"].between(T0_S + first, T0_S + last).to_numpy())
    run = dataclasses.replace(run, engines=engines)
    return find_saturation(run, plan, build_figures(run), build_server_side(run, plan))


def busy(engines: pd.DataFrame, rows: NDArray[np.bool_]) -> None:
    """Engines without a moment to spare."""
    engines.loc[rows, "cpu_ns"] = S


def full(engines: pd.DataFrame, rows: NDArray[np.bool_]) -> None:
    """Arrivals that wait for taken connections."""
    engines.loc[rows, ["backlog", "in_flight", "connections"]] = (10, 32, 32)


def resources(saturation: Saturation) -> list[tuple[Resource, float]]:
    """Each crossing and its second in the stage."""
    return [(one.resource, round(one.offset_s)) for one in saturation.crossings]


def test_nothing_saturates_a_run_with_room() -> None:
    """All three are known, none was at its limit."""
    saturation = found(plan_with(seconds=SECONDS), lambda _second: 0.5)
    assert (saturation.crossings, saturation.first, saturation.unknown) == ((), (), ())
    assert saturation.sentences == (
        "nothing saturated: neither generator nor connections nor server CPU",
    )


def test_the_generator_was_first() -> None:
    """Its engines were out of CPU before the target was."""
    plan = plan_with("server.cpu < 80 %", seconds=SECONDS)
    cpu = lambda second: 0.95 if second >= 14 else 0.3  # noqa: E731
    saturation = found(plan, cpu, (busy, 6, 12))
    assert resources(saturation) == [(Resource.GENERATOR, 4), (Resource.SERVER_CPU, 12)]
    assert saturation.first == (Resource.GENERATOR,)
    assert saturation.sentences[0] == "generator saturated first"
    assert "an engine at 100 % of its core" in saturation.sentences[1]


def test_the_targets_cpu_was_first() -> None:
    """Connections filled up when it had been at its limit for a while."""
    plan = plan_with("server.cpu < 80 %", seconds=SECONDS)
    cpu = lambda second: 0.85 if second >= 6 else 0.3  # noqa: E731
    saturation = found(plan, cpu, (full, 12, 18))
    assert resources(saturation) == [(Resource.SERVER_CPU, 4), (Resource.CONNECTIONS, 10)]
    assert saturation.first == (Resource.SERVER_CPU,)
    cpu_line = saturation.sentences[1]
    assert "node n0 at 85.0 % (max(cpu)), limit 80.0 %" in cpu_line
    assert "64 in flight of 64 allowed, 20 waiting, 0 dropped" in saturation.sentences[2]


def test_the_connections_were_first() -> None:
    """The target idled behind too few of them."""
    saturation = found(plan_with(seconds=SECONDS), lambda _second: 0.2, (full, 5, SECONDS))
    assert saturation.first == (Resource.CONNECTIONS,)
    assert resources(saturation) == [(Resource.CONNECTIONS, 3)]


def test_what_came_in_one_moment_is_not_told_apart() -> None:
    """A scrape every 5 s cannot say whether CPU was there before the connections were."""
    plan = plan_with(seconds=SECONDS, every_s=5.0)
    cpu = lambda second: 0.95 if second >= 10 else 0.3  # noqa: E731
    saturation = found(plan, cpu, (full, 8, SECONDS))
    assert set(saturation.first) == {Resource.SERVER_CPU, Resource.CONNECTIONS}
    assert "too close in time to be told apart" in saturation.sentences[0]


@pytest.mark.parametrize("length", [1, 2])
def test_a_moment_is_no_saturation(length: int) -> None:
    """Fewer than three seconds on end, of whatever it is."""
    plan = plan_with(seconds=SECONDS)
    high = range(6, 6 + length)
    saturation = found(plan, lambda second: 0.95 if second in high else 0.3, (busy, 9, 8 + length))
    assert saturation.crossings == ()
    assert found(plan, lambda _second: 0.3, (full, 6, 5 + length)).first == ()


def test_the_objective_is_the_limit_else_90_percent() -> None:
    """85 % saturates where 80 % is asked for, and not where nothing is."""
    cpu = lambda second: 0.85 if second >= 6 else 0.3  # noqa: E731
    asked = found(plan_with("server.cpu < 80 %", seconds=SECONDS), cpu)
    assert asked.first == (Resource.SERVER_CPU,)
    assert found(plan_with(seconds=SECONDS), cpu).first == ()


def test_cpu_that_was_not_seen_is_not_called_idle() -> None:
    """Without values nobody knows: it may have been the limit."""
    saturation = found(plan_with(seconds=SECONDS), lambda _second: None)
    assert saturation.first == ()
    assert saturation.unknown == (Resource.SERVER_CPU,)
    assert saturation.sentences == (
        "nothing saturated: neither generator nor connections",
        "server CPU is not known for every node and stage: it may have been the limit",
    )


def test_connections_of_closed_load_are_always_taken() -> None:
    """That is its design, not a limit that was met."""
    plan = plan_with(seconds=SECONDS)
    closed = dataclasses.replace(plan, load_model=LoadModel.CLOSED)
    rows = rows_of(plan, lambda *_: 0.2)
    run = run_with(plan, rows)
    saturation = find_saturation(run, closed, build_figures(run), build_server_side(run, closed))
    assert Resource.CONNECTIONS not in saturation.first


def test_a_busy_host_is_the_targets_only_where_the_generator_is_not() -> None:
    """On loopback the host's CPU is the generator's as well; elsewhere it is the node's."""
    plan = plan_with(seconds=SECONDS)
    rows = rows_of(plan, lambda *_: 0.2) + [
        row
        for row in rows_of(plan, lambda *_: 1.0, measure="host_cpu")
        if row.measure == "host_cpu"
    ]
    run = run_with(plan, rows)
    side = build_server_side(run, plan)
    assert find_saturation(run, plan, build_figures(run), side).first == ()
    nodes = tuple(dataclasses.replace(node, host="api.example.net") for node in plan.nodes)
    far = dataclasses.replace(plan, nodes=nodes)
    assert find_saturation(run, far, build_figures(run), side).first == (Resource.SERVER_CPU,)
