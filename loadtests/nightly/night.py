"""One night, step by step: what may begin, what is tried again, and what it all amounts to.

The laws: nothing is sent on a host that moved; nothing begins that would not end within the
authorised windows and the budget, joining and judging included, and what goes on all the same
is stopped at their edge; only a run that the host alone made INCONCLUSIVE is tried
again, for a FAIL that goes away when it is repeated is still a FAIL; without the PASS of a
required step, and after a run that was aborted (`headroom stop`, an abort condition), no later
run begins. The record is saved before and after every step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final, Protocol

import msgspec

from loadtests.clock import NS_PER_S, Clock
from loadtests.nightly.canary import HostJudgement, HostReading
from loadtests.nightly.plan import NightPlan, Step
from loadtests.nightly.records import Attempt, NightRecord, NightState, StepRecord
from loadtests.nightly.schedule import Due
from loadtests.nightly.spec import Occasion, StepKind
from loadtests.nightly.windows import Edge, first_edge

# What a night amounts to is the last of these among its steps.
_SEVERITY: Final = (
    NightState.PASS,
    NightState.NOT_RUN,
    NightState.INCONCLUSIVE,
    NightState.VOID,
    NightState.ABORTED,
    NightState.USAGE,
    NightState.HARNESS,
    NightState.FAIL,
)
_FAILURES: Final = frozenset(
    {NightState.FAIL, NightState.HARNESS, NightState.USAGE, NightState.ABORTED}
)

_LOOK_AHEAD_NS: Final = 24 * 3600 * NS_PER_S  # for windows that end while a run is late

Save = Callable[[NightRecord], None]


class Runner(Protocol):
    """What carries steps out."""

    def run(self, step: Step, before: Sequence[StepRecord], edge: Edge | None) -> Attempt:
        """Carry a step out to its end, or to the edge; `before` are the night's steps so far."""
        ...

    def stop_reason(self) -> str:
        """Why everything has to end; "" as long as nobody asked for it."""
        ...


def begin(plan: NightPlan, due: Due, clock: Clock, host: HostReading | None) -> NightRecord:
    """The record of a night that begins now."""
    now_unix_ns = clock.unix_ns()
    return NightRecord(
        plan=plan.name,
        night=due.night.isoformat(),
        scheduled_unix_ns=round(due.scheduled.timestamp()) * NS_PER_S,
        started_unix_ns=now_unix_ns,
        ended_unix_ns=None,
        state=NightState.RUNNING,
        why="",
        is_caught_up=due.is_caught_up(_instant(now_unix_ns)),
        missed=tuple(night.isoformat() for night in due.missed),
        host=host,
        notes=(),
        steps=(),
        took_ns=0,
        cost=0.0,
    )


def conduct(
    plan: NightPlan,
    begun: NightRecord,
    judgement: HostJudgement,
    *,
    clock: Clock,
    runner: Runner,
    save: Save,
) -> NightRecord:
    """Carry the steps of this night out and say what it amounts to; `save` gets every state."""
    record = msgspec.structs.replace(begun, notes=judgement.notes)
    save(record)
    night = _Night(plan, judgement, clock, runner)
    day = date.fromisoformat(begun.night).weekday()
    for step in plan.steps:
        if day not in step.days:
            continue
        done = night.carry_out(step, record.steps)
        took_ns = night.spent_ns
        record = msgspec.structs.replace(
            record,
            steps=(*record.steps, done),
            took_ns=took_ns,
            cost=plan.budget.cost(took_ns),
        )
        save(record)
    state, why = _amounts_to(record, judgement, runner.stop_reason())
    record = msgspec.structs.replace(record, state=state, why=why, ended_unix_ns=clock.unix_ns())
    save(record)
    return record


