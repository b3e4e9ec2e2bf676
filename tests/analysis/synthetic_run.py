"""Runs made of single requests, written with the real archive writer and read back.

`good_traces` takes every arrival of the plan's own schedule and gives it a send lag and a
service time; a test changes requests, health, plan or manifest, one thing at a time, and
`write_run` does what engines, agents and master would do with them: windows, sums, files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from loadtests.plan.call import SINGLE, Protocol
from loadtests.plan.codec import encode_plan
from loadtests.plan.model import (
    ArrivalProcess,
    Hold,
    LoadModel,
    LossPolicy,
    Node,
    Plan,
    Request,
    Share,
    Stage,
)
from loadtests.plan.objectives import parse_alert, parse_objective
from loadtests.plan.schedule import Schedule
from loadtests.record.archive import Run, create_archive, load_run
from loadtests.record.histogram import LENGTH, buckets_of_ns
from loadtests.record.manifest import (
    SCHEMA_VERSION,
    AgentFacts,
    EngineSums,
    HostFacts,
    Manifest,
    Outcome,
    StageFacts,
    Sums,
    lost_requests_of,
)
from loadtests.record.window import (
    Count,
    EngineHealth,
    Hiccup,
    Kind,
    SlotSpace,
    Window,
    merge_windows,
)

S = 1_000_000_000
MS = 1_000_000
T0_S = 1_790_000_000
NEVER = 2**62
RUN_ID = "20260921T142640Z_good_0123abcd"
OBJECTIVES = (
    "p95 < 200 ms",
    "p99 < 500 ms",
    "p99.9 < 1 s",
    "error_ratio < 0.1 %",
    "throughput >= 500 rps",
    "p95 < 200 ms on submit",
)
ALERTS = ("p95 > 300 ms", "error_ratio > 0.5 %")
Numbers = NDArray[np.int64]


@dataclasses.dataclass(slots=True, kw_only=True)
class Trace:
    """The requests of one engine, one array entry each; times in ns from T0.

    `error` is "" for ok; `done_ns` NEVER for unanswered; `is_dropped` ones were never sent.
    """

    engine: str
    stage: Numbers
    request: Numbers
    node: Numbers
    intended_ns: Numbers
    sent_ns: Numbers
    done_ns: Numbers
    error: NDArray[np.object_]
    is_dropped: NDArray[np.bool_]

    def delay(self, which: NDArray[np.bool_], by_ns: int) -> None:
        """Answer these requests later."""
        self.done_ns[which] += by_ns

    def fail(self, which: NDArray[np.bool_], error: str) -> None:
        """Answer these requests with an error."""
        self.error[which] = error


def _request(name: str, method: str, weight: float) -> Request:
    return Request(
        name=name,
        method=method,
        path=f"/api/v11/{name}",
        headers=(),
        body=None,
        weight=weight,
        expected_statuses=(),
        checks=(),
        timeout_ns=10 * S,
        protocol=Protocol.HTTP1,
        call=None,
    )


def good_plan(**changes: object) -> Plan:
    """2 s of warm-up, then 10 s of 500 arrivals/s over two requests and two nodes."""
    plan = Plan(
        scenario_name="good",
        scenario_text='version = 1\nname = "good"\n',
        description="",
        scale=1.0,
        seed=7,
        load_model=LoadModel.OPEN,
        arrival_process=ArrivalProcess.CONSTANT,
        nodes=tuple(
            Node(name=f"n{i}", scheme="http", host="127.0.0.1", port=9003 + i, base_path="",
                 weight=1.0, grpc=None)
            for i in range(2)
        ),
        tls=None,
        requests=(_request("read", "GET", 3.0), _request("submit", "POST", 1.0)),
        feeds=(),
        stages=(
            Stage(name="warm-up", start_ns=0, end_ns=2 * S, profile=Hold(level=500.0),
                  is_judged=False),
            Stage(name="steady", start_ns=2 * S, end_ns=12 * S, profile=Hold(level=500.0),
                  is_judged=True),
        ),
        connections=64,
        in_flight_limit=64,
        backlog_limit=1000,
        pipelining=1,
        multiplexing=SINGLE,
        descriptors=b"",
        think_time_ns=0,
        max_rate_per_s=2000.0,
        response_limit_bytes=1 << 20,
        connect_timeout_ns=S,
        connects_per_s=1000.0,
        grace_ns=5 * S,
        loss_policy=LossPolicy.ABORT,
        objectives=tuple(parse_objective(text) for text in OBJECTIVES),
        alerts=tuple(parse_alert(text) for text in ALERTS),
        aborts=(),
        version_path=None,
        baselines=(("rest", 500.0),),
        load_percent=100.0,
    )  # fmt: skip
    return dataclasses.replace(plan, **changes)  # type: ignore[arg-type]  # fields by name


def with_objectives(plan: Plan, *texts: str) -> Plan:
    """The plan with these objectives instead."""
    return dataclasses.replace(plan, objectives=tuple(parse_objective(text) for text in texts))


def good_traces(plan: Plan, engines: int = 2) -> list[Trace]:
    """Every arrival of the plan, sent 40 us late and answered in 10 to 30 ms."""
    traces, schedule = [], Schedule(plan)
    for index in range(engines):
        share = Share(residue=index, modulus=engines, from_ns=0)
        arrivals = schedule.arrivals(share, 0, plan.duration_ns)
        random = np.random.default_rng(index)
        sent_ns = arrivals.offsets_ns.astype(np.int64) + 40_000
        size = len(arrivals)
        traces.append(
            Trace(
                engine=f"a1/{index}",
                stage=arrivals.stages.astype(np.int64),
                request=arrivals.requests.astype(np.int64),
                node=arrivals.nodes.astype(np.int64),
                intended_ns=arrivals.offsets_ns.astype(np.int64),
                sent_ns=sent_ns,
                done_ns=sent_ns + random.integers(10 * MS, 30 * MS, size),
                error=np.full(size, "", dtype=object),
                is_dropped=np.zeros(size, dtype=np.bool_),
            )
        )
    return traces


def _outcome(error: str) -> Count:
    if error == "":
        return Count.OK
    return (
        Count.CLIENT_ERROR
        if error.startswith("status_4") and error != "status_429"
        else (Count.FAILED)
    )


def _kinds(trace: Trace, second: int, done: NDArray[np.bool_]) -> list[tuple[Kind, Numbers]]:
    """Which requests each histogram counts in this second: indices."""
    good = done & (trace.error == "")
    bad = done & (trace.error != "")
    sent = (trace.sent_ns // S == second) & ~trace.is_dropped
    return [
        (Kind.RESPONSE, np.flatnonzero(good)),
        (Kind.SERVICE, np.flatnonzero(good)),
        (Kind.FAILED_RESPONSE, np.flatnonzero(bad)),
        (Kind.FAILED_SERVICE, np.flatnonzero(bad)),
        (Kind.SEND_LAG, np.flatnonzero(sent)),
    ]


def _values(trace: Trace, kind: Kind, at: Numbers) -> Numbers:
    if kind is Kind.SEND_LAG:
        return trace.sent_ns[at] - trace.intended_ns[at]
    start = trace.sent_ns if kind in {Kind.SERVICE, Kind.FAILED_SERVICE} else trace.intended_ns
    return trace.done_ns[at] - start[at]


def _health(trace: Trace, second: int, connections: int) -> EngineHealth:
    start, end = second * S, (second + 1) * S
    live = ~trace.is_dropped
    sent, done = trace.sent_ns[live], trace.done_ns[live]
    inside = np.clip(np.minimum(done, end) - np.maximum(sent, start), 0, None)
    return EngineHealth(
        engine=trace.engine,
        wall_ns=S,
        cpu_ns=S // 4,
        in_flight=int(((sent < end) & (done >= end)).sum()),
        in_flight_ns=int(inside.sum()),
        backlog=int(((trace.intended_ns[live] < end) & (sent >= end)).sum()),
        connections=connections,
        stalled_ns=200_000,
    )


def window_of(trace: Trace, slots: SlotSpace, second: int, connections: int) -> Window:
    """One second of one engine, as its recorder would count it."""
    done = (trace.done_ns // S == second) & ~trace.is_dropped
    slot = (trace.stage * len(slots.requests) + trace.request) * len(slots.nodes) + trace.node
    counters = np.zeros((len(slots), len(Count)), dtype=np.int64)
    planned = trace.intended_ns // S == second
    sent = (trace.sent_ns // S == second) & ~trace.is_dropped
    np.add.at(counters, (slot[planned], int(Count.PLANNED)), 1)
    np.add.at(counters, (slot[planned & trace.is_dropped], int(Count.DROPPED)), 1)
    np.add.at(counters, (slot[sent], int(Count.SENT)), 1)
    errors: dict[tuple[int, str], int] = {}
    for at in np.flatnonzero(done):
        error = str(trace.error[at])
        counters[slot[at], _outcome(error)] += 1
        if error:
            errors[int(slot[at]), error] = errors.get((int(slot[at]), error), 0) + 1
    keys = [
        (slot[at] * len(Kind) + kind) * LENGTH + buckets_of_ns(_values(trace, kind, at))
        for kind, at in _kinds(trace, second, done)
    ]
    labels, counts = np.unique(np.concatenate(keys), return_counts=True)
    hit = np.flatnonzero(counters.any(axis=1))
    return Window(
        start_s=T0_S + second,
        slots=hit.astype(np.uint32),
        counters=counters[hit],
        keys=labels.astype(np.uint32),
        counts=counts.astype(np.int64),
        errors=errors,
        messages={(at, kind): f"sample of {kind}" for at, kind in errors},
        health=(_health(trace, second, connections),),
        hiccups=(),
    )


def sums_of(trace: Trace) -> Sums:
    """What the engine says that it counted over the whole run."""
    live = ~trace.is_dropped
    outcomes = [
        _outcome(str(error))
        for error, done_ns in zip(trace.error[live], trace.done_ns[live], strict=True)
        if done_ns != NEVER
    ]
    return Sums(
        planned=trace.is_dropped.size,
        sent=int(live.sum()),
        dropped=int(trace.is_dropped.sum()),
        ok=outcomes.count(Count.OK),
        client_error=outcomes.count(Count.CLIENT_ERROR),
        failed=outcomes.count(Count.FAILED),
        in_flight_at_stop=int(live.sum()) - len(outcomes),
    )


def _total(parts: list[Sums]) -> Sums:
    names = [field.name for field in msgspec.structs.fields(Sums)]
    return Sums(**{name: sum(getattr(part, name) for part in parts) for name in names})


def host() -> HostFacts:
    """A machine that is the same everywhere."""
    return HostFacts(hostname="host", cores=2, kernel="Linux", cpu_model="cpu",
                     memory_bytes=8 << 30, python="3.11.2")  # fmt: skip


def agent(name: str = "a1", engines: int = 2, **changes: object) -> AgentFacts:
    """One agent whose clock was compared and whose FINAL came."""
    facts = AgentFacts(agent=name, incarnation="i1", host=host(), engines=engines,
                       clock_offset_ns=1000, round_trip_ns=90_000, has_final=True, versions={},
                       warnings=())  # fmt: skip
    return msgspec.structs.replace(facts, **changes)


def manifest_of(plan: Plan, traces: list[Trace]) -> Manifest:
    """A complete run's manifest with true sums."""
    engine_sums = tuple(
        EngineSums(agent="a1", engine=t.engine, has_final=True, sums=sums_of(t)) for t in traces
    )
    return Manifest(
        schema_version=SCHEMA_VERSION,
        run_id=RUN_ID,
        scenario_name=plan.scenario_name,
        scenario_text=plan.scenario_text,
        plan_sha256="",
        seed=plan.seed,
        scale=plan.scale,
        load_model=plan.load_model.value,
        t0_unix_ns=T0_S * S,
        created_unix_ns=(T0_S - 2) * S,
        finished_unix_ns=(T0_S + 20) * S,
        stages=tuple(
            StageFacts(name=s.name, start_ns=s.start_ns, end_ns=s.end_ns, is_judged=s.is_judged)
            for s in plan.stages
        ),
        requests=plan.slots.requests,
        nodes=plan.slots.nodes,
        command=("headroom", "run", "good.toml"),
        host=host(),
        versions={"headroom": "0.1.0"},
        git_commit=None,
        target_version=None,
        agents=(agent(engines=len(traces)),),
        engine_sums=engine_sums,
        total_sums=_total([engine.sums for engine in engine_sums]),
        lost_requests=lost_requests_of(engine_sums),
        lost_windows=(),
        warnings=(),
        outcome=Outcome.COMPLETE,
        outcome_reason="",
        events=0,
        checksums={},
    )


