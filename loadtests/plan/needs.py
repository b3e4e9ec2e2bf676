"""What each stage of a plan asks for, and whether its objectives can be met at all.

    ceiling = users / (think time + latency)       of closed load, requests/s

Pure arithmetic on the plan alone; `concurrency.py` has Little's law, `feasibility.py` adds
hosts and the generator's cost. Latency is taken at the limit of the stage's p95 objective:
a plan must be able to offer its load to a target that just meets its objective.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from loadtests.clock import NS_PER_S
from loadtests.plan.concurrency import applies, carriers, concurrencies, latency_limit_ns
from loadtests.plan.model import (
    ArrivalProcess,
    LoadModel,
    MeasureKind,
    Objective,
    Plan,
    Stage,
)
from loadtests.plan.objectives import RATE_KINDS, required_for
from loadtests.plan.stages import peak_level
from loadtests.plan.units import format_duration

FEWEST_JUDGED_S: Final = 3  # windows: with fewer, one bad second decides
_POISSON_SIGMAS: Final = 3.0  # planned throughput this far above the limit: short of it 1 in 700


class Severity(Enum):
    """What a finding means for the run."""

    INFO = "info"
    WARNING = "warning"
    REFUSAL = "refusal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One result; `numbers` are (name with unit, value) pairs for tables and JSON."""

    severity: Severity
    text: str
    numbers: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageNeed:
    """What one stage asks for. None: open load has no ceiling, closed load plans no rate.

    `in_flight` is lambda * W at the stage's peak and its latency limit.
    """

    stage: str
    length_ns: int
    planned: int
    peak_per_s: float | None
    latency_limit_ns: float | None
    in_flight: float | None
    ceiling_per_s: float | None


def finding(severity: Severity, text: str, **numbers: float) -> Finding:
    """One finding with its numbers by name."""
    return Finding(severity=severity, text=text, numbers=tuple(numbers.items()))


def need_of(plan: Plan, stage: Stage, planned: int) -> StageNeed:
    """What one stage asks for; `planned` is its number of arrivals."""
    limit_ns = latency_limit_ns(plan, stage, frozenset(r.name for r in plan.requests))
    peak = peak_level(stage.profile)
    is_open = plan.load_model is LoadModel.OPEN
    cycle_ns = plan.think_time_ns + (limit_ns or 0.0)
    found = list(concurrencies(plan, stage)) if is_open else []
    return StageNeed(
        stage=stage.name,
        length_ns=stage.end_ns - stage.start_ns,
        planned=planned,
        peak_per_s=peak if is_open else None,
        latency_limit_ns=limit_ns,
        in_flight=sum(one.in_flight for one in found) if found else None,
        ceiling_per_s=None if is_open or not cycle_ns else peak / cycle_ns * NS_PER_S,
    )


def _part_ratio(plan: Plan, objective: Objective) -> float:
    """Part of the arrivals that an objective is about, by the requests' weights."""
    if objective.request is None:
        return 1.0
    own = sum(r.weight for r in plan.requests if r.name == objective.request)
    return own / sum(r.weight for r in plan.requests)


def _pairs(plan: Plan, needs: tuple[StageNeed, ...]) -> Iterator[tuple[StageNeed, Objective]]:
    """Each judged stage with each objective that applies to it."""
    for need, stage in zip(needs, plan.stages, strict=True):
        for objective in plan.objectives:
            if applies(objective, stage):
                yield need, objective


def judge_concurrency(
    plan: Plan, needs: tuple[StageNeed, ...], available: int
) -> Iterator[Finding]:
    """Requests in flight that each stage needs, against what its carriers and the cap allow."""
    if plan.load_model is LoadModel.CLOSED:
        return
    for need, stage in zip(needs, plan.stages, strict=True):
        for one in concurrencies(plan, stage):
            room = min(one.carrier.available, available)
            yield finding(
                Severity.REFUSAL if one.in_flight > room else Severity.INFO,
                f"stage {need.stage}: {one.per_s:,.9g} requests/s at "
                f"{format_duration(one.limit_ns)} are {one.in_flight:,.0f} in flight "
                f"(Little's law); {one.carrier.text} and the in-flight cap allow {room:,}",
                in_flight_needed=one.in_flight,
                in_flight_available=room,
            )
        if len(carriers(plan)) > 1 and (need.in_flight or 0.0) > available:
            yield finding(
                Severity.REFUSAL,
                f"stage {need.stage}: {need.in_flight:,.0f} in flight over both kinds; the "
                f"in-flight cap allows {available:,}",
                in_flight_needed=need.in_flight or 0.0,
                in_flight_available=available,
            )


