"""All effects between two sides of runs, corrected as one family, and what follows from them.

Law: fail closed. Unlike runs, unsound runs and a run that is on both sides are refused; where
anything could not be decided, the whole is not "same".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from analysis.compare.contrasts import Contrast, contrast_of, missing
from analysis.compare.effects import Decision, Effect, Limits, build_effect, p_value_of
from analysis.compare.estimates import build_part
from analysis.compare.filed import GONE, filed_contrasts
from analysis.compare.likeness import Aspect, Unlike, unlike, unsound
from analysis.compare.measures import ComparedMeasure
from analysis.compare.subject import AnySubject, FiledSubject, Subject
from analysis.figures import OVERALL
from analysis.judging import State
from analysis.statistics.families import holm
from loadtests.errors import Mistake, ScenarioError
from loadtests.plan.model import Hold
from loadtests.record.window import CONNECTION

_WHERE: Final = "compare"

Sides = tuple[Sequence[AnySubject], Sequence[AnySubject]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two sides compared; `allowed` are differences that were told to be none, `stated` others."""

    before: tuple[str, ...]  # run ids
    after: tuple[str, ...]
    scenario: str
    scale: float
    limits: Limits
    allowed: tuple[str, ...]
    stated: tuple[str, ...]
    notes: tuple[str, ...]
    effects: tuple[Effect, ...]
    decision: Decision


def compare(
    before: Sequence[AnySubject],
    after: Sequence[AnySubject],
    *,
    measures: Sequence[ComparedMeasure],
    limits: Limits,
    allowed: frozenset[Aspect],
    is_ranked: bool = False,
) -> Comparison:
    """Compare two sides of one or more runs; ScenarioError names all that forbids it.

    `is_ranked`: p-values of latencies and rates are Mann-Whitney's.
    """
    sides = before, after
    differing = _differing(sides)
    _refuse(_mistakes(sides, differing, allowed))
    contrasts = list(_contrasts(sides, measures, limits.alpha if is_ranked else None))
    effects = _effects(contrasts, limits)
    scenario, scale = _title(before[0])
    return Comparison(
        before=tuple(subject.run_id for subject in before),
        after=tuple(subject.run_id for subject in after),
        scenario=scenario,
        scale=scale,
        limits=limits,
        allowed=tuple(_allowed(sides, differing)),
        stated=tuple(str(found) for found in differing if not isinstance(found.aspect, Aspect)),
        notes=tuple(_notes(sides)),
        effects=effects,
        decision=_overall(effects),
    )


def _state_of(subject: AnySubject) -> str:
    if isinstance(subject, FiledSubject):
        return subject.baseline.verdict
    return subject.verdict.state.value


def _title(subject: AnySubject) -> tuple[str, float]:
    if isinstance(subject, FiledSubject):
        return subject.baseline.scenario, subject.baseline.scale
    return subject.plan.scenario_name, subject.plan.scale


def _is_filed(subject: AnySubject) -> bool:
    return isinstance(subject, FiledSubject)


def _differing(sides: Sides) -> tuple[Unlike, ...]:
    """Differences of every run from the first one, each said once."""
    first, *others = [*sides[0], *sides[1]]
    return tuple(dict.fromkeys(found for other in others for found in unlike(first, other)))


def _mistakes(
    sides: Sides, differing: Iterable[Unlike], allowed: frozenset[Aspect]
) -> Iterator[Mistake]:
    ids = [subject.run_id for side in sides for subject in side]
    for run_id in sorted({run_id for run_id in ids if ids.count(run_id) > 1}):
        yield Mistake(where=_WHERE, seen=f"{run_id} twice", expected="every run once")
    for found in differing:
        if isinstance(found.aspect, Aspect) and found.aspect not in allowed:
            expected = f"the same on both sides, or --allow {found.aspect.value}"
            yield Mistake(where=_WHERE, seen=str(found), expected=expected)
    if any(map(_is_filed, (*sides[0], *sides[1]))) and len(ids) > 2:  # noqa: PLR2004 - one each
        seen = "a baseline without its archive among several runs"
        yield Mistake(where=_WHERE, seen=seen, expected="it and one run, or its archive")
    for subject in (subject for side in sides for subject in side):
        if Aspect.VERDICT not in allowed and (why := unsound(subject)) is not None:
            expected = f"a run that measured the target, or --allow {Aspect.VERDICT.value}"
            yield Mistake(where=subject.run_id, seen=why, expected=expected)


