"""One objective in one stage: PASS, FAIL or INCONCLUSIVE, with its reason.

The state is decided in this order, and nothing else can become PASS:

1. No value (request never sent, no whole second judged): INCONCLUSIVE.
2. A conservation law, Little's law or the plan disagrees with the numbers: INCONCLUSIVE.
3. The generator was the limit: INCONCLUSIVE, because a slow generator must neither fail
   nor pass a target. One exception: an error ratio FAILs if it is missed on those errors
   alone that only the target can have caused (`record.error_kinds`: its own answers, what
   is no HTTP, refused and broken connections), however slow the generator.
4. Too few samples: INCONCLUSIVE; an error ratio still FAILs when so many errors would come
   by chance in less than 1 of 100 runs (Chernoff bound).
5. The limit is missed: FAIL. A rate is compared with a tolerance of one arrival; below it,
   a rate that the plan never offered, or a stage that was cut short, is INCONCLUSIVE.
6. The limit is met. Dropped arrivals, and those unanswered for longer than the limit when
   the run stopped, count against the target as never answered: FAIL if they miss a limit of
   response time. What ended unseen (lost windows, unanswered, dropped for ratios) must not
   be able to turn the result: INCONCLUSIVE if it could.
7. The run did not end by itself or whole: INCONCLUSIVE. Otherwise PASS.

The use of the stream pool is no count of requests: after 1-3 it FAILs if it is missed in a
second without the generator's doing, is INCONCLUSIVE if it is missed in others or has no
value in more than 1 % of the seconds, and is then judged by rule 7.

What the target says of itself (`server_side.levels`) is no count of requests either: after
1-3 it FAILs if a whole minute misses the limit, is INCONCLUSIVE where a series is missing,
has too few samples or a hole, and is then judged by rule 7.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from analysis.figures import Figures, Span, StageFigures
from analysis.findings import GENERATOR_LAWS, Finding, Law
from analysis.pool_use import PoolUse, read_pool
from analysis.reading import FROM_INTENDED, QUANTILE_KINDS, Reading, Unknown, read, read_with
from analysis.server_side.levels import Level, read_level
from analysis.unit import Unit
from analysis.unmeasured import CRASHES, crash_text
from loadtests.plan.model import LoadModel, MeasureKind, Objective, Plan
from loadtests.plan.objectives import RATE_KINDS, RATIO_KINDS, is_met
from loadtests.plan.pacers import pacer_of
from loadtests.record.error_kinds import Trait, traits_of
from loadtests.record.window import Count

NUMBERS_LAWS: Final = frozenset(
    {Law.PLANNED, Law.SENT, Law.SUMS, Law.SCHEDULE, Law.DATA, Law.LITTLE}
)
CHANCE_RATIO: Final = 0.01  # 99 % confidence, as for the percentiles' sample sizes
_NS_PER_S: Final = 1_000_000_000
_ERROR_KINDS: Final = frozenset(
    {MeasureKind.ERROR_RATIO, MeasureKind.SLO_ERROR_RATIO, MeasureKind.SUCCESS_RATIO}
)


class State(Enum):
    """What a verdict, and each part of it, can be."""

    PASS = "PASS"  # noqa: S105 - a verdict, not a password
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveResult:
    """One objective in one judged stage; limit and value in the reading's unit."""

    stage: str
    request: str | None
    objective: str
    limit: float
    reading: Reading
    state: State
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """All that one judgement looks at; `findings` are those of the stage and of the run."""

    plan: Plan
    stage: StageFigures
    objective: Objective
    figures: Figures
    pool: PoolUse
    level: Level | None  # of objectives on the target's own metrics
    findings: Sequence[Finding]

    @property
    def span(self) -> Span:
        """The judged time."""
        return self.stage.span

    @property
    def kind(self) -> MeasureKind:
        """What is measured."""
        return self.objective.measure.kind


Outcome = tuple[State, str]


def inconclusive(reason: str) -> Outcome:
    """The state that claims nothing."""
    return State.INCONCLUSIVE, reason


def _first(findings: Sequence[Finding], laws: frozenset[Law]) -> Finding | None:
    return next((f for f in findings if f.is_invalid and f.law in laws), None)


def _is_met_with(case: Case, unknown: Unknown) -> bool:
    value = read_with(case.objective, case.figures, case.span, unknown)
    return value is not None and is_met(case.objective, _tolerant(case, value))


def _tolerant(case: Case, value: float) -> float:
    """A rate plus its resolution of one arrival; other values as they are."""
    return value + 1 / case.span.seconds if case.kind in RATE_KINDS else value


def _bad(case: Case) -> int:
    """Requests that count as errors in the objective's ratio."""
    tally = case.figures.tally
    failed, client = tally.count(Count.FAILED), tally.count(Count.CLIENT_ERROR)
    return failed if case.kind is MeasureKind.SLO_ERROR_RATIO else failed + client


