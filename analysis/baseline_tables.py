"""The baseline tables: Markdown for people, CSV for spreadsheets, both from the same rows.

The page has the tables of the requirement's section 6 (REST, enhanced services, load
profiles, hardening), with a run id in every row and every word about a result from that
run: a table without a run says that none has been promoted. A 100 % profile is a baseline
too and stands in both tables. What is never compared with these stands in chapters of its
own below: closed load, and scaled runs under their warning.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from analysis.baseline_types import Baseline, BaselineRow
from analysis.cells import number_column, percentile_cell, rate_cell, text_column, whole_column
from analysis.tables import Cell, Table, to_markdown, words
from analysis.text import csv_cell, ratio, utc_date
from loadtests.plan.model import LoadModel
from loadtests.plan.units import format_duration

_HEAD: Final = """\
# Baselines

Made by `headroom baseline promote` from the files in `baselines/`; do not edit. Latencies
are response times, from the intended start. RPS is the throughput over the judged time.
`headroom baseline show RUN` prints everything that was kept of a run.
"""
_NONE: Final = "No run has been promoted."
_FULL_PERCENT: Final = 100.0

_COLUMNS: Final = {
    column.key: column
    for column in (
        text_column("date", "Date"),
        text_column("phase", "Phase"),
        text_column("scenario", "Scenario"),
        text_column("stage", "Stage"),
        number_column("load_percent", "Load"),
        number_column("scale", "Scale"),
        number_column("duration_s", "Duration"),
        number_column("rps", "RPS"),
        number_column("p50_us", "P50"),
        number_column("p95_us", "P95 latency"),
        number_column("p99_us", "P99"),
        number_column("p99.9_us", "P99.9"),
        number_column("error_ratio", "Error rate"),
        text_column("protocols", "Protocol"),
        text_column("services", "Services"),
        whole_column("verdict", "Result"),
        whole_column("run_id", "Run"),
        text_column("notes", "Notes"),
    )
}


def _notes(baseline: Baseline) -> str:
    parts = [name for name in baseline.warnings if name not in {"scaled run", "closed load"}]
    if baseline.target_version:
        parts.append(f"target {baseline.target_version}")
    return "; ".join(parts)


def _cells(baseline: Baseline, row: BaselineRow) -> dict[str, Cell]:
    """Every column's cell of one judged stage."""
    percent, scale = baseline.load_percent, baseline.scale
    return {
        "date": words(utc_date(baseline.created_unix_ns)),
        "phase": words(baseline.phase or ""),
        "scenario": words(baseline.scenario),
        "stage": words(row.stage),
        "load_percent": Cell(text="" if percent is None else f"{percent:g} %", value=percent),
        "scale": Cell(text="1" if scale == 1.0 else f"x {scale:.6g}", value=scale),
        "duration_s": Cell(text=format_duration(row.duration_s * 1e9), value=row.duration_s),
        "rps": rate_cell(row.throughput_per_s),
        "p50_us": percentile_cell(row.p50_us),
        "p95_us": percentile_cell(row.p95_us),
        "p99_us": percentile_cell(row.p99_us),
        "p99.9_us": percentile_cell(row.p999_us),
        "error_ratio": Cell(text=ratio(row.error_ratio), value=row.error_ratio),
        "protocols": words(" + ".join(baseline.protocols or ())),
        "services": words(", ".join(baseline.services or ())),
        "verdict": words(baseline.verdict),
        "run_id": words(baseline.run_id),
        "notes": words(_notes(baseline)),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One table of the page: which runs stand in it, with which columns."""

    name: str
    title: str
    takes: Callable[[Baseline], bool]
    keys: tuple[str, ...]

    def table(self, baselines: Sequence[Baseline], *, is_scaled: bool) -> Table:
        """Its rows of these runs; of scaled ones with their scale."""
        keys = [key for key in self.keys if key != "scale" or is_scaled]
        rows = tuple(
            tuple(cells[key] for key in keys)
            for baseline in baselines
            if self.takes(baseline)
            for cells in (_cells(baseline, row) for row in baseline.rows)
        )
        columns = tuple(_COLUMNS[key] for key in keys)
        return Table(name=self.name, title=self.title, columns=columns, rows=rows)


def _is_rest(baseline: Baseline) -> bool:
    is_full = baseline.load_percent in {None, _FULL_PERCENT}
    return is_full and baseline.protocols is not None and "gRPC" not in baseline.protocols


def _is_enhanced(baseline: Baseline) -> bool:
    is_full = baseline.load_percent in {None, _FULL_PERCENT}
    return is_full and "gRPC" in (baseline.protocols or ())


_START: Final = ("date", "phase", "scenario", "stage", "scale", "rps")
_END: Final = ("verdict", "run_id", "notes")
SECTIONS: Final = (
    Section(
        name="rest",
        title="REST baseline",
        takes=_is_rest,
        keys=(*_START, "p95_us", "p99_us", "error_ratio", *_END),
    ),
    Section(
        name="enhanced_services",
        title="Enhanced services (gRPC)",
        takes=_is_enhanced,
        keys=(*_START, "p95_us", "p99_us", "error_ratio", "services", *_END),
    ),
    Section(
        name="load_profiles",
        title="Load profiles",
        takes=lambda baseline: baseline.load_percent is not None,
        keys=("date", "load_percent", "scale", "protocols", "scenario", "stage", "duration_s",
              "rps", "p95_us", "error_ratio", *_END),
    ),
)  # fmt: skip
_EARLIER: Final = Section(
    name="earlier",
    title="Promoted before protocols were recorded",
    takes=lambda baseline: baseline.protocols is None and baseline.load_percent is None,
    keys=(*_START, "p95_us", "p99_us", "error_ratio", *_END),
)


_HARDENING: Final = "Hardening scenarios"


def hardening_table(baselines: Sequence[Baseline], *, is_scaled: bool) -> Table:
    """A row for each objective on a failover, in the requirement's columns, with the run."""
    keys = ["date", "scenario", *(["scale"] if is_scaled else [])]
    added = (
        text_column("expected", "Expected"),
        text_column("actual", "Actual"),
        whole_column("status", "Status"),
    )
    rows = []
    for baseline in baselines:
        scale = "1" if baseline.scale == 1.0 else f"x {baseline.scale:.6g}"
        known = {
            "date": words(utc_date(baseline.created_unix_ns)),
            "scenario": words(baseline.scenario),
            "scale": Cell(text=scale, value=baseline.scale),
        }
        rows += [
            (*(known[key] for key in keys), words(row.expected), words(row.actual),
             words(row.status), words(baseline.run_id))
            for row in baseline.hardening
        ]  # fmt: skip
    columns = (*(_COLUMNS[key] for key in keys), *added, _COLUMNS["run_id"])
    return Table(name="hardening", title=_HARDENING, columns=columns, rows=tuple(rows))


@dataclass(frozen=True, slots=True, kw_only=True)
class Chapter:
    """Runs of one kind; `title` is "" for those that the page is about."""

    title: str
    warning: str
    is_scaled: bool
    load_model: LoadModel


CHAPTERS: Final = (
    Chapter(title="", warning="", is_scaled=False, load_model=LoadModel.OPEN),
    Chapter(
        title="Closed load",
        warning="Never compared with open load: stalls of the target are under-counted.",
        is_scaled=False,
        load_model=LoadModel.CLOSED,
    ),
    Chapter(
        title="Scaled",
        warning="Scaled runs: they do not show that the full target is met.",
        is_scaled=True,
        load_model=LoadModel.OPEN,
    ),
    Chapter(
        title="Scaled, closed load",
        warning="Scaled runs: they do not show that the full target is met.",
        is_scaled=True,
        load_model=LoadModel.CLOSED,
    ),
)


def _of(chapter: Chapter, baselines: Sequence[Baseline]) -> list[Baseline]:
    return [
        one
        for one in baselines
        if one.is_scaled is chapter.is_scaled and one.load_model == chapter.load_model.value
    ]


def sections(baselines: Sequence[Baseline]) -> Iterator[tuple[Chapter, Table]]:
    """Every table that has rows, with its chapter, in the page's order."""
    for chapter in CHAPTERS:
        chosen = _of(chapter, baselines)
        # A failover's steady stage is no measure of what the target can carry.
        steady = [one for one in chosen if not one.hardening]
        tables = [
            section.table(steady, is_scaled=chapter.is_scaled) for section in (*SECTIONS, _EARLIER)
        ]
        for table in (*tables, hardening_table(chosen, is_scaled=chapter.is_scaled)):
            if table.rows:
                yield chapter, table


def _chapter_lines(chapter: Chapter, baselines: Sequence[Baseline]) -> Iterator[str]:
    tables = [table for found, table in sections(baselines) if found is chapter]
    if tables:
        yield f"## {chapter.title}\n\n{chapter.warning}\n"
    for table in tables:
        yield f"### {chapter.title}: {table.title}\n\n{to_markdown(table)}"


def to_page(baselines: Sequence[Baseline]) -> str:
    """`BASELINES.md`: the requirement's tables first, empty ones too."""
    first, *others = CHAPTERS
    filled = {table.name: table for chapter, table in sections(baselines) if chapter is first}
    parts = [_HEAD]
    for section in SECTIONS:
        table = filled.get(section.name)
        body = to_markdown(table) if table else _NONE + "\n"
        parts.append(f"## {section.title}\n\n{body}")
    hardening = filled.get("hardening")
    body = to_markdown(hardening) if hardening else _NONE + "\n"
    parts.append(f"## {_HARDENING}\n\n{body}")
    if earlier := filled.get(_EARLIER.name):
        parts.append(f"## {_EARLIER.title}\n\n{to_markdown(earlier)}")
    for chapter in others:
        parts.extend(_chapter_lines(chapter, baselines))
    return "\n".join(parts)


def to_csv(baselines: Sequence[Baseline]) -> str:
    """`BASELINES.csv`: a line a judged stage with all columns; RFC 4180."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([*_COLUMNS, "load_model"])
    for chapter in CHAPTERS:
        for baseline in _of(chapter, baselines):
            for row in baseline.rows:
                cells = _cells(baseline, row)
                values = [_csv_value(cells[key]) for key in _COLUMNS]
                writer.writerow([*values, baseline.load_model])
    return out.getvalue()


def _csv_value(cell: Cell) -> str | int | float:
    if cell.value is None:
        return cell.text
    return csv_cell(cell.value) if isinstance(cell.value, str) else cell.value