class _Night:
    """What the steps of one night share."""

    def __init__(
        self, plan: NightPlan, judgement: HostJudgement, clock: Clock, runner: Runner
    ) -> None:
        self._plan, self._judgement = plan, judgement
        self._clock, self._runner = clock, runner
        self._started_ns = clock.monotonic_ns()

    @property
    def spent_ns(self) -> int:
        """How long it has taken so far."""
        return self._clock.monotonic_ns() - self._started_ns

    def _may_not_begin(self, step: Step, before: Sequence[StepRecord]) -> str | None:
        """Why a step does not begin; None where it may."""
        if self._judgement.moved:
            return "void: the host moved"
        if reason := self._runner.stop_reason():
            return f"stopped: {reason}"
        if step.kind is not StepKind.RUN:
            return None
        required = {one.name for one in self._plan.steps if one.is_required}
        for one in before:
            if one.state is NightState.ABORTED:
                return f"{one.name} was aborted: somebody, or a guard, wanted no more load"
            if one.name in required and one.state is not NightState.PASS:
                return f"{one.name}, which is required, is {one.state.value}"
        edge = self._edge(step.most_ns + self._plan.budget.beside_ns)
        outside = None if edge is None else edge.why
        return outside or self._plan.budget.refusal(self.spent_ns, step.most_ns)

    def _edge(self, length_ns: int) -> Edge | None:
        """Where load that begins now would leave the windows within this time."""
        length = timedelta(microseconds=length_ns // 1000)
        now = _instant(self._clock.unix_ns())
        return first_edge(self._plan.authorised, self._plan.quiet, now, length)

    def carry_out(self, step: Step, before: Sequence[StepRecord]) -> StepRecord:
        """Run a step, again where only the host was in the way, or say why it did not begin."""
        attempts: list[Attempt] = []
        refused = self._may_not_begin(step, before)
        while refused is None:
            edge = self._edge(step.most_ns + _LOOK_AHEAD_NS) if step.kind is StepKind.RUN else None
            attempts.append(self._runner.run(step, before, edge))
            last = attempts[-1]
            if not (last.state is NightState.INCONCLUSIVE and last.is_of_host):
                break
            if len(attempts) > self._plan.retries:
                refused = f"{len(attempts)} times"
            else:
                refused = self._may_not_begin(step, before)
        if not attempts:
            assert refused is not None
            return _not_run(step, refused)
        words = [attempts[-1].words]
        if refused is not None:
            words.append(f"because of the host, not tried again: {refused}")
        return StepRecord(
            name=step.name,
            does=step.kind.value,
            state=attempts[-1].state,
            why="; ".join(part for part in words if part),
            attempts=tuple(attempts),
        )


def _not_run(step: Step, why: str) -> StepRecord:
    return StepRecord(
        name=step.name, does=step.kind.value, state=NightState.NOT_RUN, why=why, attempts=()
    )


def _amounts_to(
    record: NightRecord, judgement: HostJudgement, stopped: str
) -> tuple[NightState, str]:
    """State of the night and what decided it."""
    if judgement.moved:
        void = NightState.VOID, "the host moved: " + "; ".join(judgement.moved)
        return (NightState.ABORTED, stopped) if stopped else void
    worst = max(record.steps, key=lambda one: _SEVERITY.index(one.state), default=None)
    if worst is None:
        return NightState.INCONCLUSIVE, "no step of the plan is for this day"
    state = NightState.INCONCLUSIVE if worst.state is NightState.NOT_RUN else worst.state
    if stopped and _SEVERITY.index(state) < _SEVERITY.index(NightState.ABORTED):
        return NightState.ABORTED, stopped
    if state is NightState.PASS:
        return state, f"all {len(record.steps)} steps"
    return state, f"{worst.name}: {worst.why or worst.state.value}"


def is_worth_telling(
    record: NightRecord, previous: NightRecord | None, on: Sequence[Occasion]
) -> bool:
    """Whether somebody is told of a night, after the one before it."""
    was_bad = previous is not None and previous.state is not NightState.PASS
    happened = {
        Occasion.ALWAYS: True,
        Occasion.FAILURE: record.state in _FAILURES,
        Occasion.VOID: record.state is NightState.VOID,
        Occasion.INCONCLUSIVE: record.state in {NightState.INCONCLUSIVE, NightState.NOT_RUN},
        Occasion.RECOVERED: record.state is NightState.PASS and was_bad,
    }
    return any(happened[one] for one in on)


def with_note(record: NightRecord, note: str, *, is_failure: bool) -> NightRecord:
    """The record with what happened after its steps; a failure of ours ends a good night."""
    state, why = record.state, record.why
    if is_failure and _SEVERITY.index(state) < _SEVERITY.index(NightState.HARNESS):
        state, why = NightState.HARNESS, note
    return msgspec.structs.replace(record, notes=(*record.notes, note), state=state, why=why)


def _instant(unix_ns: int) -> datetime:
    return datetime.fromtimestamp(unix_ns / NS_PER_S, tz=UTC)