def _allowed_ratio(case: Case) -> float:
    limit = case.objective.limit
    return 1 - limit if case.kind is MeasureKind.SUCCESS_RATIO else limit


def chance_of(bad: int, n: int, ratio: float) -> float:
    """Upper bound of P(at least `bad` errors among n > 0), each with probability `ratio` (0-1).

    Chernoff: exp(-n * KL(bad/n || ratio)), KL(a || p) = a ln(a/p) + (1-a) ln((1-a)/(1-p)).
    """
    seen = bad / n
    if seen <= ratio:
        return 1.0
    if ratio <= 0:
        return 0.0
    rest = 0.0 if bad == n else (1 - seen) * math.log((1 - seen) / (1 - ratio))
    return math.exp(-n * (seen * math.log(seen / ratio) + rest))


def _is_target_side(kind: MeasureKind, error: str) -> bool:
    """Whether only the target can have caused this error, as far as the measure counts it."""
    is_client_error = error.startswith("status_4") and error != "status_429"
    if kind is MeasureKind.SLO_ERROR_RATIO and is_client_error:
        return False
    return Trait.TARGET_ALONE in traits_of(error)


def _generator_limited(case: Case, finding: Finding) -> Outcome:
    """Rule 3 of the module's list."""
    done = case.figures.tally.done
    if case.kind in _ERROR_KINDS and done:
        own = sum(n for e, n in case.figures.errors.items() if _is_target_side(case.kind, e))
        if chance_of(own, done, _allowed_ratio(case)) < CHANCE_RATIO:
            return State.FAIL, f"{own} errors that only the target can have caused miss the limit"
    return inconclusive(f"generator-limited: {finding.law.value}")


def _too_small(case: Case, reading: Reading) -> Outcome:
    """Rule 4 of the module's list."""
    reason = f"n too small: {reading.samples} of {reading.required} samples"
    if case.kind in _ERROR_KINDS and not is_met(case.objective, reading.value or 0.0):
        chance = chance_of(_bad(case), reading.samples, _allowed_ratio(case))
        if chance < CHANCE_RATIO:
            return State.FAIL, f"missed beyond chance, though {reason}"
    return inconclusive(reason)


def _offered_per_s(case: Case) -> float | None:
    """The most that the plan lets a rate be; None where only the target limits it."""
    plan = case.plan
    if plan.load_model is LoadModel.OPEN:
        return case.figures.on_time.count(Count.PLANNED) / case.span.seconds
    if plan.think_time_ns == 0:
        return None
    facts = case.stage.facts
    profile = next(s.profile for s in plan.stages if s.name == facts.name)
    length_ns = facts.end_ns - facts.start_ns
    connections = pacer_of(profile, length_ns).count(length_ns / _NS_PER_S)
    return connections / (length_ns / _NS_PER_S) / (plan.think_time_ns / _NS_PER_S)


def _missed_rate(case: Case, value: float) -> Outcome:
    """Rule 5 for rates."""
    if case.stage.is_cut:
        return inconclusive("the run ended before the stage did")
    arrival_per_s = 1 / case.span.seconds
    offered = _offered_per_s(case)
    if offered is not None and not is_met(case.objective, offered + arrival_per_s):
        is_answered = value + arrival_per_s >= offered
        if is_answered or case.plan.load_model is LoadModel.CLOSED:
            return inconclusive(f"the plan offered {offered:.6g} per s, less than the limit")
    if not case.span.is_aligned:
        service = case.figures.tally.service
        mean_s = service.mean_us() / 1e6 if service.n > service.overflow else 0.0
        edge_per_s = math.ceil(value * mean_s) * arrival_per_s
        if is_met(case.objective, value + arrival_per_s + edge_per_s):
            return inconclusive("the stage's edges are not whole seconds: the rest is unresolved")
    return State.FAIL, "limit missed"


def _missed(case: Case, value: float) -> Outcome:
    """Rule 5 of the module's list."""
    lost = case.stage.lost_planned
    if lost and _is_met_with(case, Unknown(good=lost)):
        return inconclusive(f"{lost} arrivals without an outcome could turn it")
    if case.kind in RATE_KINDS:
        return _missed_rate(case, value)
    silent, done = case.figures.tally.silent, case.figures.tally.done
    reason = "limit missed, as far as it ran" if case.stage.is_cut else "limit missed"
    if silent and math.isinf(value):
        reason = f"{reason}: {silent} of {done} requests were never answered"
    return State.FAIL, reason


def _never_answered(case: Case) -> int:
    """Arrivals whose response time is known to be beyond the limit though it has no number."""
    if case.kind not in FROM_INTENDED:
        return 0
    grace_ns = case.plan.grace_ns if not case.stage.is_cut else 0
    is_late = case.objective.limit <= grace_ns
    return case.figures.tally.count(Count.DROPPED) + (case.figures.unanswered if is_late else 0)


