"""The verdict so far: what the judge would say of the objectives had the run ended now.

The same judgement as the verdict's, of the same figures, on a run whose current stage is cut
where its windows end. It is provisional, and says so:

- What is on its way (in flight, or waiting to be sent) has no outcome. As many as were planned
  in the last second are not late yet: they are left out, and count in rates, which give every
  request one more window. The others count as arrivals of lost windows do: a result that they
  could turn is open.
- What only an ended run can show is left out: conservation against the workers' FINALs, the
  plan's totals, that the run came to its end, and everything about failovers and writes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import msgspec
import pandas as pd

from analysis.conservation import data_findings, histogram_findings
from analysis.figures import NS_PER_S, Figures, StageFigures, build_figures
from analysis.findings import Finding
from analysis.generator import generator_findings
from analysis.judging import Case, ObjectiveResult, State, judge_objective
from analysis.little import little_findings
from analysis.pool_use import build_pool_uses
from analysis.verdict import cases_of, levels_in, merge_states, plan_of
from loadtests.plan.model import Plan
from loadtests.plan.objectives import FAILOVER_KINDS
from loadtests.record.archive import Run
from loadtests.record.manifest import Manifest
from loadtests.record.window import Count


class Standing(Enum):
    """How an objective stands in a stage so far."""

    HOLDS = "holds"
    VIOLATED = "violated"
    TOO_FEW = "too few samples"
    OPEN = "open"  # the generator's doing, or what is on its way could turn it


@dataclass(frozen=True, slots=True, kw_only=True)
class SoFar:
    """`through_s`: the last second that was looked at, Unix time; None before the first.

    `later` are objectives that are judged when the run has ended.
    """

    through_s: int | None
    state: State
    objectives: tuple[ObjectiveResult, ...]
    findings: tuple[Finding, ...]
    later: tuple[str, ...]


def standing_of(result: ObjectiveResult) -> Standing:
    """In one word."""
    if result.state is State.PASS:
        return Standing.HOLDS
    if result.state is State.FAIL:
        return Standing.VIOLATED
    is_small = result.reading.value is None or result.reading.is_too_small
    return Standing.TOO_FEW if is_small else Standing.OPEN


def judge_so_far(run: Run) -> SoFar:
    """Judge a run that is under way; HarnessError when its plan cannot be read."""
    plan = plan_of(run)
    later = tuple(one.text for one in plan.objectives if one.measure.kind in FAILOVER_KINDS)
    through_s = int(run.windows["window_s"].max()) if len(run.windows) else None
    if through_s is None:
        return SoFar(
            through_s=None, state=State.INCONCLUSIVE, objectives=(), findings=(), later=later
        )
    cut = dataclasses.replace(run, manifest=_cut(run.manifest, through_s))
    stages = tuple(stage for stage in build_figures(cut) if stage.span.seconds)
    findings = find_so_far(cut, plan, stages)
    pools, levels = build_pool_uses(cut, plan, stages), levels_in(cut, plan, stages)
    cases = cases_of(plan, stages, findings, pools, levels)
    newest = cut.windows[cut.windows["window_s"] == through_s]
    objectives = tuple(judge_objective(_as_of_now(case, newest)) for case in cases)
    states = [result.state for result in objectives]
    if any(finding.is_invalid for finding in findings):
        states.append(State.INCONCLUSIVE)
    return SoFar(
        through_s=through_s,
        state=merge_states(states) if objectives else State.INCONCLUSIVE,
        objectives=objectives,
        findings=findings,
        later=later,
    )


def find_so_far(run: Run, plan: Plan, stages: Sequence[StageFigures]) -> tuple[Finding, ...]:
    """What can be checked before the end."""
    return (
        *histogram_findings(run),
        *data_findings(stages),
        *generator_findings(run, plan, stages),
        *little_findings(run, stages),
    )


def _cut(manifest: Manifest, through_s: int) -> Manifest:
    """The stages end where the windows do; those that have not begun are empty."""
    end_ns = (through_s + 1) * NS_PER_S - (manifest.t0_unix_ns or 0)
    stages = tuple(
        msgspec.structs.replace(stage, end_ns=max(stage.start_ns, min(stage.end_ns, end_ns)))
        for stage in manifest.stages
    )
    return msgspec.structs.replace(manifest, stages=stages)


def _as_of_now(case: Case, newest: pd.DataFrame) -> Case:
    """What is on its way has an unknown outcome, not a missing one; rows of the last second."""
    rows = newest[newest["stage"] == case.stage.facts.name]
    if case.objective.request is not None:
        rows = rows[rows["request"] == case.objective.request]
    waiting = _on_its_way(case.figures)
    young = min(waiting, int(rows["planned"].sum()))
    counters = case.figures.on_time.counters.copy()
    counters[Count.OK] += young
    on_time = dataclasses.replace(case.figures.on_time, counters=counters)
    lost_planned = case.stage.lost_planned + waiting - young
    return dataclasses.replace(
        case,
        stage=dataclasses.replace(case.stage, lost_planned=lost_planned),
        figures=dataclasses.replace(case.figures, on_time=on_time, unanswered=0),
    )


def _on_its_way(figures: Figures) -> int:
    count = figures.tally.count
    waiting = count(Count.PLANNED) - count(Count.SENT) - count(Count.DROPPED)
    return max(0, figures.unanswered) + max(0, waiting)
