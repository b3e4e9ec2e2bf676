"""One run made ready to be compared: its verdict, its figures, its windows.

Of a baseline whose archive is gone only the promoted file is left: it has points and no
windows, so it can be looked at and not decided on, its error ratio apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from analysis.baseline_types import Baseline
from analysis.blocks import Blocks, Key, WindowCounts, load_counts, reading_blocks, step_for
from analysis.figures import StageFigures, build_figures
from analysis.statistics.cells import MOST_CELLS
from analysis.verdict import Verdict, judge, plan_of
from loadtests.plan.model import Plan
from loadtests.record.archive import Run
from loadtests.record.window import Kind

_SHORT_BYTES: Final = 32 << 20  # two logs are read: time is scarce here, memory is not


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A run with its archive; `stages` are the judged ones by name."""

    run: Run
    plan: Plan
    verdict: Verdict
    stages: Mapping[str, StageFigures]
    responses: Mapping[Key, Blocks]
    counts: Mapping[Key, WindowCounts]

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.run.manifest.run_id


@dataclass(frozen=True, slots=True, kw_only=True)
class FiledSubject:
    """A promoted baseline without its archive."""

    baseline: Baseline

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.baseline.run_id


AnySubject = Subject | FiledSubject


def build_subject(run: Run) -> Subject:
    """Read the windows of a run and judge it; HarnessError on damage."""
    step_s = step_for(run, MOST_CELLS)
    with reading_blocks(
        run, kind=Kind.RESPONSE, step_s=step_s, short_bytes=_SHORT_BYTES
    ) as responses:
        verdict, figures, counts = judge(run), build_figures(run), load_counts(run)
        return Subject(
            run=run,
            plan=plan_of(run),
            verdict=verdict,
            stages={stage.facts.name: stage for stage in figures if stage.facts.is_judged},
            responses=responses(),
            counts=counts,
        )