def judge_closed_ceilings(plan: Plan, needs: tuple[StageNeed, ...]) -> Iterator[Finding]:
    """What users with think time can make at most, against throughput objectives."""
    if plan.load_model is LoadModel.OPEN:
        return
    for need, stage in zip(needs, plan.stages, strict=True):
        users = peak_level(stage.profile)
        # Nothing answers faster than at once: think time alone bounds the rate.
        highest = users / plan.think_time_ns * NS_PER_S if plan.think_time_ns else math.inf
        at_limit = math.inf if need.ceiling_per_s is None else need.ceiling_per_s
        yield finding(
            Severity.INFO,
            f"stage {need.stage}: {users:g} users {_ceilings_text(need, highest)}",
            ceiling_per_s=at_limit,
            highest_per_s=highest,
        )
        for objective in plan.objectives:
            if objective.measure.kind not in RATE_KINDS or not applies(objective, stage):
                continue
            if objective.limit > highest:
                yield finding(
                    Severity.REFUSAL,
                    f"{objective.text}: {users:g} users with think time "
                    f"{format_duration(plan.think_time_ns)} make at most {highest:,.0f} "
                    "requests/s even when answers take no time",
                    limit_per_s=objective.limit,
                    highest_per_s=highest,
                )


def _ceilings_text(need: StageNeed, highest_per_s: float) -> str:
    """Say which of the two ceilings there are."""
    ceilings = []
    if need.ceiling_per_s is not None and need.latency_limit_ns is not None:
        limit = format_duration(need.latency_limit_ns)
        ceilings.append(f"{need.ceiling_per_s:,.0f} requests/s when answers take {limit}")
    if math.isfinite(highest_per_s):
        ceilings.append(f"{highest_per_s:,.0f} requests/s when they take no time")
    if not ceilings:
        return "send again as soon as they are answered: the target alone limits the rate"
    return "make at most " + ", and ".join(ceilings)


def judge_throughput(plan: Plan, needs: tuple[StageNeed, ...]) -> Iterator[Finding]:
    """Throughput objectives against what the plan sends; Poisson ones against chance."""
    for need, objective in _pairs(plan, needs):
        if need.peak_per_s is None or objective.measure.kind not in RATE_KINDS:
            continue
        length_s = need.length_ns / NS_PER_S
        planned_per_s = need.planned * _part_ratio(plan, objective) / length_s
        sigma_per_s = math.sqrt(planned_per_s / length_s)
        is_poisson = plan.arrival_process is ArrivalProcess.POISSON
        # One arrival is the resolution of a planned rate.
        if objective.limit > planned_per_s + 1 / length_s:
            severity, reason = Severity.REFUSAL, "no target can answer more than it is sent"
        elif is_poisson and objective.limit > planned_per_s - _POISSON_SIGMAS * sigma_per_s:
            severity = Severity.WARNING
            reason = f"Poisson arrivals scatter by {sigma_per_s:,.1f}/s, so chance can decide"
        else:
            continue
        yield finding(
            severity,
            f"stage {need.stage}: {objective.text} needs {objective.limit:g}/s and the plan "
            f"sends {planned_per_s:g}/s; {reason}",
            limit_per_s=objective.limit,
            planned_per_s=planned_per_s,
        )


def judge_samples(plan: Plan, needs: tuple[StageNeed, ...]) -> Iterator[Finding]:
    """Stages too short to judge, or for the percentiles asked of them."""
    for need, stage in zip(needs, plan.stages, strict=True):
        whole_s = max(0, stage.end_ns // NS_PER_S - -(-stage.start_ns // NS_PER_S))
        if stage.is_judged and whole_s < FEWEST_JUDGED_S:
            yield finding(
                Severity.WARNING,
                f"stage {stage.name} lasts {format_duration(need.length_ns)}: windows are whole "
                f"seconds and those only partly in a stage are not judged, so {whole_s} "
                f"{'is' if whole_s == 1 else 'are'} judged",
                length_ns=need.length_ns,
            )
    for need, objective in _pairs(plan, needs):
        is_countable = objective.measure.kind is not MeasureKind.FAILED_RESPONSE_QUANTILE
        if need.peak_per_s is None or not is_countable:
            continue
        samples = need.planned * _part_ratio(plan, objective)
        required = required_for(objective)
        if samples < required:
            yield finding(
                Severity.WARNING,
                f"stage {need.stage}: {objective.text} needs {required:,} samples and the "
                f"plan sends {samples:,.0f}: it cannot PASS",
                required_samples=required,
                planned_samples=samples,
            )


def judge_timeouts(plan: Plan) -> Iterator[Finding]:
    """Timeouts that end a request before it could miss its objective."""
    for objective in plan.objectives:
        if objective.measure.kind is not MeasureKind.RESPONSE_QUANTILE:
            continue
        for request in plan.requests:
            if objective.request in {None, request.name} and request.timeout_ns <= objective.limit:
                yield finding(
                    Severity.WARNING,
                    f"request {request.name} times out after {format_duration(request.timeout_ns)}"
                    f", before the limit of {objective.text}: it can never be seen to miss it",
                    timeout_ns=request.timeout_ns,
                    limit_ns=objective.limit,
                )