def windows_of(plan: Plan, traces: list[Trace]) -> list[Window]:
    """Every second of the run, merged over engines, with the host's ticker."""
    ends = [t.done_ns[(t.done_ns != NEVER) & ~t.is_dropped].max(initial=0) for t in traces]
    last = int(max([*ends, plan.duration_ns - 1])) // S
    share = plan.connections // len(traces)
    windows = []
    for second in range(last + 1):
        parts = [window_of(trace, plan.slots, second, share) for trace in traces]
        merged = merge_windows(T0_S + second, parts)
        ticker = Hiccup(agent="a1", ticks=1000, p50_ns=50_000, p99_ns=90_000, max_ns=400_000)
        windows.append(dataclasses.replace(merged, hiccups=(ticker,)))
    return windows


def write_run(
    results: Path,
    plan: Plan | None = None,
    traces: list[Trace] | None = None,
    *,
    change: Callable[[Manifest], Manifest] = lambda manifest: manifest,
    change_window: Callable[[Window], Window | None] = lambda window: window,
) -> Run:
    """Archive the run and read it back; the good one where nothing else is given."""
    plan = good_plan() if plan is None else plan
    traces = good_traces(plan) if traces is None else traces
    manifest = change(manifest_of(plan, traces))
    draft = msgspec.structs.replace(manifest, outcome=Outcome.RUNNING)
    writer = create_archive(results, draft, encode_plan(plan))
    for window in windows_of(plan, traces):
        changed = change_window(window)
        if changed is not None:
            writer.append_window(changed)
    return load_run(writer.finish(manifest))
