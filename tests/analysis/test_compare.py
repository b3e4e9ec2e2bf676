"""Two sides of runs: what may be compared, what is decided, and that nothing is guessed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
from compared_runs import RATE, compared_plan, drawn_run, failing, run_id, slower
from scipy import stats
from synthetic_run import Trace, host

from analysis.baselines import build_baseline
from analysis.compare.comparison import Comparison, compare
from analysis.compare.contrasts import PAIRED, RANKS, RANKS_OF_RUNS, RUNS, SILENT, UNPAIRED
from analysis.compare.effects import Decision, Effect, Limits
from analysis.compare.estimates import build_part, percentiles_of_blocks, worth_of_runs
from analysis.compare.likeness import Aspect
from analysis.compare.measures import measures_of
from analysis.compare.page import comparison_to_json, comparison_to_markdown
from analysis.compare.subject import AnySubject, FiledSubject, Subject, build_subject
from analysis.figures import OVERALL
from analysis.statistics.ratios import Worth
from analysis.verdict import judge
from loadtests.errors import ScenarioError
from loadtests.plan.model import Hold, LoadModel, Plan, Ramp
from loadtests.record.manifest import Manifest, Outcome

LIMITS = Limits(change=0.15, error_ratio=0.02, alpha=0.05)
MEASURES = measures_of((0.5, 0.95))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder for the runs of this module."""
    return tmp_path_factory.mktemp("compare")


@pytest.fixture(scope="module")
def base(folder: Path) -> Subject:
    """The run that others are held against."""
    return build_subject(drawn_run(folder, 1))


@pytest.fixture(scope="module")
def again(folder: Path) -> Subject:
    """The same code once more."""
    return build_subject(drawn_run(folder, 2))


def held(
    before: AnySubject | Sequence[AnySubject],
    after: AnySubject | Sequence[AnySubject],
    *allowed: Aspect,
    limits: Limits = LIMITS,
) -> Comparison:
    """Compare with the limits of this module."""
    sides = [side if isinstance(side, Sequence) else [side] for side in (before, after)]
    return compare(sides[0], sides[1], measures=MEASURES, limits=limits, allowed=frozenset(allowed))


def effect(comparison: Comparison, measure: str, request: str | None = OVERALL) -> Effect:
    """The effect on one measure."""
    (found,) = [
        one for one in comparison.effects
        if (one.contrast.measure.name, one.contrast.request) == (measure, request)
    ]  # fmt: skip
    return found


def test_same_code_is_the_same(base: Subject, again: Subject) -> None:
    """No effect is significant, and one of the threshold's size would have been seen."""
    found = held(base, again)
    assert found.decision is Decision.SAME
    assert {one.decision for one in found.effects} == {Decision.SAME}
    median = effect(found, "p50")
    assert median.low is not None
    assert median.high is not None
    assert median.low < 0 < median.high
    assert median.detectable is not None
    assert median.detectable < LIMITS.change
    assert {one.contrast.request for one in found.effects} == {OVERALL, "read", "submit"}
    assert {one.contrast.stage for one in found.effects} == {"steady"}


def test_a_slower_run_has_regressed_and_the_other_way_round_improved(
    folder: Path, base: Subject
) -> None:
    """20 % more is found as such in every percentile; throughput and errors stay the same."""
    slow = build_subject(drawn_run(folder, 3, change=slower(1.2)))
    found = held(base, slow)
    assert found.decision is Decision.REGRESSED
    for measure in ("p50", "p95"):
        one = effect(found, measure)
        assert one.change == pytest.approx(0.2, abs=0.03)
        assert one.low is not None
        assert one.high is not None
        assert one.low < 0.2 < one.high
        assert one.contrast.method == UNPAIRED
    assert effect(found, "throughput").decision is Decision.SAME
    assert effect(found, "error_ratio").decision is Decision.SAME
    assert held(slow, base).decision is Decision.IMPROVED


def test_fewer_answers_are_a_regression(folder: Path, base: Subject) -> None:
    """Throughput counts in the other direction: less is worse."""
    found = held(base, build_subject(drawn_run(folder, 4, change=failing(5, "timeout"))))
    rate = effect(found, "throughput")
    assert rate.contrast.before == pytest.approx(RATE, rel=0.01)
    assert rate.change == pytest.approx(-1 / 5, abs=0.03)
    assert rate.decision is Decision.REGRESSED


def test_errors_are_compared_by_their_difference(folder: Path, base: Subject) -> None:
    """None and one in twenty: 5 points more, decided by an exact test; latencies stay."""
    found = held(base, build_subject(drawn_run(folder, 5, change=failing(20))))
    errors = effect(found, "error_ratio")
    assert errors.change == pytest.approx(0.05, abs=0.01)
    assert errors.decision is Decision.REGRESSED
    assert errors.low is not None
    assert errors.low > 0.03
    assert effect(found, "p50").decision is Decision.SAME
    assert found.decision is Decision.REGRESSED


