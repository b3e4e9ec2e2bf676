"""Whether the generator was the limit: a slow one must never fail or pass a target.

In a judged stage: achieved sends, send lag, engine CPU, lost windows, ports and
descriptors; over the run: the clocks of the workers.

Sends that are late or missing are charged to the generator only as far as it could have
sent them (`attribution`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

from analysis.attribution import (
    ENGINE_CPU_RATIO,
    OwnParts,
    between,
    hiccup_text,
    own_late,
    own_missing,
    own_parts,
    rows_of,
    send_lag_limit_ns,
)
from analysis.figures import StageFigures
from analysis.findings import Finding, Law, invalid, warning
from loadtests.plan.model import LoadModel, Plan
from loadtests.plan.units import format_duration
from loadtests.record.archive import Run
from loadtests.record.error_kinds import DESCRIPTORS_EXHAUSTED, PORT_EXHAUSTED
from loadtests.record.manifest import LostWindow
from loadtests.record.window import Count

ACHIEVED_SENDS_RATIO: Final = 0.99
ENGINE_CPU_WINDOWS: Final = 3
LOST_RATIO: Final = 0.01
CLOCK_UNCERTAINTY_NS: Final = 50_000_000
LATE_SENDS_RATIO: Final = 0.01
HOST_LIMIT_KINDS: Final = (PORT_EXHAUSTED, DESCRIPTORS_EXHAUSTED)


def send_findings(run: Run, stage: StageFigures, own: OwnParts) -> Iterator[Finding]:
    """Achieved sends: within the judged time, of what was planned in it."""
    rows = between(rows_of(run, stage), stage.span.first_s, stage.span.last_s)
    seconds = rows.groupby("window_s")[["planned", "sent"]].sum()
    planned, sent = int(seconds["planned"].sum()), int(seconds["sent"].sum())
    if planned == 0 or sent >= ACHIEVED_SENDS_RATIO * planned:
        return
    ours = own_missing(seconds, own)
    text = f"{sent} of {planned} planned ({sent / planned:.2%})"
    if ours > (1 - ACHIEVED_SENDS_RATIO) * planned:
        text = (
            f"{text}; {ours:.0f} of the missing ones could have been sent: connections were "
            "free, or the generator was not well"
        )
        yield invalid(Law.SENDS, stage.facts.name, text)
    else:
        yield warning(Law.SENDS, stage.facts.name, f"{text}: the target left no connection free")


def lag_findings(run: Run, plan: Plan, stage: StageFigures, own: OwnParts) -> Iterator[Finding]:
    """Send lag p99 of the stage, and whose doing it was."""
    lag = stage.overall.tally.send_lag
    limit_ns = send_lag_limit_ns(plan, stage.facts.name)
    if lag.n == 0 or (p99_us := lag.quantile_us(0.99)) * 1000 <= limit_ns:
        return
    rows = rows_of(run, stage)
    late = rows[rows["send_lag_p99_us"] * 1000 > limit_ns]
    seen = "over 1 h" if math.isinf(p99_us) else format_duration(p99_us * 1000)
    if own_late(late, own) > LATE_SENDS_RATIO * lag.n:
        text = f"p99 {seen}, at most {format_duration(limit_ns)} of the generator"
        text += hiccup_text(run, late, limit_ns)
        yield invalid(Law.SEND_LAG, stage.facts.name, text)
    else:
        text = f"p99 {seen}: arrivals waited for connections that the target held"
        yield warning(Law.SEND_LAG, stage.facts.name, text)


def longest_streak(seconds: Sequence[int]) -> int:
    """Length of the longest run of consecutive seconds; `seconds` sorted and unique."""
    longest = length = 0
    for position, second in enumerate(seconds):
        follows = position > 0 and second == seconds[position - 1] + 1
        length = length + 1 if follows else 1
        longest = max(longest, length)
    return longest


def cpu_findings(run: Run, stage: StageFigures) -> Iterator[Finding]:
    """No engine may have been short of its core for three windows in a row."""
    rows = between(run.engines, stage.span.first_s, stage.span.last_s)
    busy = rows[rows["cpu_ns"] > ENGINE_CPU_RATIO * rows["wall_ns"]]
    for engine, windows in busy.groupby("engine", observed=True):
        streak = longest_streak(sorted(int(second) for second in windows["window_s"].unique()))
        if streak >= ENGINE_CPU_WINDOWS:
            worst = float((windows["cpu_ns"] / windows["wall_ns"]).max())
            text = f"{engine}: above 90 % for {streak} windows in a row, up to {worst:.0%}"
            yield invalid(Law.ENGINE_CPU, stage.facts.name, text)


def _lost_engine_seconds(run: Run, stage: StageFigures) -> int:
    """Engine-seconds of the judged time that lost windows state."""
    engines = {agent.agent: agent.engines for agent in run.manifest.agents}

    def overlap_s(entry: LostWindow) -> int:
        return max(
            0, min(entry.to_s, stage.span.last_s + 1) - max(entry.from_s, stage.span.first_s)
        )

    return sum(overlap_s(e) * engines.get(e.who, 1) for e in run.manifest.lost_windows)


def lost_findings(run: Run, stage: StageFigures) -> Iterator[Finding]:
    """Lost windows above 1 % of the stage, and holes that nobody stated."""
    name, finals = stage.facts.name, [e.engine for e in run.manifest.engine_sums if e.has_final]
    lost_s = _lost_engine_seconds(run, stage)
    engine_s = stage.span.seconds * max(1, len(run.manifest.engine_sums))
    planned = stage.overall.tally.count(Count.PLANNED) + stage.lost_planned
    ratio = max(lost_s / engine_s if engine_s else 0.0, stage.lost_planned / max(1, planned))
    if ratio > LOST_RATIO:
        text = f"{stage.lost_planned} arrivals, {ratio:.2%} of the stage; at most 1 % may be"
        yield invalid(Law.LOST_WINDOWS, name, text)
    elif ratio > 0:
        text = f"{stage.lost_planned} arrivals, {ratio:.2%} of the stage"
        yield warning(Law.LOST_WINDOWS, name, text)
    if stage.is_cut or not stage.span.seconds:
        return
    rows = between(run.engines, stage.span.first_s, stage.span.last_s)
    seen = rows.groupby("engine", observed=True)["window_s"].nunique()
    missing = sum(stage.span.seconds - int(seen.get(engine, 0)) for engine in finals)
    if missing > lost_s:
        text = f"{missing} engine windows are missing, {lost_s} are stated as lost"
        yield invalid(Law.LOST_WINDOWS, name, text)


def host_findings(run: Run) -> Iterator[Finding]:
    """Ports and descriptors of the generator's own hosts."""
    judged = {stage.name: stage.is_judged for stage in run.manifest.stages}
    frame = run.errors[run.errors["kind"].isin(HOST_LIMIT_KINDS)]
    sums = frame.groupby(["stage", "kind"], observed=True, as_index=False)["count"].sum()
    for row in sums.itertuples(index=False):
        make = invalid if judged[str(row.stage)] else warning
        yield make(Law.HOST_LIMITS, str(row.stage), f"{row.kind}: {int(row.count)} times")


