"""What a reader must know beside a verdict: warnings, which change nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from analysis.figures import StageFigures
from analysis.findings import Finding, Law, warning
from loadtests.plan.model import LoadModel, MeasureKind, Plan
from loadtests.record.error_kinds import PROTOCOL, TOO_LARGE
from loadtests.record.window import Count

LIMITER_KINDS: Final = ("status_429", "grpc_8")
_LIMIT_ERRORS: Final = frozenset(
    {MeasureKind.ERROR_RATIO, MeasureKind.SUCCESS_RATIO, MeasureKind.GOODPUT}
)


def stage_warnings(plan: Plan, stage: StageFigures) -> Iterator[Finding]:
    """What a reader must know beside a stage's numbers."""
    name, tally = stage.facts.name, stage.overall.tally
    if dropped := tally.count(Count.DROPPED):
        yield warning(Law.DROPPED, name, f"{dropped} of {tally.count(Count.PLANNED)} planned")
    if stage.overall.unanswered:
        text = f"{stage.overall.unanswered} requests had no answer when the run stopped"
        yield warning(Law.UNANSWERED, name, text)
    held = (tally.response, tally.failed_response, tally.service, tally.failed_service)
    if overflow := sum(histogram.overflow for histogram in held):
        yield warning(Law.OVERFLOW, name, f"{overflow} latencies above one hour")
    if limited := sum(stage.overall.errors.get(kind, 0) for kind in LIMITER_KINDS):
        text = f"{limited} answers were 429: met the limiter, not the capacity"
        yield warning(Law.LIMITER, name, text)
    if stray := sum(stage.connection_errors.get(kind, 0) for kind in (PROTOCOL, TOO_LARGE)):
        text = f"{stray} times, a second answer or trailing ones: which answer is whose is not sure"
        yield warning(Law.STRAY_BYTES, name, text)
    if stage.facts.is_judged:
        yield from _error_warnings(plan, stage)


def _is_limited(plan: Plan, stage: str, request: str, *, only_client: bool) -> bool:
    """Whether an objective limits the errors of a request in a stage."""
    kinds = _LIMIT_ERRORS if only_client else _LIMIT_ERRORS | {MeasureKind.SLO_ERROR_RATIO}
    return any(
        objective.measure.kind in kinds
        and objective.request in {None, request}
        and objective.stage in {None, stage}
        for objective in plan.objectives
    )


def _error_warnings(plan: Plan, stage: StageFigures) -> Iterator[Finding]:
    """Errors that no objective looks at: whatever passes, they are there."""
    for name, part in stage.requests.items():
        failed, client = part.tally.count(Count.FAILED), part.tally.count(Count.CLIENT_ERROR)
        if name is None or not failed + client:
            continue
        if _is_limited(plan, stage.facts.name, name, only_client=not failed):
            continue
        text = (
            f"{failed + client} of {part.tally.done} requests {name} ended in an error, "
            f"{part.tally.silent} without an answer, and no objective limits errors"
        )
        yield warning(Law.ERRORS, stage.facts.name, text)


def run_warnings(plan: Plan) -> Iterator[Finding]:
    """What a reader must know of the whole run."""
    if plan.scale != 1.0:
        text = f"every rate is x {plan.scale:g}: this does not show that the full target is met"
        yield warning(Law.SCALE, None, text)
    if plan.load_model is LoadModel.CLOSED:
        text = "response time equals service time, so stalls of the target are under-counted"
        yield warning(Law.CLOSED_LOAD, None, text)
