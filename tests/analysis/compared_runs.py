"""Runs of two minutes to be compared: each drawn anew, one thing changed at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
from synthetic_run import MS, RUN_ID, S, Trace, good_plan, good_traces, with_objectives, write_run

from loadtests.plan.model import Hold, Plan, Profile
from loadtests.record.archive import Run
from loadtests.record.manifest import Manifest

SECONDS = 120
RATE = 60.0


def run_id(number: int) -> str:
    """Ids of different runs, in the order of their numbers."""
    return f"{RUN_ID[:-8]}{number:08x}"


def compared_plan(profile: Profile | None = None, **changes: object) -> Plan:
    """2 s of warm-up, then two minutes of 60 arrivals a second, or of another profile."""
    plan = with_objectives(good_plan(), "p50 < 1 s")
    warm_up, steady = plan.stages
    long = dataclasses.replace(
        steady, end_ns=steady.start_ns + SECONDS * S, profile=profile or Hold(level=RATE)
    )
    warm_up = dataclasses.replace(warm_up, profile=Hold(level=RATE))
    return dataclasses.replace(plan, stages=(warm_up, long), **changes)  # type: ignore[arg-type]


def drawn_run(
    results: Path,
    number: int,
    *,
    plan: Plan | None = None,
    change: Callable[[Trace], None] = lambda _: None,
    change_manifest: Callable[[Manifest], Manifest] = lambda manifest: manifest,
) -> Run:
    """A run whose service times are drawn by its number, about 20 ms."""
    plan = compared_plan() if plan is None else plan
    traces = good_traces(plan)
    for index, trace in enumerate(traces):
        random = np.random.default_rng((number, index))
        service_ns = 20 * MS * random.lognormal(0, 0.2, trace.sent_ns.size)
        trace.done_ns = trace.sent_ns + service_ns.astype(np.int64)
        change(trace)
    return write_run(
        results,
        plan,
        traces,
        change=lambda manifest: change_manifest(
            msgspec.structs.replace(
                manifest,
                run_id=run_id(number),
                created_unix_ns=manifest.created_unix_ns + number * S,
            )
        ),
    )


def slower(factor: float) -> Callable[[Trace], None]:
    """Every answer takes so many times as long."""

    def change(trace: Trace) -> None:
        trace.done_ns = trace.sent_ns + ((trace.done_ns - trace.sent_ns) * factor).astype(np.int64)

    return change


def failing(one_in: int, error: str = "status_500") -> Callable[[Trace], None]:
    """One answer in so many is an error."""

    def change(trace: Trace) -> None:
        random = np.random.default_rng(one_in)
        trace.fail(random.integers(0, one_in, trace.sent_ns.size) == 0, error)

    return change