def clock_findings(run: Run) -> Iterator[Finding]:
    """How far the workers' clocks may be apart.

    T0 is sent to each agent in its own clock, corrected by the offset; what is left
    between two agents is the sum of both uncertainties, half a round trip each.
    """
    agents = run.manifest.agents
    if len(agents) <= 1:
        return
    known = [agent.round_trip_ns for agent in agents if agent.round_trip_ns is not None]
    for agent in agents:
        if agent.round_trip_ns is None or agent.clock_offset_ns is None:
            text = f"the clock of {agent.agent} was never compared"
            yield invalid(Law.CLOCKS, None, text)
    apart_ns = sum(sorted(known)[-2:]) / 2
    if apart_ns > CLOCK_UNCERTAINTY_NS:
        text = f"two workers may be {format_duration(apart_ns)} apart, at most 50 ms"
        yield invalid(Law.CLOCKS, None, text)


def generator_findings(run: Run, plan: Plan, stages: Sequence[StageFigures]) -> Iterator[Finding]:
    """All of the above."""
    yield from clock_findings(run)
    yield from host_findings(run)
    for stage in stages:
        if not stage.facts.is_judged:
            continue
        own = own_parts(run, plan, stage)
        if plan.load_model is LoadModel.OPEN:
            yield from send_findings(run, stage, own)
        yield from lag_findings(run, plan, stage, own)
        yield from cpu_findings(run, stage)
        yield from lost_findings(run, stage)
