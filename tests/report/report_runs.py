"""Runs to report on: a plain one, one in which much happened, and those that have little to say."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
from synthetic_run import (
    MS,
    T0_S,
    S,
    Trace,
    good_plan,
    good_traces,
    manifest_of,
    windows_of,
    with_objectives,
)

from analysis.report.facts import ReportFacts, build_facts
from analysis.report.layout import build_report
from analysis.report.markdown import to_markdown_page
from analysis.report.page import to_html
from analysis.report.pictures import draw_pictures
from loadtests.plan.codec import encode_plan
from loadtests.plan.model import Hold, Plan, Stage
from loadtests.record.archive import Event, Manifest, Run, create_archive, load_run
from loadtests.record.manifest import LostWindow, Outcome

STAGES = (("warm-up", 0, 4, 30.0), ("low", 4, 54, 60.0), ("high", 54, 114, 120.0))
FAULT_S = 70
EVENTS = (
    (-1, "agent_joined", "a1", "2 engines"),
    (FAULT_S, "agent_lost", "a2", "no word for 2 s"),
    (FAULT_S + 2, "agent_back", "a2", "it is here again"),
    (114, "stopping", "master", "plan: the last stage is over"),
    (114, "finished", "master", "complete: the plan ended"),
)


def eventful_plan(**changes: object) -> Plan:
    """A warm-up and two judged stages."""
    stages = tuple(
        Stage(name=name, start_ns=a * S, end_ns=b * S, profile=Hold(level=level),
              is_judged=name != "warm-up")
        for name, a, b, level in STAGES
    )  # fmt: skip
    plan = with_objectives(
        good_plan(stages=stages), "p95 < 200 ms", "p99 < 500 ms", "error_ratio < 0.1 %",
        "throughput >= 55 rps", "p95 < 200 ms on submit",
    )  # fmt: skip
    return dataclasses.replace(plan, **changes)  # type: ignore[arg-type]  # fields by name


def short_plan() -> Plan:
    """The good plan with errors allowed to happen in its 10 judged seconds."""
    return with_objectives(good_plan(), "p95 < 200 ms", "error_ratio < 0.1 %")


def eventful_traces(plan: Plan) -> list[Trace]:
    """Log-normal answers, a stall of 2 s, some seconds of 503, single timeouts."""
    traces = good_traces(plan)
    for number, trace in enumerate(traces):
        random = np.random.default_rng(number)
        size = trace.intended_ns.size
        service = random.lognormal(np.log(12 * MS), 0.5, size).astype(np.int64)
        trace.sent_ns = trace.intended_ns + random.lognormal(np.log(6e4), 0.6, size).astype(int)
        trace.done_ns = trace.sent_ns + service
        is_stalled = trace.intended_ns // S // 2 == FAULT_S // 2
        trace.done_ns[is_stalled] = (FAULT_S + 2) * S + service[is_stalled]
        late = (trace.intended_ns // S >= 90) & (trace.intended_ns // S < 100)
        trace.fail(late & (random.random(size) < 0.1), "status_503")
        trace.fail((trace.stage > 0) & (random.random(size) < 0.002), "status_404")
    return traces


def write_events(
    results: Path,
    plan: Plan,
    traces: list[Trace],
    *,
    events: Sequence[tuple[int, str, str, str]] = EVENTS,
    change: Callable[[Manifest], Manifest] = lambda manifest: manifest,
    is_finished: bool = True,
) -> Path:
    """Archive a run with its events; unfinished, it stays a partial one with its journal."""
    manifest = change(
        msgspec.structs.replace(
            manifest_of(plan, traces), events=len(events), target_version="V11.3.0"
        )
    )
    draft = msgspec.structs.replace(manifest, outcome=Outcome.RUNNING)
    writer = create_archive(results, draft, encode_plan(plan))
    for at_s, kind, who, text in events:
        at_ns = (T0_S + at_s) * S
        writer.append_event(Event(at_unix_ns=at_ns, kind=kind, who=who, text=text, fields={}))
    for window in windows_of(plan, traces):
        if is_finished:
            writer.append_window(window)
        else:
            writer.journal_windows("a1", [window])
    return writer.finish(manifest) if is_finished else writer.abandon("the test says so")


def eventful_run(results: Path, **changes: object) -> Run:
    """Two stages, a fault, errors."""
    plan = eventful_plan(**changes)
    return load_run(write_events(results, plan, eventful_traces(plan)))


def lossy(manifest: Manifest) -> Manifest:
    """A manifest that states a lost window."""
    lost = LostWindow(who="a1/1", from_s=T0_S + 20, to_s=T0_S + 21, planned=50)
    return msgspec.structs.replace(manifest, lost_windows=(lost,))


def facts_of(run: Run) -> ReportFacts:
    """The facts, without a baseline."""
    return build_facts(run, ())


def texts_of(run: Run) -> tuple[str, str]:
    """The page and the Markdown."""
    return laid_out(facts_of(run))


def laid_out(facts: ReportFacts) -> tuple[str, str]:
    """The page and the Markdown of facts."""
    report = build_report(facts, tuple(draw_pictures(facts)))
    return to_html(report), to_markdown_page(report)
