"""Rollbacks are judged from events and bins, and what did not happen is no PASS."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import pytest
from binned_run import FAULT_NS, STEADY, binned_run, failover_plan
from synthetic_run import T0_S, S, with_objectives

from analysis.figures import build_figures
from analysis.judging import ObjectiveResult, State
from analysis.recovery.measures import Recoveries, measure_recoveries
from analysis.run_tables import build_tables
from analysis.tables import to_rows
from analysis.verdict import judge, plan_of
from loadtests.plan.codec import encode_plan
from loadtests.plan.failover import (
    Failover,
    FaultNode,
    Quorum,
    Rollout,
    RolloutPhase,
    SteadyState,
    System,
)
from loadtests.plan.model import Plan
from loadtests.plan.rollout import parse_trigger
from loadtests.record.archive import Run
from loadtests.record.event import Event, EventValue
from loadtests.record.fault_events import (
    INJECTOR,
    ROLLOUT,
    FaultEvent,
    FaultStep,
    step_event,
)

Rolled = Callable[..., Run]
DECIDED_NS = FAULT_NS + 1 * S
OBJECTIVES = (
    "rollbacks == 1", "traffic_off < 5 min", "all_green < 10 min", "relapses == 0",
    "cascading_failures == 0", "p95_restored <= 150 %",
)  # fmt: skip


def node(name: str, version: str) -> FaultNode:
    """A node of a version."""
    return FaultNode(
        name=name, zone="", url="http://127.0.0.1:1", is_voter=True, pid_file="", start=(),
        servers=(f"back/{name}",), namespace="", interface="", proxy="", owner_pid=0,
        version=version,
    )  # fmt: skip


def plan(*objectives: str, seconds: int = 60) -> Plan:
    """A rollout from n1 to n2, and a judged stage at the end."""
    made = with_objectives(failover_plan(seconds=seconds), *STEADY, *objectives)
    before, during = made.stages
    end_ns = seconds * S
    after = dataclasses.replace(before, name="after", start_ns=end_ns - 8 * S, end_ns=end_ns)
    phase = RolloutPhase(
        traffic_ratio=0.1, hold_ns=10 * S, triggers=(parse_trigger("error_ratio > 1 %"),)
    )
    failover = Failover(
        system=System.OWN, quorum=Quorum.NONE, election_ns=0, health_path="",
        steady=SteadyState(hold_ns=S, within_ns=S), leader=None, haproxy=None,
        nodes=(node("n1", "1"), node("n2", "2")), faults=(),
        rollout=Rollout(
            to="2", phases=(phase,), every_ns=S, window_ns=S, sustain_ns=S, gap_ns=S,
            metrics_path="/q/metrics", timers=(), ignore="", timeout_ns=S,
        ),
    )  # fmt: skip
    return dataclasses.replace(
        made,
        stages=(before, dataclasses.replace(during, end_ns=after.start_ns), after),
        failover=failover,
    )


def step(kind: FaultEvent, name: str, at_ns: int) -> Event:
    """A step of the moved weights."""
    made = FaultStep(kind=kind, fault=ROLLOUT, action="traffic", node=name, zone="",
                     began_ns=at_ns, at_ns=at_ns)  # fmt: skip
    return step_event(made, t0_unix_ns=T0_S * S, text="")


def event(kind: FaultEvent, at_ns: int, text: str = "", **fields: EventValue) -> Event:
    """Another event of a rollout."""
    return Event(at_unix_ns=T0_S * S + at_ns, kind=kind.value, who=INJECTOR, text=text,
                 fields={"at_ns": at_ns, **fields})  # fmt: skip


def look(down: str | None = "") -> Event:
    """A look at the version before."""
    return event(FaultEvent.ROLLOUT_LOOK, DECIDED_NS, is_new=False, down=down)


MOVED = (
    *(step(FaultEvent.APPLIED, name, FAULT_NS) for name in ("n1", "n2")),
    event(FaultEvent.ROLLOUT_PHASE, FAULT_NS, traffic_ratio=0.1),
)
DECIDED = event(FaultEvent.ROLLBACK_DECIDED, DECIDED_NS, "errors", phase=1)
OFF = (
    step(FaultEvent.GONE, "n2", DECIDED_NS + S // 2),
    step(FaultEvent.GONE, "n1", DECIDED_NS + 3 * S),
)
PASSED = event(FaultEvent.ROLLOUT_PASSED, FAULT_NS + 10 * S)


@pytest.fixture(scope="module")
def rolled(tmp_path_factory: pytest.TempPathFactory) -> Rolled:
    """Makes runs of 503 from the first phase on for a while; each archive once."""

    @functools.cache
    def archive(outage_s: float, seconds: int) -> Run:
        folder = tmp_path_factory.mktemp("run")
        return binned_run(
            folder, plan=plan(*OBJECTIVES, seconds=seconds), outage_s=outage_s, faults=()
        )

    def make(*events: Event, outage_s: float = 3.0, seconds: int = 60) -> Run:
        return dataclasses.replace(archive(outage_s, seconds), events=events)

    return make


def results(run: Run) -> dict[str, ObjectiveResult]:
    """Of the whole run, by measure."""
    found = [one for one in judge(run).objectives if one.stage == "(failover)"]
    return {one.objective.split()[0]: one for one in found}


def test_a_rollback_is_measured_from_its_decision(rolled: Rolled) -> None:
    """Off when the new version's nodes are, green when the objectives hold: 2 s after it."""
    run = rolled(*MOVED, DECIDED, look(), *OFF)
    found = results(run)
    assert {one.state for one in found.values()} == {State.PASS}, found
    assert found["traffic_off"].reading.value == S // 2
    assert found["all_green"].reading.value == pytest.approx(2 * S, abs=S // 10)
    assert found["p95_restored"].reading.value == pytest.approx(1, abs=0.1)
    recoveries = measure_recoveries(run, plan_of(run))
    assert isinstance(recoveries, Recoveries)
    assert recoveries.rollback is not None
    assert recoveries.rollback.phases == (0.1,)
    (table,) = [t for t in build_tables(run, judge(run), build_figures(run)) if t.name == "rollout"]
    rows = {str(row["what"]): row["value"] for row in to_rows(table)}
    assert rows["because"] == "errors"
    assert rows["decision to traffic off"] == 500_000


def test_without_a_decision_nothing_passes_but_that_there_was_none(rolled: Rolled) -> None:
    """A version that was held in every phase: `rollbacks == 1` is missed, the rest is unknown."""
    found = results(rolled(*MOVED, look(), PASSED, *OFF, outage_s=0))
    assert found["rollbacks"].state is State.FAIL
    assert found["cascading_failures"].state is State.PASS
    for name in ("traffic_off", "all_green", "relapses", "p95_restored"):
        assert (found[name].state, found[name].reason) == (
            State.INCONCLUSIVE, "no rollback was decided",
        )  # fmt: skip


def test_a_rollout_that_did_not_end_was_not_left_alone(rolled: Rolled) -> None:
    """`rollbacks == 0` of a run that ended in a phase, or knew nothing for a while, is unknown."""
    run = rolled(outage_s=0)
    none = tuple(
        dataclasses.replace(one, text="rollbacks == 0", limit=0.0)
        if one.text == "rollbacks == 1"
        else one
        for one in plan(*OBJECTIVES).objectives
    )
    changed = dataclasses.replace(plan_of(run), objectives=none)
    run = dataclasses.replace(run, plan_bytes=encode_plan(changed))
    cut = dataclasses.replace(run, events=(*MOVED, look()))
    assert results(cut)["rollbacks"].reason == "the rollout did not come to its end"
    gap = event(FaultEvent.ROLLOUT_GAP, FAULT_NS + 5 * S, since_ns=0)
    for hole in (gap, look(None)):
        holed = dataclasses.replace(run, events=(*MOVED, hole, PASSED))
        assert results(holed)["rollbacks"].state is State.INCONCLUSIVE
    whole = dataclasses.replace(run, events=(*MOVED, look(), PASSED))
    assert results(whole)["rollbacks"].state is State.PASS


def test_traffic_that_was_not_seen_to_be_off_is_a_failed_rollback(rolled: Rolled) -> None:
    """Only the node before went back: neither off nor green."""
    found = results(rolled(*MOVED, DECIDED, look(), OFF[1]))
    for name in ("traffic_off", "all_green", "relapses"):
        assert found[name].state is State.FAIL


def test_a_node_of_the_version_before_that_went_down_is_named(rolled: Rolled) -> None:
    """Cascading: by the load balancer's word, in any look."""
    found = results(rolled(*MOVED, DECIDED, look(), look("n1"), look(), *OFF))
    assert found["cascading_failures"].state is State.FAIL
    assert found["cascading_failures"].reason == "went down: n1"


def test_a_run_that_ends_before_thirty_green_seconds_is_unknown(rolled: Rolled) -> None:
    """Green from 2 s after the decision on, but the run is over 20 s later."""
    found = results(rolled(*MOVED, DECIDED, look(), *OFF, seconds=30))
    assert found["traffic_off"].state is State.PASS
    assert found["all_green"].state is State.INCONCLUSIVE
    assert "the run ended before 30 s of it" in found["all_green"].reason
    assert found["p95_restored"].state is State.INCONCLUSIVE


def test_green_is_not_before_the_traffic_is_off(rolled: Rolled) -> None:
    """Where clients felt nothing, the rollback is over when its traffic is off."""
    late = step(FaultEvent.GONE, "n2", DECIDED_NS + 4 * S)
    found = results(rolled(*MOVED, DECIDED, look(), late, OFF[1], outage_s=0))
    assert found["all_green"].reading.value == 4 * S
