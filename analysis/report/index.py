"""`results/index.html`: the runs, the baselines and the history of each scenario.

Made from what `list_runs` and the baselines' files say; no archive is read whole. A damaged
run is a row that says so. Verdicts are those written with the runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from analysis.baseline_types import Baseline
from analysis.cells import number_column, text_column, whole_column
from analysis.judging import State
from analysis.report.rendering import render_page
from analysis.stored_verdict import verdict_text
from analysis.tables import Column
from analysis.text import UNKNOWN, latency, rate, utc
from loadtests.record.catalogue import RunState, RunSummary
from loadtests.record.directory import REPORT_FILES
from loadtests.record.files import replace_file

INDEX_FILE: Final = "index.html"
_NO_TREND: Final = "no change point computed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A cell; `link` is relative to the page, "" for plain text."""

    text: str
    link: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A table of the page."""

    anchor: str
    title: str
    note: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Entry, ...], ...]


def _report_link(summary: RunSummary, results: Path) -> str:
    page = summary.path / REPORT_FILES[0]
    return quote(page.relative_to(results).as_posix()) if page.is_file() else ""


def _run_row(summary: RunSummary, results: Path) -> tuple[Entry, ...]:
    manifest = summary.manifest
    run = Entry(text=summary.run_id, link=_report_link(summary, results))
    if manifest is None:
        blank = Entry(text=UNKNOWN)
        return (run, blank, blank, blank, Entry(text=summary.state.value), blank)
    is_whole = summary.state is RunState.COMPLETE
    end = manifest.outcome.value if is_whole else summary.state.value
    started = "never" if manifest.t0_unix_ns is None else utc(manifest.t0_unix_ns)
    return (
        run,
        Entry(text=manifest.scenario_name),
        Entry(text=started),
        Entry(text="1" if manifest.scale == 1.0 else f"x {manifest.scale:.6g}"),
        Entry(text=end),
        Entry(text=verdict_text(summary)),
    )


def _runs(summaries: Sequence[RunSummary], results: Path) -> Listing:
    return Listing(
        anchor="runs",
        title="Runs",
        note="Newest first, as of the last `headroom report` or `baseline promote`; those with a "
        "link have a report. The verdict is that of the run.",
        columns=(
            whole_column("run"),
            text_column("scenario"),
            whole_column("started", "started, UTC"),
            number_column("scale"),
            whole_column("end"),
            whole_column("verdict"),
        ),
        rows=tuple(_run_row(summary, results) for summary in reversed(summaries)),
    )


def _baselines(baselines: Sequence[Baseline]) -> Listing:
    rows = []
    for baseline in reversed(baselines):
        for row in baseline.rows:
            p95 = UNKNOWN if row.p95_us is None else latency(row.p95_us * 1000)
            p99 = UNKNOWN if row.p99_us is None else latency(row.p99_us * 1000)
            texts = (
                baseline.run_id, baseline.scenario, row.stage,
                "1" if baseline.scale == 1.0 else f"x {baseline.scale:.6g}",
                baseline.load_model, rate(row.throughput_per_s), p95, p99, baseline.verdict,
            )  # fmt: skip
            rows.append(tuple(Entry(text=text) for text in texts))
    return Listing(
        anchor="baselines",
        title="Baselines",
        note="Promoted runs, newest first; a scaled one shows nothing about the full target.",
        columns=(
            whole_column("run"),
            text_column("scenario"),
            text_column("stage"),
            number_column("scale"),
            text_column("load"),
            number_column("throughput", "answers/s"),
            number_column("p95"),
            number_column("p99"),
            whole_column("verdict"),
        ),
        rows=tuple(rows),
    )


def _trends(summaries: Sequence[RunSummary], changes: Mapping[tuple[str, float], str]) -> Listing:
    """One row a scenario and scale; what `analysis/trend` says of it comes from outside."""
    history: dict[tuple[str, float], list[RunSummary]] = {}
    for summary in summaries:
        if summary.manifest is not None and summary.state is RunState.COMPLETE:
            key = (summary.manifest.scenario_name, summary.manifest.scale)
            history.setdefault(key, []).append(summary)
    rows = []
    for (scenario, scale), runs in sorted(history.items()):
        words = [verdict_text(run) for run in runs]
        texts = (
            scenario,
            "1" if scale == 1.0 else f"x {scale:.6g}",
            str(len(runs)),
            *(str(words.count(state.value)) for state in State),
            runs[0].run_id,
            runs[-1].run_id,
            changes.get((scenario, scale), _NO_TREND),
        )
        rows.append(tuple(Entry(text=text) for text in texts))
    return Listing(
        anchor="trends",
        title="Trends",
        note="Complete runs of each scenario. Change points: headroom trend SCENARIO.",
        columns=(
            text_column("scenario"),
            number_column("scale"),
            number_column("runs"),
            *(number_column(state.value) for state in State),
            whole_column("first"),
            whole_column("newest"),
            text_column("changes", "change points"),
        ),
        rows=tuple(rows),
    )


def to_index(
    summaries: Sequence[RunSummary],
    baselines: Sequence[Baseline],
    changes: Mapping[tuple[str, float], str],
    results: Path,
) -> str:
    """The page. `changes`: what is said of the change points of a scenario at a scale."""
    sections = (_runs(summaries, results), _baselines(baselines), _trends(summaries, changes))
    return render_page("index.html", {"sections": sections})


def write_index(
    summaries: Sequence[RunSummary],
    baselines: Sequence[Baseline],
    changes: Mapping[tuple[str, float], str],
    results: Path,
) -> Path:
    """Write `index.html` into a results folder; HarnessError when it cannot be."""
    path = results / INDEX_FILE
    replace_file(path, to_index(summaries, baselines, changes, results).encode())
    return path
