"""What the live page is told: the same percentiles, bounded, and nothing live in a name."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path
from typing import Any

import gevent
import msgspec
import numpy as np
import pytest
from synthetic_run import good_plan, good_traces, manifest_of, windows_of
from test_io_view import T0_S, a_window, some_windows

from loadtests.plan.codec import encode_plan
from loadtests.plan.model import Plan
from loadtests.plan.scenario import load_scenario, resolve
from loadtests.record.event import Event
from loadtests.record.fault_events import FaultEvent, FaultStep, step_event
from loadtests.record.histogram import LENGTH, buckets_of_ns
from loadtests.record.server import ServerRow
from loadtests.record.tally import tally_of
from loadtests.record.window import (
    CONNECTION,
    Count,
    EngineHealth,
    Hiccup,
    Kind,
    Window,
    merge_windows,
)
from loadtests.swarm.feed import Fed, FedReader, encode_fed
from loadtests.swarm.live import SHOWN_ERRORS, SHOWN_EVENTS, Judged, LiveDocument, LiveRun
from loadtests.swarm.live_fleet import SHOWN_AGENTS, LiveFleet
from loadtests.swarm.live_judge import LiveJudge
from loadtests.swarm.live_seconds import SHOWN_S, LiveSeconds
from loadtests.swarm.metrics import RunSums
from loadtests.swarm.run_state import AgentStatus, RunPhase, RunView, Status

SMOKE = Path(__file__).parents[2] / "scenarios" / "smoke.toml"
NOTHING = Judged(verdict=b"null", note="nothing has been judged yet")
MAX_DOCUMENT_BYTES = 200_000


@pytest.fixture(scope="module")
def plan() -> Plan:
    """A plan with several stages, requests and nodes."""
    return resolve(load_scenario(SMOKE))


def slots_of(plan: Plan, request: int | None) -> list[int]:
    """Slots of a request, or of all, whatever stage and node."""
    return [
        slot
        for slot in range(len(plan.slots))
        if plan.slots.requests[plan.slots.indices(slot)[1]] != CONNECTION
        and request in {None, plan.slots.indices(slot)[1]}
    ]


def test_a_seconds_figures_are_those_of_its_histograms(plan: Plan) -> None:
    """Of each request and of all, counts and percentiles equal the tally's, in any order."""
    windows = some_windows(plan)
    random.Random(3).shuffle(windows)
    seconds = LiveSeconds(plan.slots)
    for window in windows:
        seconds.add(window)
    starts = sorted({window.start_s for window in windows})
    for request in (*range(len(plan.requests)), None):
        number = seconds.all_number if request is None else request
        shown: dict[str, list[Any]] = dict(seconds.series(number))
        assert shown["start_s"] == starts
        for at, start_s in enumerate(starts):
            whole = merge_windows(start_s, [w for w in windows if w.start_s == start_s])
            tally = tally_of(whole, slots_of(plan, request))
            assert shown["done"][at] == tally.done
            assert shown["errors"][at] == tally.count(Count.FAILED)
            for name, q in (("p50_us", 0.5), ("p95_us", 0.95), ("p99_us", 0.99)):
                known = tally.response.quantile_us(q) if tally.response.n else None
                assert shown[name][at] == known


def test_what_comes_much_too_late_is_counted_and_its_percentiles_unknown(plan: Plan) -> None:
    """A part alone has no percentiles of its second; a second out of sight changes nothing."""
    slot = plan.slots.slot(0, 0, 0)
    seconds = LiveSeconds(plan.slots)
    for second in range(SHOWN_S + 20):
        seconds.add(a_window(T0_S + second, slot, [5], []))
    late_s = T0_S + SHOWN_S
    seconds.add(a_window(late_s, slot, [900, 900], []))
    seconds.add(a_window(T0_S, slot, [900], []))
    shown: dict[str, list[Any]] = dict(seconds.series(seconds.all_number))
    assert len(shown["start_s"]) == SHOWN_S
    assert shown["start_s"][0] == T0_S + 20
    at = shown["start_s"].index(late_s)
    assert (shown["done"][at], shown["p95_us"][at]) == (3, None)
    assert set(shown["done"][:at] + shown["done"][at + 1 :]) == {1}


def lag_window(start_s: int, lag_us: int, engine: str, cpu: float) -> Window:
    """A second of an agent with one engine whose sends were all so late."""
    keys = Kind.SEND_LAG * LENGTH + buckets_of_ns(np.array([lag_us * 1000], dtype=np.int64))
    return dataclasses.replace(
        Window.empty(start_s),
        slots=np.array([0], dtype=np.uint32),
        counters=np.ones((1, len(Count)), dtype=np.int64),
        keys=keys.astype(np.uint32),
        counts=np.array([100], dtype=np.int64),
        health=(
            EngineHealth(engine=engine, wall_ns=10**9, cpu_ns=round(cpu * 1e9), in_flight=3,
                         in_flight_ns=0, backlog=2, connections=1, stalled_ns=5_000_000),
        ),
        hiccups=(Hiccup(agent=engine, ticks=9, p50_ns=1, p99_ns=2_000_000, max_ns=3_000_000),),
    )  # fmt: skip


