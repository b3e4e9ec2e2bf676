"""Abort conditions of a plan, on merged windows as they are released.

A condition must be true in every whole window of its sustain, without a gap: a window
without data, a missing second and a second that contradicts all break the stretch. The
stream pool has a use at any time: one `in` a stage counts while arrivals of it are planned.
"""

from __future__ import annotations

from loadtests.plan.model import Abort, MeasureKind, Plan
from loadtests.plan.objectives import is_met, sustained_windows, value_of
from loadtests.record.stream_pool import StreamPool
from loadtests.record.tally import tally_of
from loadtests.record.window import CONNECTION, Count, Window


class Guard:
    """One abort condition and how long it has been true."""

    __slots__ = ("_abort", "_last_s", "_needed", "_pool", "_slots", "_streak")

    def __init__(self, abort: Abort, plan: Plan) -> None:
        self._abort = abort
        self._slots = _slots_of(abort, plan)
        self._needed = sustained_windows(abort.sustain_ns)
        self._pool = StreamPool()
        self._streak = 0
        self._last_s: int | None = None

    def observe(self, window: Window) -> str | None:
        """Take the next second; a sentence when the condition has held long enough."""
        value = self._value(window)
        is_next = self._last_s is not None and window.start_s == self._last_s + 1
        self._last_s = window.start_s
        if value is None or not is_met(self._abort.objective, value):
            self._streak = 0
            return None
        self._streak = self._streak + 1 if is_next else 1
        if self._streak < self._needed:
            return None
        return f"abort condition {self._abort.objective.text!r} held for {self._streak} s"

    def _value(self, window: Window) -> float | None:
        objective, tally = self._abort.objective, tally_of(window, self._slots)
        if objective.measure.kind is not MeasureKind.POOL_USE:
            return value_of(objective.measure, tally, 1.0)
        in_use = sum(engine.streams_in_use for engine in window.health)
        size = sum(engine.streams for engine in window.health)
        use = self._pool.use(window.start_s, in_use, size)
        is_its_stage = objective.stage is None or tally.count(Count.PLANNED) > 0
        return use if is_its_stage else None


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