def test_noise_above_the_threshold_is_unstable(base: Subject, again: Subject) -> None:
    """What could not have shown the threshold is not called the same."""
    found = held(base, again, limits=dataclasses.replace(LIMITS, change=0.001))
    assert effect(found, "p95").decision is Decision.UNSTABLE
    assert found.decision is Decision.UNSTABLE


def test_too_few_samples_are_said(folder: Path, base: Subject, again: Subject) -> None:
    """p99.9 of 7,200 samples of which 1,800 are one request: a reason and no number."""
    found = compare(
        [base], [again], measures=measures_of((0.999,)), limits=LIMITS, allowed=frozenset()
    )
    one = effect(found, "p99.9", "submit")
    assert one.decision is Decision.TOO_SMALL
    assert one.reason == "n too small: 1801 samples, needs 4603"
    assert (one.low, one.p_value, one.detectable) == (None, None, None)
    assert found.decision in {Decision.TOO_SMALL, Decision.UNSTABLE}
    assert folder.exists()


def test_several_runs_are_the_units(folder: Path, base: Subject, again: Subject) -> None:
    """Runs that differ by a tenth from each other: a tenth between the sides is nothing."""
    sides = [
        [build_subject(drawn_run(folder, 10 * side + at, change=slower(factor)))
         for at, factor in enumerate(factors)]
        for side, factors in ((3, (0.9, 1.0, 1.1)), (4, (1.0, 1.1, 1.2)))
    ]  # fmt: skip
    limits = dataclasses.replace(LIMITS, change=0.05)
    found = held(sides[0], sides[1], limits=limits)
    median = effect(found, "p50")
    assert median.contrast.method == RUNS
    assert median.change == pytest.approx(0.1, abs=0.02)
    assert median.decision is Decision.UNSTABLE
    one_each = effect(held(sides[0][1], sides[1][1], limits=limits), "p50")
    assert one_each.decision is Decision.REGRESSED
    assert "from run to run" in " ".join(held(base, again).notes)
    single = effect(held(sides[0], sides[1][2], limits=limits), "p50")
    assert single.contrast.method == RUNS
    assert single.decision is Decision.UNSTABLE


def test_windows_of_a_ramp_are_paired(folder: Path) -> None:
    """Latency that rises along the stage cancels out; unpaired it would be taken for noise."""
    plan = compared_plan(Ramp(start=20.0, end=100.0))

    def loaded(trace: Trace) -> None:
        late = 1 + 2 * trace.intended_ns / trace.intended_ns.max()
        trace.done_ns = trace.sent_ns + ((trace.done_ns - trace.sent_ns) * late).astype(np.int64)

    runs = [drawn_run(folder, number, plan=plan, change=loaded) for number in (20, 21)]
    before, after = (build_subject(run) for run in runs)
    one = effect(held(before, after), "p50")
    assert one.contrast.method == PAIRED
    assert one.high is not None
    assert one.high < 0.06
    flat = dataclasses.replace(after, plan=compared_plan())
    assert flat.plan != after.plan


def changed(base: Subject, **changes: object) -> Subject:
    """The same run with another plan; its id is another one too."""
    other = dataclasses.replace(base.plan, **changes)  # type: ignore[arg-type]  # fields by name
    return dataclasses.replace(renumbered(base), plan=other)


def renumbered(base: Subject, **changes: object) -> Subject:
    """The same run with another id and manifest."""
    manifest = msgspec.structs.replace(base.run.manifest, run_id=run_id(99), **changes)
    return dataclasses.replace(base, run=dataclasses.replace(base.run, manifest=manifest))


def other_kernel(manifest: Manifest) -> Manifest:
    """Agents on hosts with another kernel."""
    agents = tuple(
        msgspec.structs.replace(a, host=msgspec.structs.replace(host(), kernel="Linux 6.1"))
        for a in manifest.agents
    )
    return msgspec.structs.replace(manifest, agents=agents)