def status_of(agent: str, *, is_alive: bool = True) -> AgentStatus:
    """An agent that was heard a second ago."""
    return AgentStatus(agent=agent, is_alive=is_alive, silence_ns=10**9, lease_age_ns=2 * 10**9)


def test_each_agent_has_its_own_send_lag_the_worst_first() -> None:
    """Of its newest second, parts added; lost agents stand before late ones."""
    fleet = LiveFleet()
    fleet.add("good@1", lag_window(T0_S, 40, "good/0", 0.2))
    fleet.add("bad@1", lag_window(T0_S, 9_000, "bad/0", 0.95))
    fleet.add("bad@1", lag_window(T0_S, 9_000, "bad/1", 0.3))
    fleet.add("bad@1", lag_window(T0_S - 1, 10, "bad/0", 0.1))  # repeated by a slow link
    fleet.add("a@b@1", lag_window(T0_S, 50, "a@b/0", 0.1))
    agents = [status_of("a@b"), status_of("bad"), status_of("good"), status_of("new"),
              status_of("gone", is_alive=False)]  # fmt: skip
    rows = fleet.rows(agents)
    assert [row.agent for row in rows] == ["gone", "bad", "a@b", "good", "new"]
    bad = rows[1]
    assert bad.send_lag_p99_us == pytest.approx(9_000, rel=0.001)
    assert (bad.engines, bad.cpu_ratio, bad.in_flight, bad.backlog) == (2, 0.95, 6, 4)
    assert (bad.stalled_ms, bad.hiccup_p99_ms, bad.lease_age_s) == (5.0, 2.0, 2.0)
    assert rows[4].send_lag_p99_us is None
    assert rows[4].window_s is None


def test_an_agents_send_lag_is_that_of_all_its_requests() -> None:
    """The p99 of a real second of many slots equals that of its summed histogram."""
    for window in windows_of(good_plan(), good_traces(good_plan()))[:3]:
        fleet = LiveFleet()
        fleet.add("a1@1", window)
        (row,) = fleet.rows([status_of("a1")])
        lag = tally_of(window, slots_of(good_plan(), None)).send_lag
        assert row.send_lag_p99_us == lag.quantile_us(0.99)


def view_of(agents: list[AgentStatus], events: int = 7) -> RunView:
    """Ten seconds into a run."""
    status = Status(
        phase=RunPhase.RUNNING, agents_joined=len(agents), agents_alive=len(agents), engines=6,
        engines_alive=6, elapsed_ns=10 * 10**9, t0_ns=0, events=events, stop_reason=None,
    )  # fmt: skip
    unix_ns = (T0_S + 10) * 10**9
    return RunView(status=status, unix_ns=unix_ns, stage="x", agents=agents, refused={})


def document_of(
    live: LiveRun, agents: list[AgentStatus], request: int | None = None
) -> LiveDocument:
    """What the page would get."""
    return live.document(view_of(agents), NOTHING, request=request, is_read_only=False)


def test_the_document_is_bounded_for_a_fleet(plan: Plan) -> None:
    """1,000 agents, 20 requests, 300 s, floods of events and error kinds: some 100 kB, all said."""
    base = plan.requests[0]
    requests = tuple(dataclasses.replace(base, name=f"request-{n}-{'x' * 50}") for n in range(20))
    plan = dataclasses.replace(plan, requests=requests)
    sums = RunSums(plan)
    live = LiveRun(plan, "run-1", sums)
    parts = [a_window(T0_S, plan.slots.slot(1, n, 0), [5, 50, 123_456], [7]) for n in range(20)]
    whole = merge_windows(T0_S, parts)
    for second in range(SHOWN_S):
        live.released(dataclasses.replace(whole, start_s=T0_S + second))
    agents = [status_of(f"agent-{n:04d}-{'x' * 300}") for n in range(1000)]
    for n, agent in enumerate(agents):
        live.received(f"{agent.agent}@1", lag_window(T0_S, 1000 + n, f"{agent.agent}/0", 0.5))
    for n in range(1000):
        event = Event(
            at_unix_ns=T0_S * 10**9, kind="noise", who="y" * 999, text="z" * 999, fields={}
        )
        live.told(event)
        sums.errors["request", f"kind-{n}"] = n
    encoded = msgspec.json.encode(document_of(live, agents, request=19))
    assert len(encoded) < MAX_DOCUMENT_BYTES
    shown = json.loads(encoded)
    assert len(shown["series"]["start_s"]) == SHOWN_S
    assert shown["shown_request"] == 19
    assert len(shown["newest"]["done"]) == 21
    assert len(shown["agents"]) == SHOWN_AGENTS
    assert shown["agents"][0]["send_lag_p99_us"] > shown["agents"][-1]["send_lag_p99_us"]
    assert len(shown["events"]) == SHOWN_EVENTS
    assert shown["errors"][0] == {"request": "request", "kind": "kind-999", "count": 999}
    left_out = shown["left_out"]
    assert (left_out["agents"], left_out["errors"]) == (1000 - SHOWN_AGENTS, 1000 - SHOWN_ERRORS)


