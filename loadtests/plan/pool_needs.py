"""What objectives and alerts on the stream pool's use ask of a plan, before it runs.

By Little's law a pool's use is lambda * W / (channels * streams), with W at the limit of the
stage's p95.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from loadtests.plan.call import Protocol
from loadtests.plan.concurrency import Concurrency, applies, concurrencies
from loadtests.plan.model import LoadModel, MeasureKind, Plan
from loadtests.plan.needs import Finding, Severity, finding
from loadtests.plan.units import format_duration

_ROUNDING: Final = 1e-9  # of rates and weights


def judge_pool(plan: Plan) -> Iterator[Finding]:
    """Limits that a target which just meets its p95 would miss, alerts longer than a stage."""
    yield from _fullness(plan)
    for stage in plan.stages:
        for alert in plan.alerts:
            length_ns = stage.end_ns - stage.start_ns
            if applies(alert, stage) and alert.sustain_ns > length_ns:
                yield finding(
                    Severity.WARNING,
                    f"stage {stage.name} lasts {format_duration(length_ns)}: {alert.text} "
                    "cannot be seen in it and will be unknown",
                    length_ns=length_ns,
                    sustain_ns=alert.sustain_ns,
                )


def _is_multiplexed(plan: Plan, one: Concurrency) -> bool:
    return any(
        request.protocol is not Protocol.HTTP1
        for request in plan.requests
        if request.name in one.carrier.requests
    )


def _fullness(plan: Plan) -> Iterator[Finding]:
    if plan.load_model is not LoadModel.OPEN:
        return
    for stage in plan.stages:
        for one in concurrencies(plan, stage):
            use = one.in_flight / one.carrier.available
            for objective in plan.objectives:
                if (
                    objective.measure.kind is MeasureKind.POOL_USE
                    and applies(objective, stage)
                    and _is_multiplexed(plan, one)
                    and use > objective.limit + _ROUNDING
                ):
                    yield finding(
                        Severity.WARNING,
                        f"stage {stage.name}: a target that just meets its p95 limit would use "
                        f"{use:.0%} of {one.carrier.text}: {objective.text} asks for less, more "
                        "channels give it room",
                        use_ratio=use,
                        limit_ratio=objective.limit,
                    )