def unlike_runs(base: Subject) -> dict[Aspect, Subject]:
    """One run for each aspect, which differs in that alone."""
    plan: Plan = base.plan
    agents = base.run.manifest.agents
    faster = dataclasses.replace(plan.stages[1], profile=Hold(level=70.0))
    newer = tuple(msgspec.structs.replace(a, versions={"headroom": "0.2.0"}) for a in agents)
    heavier = (dataclasses.replace(plan.requests[0], weight=9.0), *plan.requests[1:])
    verdict = dataclasses.replace(base.verdict, outcome=Outcome.ABORTED)
    return {
        Aspect.LOAD: changed(base, load_model=LoadModel.CLOSED),
        Aspect.SCALE: changed(base, scale=0.01),
        Aspect.STAGES: changed(base, stages=(plan.stages[0], faster)),
        Aspect.MIX: changed(base, requests=heavier),
        Aspect.HOSTS: renumbered(base, agents=other_kernel(base.run.manifest).agents),
        Aspect.GENERATOR: renumbered(base, agents=newer),
        Aspect.NODES: changed(base, nodes=plan.nodes[:1]),
        Aspect.VERDICT: dataclasses.replace(renumbered(base), verdict=verdict),
    }


@pytest.mark.parametrize("aspect", Aspect)
def test_unlike_runs_are_refused_unless_allowed(base: Subject, aspect: Aspect) -> None:
    """The aspect is named with both values and the word that allows it; allowed, it is said."""
    other = unlike_runs(base)[aspect]
    with pytest.raises(ScenarioError, match=f"--allow {aspect.value}"):
        held(base, other)
    found = held(base, other, aspect)
    assert found.allowed
    assert all(sentence.startswith(aspect.value) for sentence in found.allowed)


def test_another_body_is_another_mix(base: Subject) -> None:
    """Requests that are called the same and send something else are not the same load."""
    requests = (dataclasses.replace(base.plan.requests[0], body=b"more"), *base.plan.requests[1:])
    with pytest.raises(ScenarioError, match="what requests send"):
        held(base, changed(base, requests=requests))


def test_an_unsound_run_is_refused_on_either_side(folder: Path, base: Subject) -> None:
    """A run that was aborted measured nothing, whichever side it is on."""
    run = drawn_run(
        folder, 50,
        change_manifest=lambda m: msgspec.structs.replace(m, outcome=Outcome.ABORTED),
    )  # fmt: skip
    aborted = build_subject(run)
    for sides in ((base, aborted), (aborted, base)):
        with pytest.raises(ScenarioError, match="ended aborted"):
            held(*sides)


def test_a_new_version_of_the_target_is_what_is_compared(base: Subject, again: Subject) -> None:
    """It is stated and not refused; so is a commit."""
    manifest = msgspec.structs.replace(again.run.manifest, target_version="12.0", git_commit="ab")
    other = dataclasses.replace(again, run=dataclasses.replace(again.run, manifest=manifest))
    stated = " ".join(held(base, other).stated)
    assert "target version:  None and 12.0" in stated
    assert "commit" in stated


def test_a_run_cannot_be_on_both_sides(base: Subject, again: Subject) -> None:
    """Counted twice it would agree with itself."""
    with pytest.raises(ScenarioError, match="twice"):
        held([base, again], base)


def test_a_baseline_without_its_archive_has_points_only(folder: Path, base: Subject) -> None:
    """Percentiles have no interval and no decision; errors, which have counts, have both."""
    bad = build_subject(drawn_run(folder, 60, change=failing(20)))
    filed = FiledSubject(baseline=build_baseline(base.run, judge(base.run)))
    found = held(filed, bad)
    median = effect(found, "p50")
    assert median.contrast.before == base.stages["steady"].overall.tally.response.quantile_us(0.5)
    assert (median.decision, median.low) == (Decision.TOO_SMALL, None)
    assert median.change == pytest.approx(0, abs=0.05)
    assert effect(found, "error_ratio").decision is Decision.REGRESSED
    assert "archive is gone" in " ".join(found.notes)
    assert held(filed, renumbered(base)).decision is Decision.TOO_SMALL
    with pytest.raises(ScenarioError, match="load over time"):
        held(filed, unlike_runs(base)[Aspect.STAGES])


def test_runs_that_differ_in_errors_are_worth_less() -> None:
    """100 of 10,000 in one run and none in the other is not 100 of 20,000 independent ones."""
    sides = [Worth(hits=hits, trials=1e4, windows=100, block_windows=1.0) for hits in (100.0, 0.0)]
    both = worth_of_runs([(100, 10_000), (0, 10_000)], sides)
    assert isinstance(both, Worth)
    assert both.trials < 500
    even = worth_of_runs([(50, 10_000), (50, 10_000)], sides)
    assert isinstance(even, Worth)
    assert even.trials == 20_000


def test_the_same_archives_give_the_same_bytes(base: Subject, again: Subject) -> None:
    """JSON is a function of the archives: seeds come from run ids."""
    one, other = (comparison_to_json(held(base, again)) for _ in range(2))
    assert msgspec.json.encode(one, order="sorted") == msgspec.json.encode(other, order="sorted")
    assert json.loads(msgspec.json.encode(one))["decision"] == "same"


