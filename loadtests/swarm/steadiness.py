"""Whether the target does well, second by second: what a failover waits for.

Every latency and error objective of the plan must hold in a second's merged window, on all
stages that it is about; one without a request to judge by does not hold. Rates are left out:
a second's count says little about them, and the verdict judges them over the stage. Where a
plan has no such objective, no request may fail. A percentile of few samples is taken as it
is: this decides when to begin, not what a run was worth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from loadtests.plan.failover import ConditionKind
from loadtests.plan.model import MeasureKind, Objective, Plan
from loadtests.plan.objectives import is_met, parse_condition, value_of
from loadtests.record.tally import tally_of
from loadtests.record.window import CONNECTION, Count, Window

_KINDS: Final = frozenset(
    {
        MeasureKind.RESPONSE_QUANTILE,
        MeasureKind.SERVICE_QUANTILE,
        MeasureKind.DONE_RESPONSE_QUANTILE,
        MeasureKind.RESPONSE_MAX,
        MeasureKind.ERROR_RATIO,
        MeasureKind.SLO_ERROR_RATIO,
        MeasureKind.SUCCESS_RATIO,
        MeasureKind.DROPPED_RATIO,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One second: `reason` says which objective did not hold."""

    holds: bool
    reason: str


class Steadiness:
    """The objectives of a plan that a second can be held against."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._all = self._slots(None, None)
        faults = () if plan.failover is None else plan.failover.faults
        self._conditions = {
            fault.name: parse_condition(fault.when.text).objective
            for fault in faults
            if fault.when is not None and fault.when.kind is ConditionKind.MEASURE
        }
        self._rules = [
            (objective, self._slots(objective.request, objective.stage))
            for objective in plan.objectives
            if objective.measure.kind in _KINDS
        ]

    def true_conditions(self, window: Window) -> tuple[str, ...]:
        """Faults that wait for a measure, and whose condition a window of one second meets."""
        return tuple(
            name for name, condition in self._conditions.items() if self._is_true(condition, window)
        )

    def _is_true(self, condition: Objective, window: Window) -> bool:
        tally = tally_of(window, self._slots(condition.request, condition.stage))
        value = value_of(condition.measure, tally, 1.0)
        return value is not None and is_met(condition, value)

    def _slots(self, request: str | None, stage: str | None) -> frozenset[int]:
        space = self._plan.slots
        return frozenset(
            space.slot(stage_number, request_number, node)
            for stage_number, stage_name in enumerate(space.stages)
            for request_number, request_name in enumerate(space.requests)
            for node in range(len(space.nodes))
            if stage in (None, stage_name)
            and (request_name != CONNECTION if request is None else request_name == request)
        )

    def look(self, window: Window) -> Look:
        """What a window of one second says."""
        everything = tally_of(window, self._all)
        if everything.done == 0:
            return Look(holds=False, reason="no request ended")
        if not self._rules and everything.count(Count.OK) < everything.done:
            failed = everything.done - everything.count(Count.OK)
            return Look(holds=False, reason=f"{failed} of {everything.done} requests failed")
        for objective, slots in self._rules:
            if reason := self._missed(objective, window, slots):
                return Look(holds=False, reason=reason)
        return Look(holds=True, reason="")

    def _missed(self, objective: Objective, window: Window, slots: frozenset[int]) -> str:
        """Why an objective does not hold; "" when it does, or is about another stage's time."""
        tally = tally_of(window, slots)
        if objective.stage is not None and tally.count(Count.PLANNED) == 0:
            return ""
        value = value_of(objective.measure, tally, 1.0)
        if value is None:
            return f"no data for {objective.text!r}"
        return "" if is_met(objective, value) else f"{objective.text!r} did not hold"
