"""Can this plan reach its rate from these hosts? Arithmetic before any request is sent.

    L = lambda * W     Little's law: requests in flight = arrivals/s * seconds each takes
    ceiling = users / (think time + latency)       of closed load, requests/s
    cores = lambda * CPU seconds per request       of the generator

Every result is a finding with its numbers; a REFUSAL means that the plan cannot reach
its rate or that an objective cannot be met whatever the target does, and the run is
refused unless forced. Latency is taken at the limit of the stage's p95 objective: a plan
must be able to offer its load to a target that just meets its objective.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from loadtests.clock import NS_PER_S
from loadtests.plan.model import (
    ArrivalProcess,
    LoadModel,
    MeasureKind,
    Objective,
    Plan,
    Stage,
)
from loadtests.plan.objectives import RATE_KINDS, required_samples
from loadtests.plan.schedule import Schedule
from loadtests.plan.stages import peak_level
from loadtests.plan.units import format_duration

BUSY_RATIO: Final = 0.9  # engine CPU above which a run is generator-limited (measurement.md)
RESERVED_DESCRIPTORS: Final = 64  # of an engine: its socket pair, timer, epoll, files, spare
SHORTEST_JUDGED_NS: Final = 3 * NS_PER_S  # first and last partial windows are not judged
_POISSON_SIGMAS: Final = 3.0  # planned throughput this far above the limit: short of it 1 in 700
_P95: Final = 0.95


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
class HostLimits:
    """What one host of the generator offers; the smallest where hosts differ."""

    cores: int
    descriptors: int  # hard limit of one process
    ephemeral_ports: int  # for each (address, destination) pair


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorCost:
    """CPU time of the generator per request, as calibrated on a host like these."""

    request_ns: float


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Feasibility:
    """The assessment. Totals are over the run unless named per engine or host."""

    stages: tuple[StageNeed, ...]
    peak_per_s: float
    in_flight_needed: float | None
    in_flight_available: int
    connections_per_engine: int
    descriptors_per_engine: int
    ports_per_host_and_node: int
    engines_needed: int | None
    findings: tuple[Finding, ...]

    @property
    def can_reach(self) -> bool:
        """False when any finding is a refusal."""
        return all(finding.severity is not Severity.REFUSAL for finding in self.findings)


def _finding(severity: Severity, text: str, **numbers: float) -> Finding:
    return Finding(severity=severity, text=text, numbers=tuple(numbers.items()))


def _applies(objective: Objective, stage: Stage) -> bool:
    return stage.is_judged and objective.stage in {None, stage.name}


def latency_limit_ns(plan: Plan, stage: Stage) -> float | None:
    """Limit of the stage's response p95, else of its lowest percentile from p50 on; or None.

    An objective over all requests counts before those of single requests.
    """
    limits = [
        (
            objective.request is not None,
            objective.measure.quantile != _P95,
            objective.measure.quantile or 1.0,
            -objective.limit,
        )
        for objective in plan.objectives
        if objective.measure.kind is MeasureKind.RESPONSE_QUANTILE
        and (objective.measure.quantile or 0.0) >= 0.5  # noqa: PLR2004 - the median
        and _applies(objective, stage)
    ]
    return -min(limits)[3] if limits else None


def _need(plan: Plan, stage: Stage, planned: int) -> StageNeed:
    limit_ns = latency_limit_ns(plan, stage)
    peak = peak_level(stage.profile)
    is_open = plan.load_model is LoadModel.OPEN
    cycle_ns = plan.think_time_ns + (limit_ns or 0.0)
    return StageNeed(
        stage=stage.name,
        length_ns=stage.end_ns - stage.start_ns,
        planned=planned,
        peak_per_s=peak if is_open else None,
        latency_limit_ns=limit_ns,
        in_flight=peak * limit_ns / NS_PER_S if is_open and limit_ns is not None else None,
        ceiling_per_s=None if is_open or not cycle_ns else peak / cycle_ns * NS_PER_S,
    )


def _concurrency(plan: Plan, needs: tuple[StageNeed, ...], available: int) -> Iterator[Finding]:
    for need in needs:
        if need.in_flight is None or need.latency_limit_ns is None:
            continue
        is_short = need.in_flight > available
        yield _finding(
            Severity.REFUSAL if is_short else Severity.INFO,
            f"stage {need.stage}: {need.peak_per_s:g} requests/s at "
            f"{format_duration(need.latency_limit_ns)} are {need.in_flight:,.0f} in flight "
            f"(Little's law); {plan.connections:,} connections with pipelining "
            f"{plan.pipelining} and the in-flight cap allow {available:,}",
            in_flight_needed=need.in_flight,
            in_flight_available=available,
        )


def _closed_ceilings(plan: Plan, needs: tuple[StageNeed, ...]) -> Iterator[Finding]:
    if plan.load_model is LoadModel.OPEN:
        return
    for need, stage in zip(needs, plan.stages, strict=True):
        users = peak_level(stage.profile)
        # Nothing answers faster than at once: think time alone bounds the rate.
        highest = users / plan.think_time_ns * NS_PER_S if plan.think_time_ns else math.inf
        at_limit = math.inf if need.ceiling_per_s is None else need.ceiling_per_s
        yield _finding(
            Severity.INFO,
            f"stage {need.stage}: {users:g} users make at most {at_limit:,.0f} requests/s when "
            f"answers take {format_duration(need.latency_limit_ns or 0)}, and {highest:,.0f} "
            "when they take no time",
            ceiling_per_s=at_limit,
            highest_per_s=highest,
        )
        for objective in plan.objectives:
            if objective.measure.kind not in RATE_KINDS or not _applies(objective, stage):
                continue
            if objective.limit > highest:
                yield _finding(
                    Severity.REFUSAL,
                    f"{objective.text}: {users:g} users with think time "
                    f"{format_duration(plan.think_time_ns)} make at most {highest:,.0f} "
                    "requests/s even when answers take no time",
                    limit_per_s=objective.limit,
                    highest_per_s=highest,
                )


def _throughput(plan: Plan, needs: tuple[StageNeed, ...]) -> Iterator[Finding]:
    if plan.load_model is LoadModel.CLOSED:
        return
    weights = sum(request.weight for request in plan.requests)
    for need, stage in zip(needs, plan.stages, strict=True):
        length_s = need.length_ns / NS_PER_S
        for objective in plan.objectives:
            if objective.measure.kind not in RATE_KINDS or not _applies(objective, stage):
                continue
            part = next(
                (r.weight / weights for r in plan.requests if r.name == objective.request), 1.0
            )
            planned_per_s = need.planned * part / length_s
            sigma = math.sqrt(need.planned * part) / length_s
            # One arrival is the resolution of a planned rate.
            if objective.limit > planned_per_s + 1 / length_s:
                severity, reason = Severity.REFUSAL, "no target can answer more than it is sent"
            elif (
                plan.arrival_process is ArrivalProcess.POISSON
                and objective.limit > planned_per_s - _POISSON_SIGMAS * sigma
            ):
                severity = Severity.WARNING
                reason = f"Poisson arrivals scatter by {sigma:,.1f}/s, so chance can decide"
            else:
                continue
            yield _finding(
                severity,
                f"stage {stage.name}: {objective.text} needs {objective.limit:g}/s and the plan "
                f"sends {planned_per_s:g}/s; {reason}",
                limit_per_s=objective.limit,
                planned_per_s=planned_per_s,
            )


def _samples(plan: Plan, needs: tuple[StageNeed, ...]) -> Iterator[Finding]:
    weights = sum(request.weight for request in plan.requests)
    for need, stage in zip(needs, plan.stages, strict=True):
        if stage.is_judged and need.length_ns < SHORTEST_JUDGED_NS:
            yield _finding(
                Severity.WARNING,
                f"stage {stage.name} lasts {format_duration(need.length_ns)}: first and last "
                "partial windows are not judged, which leaves next to nothing",
                length_ns=need.length_ns,
            )
        for objective in plan.objectives:
            quantile = objective.measure.quantile
            if (
                quantile is None
                or plan.load_model is LoadModel.CLOSED
                or objective.measure.kind is MeasureKind.FAILED_RESPONSE_QUANTILE
                or not _applies(objective, stage)
            ):
                continue
            part = next(
                (r.weight / weights for r in plan.requests if r.name == objective.request), 1.0
            )
            samples, required = need.planned * part, required_samples(quantile)
            if samples < required:
                yield _finding(
                    Severity.WARNING,
                    f"stage {stage.name}: {objective.text} needs {required:,} samples and the "
                    f"plan sends {samples:,.0f}: the verdict can only be INCONCLUSIVE",
                    required_samples=required,
                    planned_samples=samples,
                )


def _timeouts(plan: Plan) -> Iterator[Finding]:
    for objective in plan.objectives:
        if objective.measure.kind is not MeasureKind.RESPONSE_QUANTILE:
            continue
        for request in plan.requests:
            if objective.request in {None, request.name} and request.timeout_ns <= objective.limit:
                yield _finding(
                    Severity.WARNING,
                    f"request {request.name} times out after {format_duration(request.timeout_ns)}"
                    f", before the limit of {objective.text}: it can never be seen to miss it",
                    timeout_ns=request.timeout_ns,
                    limit_ns=objective.limit,
                )


def _resources(
    plan: Plan, limits: HostLimits, hosts: int, engines: int
) -> tuple[int, int, int, list[Finding]]:
    """Connections and descriptors per engine, ports per host and node, and what is short."""
    per_engine = -(-plan.connections // engines)
    descriptors = per_engine + RESERVED_DESCRIPTORS
    weights = sum(node.weight for node in plan.nodes)
    heaviest = max(node.weight for node in plan.nodes) / weights
    ports = math.ceil(plan.connections * heaviest / hosts)
    findings = []
    if descriptors > limits.descriptors:
        findings.append(
            _finding(
                Severity.REFUSAL,
                f"{descriptors:,} descriptors per engine, {limits.descriptors:,} allowed: "
                "raise the limit or use more engines",
                descriptors_needed=descriptors,
                descriptors_available=limits.descriptors,
            )
        )
    if ports > limits.ephemeral_ports:
        findings.append(
            _finding(
                Severity.REFUSAL,
                f"{ports:,} connections from one host to one node, {limits.ephemeral_ports:,} "
                "ephemeral ports: use more hosts or widen ip_local_port_range",
                ports_needed=ports,
                ports_available=limits.ephemeral_ports,
            )
        )
    if plan.connections < engines:
        findings.append(
            _finding(
                Severity.REFUSAL,
                f"{plan.connections} connections for {engines} engines: some would have none",
                connections=plan.connections,
                engines=engines,
            )
        )
    elif plan.connections < engines * len(plan.nodes):
        findings.append(
            _finding(
                Severity.WARNING,
                f"{plan.connections} connections for {engines} engines x {len(plan.nodes)} "
                "nodes: not every engine can hold one to every node",
                connections=plan.connections,
                engines=engines,
                nodes=len(plan.nodes),
            )
        )
    return per_engine, descriptors, ports, findings


def _cpu(
    peak_per_s: float, limits: HostLimits, cost: GeneratorCost | None, hosts: int, engines: int
) -> tuple[int | None, list[Finding]]:
    """Engines needed at the measured cost, and whether they are at hand."""
    if cost is None:
        text = (
            "the cost of a request is not known here: calibrate to know how many engines it takes"
        )
        return None, [_finding(Severity.WARNING, text)]
    needed = max(1, math.ceil(peak_per_s * cost.request_ns / NS_PER_S / BUSY_RATIO))
    at_hand = min(engines, limits.cores * hosts)
    text = (
        f"{peak_per_s:,.0f} requests/s at {cost.request_ns / 1000:.1f} us each take {needed} "
        f"engines below {BUSY_RATIO:.0%} of a core; {at_hand} are at hand "
        f"({engines} engines, {limits.cores * hosts} cores)"
    )
    severity = Severity.REFUSAL if needed > at_hand else Severity.INFO
    return needed, [_finding(severity, text, engines_needed=needed, engines_available=at_hand)]


def assess(
    plan: Plan,
    limits: HostLimits,
    cost: GeneratorCost | None,
    *,
    hosts: int,
    engines: int,
) -> Feasibility:
    """Assess a plan on `hosts` hosts with `engines` engines in all (both 1 or more).

    `cost` is None where nobody has calibrated: a warning, since a guess would be a number.
    """
    if hosts < 1 or engines < 1:
        raise ValueError(f"{hosts} hosts and {engines} engines, expected 1 or more of each")
    totals = Schedule(plan).totals
    needs = tuple(
        _need(plan, stage, planned) for stage, planned in zip(plan.stages, totals, strict=True)
    )
    available = min(plan.in_flight_limit, plan.connections * plan.pipelining)
    peaks = [need.peak_per_s for need in needs if need.peak_per_s is not None]
    peak = max(peaks, default=0.0)
    if plan.load_model is LoadModel.CLOSED:
        peak = max((need.ceiling_per_s or 0.0 for need in needs), default=0.0)
    per_engine, descriptors, ports, resource_findings = _resources(plan, limits, hosts, engines)
    engines_needed, cpu_findings = _cpu(peak, limits, cost, hosts, engines)
    in_flights = [need.in_flight for need in needs if need.in_flight is not None]
    return Feasibility(
        stages=needs,
        peak_per_s=peak,
        in_flight_needed=max(in_flights, default=None),
        in_flight_available=available,
        connections_per_engine=per_engine,
        descriptors_per_engine=descriptors,
        ports_per_host_and_node=ports,
        engines_needed=engines_needed,
        findings=(
            *_concurrency(plan, needs, available),
            *_closed_ceilings(plan, needs),
            *_throughput(plan, needs),
            *_samples(plan, needs),
            *_timeouts(plan),
            *resource_findings,
            *cpu_findings,
        ),
    )