def _unseen(case: Case) -> Unknown:
    """The worst that can have become of what ended unseen."""
    unseen = case.figures.unanswered + case.stage.lost_planned
    if case.kind in QUANTILE_KINDS | FROM_INTENDED:
        dropped = case.figures.tally.count(Count.DROPPED) if case.kind in FROM_INTENDED else 0
        return Unknown(late=unseen + dropped)
    if case.kind is MeasureKind.DROPPED_RATIO:
        return Unknown(bad=case.stage.lost_planned)
    if case.kind in RATIO_KINDS:
        return Unknown(bad=unseen + case.figures.tally.count(Count.DROPPED))
    return Unknown()  # a rate counts only what it saw


def _met(case: Case) -> Outcome:
    """Rule 6 of the module's list, then rule 7."""
    never = _never_answered(case)
    if never and not _is_met_with(case, Unknown(late=never)):
        return State.FAIL, f"missed with {never} dropped or unanswered arrivals as never answered"
    unseen = _unseen(case)
    if not _is_met_with(case, unseen):
        return inconclusive(f"{unseen.late + unseen.bad} arrivals without an outcome could turn it")
    return _met_whole(case)


def _met_whole(case: Case) -> Outcome:
    """Rule 7 of the module's list."""
    blocking = next((f for f in case.findings if f.is_invalid), None)
    if blocking is not None:
        return inconclusive(f"met, but {blocking.law.value} does not hold")
    if case.stage.is_cut:
        return inconclusive("the run ended before the stage did")
    return State.PASS, "met"


def _pool(case: Case, reading: Reading) -> Outcome:
    """The rules for the use of the stream pool."""
    missed, by_target = case.pool.missed(case.objective)
    if by_target:
        return State.FAIL, f"limit missed in {missed} of {reading.samples} s"
    if missed:
        return inconclusive(f"missed in {missed} s, in which the generator was not well")
    if reading.is_too_small:
        seen = f"{reading.samples} of {case.span.seconds} s"
        return inconclusive(f"connections were open in {seen}, needed: {reading.required}")
    return _met_whole(case)


def _server(case: Case, level: Level, value: float) -> Outcome:
    """The rules for what the target says of itself."""
    if not is_met(case.objective, value):
        node = "" if level.worst is None else f" by node {level.worst.node}"
        return State.FAIL, f"limit missed{node}"
    unknown = level.unknown()
    return _met_whole(case) if unknown is None else inconclusive(unknown)


def _requests(case: Case, reading: Reading, value: float) -> Outcome:
    """Rules 4 to 7 of the module's list."""
    if reading.is_too_small:
        return _too_small(case, reading)
    if not is_met(case.objective, _tolerant(case, value)):
        return _missed(case, value)
    return _met(case)


def _decide(case: Case, reading: Reading) -> Outcome:
    """The rules of the module's list, in order."""
    value = reading.value
    if value is None:
        return inconclusive("no data" if case.level is None else case.level.unknown() or "no data")
    if (broken := _first(case.findings, NUMBERS_LAWS)) is not None:
        return inconclusive(f"{broken.law.value} does not hold")
    if (limit := _first(case.findings, GENERATOR_LAWS)) is not None:
        return _generator_limited(case, limit)
    return _by_kind(case, reading, value)


def _by_kind(case: Case, reading: Reading, value: float) -> Outcome:
    """Rules 4 to 7, or those of a level."""
    if case.kind is MeasureKind.POOL_USE:
        return _pool(case, reading)
    if case.level is not None:
        return _server(case, case.level, value)
    return _requests(case, reading, value)


def reading_of(
    objective: Objective, figures: Figures, pool: PoolUse, level: Level | None
) -> Reading:
    """What an objective or alert measures in a stage."""
    if level is not None:
        return read_level(objective, level)
    if objective.measure.kind is MeasureKind.POOL_USE:
        return read_pool(objective, pool)
    return read(objective, figures, pool.span)


def judge_objective(case: Case) -> ObjectiveResult:
    """Judge one objective in one stage; a judgement that crashes is INCONCLUSIVE."""
    objective = case.objective
    try:
        reading = reading_of(objective, case.figures, case.pool, case.level)
        state, reason = _decide(case, reading)
    except CRASHES as error:
        reading = Reading(unit=Unit.RATIO, value=None, samples=0, required=0, resolution=None)
        state, reason = inconclusive(crash_text(error))
    return ObjectiveResult(
        stage=case.stage.facts.name,
        request=objective.request,
        objective=objective.text,
        limit=objective.limit,
        reading=reading,
        state=state,
        reason=reason,
    )
