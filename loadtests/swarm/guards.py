"""Abort conditions of a plan, on merged windows as they are released.

A condition must be true in every whole window of its sustain, without a gap: a window
without data, a missing second and a second that contradicts all break the stretch.
"""

from __future__ import annotations

from loadtests.clock import NS_PER_S
from loadtests.plan.model import Abort, Plan
from loadtests.plan.objectives import is_met, value_of
from loadtests.record.tally import tally_of
from loadtests.record.window import CONNECTION, Window


class Guard:
    """One abort condition and how long it has been true."""

    __slots__ = ("_abort", "_last_s", "_needed", "_slots", "_streak")

    def __init__(self, abort: Abort, plan: Plan) -> None:
        self._abort = abort
        self._slots = _slots_of(abort, plan)
        self._needed = max(1, -(-abort.sustain_ns // NS_PER_S))
        self._streak = 0
        self._last_s: int | None = None

    def observe(self, window: Window) -> str | None:
        """Take the next second; a sentence when the condition has held long enough."""
        tally = tally_of(window, self._slots)
        value = value_of(self._abort.objective.measure, tally, 1.0)
        is_next = self._last_s is not None and window.start_s == self._last_s + 1
        self._last_s = window.start_s
        if value is None or not is_met(self._abort.objective, value):
            self._streak = 0
            return None
        self._streak = self._streak + 1 if is_next else 1
        if self._streak < self._needed:
            return None
        return f"abort condition {self._abort.objective.text!r} held for {self._streak} s"


def _slots_of(abort: Abort, plan: Plan) -> frozenset[int]:
    """Slots that a condition is about: of all stages, warm-up too, unless it names one."""
    space = plan.slots
    objective = abort.objective
    return frozenset(
        space.slot(stage, request, node)
        for stage, stage_name in enumerate(space.stages)
        for request, request_name in enumerate(space.requests)
        for node in range(len(space.nodes))
        if objective.stage in (None, stage_name)
        and (
            request_name != CONNECTION
            if objective.request is None
            else request_name == objective.request
        )
    )


def build_guards(plan: Plan) -> tuple[Guard, ...]:
    """One for each abort condition of the plan."""
    return tuple(Guard(abort, plan) for abort in plan.aborts)
