"""The history of a scenario: comparable runs in the order of their start.

Runs are taken from the archives, and from the promoted baselines where an archive is gone:
baselines are the long memory. In a row stand only runs that can be compared: of one scale,
load model, mix and stages, those of the newest usable run unless another is named. What is
left out is named with its reason: INCONCLUSIVE, generator-limited, aborted and damaged runs
measured nothing, and runs of another load measured something else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from analysis.baseline_types import Baseline
from analysis.trend.digests import Digest
from loadtests.errors import Mistake, ScenarioError


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A run that does not stand in the history."""

    run_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Comparable runs, oldest first; `from_baselines` have no archive any more.

    So many `older` ones were not asked for.
    """

    scenario: str
    runs: tuple[Baseline, ...]
    from_baselines: frozenset[str]
    left_out: tuple[LeftOut, ...]
    older: int

    def newest(self, number: int) -> History:
        """The same with the newest so many of its runs."""
        runs = self.runs[-number:]
        ids = {run.run_id for run in runs}
        return replace(
            self,
            runs=runs,
            from_baselines=self.from_baselines & ids,
            older=self.older + len(self.runs) - len(runs),
        )

    @property
    def scale(self) -> float:
        """The scale that all runs have; 1 without a run."""
        return self.runs[-1].scale if self.runs else 1.0


def differences(run: Baseline, reference: Baseline) -> tuple[str, ...]:
    """What keeps two runs from being compared, in words; () when nothing does."""
    found = []
    if run.scale != reference.scale:
        found.append(f"scale {run.scale:g} instead of {reference.scale:g}")
    if run.load_model != reference.load_model:
        found.append(f"{run.load_model} load instead of {reference.load_model}")
    if run.mix_sha256 is None:
        found.append("its baseline was promoted before the mix was recorded")
    elif run.mix_sha256 != reference.mix_sha256:
        found.append("another mix of requests")
    # Stages carry scaled rates: of runs of two scales they differ for that reason alone.
    if not found and run.load_sha256 != reference.load_sha256:
        found.append("other stages or rates")
    return tuple(found)


def _reference(runs: Sequence[Baseline], like: str | None) -> Baseline | None:
    """The run that the others are held against: the newest one, or the named one."""
    if like in {None, "latest"}:
        usable = [run for run in runs if run.mix_sha256 is not None]
        return usable[-1] if usable else None
    found = [run for run in runs if like and run.run_id.startswith(like)]
    if len(found) != 1:
        mistake = Mistake(
            where="--like",
            seen=f"{like!r}, which fits {len(found)} of {len(runs)} usable runs of the scenario",
            expected="the id of one of them, its unique beginning, or latest (the newest one)",
        )
        raise ScenarioError("trend", (mistake,))
    return found[0]


def build_history(
    scenario: str,
    digests: Iterable[Digest],
    baselines: Iterable[Baseline],
    *,
    unreadable: Iterable[LeftOut] = (),
    like: str | None = None,
) -> History:
    """The history of one scenario; ScenarioError when `like` names no single run of it."""
    left_out, known = list(unreadable), {}
    for digest in digests:
        if digest.figures.scenario != scenario:
            continue
        if digest.refusal:
            left_out.append(LeftOut(run_id=digest.figures.run_id, reason=digest.refusal))
        else:
            known[digest.figures.run_id] = digest.figures
    archived = frozenset(known) | {one.run_id for one in left_out}
    for baseline in baselines:
        if baseline.scenario == scenario and baseline.run_id not in archived:
            known[baseline.run_id] = baseline
    ordered = sorted(known.values(), key=lambda run: (run.created_unix_ns, run.run_id))
    reference = _reference(ordered, like)
    runs = []
    for run in ordered:
        why = () if reference is None else differences(run, reference)
        if reference is None or why:
            reason = "; ".join(why) or "the mix was not recorded"
            left_out.append(LeftOut(run_id=run.run_id, reason=reason))
        else:
            runs.append(run)
    return History(
        scenario=scenario,
        runs=tuple(runs),
        from_baselines=frozenset(run.run_id for run in runs) - archived,
        left_out=tuple(sorted(left_out, key=lambda one: one.run_id)),
        older=0,
    )