def _refuse(mistakes: Iterator[Mistake]) -> None:
    if found := tuple(mistakes):
        raise ScenarioError(_WHERE, found)


def _allowed(sides: Sides, differing: Iterable[Unlike]) -> Iterator[str]:
    """What would have been refused, and was told to be no matter."""
    yield from (str(found) for found in differing if isinstance(found.aspect, Aspect))
    for subject in (subject for side in sides for subject in side):
        if (why := unsound(subject)) is not None:
            yield f"{Aspect.VERDICT.value}: {subject.run_id} {why}"


def _notes(sides: Sides) -> Iterator[str]:
    for subject in (*sides[0], *sides[1]):
        if _state_of(subject) == State.FAIL.value:
            yield f"{subject.run_id} is a FAIL: its target missed its objectives."
    if any(map(_is_filed, (*sides[0], *sides[1]))):
        yield (
            f"{GONE}. Its points are shown, without intervals; only error ratios are decided on, "
            "as if every request failed on its own."
        )
    if len(sides[0]) == len(sides[1]) == 1:
        yield (
            "One run a side: intervals hold what varies within a run, not what varies from run "
            "to run. Give several runs a side (A,B,C) to have that too."
        )
    elif 1 in map(len, sides):
        yield "The side of one run is taken to vary from run to run as the other side does."


def _contrasts(
    sides: Sides, measures: Sequence[ComparedMeasure], rank_alpha: float | None
) -> Iterator[Contrast]:
    if any(map(_is_filed, (*sides[0], *sides[1]))):
        yield from filed_contrasts(sides[0][0], sides[1][0], measures)
        return
    archived = tuple([s for s in side if isinstance(s, Subject)] for side in sides)
    for stage in dict.fromkeys(name for side in archived for s in side for name in s.stages):
        everybody = [s for side in archived for s in side]
        requests = dict.fromkeys(name for s in everybody for name in s.run.slots.requests)
        for request in (OVERALL, *(name for name in requests if name != CONNECTION)):
            if all(_has(s, stage, request) for s in everybody):
                parts = tuple([build_part(s, stage, request) for s in side] for side in archived)
                is_paired = _varies(everybody, stage)
                for measure in measures:
                    yield contrast_of(
                        measure,
                        stage,
                        request,
                        (parts[0], parts[1]),
                        is_paired=is_paired,
                        rank_alpha=rank_alpha,
                    )
            else:
                yield from (missing(m, stage, request, "not in every run") for m in measures)


def _has(subject: Subject, stage: str, request: str | None) -> bool:
    found = subject.stages.get(stage)
    return found is not None and request in found.requests and found.span.seconds > 0


def _varies(subjects: Sequence[Subject], stage: str) -> bool:
    """Whether the load of a window depends on its place in the stage, equally in all runs."""
    found = [next(s for s in subject.plan.stages if s.name == stage) for subject in subjects]
    is_same = len({(s.profile, s.end_ns - s.start_ns) for s in found}) == 1
    return is_same and not isinstance(found[0].profile, Hold)


def _effects(contrasts: Sequence[Contrast], limits: Limits) -> tuple[Effect, ...]:
    """Decide on all, their p-values corrected as one family."""
    p_values = [p_value_of(contrast) for contrast in contrasts]
    adjusted = iter(holm([p for p in p_values if p is not None]))
    tests = max(1, sum(p is not None for p in p_values))
    return tuple(
        build_effect(contrast, None if p is None else next(adjusted), tests, limits)
        for contrast, p in zip(contrasts, p_values, strict=True)
    )


def _overall(effects: Sequence[Effect]) -> Decision:
    """The gravest: a regression, then what could not be decided, then an improvement."""
    seen = {effect.decision for effect in effects}
    if not seen:
        return Decision.TOO_SMALL
    for decision in (
        Decision.REGRESSED,
        Decision.UNSTABLE,
        Decision.TOO_SMALL,
        Decision.IMPROVED,
    ):
        if decision in seen:
            return decision
    return Decision.SAME
