"""Whether a run is whole and its numbers add up: completeness, conservation, the plan.

1. `planned = sent + dropped` and 2. `sent = ok + client_error + failed + in flight at stop`,
per engine and in total. 3. The sums over engines equal the archive's, counter by counter,
and every histogram holds as many requests as the counters say. 4. What the archive planned
is what the plan's schedule holds, less what lost windows state.

An engine that was lost has no FINAL sums; its last ones may hold arrivals still waiting.
The manifest states how many: law 1 of the total is `planned = sent + dropped + waiting in
lost engines`. Nothing here looks at how fast anything was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import product

from analysis.figures import StageFigures
from analysis.findings import Finding, Law, invalid, warning
from loadtests.plan.model import LoadModel, LossPolicy, Plan
from loadtests.plan.schedule import Schedule
from loadtests.record.archive import Run
from loadtests.record.bin_rows import bin_differences
from loadtests.record.manifest import Outcome, Sums, lost_requests_of
from loadtests.record.tally import tally_of
from loadtests.record.window import CONNECTION, Count

_COUNTERS = ("planned", "sent", "dropped", "ok", "client_error", "failed")


def _balance(who: str, sums: Sums, *, waiting: int) -> Iterator[Finding]:
    """Laws 1 and 2 of one set of sums, of which so many arrivals may be waiting."""
    if sums.waiting != waiting:
        text = f"{who}: {sums.planned} planned, {sums.sent} sent + {sums.dropped} dropped"
        yield invalid(Law.PLANNED, None, f"{text} + {waiting} waiting" if waiting else text)
    if sums.sent != sums.done + sums.in_flight_at_stop:
        text = (
            f"{who}: {sums.sent} sent, {sums.ok} ok + {sums.client_error} client_error + "
            f"{sums.failed} failed + {sums.in_flight_at_stop} in flight at stop"
        )
        yield invalid(Law.SENT, None, text)


def _differences(left: str, a: Sums, right: str, b: Sums, names: Iterable[str]) -> str:
    unequal = [name for name in names if getattr(a, name) != getattr(b, name)]
    return ", ".join(
        f"{name}: {left} {getattr(a, name)}, {right} {getattr(b, name)}" for name in unequal
    )


def _windows_sums(run: Run) -> Sums:
    frame = run.windows
    sums = {name: int(frame[name].sum()) for name in _COUNTERS}
    done = sums["ok"] + sums["client_error"] + sums["failed"]
    return Sums(**sums, in_flight_at_stop=sums["sent"] - done)


def _engines_sums(run: Run) -> Sums:
    names = (*_COUNTERS, "in_flight_at_stop")
    return Sums(**{n: sum(getattr(e.sums, n) for e in run.manifest.engine_sums) for n in names})


def sums_findings(run: Run) -> Iterator[Finding]:
    """Laws 1 to 3."""
    manifest = run.manifest
    for engine in manifest.engine_sums:
        waiting = 0 if engine.has_final else max(0, engine.sums.waiting)
        yield from _balance(engine.engine, engine.sums, waiting=waiting)
    if manifest.total_sums is None:
        yield invalid(Law.SUMS, None, "the archive states no total sums")
        return
    lost = lost_requests_of(manifest.engine_sums)
    stated = manifest.lost_requests or lost
    yield from _balance("total", manifest.total_sums, waiting=stated.in_backlog)
    if stated.in_flight != lost.in_flight:
        text = f"lost in flight: engines {lost.in_flight}, total {stated.in_flight}"
        yield invalid(Law.SUMS, None, text)
    names = (*_COUNTERS, "in_flight_at_stop")
    parts = (("engines", _engines_sums(run)), ("windows", _windows_sums(run)))
    for name, sums in parts:
        if text := _differences(name, sums, "total", manifest.total_sums, names):
            yield invalid(Law.SUMS, None, text)


def bin_findings(run: Run, plan: Plan) -> Iterator[Finding]:
    """Law 3 of bins: they are there where the plan asks for them, and add up to the windows."""
    if plan.binning is None:
        return
    if run.bins.empty and not run.windows.empty:
        yield invalid(Law.SUMS, None, "the plan asks for bins of 100 ms, and there are none")
        return
    for difference in bin_differences(run.windows, run.bins):
        yield invalid(Law.SUMS, None, difference)


def histogram_findings(run: Run) -> Iterator[Finding]:
    """Law 3 for histograms: per stage and request, as many latencies as requests."""
    slots, everything = run.slots, run.merged(judged=False)
    for (stage, name), (index, request) in product(
        enumerate(slots.stages), enumerate(slots.requests)
    ):
        if request == CONNECTION:
            continue
        own = [slots.slot(stage, index, node) for node in range(len(slots.nodes))]
        tally = tally_of(everything, own)
        bad = tally.count(Count.CLIENT_ERROR) + tally.count(Count.FAILED)
        held = (
            ("response", tally.response, tally.count(Count.OK)),
            ("service", tally.service, tally.count(Count.OK)),
            ("failed response", tally.failed_response, bad),
            ("failed service", tally.failed_service, bad),
            ("send lag", tally.send_lag, tally.count(Count.SENT)),
        )
        for kind, histogram, count in held:
            if histogram.n != count:
                text = f"{request}: the {kind} histogram holds {histogram.n} of {count} requests"
                yield invalid(Law.SUMS, name, text)


def schedule_findings(run: Run, plan: Plan, stages: Iterable[StageFigures]) -> Iterator[Finding]:
    """Law 4, for complete runs of open load."""
    if plan.load_model is not LoadModel.OPEN or run.manifest.outcome is not Outcome.COMPLETE:
        return
    planned = run.windows.groupby("stage", observed=True)["planned"].sum()
    for stage, expected in zip(stages, Schedule(plan).totals, strict=True):
        seen = int(planned.get(stage.facts.name, 0))
        if not 0 <= expected - seen <= stage.lost_planned:
            text = (
                f"{seen} arrivals archived, {expected} in the plan, "
                f"{stage.lost_planned} stated as lost"
            )
            yield invalid(Law.SCHEDULE, stage.facts.name, text)


def identity_findings(run: Run, plan: Plan) -> Iterator[Finding]:
    """The plan in the archive is the one that was run."""
    manifest = run.manifest
    if hashlib.sha256(run.plan_bytes).hexdigest() != manifest.plan_sha256:
        yield invalid(Law.SCHEDULE, None, "the plan's checksum differs from the manifest's")
    if plan.slots != manifest.slots:
        yield invalid(Law.SCHEDULE, None, "stages, requests or nodes differ from the manifest's")
    if plan.scale != manifest.scale:
        text = f"the plan's scale is {plan.scale:g}, the manifest's {manifest.scale:g}"
        yield invalid(Law.SCHEDULE, None, text)


def _without_final(run: Run, plan: Plan) -> Iterator[Finding]:
    """A missing FINAL names its worker; only a share that was taken over may go on to count."""
    manifest = run.manifest
    stated = {entry.who for entry in manifest.lost_windows}
    for engine in manifest.engine_sums:
        if engine.has_final:
            continue
        is_known = not stated.isdisjoint({engine.engine, engine.agent})
        text = (
            f"no FINAL from engine {engine.engine}, last seen with "
            f"{engine.sums.in_flight_at_stop} in flight and {engine.sums.waiting} waiting"
        )
        if is_known and plan.loss_policy is LossPolicy.REDISTRIBUTE:
            yield warning(Law.WORKERS, None, f"{text}; its share was taken over")
        else:
            yield invalid(Law.WORKERS, None, text)
    for agent in manifest.agents:
        counted = sum(engine.agent == agent.agent for engine in manifest.engine_sums)
        if counted != agent.engines:
            text = f"{agent.agent}: sums of {counted} engines, {agent.engines} took part"
            yield invalid(Law.WORKERS, None, text)
        if not agent.has_final and not any(
            e.agent == agent.agent and not e.has_final for e in manifest.engine_sums
        ):
            yield invalid(Law.WORKERS, None, f"no FINAL from agent {agent.agent}")


def _given_up(run: Run, plan: Plan) -> Iterator[Finding]:
    """An engine given up under load, though its FINAL came in after all, is a loss as well.

    Only `redistribute` promises a run that goes on to count; the size of the loss is judged
    there by the stage's law of lost windows.
    """
    if plan.loss_policy is LossPolicy.REDISTRIBUTE:
        return
    finals = {engine.engine for engine in run.manifest.engine_sums if engine.has_final}
    for who in sorted({entry.who for entry in run.manifest.lost_windows} & finals):
        yield invalid(Law.WORKERS, None, f"{who} was lost under load, or fell short of its share")


def completeness_findings(run: Run, plan: Plan) -> Iterator[Finding]:
    """The run ended by itself, all workers reported, and the archive is whole."""
    manifest = run.manifest
    if not run.is_complete:
        yield invalid(Law.COMPLETENESS, None, "the archive is partial")
    for text in run.findings:
        yield invalid(Law.COMPLETENESS, None, text)
    if manifest.outcome is not Outcome.COMPLETE:
        reason = manifest.outcome_reason or "no reason stated"
        yield invalid(Law.COMPLETENESS, None, f"the run {manifest.outcome.value}: {reason}")
    if manifest.t0_unix_ns is None:
        yield invalid(Law.COMPLETENESS, None, "the run never started")
    if not manifest.agents:
        yield invalid(Law.WORKERS, None, "no worker took part")
    yield from _without_final(run, plan)
    yield from _given_up(run, plan)
    for text in manifest.warnings:
        yield warning(Law.WORKERS, None, text)
    for agent in manifest.agents:
        for text in agent.warnings:
            yield warning(Law.WORKERS, None, f"{agent.agent}: {text}")


def data_findings(stages: Iterable[StageFigures]) -> Iterator[Finding]:
    """Zero data is never a pass."""
    judged = [stage for stage in stages if stage.facts.is_judged]
    if not judged:
        yield invalid(Law.DATA, None, "no judged stage was run")
    for stage in judged:
        name, tally = stage.facts.name, stage.overall.tally
        if stage.span.seconds == 0:
            yield invalid(Law.DATA, name, "no whole second lies inside the stage")
        elif tally.done == 0:
            text = f"no request ended: {tally.count(Count.PLANNED)} planned"
            yield invalid(Law.DATA, name, text)
