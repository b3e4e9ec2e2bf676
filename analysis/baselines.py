"""Baselines: runs promoted as reference, one small file each, history kept.

`results/baselines/<run id>.json` holds the figures of each judged stage; the tables
`results/BASELINES.md` and `.csv` are made from all of them, every time. A file is never
changed: promoting a run again is allowed only if it says the same.

Promoted is what was measured, not what was hoped for: a PASS, or a FAIL, which is a result
too (200 % of a baseline is meant to find the limit) and keeps its verdict in its row. An
INCONCLUSIVE, generator-limited, aborted or partial run measured nothing and is refused. No
row without a run id. A scaled run carries its scale into its file and has tables of its
own: nothing here can make it look unscaled.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from analysis.baseline_tables import to_csv, to_page
from analysis.baseline_types import (
    BASELINE_SCHEMA,
    Baseline,
    BaselineRow,
    HardeningRow,
    decode_baseline,
    encode_baseline,
    is_same_record,
)
from analysis.cells import quantile_cell
from analysis.figures import StageFigures, build_figures
from analysis.judging import State
from analysis.kept_histogram import keep
from analysis.load_identity import load_identity_of
from analysis.recovery.judging import FAILOVER
from analysis.text import reading_text
from analysis.verdict import Verdict, plan_of
from loadtests.errors import HarnessError, Mistake, ScenarioError
from loadtests.record.archive import Run
from loadtests.record.files import replace_file
from loadtests.record.histogram import Histogram
from loadtests.record.manifest import RUN_ID, Manifest, Outcome
from loadtests.record.window import Count

FOLDER: Final = "baselines"
MARKDOWN_FILE: Final = "BASELINES.md"
CSV_FILE: Final = "BASELINES.csv"
_LOCK_FILE: Final = ".lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What became of one run in `record_results`; `reason` says why it was not promoted."""

    run_id: str
    is_promoted: bool
    reason: str


def refusal_of(run: Run, verdict: Verdict) -> Mistake | None:
    """Why a run cannot be a baseline, because it measured nothing; None: it can."""
    expected = "a whole run with a PASS or a FAIL of its target"
    where = verdict.run_id
    if verdict.run_id != run.manifest.run_id or verdict.scale != run.manifest.scale:
        return Mistake(where=where, seen="the verdict of another run", expected=expected)
    if not verdict.is_complete or verdict.outcome is not Outcome.COMPLETE:
        seen = f"a run that ended {verdict.outcome.value}"
        return Mistake(where=where, seen=seen, expected=expected)
    because = verdict.reasons[0] if verdict.reasons else "no reason stated"
    if verdict.is_generator_limited:
        seen = f"a run that the generator limited: {because}"
        return Mistake(where=where, seen=seen, expected=expected)
    if verdict.state is State.INCONCLUSIVE:
        return Mistake(where=where, seen=f"INCONCLUSIVE: {because}", expected=expected)
    return None


def _number_us(histogram: Histogram, quantile: float | None) -> float | None:
    value = quantile_cell(histogram, quantile).value
    return value if isinstance(value, float) else None


def _row(stage: StageFigures, *, has_histogram: bool) -> BaselineRow:
    part, seconds = stage.overall, stage.span.seconds
    tally, response = part.tally, part.tally.response
    bad = tally.count(Count.CLIENT_ERROR) + tally.count(Count.FAILED)
    return BaselineRow(
        stage=stage.facts.name,
        duration_s=seconds,
        planned_per_s=part.on_time.count(Count.PLANNED) / seconds,
        throughput_per_s=part.on_time.answered / seconds,
        goodput_per_s=part.on_time.count(Count.OK) / seconds,
        n=tally.done,
        p50_us=_number_us(response, 0.5),
        p95_us=_number_us(response, 0.95),
        p99_us=_number_us(response, 0.99),
        p999_us=_number_us(response, 0.999),
        max_us=_number_us(response, None),
        error_ratio=bad / tally.done,
        dropped=tally.count(Count.DROPPED),
        response=keep(response) if has_histogram else None,
    )


def _hardening(verdict: Verdict) -> Iterator[HardeningRow]:
    """The objectives on failovers, as they were judged."""
    for result in verdict.objectives:
        if result.stage == FAILOVER:
            yield HardeningRow(
                expected=result.objective,
                actual=reading_text(result.reading),
                status=result.state.value,
            )


def summarise(
    run: Run, verdict: Verdict, phase: str | None = None, *, has_histograms: bool = False
) -> Baseline:
    """The figures of a run's judged stages, whatever they are worth (`refusal_of` says that)."""
    manifest, plan = run.manifest, plan_of(run)
    judged = [s for s in build_figures(run) if s.facts.is_judged and s.overall.tally.done]
    identity = load_identity_of(plan)
    return Baseline(
        schema_version=BASELINE_SCHEMA,
        run_id=manifest.run_id,
        scenario=manifest.scenario_name,
        description=plan.description,
        created_unix_ns=manifest.created_unix_ns,
        load_percent=verdict.load_percent,
        load_model=manifest.load_model,
        scale=manifest.scale,
        verdict=verdict.state.value,
        reasons=verdict.reasons,
        warnings=tuple(sorted({f.law.value for f in verdict.findings if not f.is_invalid})),
        hosts=len({agent.host.hostname for agent in manifest.agents}),
        target_version=manifest.target_version,
        git_commit=manifest.git_commit,
        phase=phase,
        protocols=identity.protocols,
        services=identity.services,
        mix_sha256=identity.mix_sha256,
        load_sha256=identity.load_sha256,
        nodes=len(plan.nodes),
        rows=tuple(_row(stage, has_histogram=has_histograms) for stage in judged),
        hardening=tuple(_hardening(verdict)),
    )