def test_hostile_names_are_harmless_in_markdown(base: Subject, again: Subject) -> None:
    """A request's name is text, wherever it is printed."""
    found = held(base, again)
    first = found.effects[0]
    name = "<script>alert(1)</script>|\n=cmd"
    contrast = dataclasses.replace(first.contrast, request=name, stage=name)
    hostile = dataclasses.replace(
        found, scenario=name, effects=(dataclasses.replace(first, contrast=contrast),)
    )
    page = comparison_to_markdown(hostile)
    assert "<script>" not in page
    assert all(line.count("|") in {0, 13} for line in page.replace("\\|", "").splitlines())


def test_silence_is_a_regression(folder: Path, base: Subject) -> None:
    """A rate that fell to 0 has no logarithm, and is no small sample: 100 % less, decided."""
    silent = build_subject(drawn_run(folder, 80, change=failing(1, "timeout")))
    found = held(base, silent, Aspect.VERDICT)
    rate = effect(found, "throughput")
    assert (rate.contrast.after, rate.change, rate.low) == (0.0, -1.0, -1.0)
    assert rate.high is not None
    assert -1 < rate.high < -0.9
    assert (rate.decision, rate.contrast.method) == (Decision.REGRESSED, SILENT)
    assert found.decision is Decision.REGRESSED
    again = effect(held(silent, base, Aspect.VERDICT), "throughput")
    assert (again.decision, again.change) == (Decision.IMPROVED, np.inf)
    page = comparison_to_markdown(held(silent, base, Aspect.VERDICT))
    assert "| 0 | 60.0 | ∞ |" in page


def test_two_runs_against_one_could_show_nothing(folder: Path, base: Subject) -> None:
    """One degree of freedom: no figure with thirteen digits, but that none could be shown."""
    others = [
        build_subject(drawn_run(folder, n, change=slower(f))) for n, f in ((81, 1), (82, 1.3))
    ]
    found = held(others, base)
    median = effect(found, "p50")
    assert median.detectable == np.inf
    assert median.decision is Decision.UNSTABLE
    (row,) = [
        line for line in comparison_to_markdown(found).splitlines()
        if line.startswith("| all requests | p50 |")
    ]  # fmt: skip
    cells = [cell.strip() for cell in row.split("|")]
    assert cells[8] == "none"
    assert "&gt;+1000 %" in cells[6]
    (document,) = [
        one for one in comparison_to_json(found)["effects"]  # type: ignore[union-attr]  # a list
        if one["measure"] == "p50" and one["request"] is None  # type: ignore[index, call-overload]
    ]  # fmt: skip
    assert document["detectable"] is None  # type: ignore[index, call-overload]


def ranked(before: Sequence[AnySubject], after: Sequence[AnySubject]) -> Comparison:
    """Compare with Mann-Whitney's p-values."""
    return compare(
        before, after, measures=MEASURES, limits=LIMITS, allowed=frozenset(), is_ranked=True
    )


def test_a_rank_test_is_over_blocks_of_windows(folder: Path, base: Subject) -> None:
    """The p-value is scipy's on the percentile of each block; the interval stays."""
    slow = build_subject(drawn_run(folder, 83, change=slower(1.2)))
    median = effect(ranked([base], [slow]), "p50")
    assert median.contrast.method == RANKS
    assert median.decision is Decision.REGRESSED
    plain = effect(held(base, slow), "p50")
    assert (median.low, median.high, median.change) == (plain.low, plain.high, plain.change)
    blocks = [
        percentiles_of_blocks(build_part(one, "steady", OVERALL), 0.5) for one in (base, slow)
    ]
    first, second = (values for values in blocks if not isinstance(values, str))
    assert 4 <= first.size <= 120
    assert first.mean() == pytest.approx(20_000, rel=0.05)
    assert median.p_value == stats.mannwhitneyu(first, second, method="auto").pvalue
    assert effect(ranked([base], [slow]), "throughput").contrast.method == RANKS
    assert effect(ranked([base], [slow]), "error_ratio").decision is Decision.SAME


def test_a_rank_test_of_few_runs_has_nothing_to_say(
    folder: Path, base: Subject, again: Subject
) -> None:
    """Two runs against two: no order of four values is significant."""
    others = [build_subject(drawn_run(folder, n)) for n in (84, 85)]
    one = effect(ranked([base, again], others), "p50")
    assert (one.contrast.method, one.decision) == (RANKS_OF_RUNS, Decision.TOO_SMALL)
    assert one.reason == "n too small: 2 values a side, needs 4"
