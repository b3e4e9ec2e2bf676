"""The baseline tables: Markdown for people, CSV for spreadsheets, both from the same rows.

One section per kind of run, since they are never compared with each other: full scale and
scaled, open and closed load. Columns as in section 6 of the requirement (date, load,
duration, RPS, latency, errors, result, notes), with a run id in every row.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Final

from analysis.baseline_types import Baseline, BaselineRow
from analysis.tables import Cell, Column, Table, to_markdown, words
from analysis.text import TOO_SMALL, csv_cell, latency, rate, ratio, utc_date
from loadtests.plan.model import LoadModel
from loadtests.plan.units import format_duration

_HEAD: Final = """\
# Baselines

Made by `headroom baseline promote` from the files in `baselines/`; do not edit. Latencies
are response times, from the intended start. RPS is the throughput over the judged time.
"""
_NONE: Final = "No full-scale run has been promoted yet.\n"
_SCALED: Final = "Scaled runs: they do not show that the full target is met."
_COLUMNS: Final = (
    Column(key="date", header="Date", is_number=False),
    Column(key="scenario", header="Scenario", is_number=False),
    Column(key="stage", header="Stage", is_number=False),
    Column(key="load_percent", header="Load", is_number=True),
    Column(key="scale", header="Scale", is_number=True),
    Column(key="duration_s", header="Duration", is_number=True),
    Column(key="rps", header="RPS", is_number=True),
    Column(key="p50_us", header="p50", is_number=True),
    Column(key="p95_us", header="p95", is_number=True),
    Column(key="p99_us", header="p99", is_number=True),
    Column(key="p99.9_us", header="p99.9", is_number=True),
    Column(key="error_ratio", header="Error ratio", is_number=True),
    Column(key="verdict", header="Verdict", is_number=False, is_whole=True),
    Column(key="run_id", header="Run", is_number=False, is_whole=True),
    Column(key="notes", header="Notes", is_number=False),
)


def _latency(value_us: float | None) -> Cell:
    text = TOO_SMALL if value_us is None else latency(value_us * 1000)
    return Cell(text=text, value=value_us)


def _notes(baseline: Baseline) -> str:
    parts = []
    if baseline.load_model == LoadModel.CLOSED.value:
        parts.append("closed load")
    parts.extend(name for name in baseline.warnings if name not in {"scaled run", "closed load"})
    if baseline.target_version:
        parts.append(f"target {baseline.target_version}")
    return "; ".join(parts)


def _row(baseline: Baseline, row: BaselineRow) -> tuple[Cell, ...]:
    percent, scale = baseline.load_percent, baseline.scale
    return (
        words(utc_date(baseline.created_unix_ns)),
        words(baseline.scenario),
        words(row.stage),
        Cell(text="" if percent is None else f"{percent:g} %", value=percent),
        Cell(text="1" if scale == 1.0 else f"x {scale:.6g}", value=scale),
        Cell(text=format_duration(row.duration_s * 1e9), value=row.duration_s),
        Cell(text=rate(row.throughput_per_s), value=row.throughput_per_s),
        _latency(row.p50_us),
        _latency(row.p95_us),
        _latency(row.p99_us),
        _latency(row.p999_us),
        Cell(text=ratio(row.error_ratio), value=row.error_ratio),
        words(baseline.verdict),
        words(baseline.run_id),
        words(_notes(baseline)),
    )


def _table(title: str, baselines: Sequence[Baseline]) -> Table:
    rows = tuple(_row(baseline, row) for baseline in baselines for row in baseline.rows)
    return Table(name="baselines", title=title, columns=_COLUMNS, rows=rows)


def sections(baselines: Sequence[Baseline]) -> Iterator[Table]:
    """One table per kind of run, full scale first; kinds without a run are left out."""
    for is_scaled in (False, True):
        for model in LoadModel:
            chosen = [
                baseline
                for baseline in baselines
                if baseline.is_scaled is is_scaled and baseline.load_model == model.value
            ]
            if chosen:
                size = "Scaled" if is_scaled else "Full scale"
                yield _table(f"{size}, {model.value} load", chosen)


def to_page(baselines: Sequence[Baseline]) -> str:
    """`BASELINES.md`."""
    parts = [_HEAD]
    if all(baseline.is_scaled for baseline in baselines):
        parts.append(_NONE)
    for table in sections(baselines):
        is_scaled = table.title.startswith("Scaled")
        warning = f"{_SCALED}\n\n" if is_scaled else ""
        parts.append(f"## {table.title}\n\n{warning}{to_markdown(table)}")
    return "\n".join(parts)


def to_csv(baselines: Sequence[Baseline]) -> str:
    """`BASELINES.csv`: all sections in one, told apart by scale and load_model; RFC 4180."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([*(column.key for column in _COLUMNS), "load_model"])
    for table in sections(baselines):
        model = table.title.split()[-2]
        for row in table.rows:
            writer.writerow([*map(_csv_value, row), model])
    return out.getvalue()


def _csv_value(cell: Cell) -> str | int | float:
    if cell.value is None:
        return cell.text
    return csv_cell(cell.value) if isinstance(cell.value, str) else cell.value