def build_baseline(run: Run, verdict: Verdict, phase: str | None = None) -> Baseline:
    """The figures to keep; ScenarioError when the run cannot be a baseline."""
    if (mistake := refusal_of(run, verdict)) is not None:
        raise ScenarioError("baseline promote", (mistake,))
    return summarise(run, verdict, phase, has_histograms=True)


def _decode(path: Path) -> Baseline:
    expected = "a baseline as `headroom baseline promote` writes it"
    try:
        baseline = decode_baseline(path.read_bytes())
    except (OSError, ValueError) as error:  # msgspec's errors are ValueErrors too
        raise HarnessError(where=str(path), seen=str(error), expected=expected) from error
    if not RUN_ID.fullmatch(baseline.run_id) or path.stem != baseline.run_id:
        seen = f"run id {baseline.run_id!r}"
        raise HarnessError(where=str(path), seen=seen, expected="the run id of the file's name")
    return baseline


@contextmanager
def _locked(results: Path) -> Iterator[Path]:
    """The baselines' folder, for one process at a time; HarnessError if it cannot be made."""
    folder = results / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / _LOCK_FILE).open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder
    except OSError as error:
        raise HarnessError(
            where=str(folder), seen=str(error), expected="a folder that can be written"
        ) from error


def read_baselines(results: Path) -> tuple[tuple[Baseline, ...], tuple[HarnessError, ...]]:
    """All promoted baselines that can be read, oldest first, and an error for each other."""
    found: list[Baseline] = []
    damaged: list[HarnessError] = []
    for path in sorted((results / FOLDER).glob("*.json")):
        try:
            found.append(_decode(path))
        except HarnessError as error:
            damaged.append(error)
    return tuple(sorted(found, key=lambda b: (b.created_unix_ns, b.run_id))), tuple(damaged)


def list_baselines(results: Path) -> tuple[Baseline, ...]:
    """All promoted baselines, oldest first; HarnessError on a damaged file."""
    found, damaged = read_baselines(results)
    for error in damaged:
        raise error
    return found


def _write_tables(results: Path) -> None:
    baselines = list_baselines(results)
    replace_file(results / MARKDOWN_FILE, to_page(baselines).encode())
    replace_file(results / CSV_FILE, to_csv(baselines).encode())


def newest_before(
    baselines: Sequence[Baseline],
    manifest: Manifest,
    load_percent: float | None,
) -> Baseline | None:
    """The baseline that may stand beside a run; None without one.

    The newest of the same scenario, scale, load model and share of its named rate, of another
    run that began before this one.
    """
    own = [
        baseline
        for baseline in baselines
        if (baseline.scenario, baseline.scale, baseline.load_model, baseline.load_percent)
        == (manifest.scenario_name, manifest.scale, manifest.load_model, load_percent)
        and baseline.run_id != manifest.run_id
        and baseline.created_unix_ns < manifest.created_unix_ns
    ]
    return max(own, key=lambda baseline: (baseline.created_unix_ns, baseline.run_id), default=None)


def find_baseline(results: Path, name: str) -> Baseline:
    """The baseline of a run named by id, unique beginning or `latest`; ScenarioError otherwise."""
    baselines = list_baselines(results)
    found = [one for one in baselines if name and one.run_id.startswith(name)]
    if name == "latest":
        found = list(baselines[-1:])
    if len(found) != 1:
        mistake = Mistake(
            where="BASELINE",
            seen=f"{name!r}, which fits {len(found)} of {len(baselines)} baselines in {results}",
            expected="a run id of `headroom baseline list`, its unique beginning, or latest",
        )
        raise ScenarioError("baseline show", (mistake,))
    return found[0]


def promote(run: Run, verdict: Verdict, results: Path, phase: str | None = None) -> Baseline:
    """Keep a run as a baseline and make the tables anew.

    ScenarioError when the run cannot be one or was promoted before with other figures;
    HarnessError when the folder cannot be written. A file that says the same stays as it is.
    """
    baseline = build_baseline(run, verdict, phase)
    with _locked(results) as folder:
        path = folder / f"{baseline.run_id}.json"
        if path.exists():
            if not is_same_record(_decode(path), baseline):
                mistake = Mistake(
                    where=str(path),
                    seen="a baseline of this run with other figures or another phase",
                    expected="the same figures: history is kept",
                )
                raise ScenarioError("baseline promote", (mistake,))
        else:
            replace_file(path, encode_baseline(baseline))
        _write_tables(results)
    return baseline


def record_results(judged: Sequence[tuple[Run, Verdict]], results: Path) -> tuple[Recorded, ...]:
    """Promote every run that may be, and say why the others were not; tables are made anew."""
    recorded = []
    for run, verdict in judged:
        try:
            promote(run, verdict, results)
        except ScenarioError as error:
            reason = "; ".join(mistake.seen for mistake in error.mistakes)
            recorded.append(Recorded(run_id=verdict.run_id, is_promoted=False, reason=reason))
        else:
            recorded.append(Recorded(run_id=verdict.run_id, is_promoted=True, reason=""))
    with _locked(results):
        _write_tables(results)
    return tuple(recorded)
