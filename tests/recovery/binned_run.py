"""Archives with bins, made of single requests, and with faults among their events."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from synthetic_run import (
    T0_S,
    S,
    Trace,
    _outcome,
    good_plan,
    good_traces,
    with_objectives,
    write_run,
)

from loadtests.plan.binning import mark_of
from loadtests.plan.model import Binning, Hold, Plan, Slo, Stage
from loadtests.record.archive import Run
from loadtests.record.bins import (
    BIN_NS,
    TICK_NS,
    TICKS_PER_S,
    BinCount,
    Bins,
    keys_of,
    sum_bins,
)
from loadtests.record.fault_events import FaultEvent, FaultStep, step_event
from loadtests.record.window import Count, SlotSpace, Window

STEADY = ("p99 < 500 ms", "error_ratio < 1 %")
FAULT_NS = 7 * S + 30_000_000


def failover_plan(*objectives: str, seconds: int = 42) -> Plan:
    """A judged stage before the fault, and an unjudged one with it: 200 arrivals/s."""
    plan = with_objectives(good_plan(), *STEADY, *objectives)
    marks = dict.fromkeys(mark for mark in map(mark_of, plan.objectives) if mark is not None)
    stages = (
        Stage(name="steady", start_ns=0, end_ns=6 * S, profile=Hold(level=200.0), is_judged=True),
        Stage(
            name="fault", start_ns=6 * S, end_ns=seconds * S, profile=Hold(level=200.0),
            is_judged=False,
        ),
    )  # fmt: skip
    return dataclasses.replace(
        plan, stages=stages, binning=Binning(marks=tuple(marks)),
        slo=Slo(ratio=0.9999, window_days=30), alerts=(),
    )  # fmt: skip


def _count(keys: np.ndarray, column: int) -> Bins:
    rows = np.zeros((keys.size, len(BinCount)), dtype=np.int64)
    rows[:, column] = 1
    return Bins(keys=keys, counters=rows)


def bins_of(trace: Trace, ends: np.ndarray, plan: Plan, second: int) -> Bins:
    """What an engine's bins of a second would be."""
    slots: SlotSpace = plan.slots
    slot = (trace.stage * len(slots.requests) + trace.request) * len(slots.nodes) + trace.node

    def keys(times_ns: np.ndarray, width_ns: int, which: np.ndarray) -> np.ndarray:
        ticks = times_ns[which] // width_ns * (width_ns // TICK_NS) + T0_S * TICKS_PER_S
        return keys_of(ticks, slot[which])

    live = ~trace.is_dropped
    done = (trace.done_ns // S == second) & live
    planned = trace.intended_ns // S == second
    parts = [
        _count(keys(trace.intended_ns, BIN_NS, planned), BinCount.PLANNED),
        _count(keys(trace.intended_ns, BIN_NS, planned & ~live), BinCount.DROPPED),
        _count(keys(trace.sent_ns, BIN_NS, (trace.sent_ns // S == second) & live), BinCount.SENT),
    ]
    for count in (Count.OK, Count.CLIENT_ERROR, Count.FAILED):
        which = done & (ends == count)
        parts.append(_count(keys(trace.done_ns, BIN_NS, which), int(count)))
        if count is not Count.OK:
            due = BinCount.DUE_FAILED if count is Count.FAILED else BinCount.DUE_CLIENT_ERROR
            parts.append(_count(keys(trace.intended_ns, TICK_NS, which), due))
    assert plan.binning is not None
    for number, mark in enumerate(plan.binning.marks):
        late = done & (ends == Count.OK) & (trace.done_ns - trace.intended_ns > mark.limit_ns)
        parts.append(_count(keys(trace.done_ns, BIN_NS, late), BinCount.LATE_0 + number))
    return sum_bins(parts)


def applied(at_ns: int, fault: str = "kill leader", node: str = "n1") -> FaultStep:
    """A fault that was acknowledged."""
    return FaultStep(kind=FaultEvent.APPLIED, fault=fault, action="kill", node=node, zone="",
                     began_ns=at_ns - 1_000_000, at_ns=at_ns)  # fmt: skip


def binned_run(
    folder: Path,
    *objectives: str,
    outage_s: float = 0.0,
    faults: tuple[FaultStep, ...] = (applied(FAULT_NS),),
    seconds: int = 42,
    late_s: float = 0.0,
    plan: Plan | None = None,
) -> Run:
    """A run whose target answers 503 from the fault on for a while."""
    plan = failover_plan(*objectives, seconds=seconds) if plan is None else plan
    traces = good_traces(plan, 1)
    due_ns = traces[0].intended_ns
    traces[0].fail((due_ns >= FAULT_NS) & (due_ns < FAULT_NS + round(outage_s * S)), "status_503")
    is_late = (due_ns >= FAULT_NS) & (due_ns < FAULT_NS + round(late_s * S))
    traces[0].delay(is_late & (np.arange(due_ns.size) % 5 == 0), 600_000_000)
    ends = np.array([int(_outcome(str(error))) for error in traces[0].error])

    def with_bins(window: Window) -> Window:
        return dataclasses.replace(
            window, bins=bins_of(traces[0], ends, plan, window.start_s - T0_S)
        )

    run = write_run(folder, plan, traces, change_window=with_bins)
    events = [step_event(step, t0_unix_ns=T0_S * S, text="") for step in faults]
    return dataclasses.replace(run, events=tuple(events))