def test_limits_are_those_of_what_is_shown(plan: Plan) -> None:
    """A limit on one request is drawn with that request, one on all with all; times from T0."""
    plan = good_plan()
    live = LiveRun(plan, "run-1", RunSums(plan))
    assert [one.text for one in document_of(live, []).limits] == [
        "p95 < 200 ms", "p99 < 500 ms", "p99.9 < 1 s",
    ]  # fmt: skip
    submit = [request.name for request in plan.requests].index("submit")
    limits = document_of(live, [], request=submit).limits
    assert [(one.text, one.limit_us) for one in limits] == [("p95 < 200 ms on submit", 200_000.0)]
    for number in (-1, 2, 10**9):
        assert document_of(live, [], request=number).shown_request is None
    assert document_of(live, []).t0_unix_s == T0_S


def test_a_fault_stands_as_its_last_step_says(plan: Plan) -> None:
    """One row for each fault and node; an undo that failed is not to be overlooked."""
    live = LiveRun(plan, "run-1", RunSums(plan))
    for kind, node, at_ns in (
        (FaultEvent.BEGAN, "n1", 1), (FaultEvent.APPLIED, "n1", 2), (FaultEvent.VERIFIED, "n1", 3),
        (FaultEvent.BEGAN, "n2", 1), (FaultEvent.UNDO_FAILED, "n2", 5 * 10**9),
    ):  # fmt: skip
        step = FaultStep(kind=kind, fault="kill", action="process_kill", node=node, zone="",
                         began_ns=at_ns, at_ns=at_ns)  # fmt: skip
        live.told(step_event(step, t0_unix_ns=T0_S * 10**9, text="done"))
    faults = {one.who: one for one in document_of(live, []).faults}
    assert faults["n1"].text == "kill (process_kill): in force"
    assert "UNDO FAILED" in faults["n2"].text
    assert faults["n2"].at_s == 5.0


def test_texts_keep_no_secret_and_no_control_character(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the archive: what the scenario's variables hold is taken out."""
    monkeypatch.setenv("RIG_SECRET", "hunter2-hunter2")
    plan = dataclasses.replace(plan, scenario_text="header = '${env:RIG_SECRET}'")
    live = LiveRun(plan, "run-1", RunSums(plan))
    text = "said hunter2-hunter2, Authorization: Bearer abcdefgh12345678 \x1b[31m\u202e"
    live.told(Event(at_unix_ns=0, kind="noise", who="hunter2-hunter2", text=text, fields={}))
    encoded = msgspec.json.encode(document_of(live, [])).decode()
    for secret in ("hunter2", "abcdefgh12345678", "\\u001b", "\u202e"):
        assert secret not in encoded


def test_a_feed_is_read_back_whatever_its_pieces() -> None:
    """Plan, manifest, windows and scrapes, cut anywhere."""
    plan = good_plan()
    traces = good_traces(plan)
    windows = windows_of(plan, traces)[:3]
    row = ServerRow(at_unix_ns=1, node="n", measure="cpu", series="s", value=0.5, duration_ns=1,
                    failure=None, message=None)  # fmt: skip
    fed: list[Fed] = [encode_plan(plan), manifest_of(plan, traces), *windows, (row,)]
    data = b"".join(encode_fed(one) for one in fed)
    for size in (1, 7, 4096, len(data)):
        reader = FedReader()
        got = [one for at in range(0, len(data), size) for one in reader.take(data[at : at + size])]
        assert got[:2] == fed[:2]
        assert [one.start_s for one in got[2:5] if isinstance(one, Window)] == [
            window.start_s for window in windows
        ]
        assert got[5] == (row,)


@pytest.mark.parametrize(
    ("module", "expected"),
    [("this", "what is no JSON"), ("no.such.module", "exit status 1")],
    ids=["a judge that says something else", "a judge that does not start"],
)
def test_a_judge_that_fails_costs_its_verdict_alone(module: str, expected: str) -> None:
    """The page says why there is none; feeding goes on and does no harm."""
    plan = good_plan()
    traces = good_traces(plan)
    window = windows_of(plan, traces)[0]
    judge = LiveJudge(module, encode_plan(plan), manifest_of(plan, traces))
    try:
        with gevent.Timeout(30):
            while expected not in judge.newest().note:
                judge.see(window)
                gevent.sleep(0.05)
        assert judge.newest().verdict == b"null"
    finally:
        judge.end()
