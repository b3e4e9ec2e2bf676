"""A run on a page: heading, reasons, tables, warnings; for a terminal and as JSON.

Everything is computed from the archive by `judge` and `build_tables`; here it is only laid
out. JSON is a function of the archive alone: sorted keys, no clock, no path.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Group, RenderableType
from rich.text import Text

from analysis.figures import build_figures
from analysis.findings import Finding
from analysis.judging import ObjectiveResult
from analysis.run_tables import build_tables
from analysis.tables import CellValue, style_of, to_rich, to_rows
from analysis.text import clean, reading_text, scale_text, start_text, with_unit
from analysis.verdict import AlertResult, Verdict
from loadtests.record.archive import Run
from loadtests.record.checksums import add_file
from loadtests.record.directory import VERDICT_FILE

VERDICT_SCHEMA: Final = 1
_LONGEST_LINE: Final = 400

JsonValue = CellValue | bool | list["JsonValue"] | dict[str, "JsonValue"]
Json = dict[str, JsonValue]


def _result(result: ObjectiveResult | AlertResult, text: str) -> Json:
    reading = result.reading
    is_number = reading.value != float("inf") and reading_text(reading) == with_unit(
        reading.unit, reading.value
    )
    return {
        "stage": result.stage,
        "request": result.request,
        "text": text,
        "unit": reading.unit.value,
        "limit": result.limit,
        "value": reading.value if is_number else None,
        "value_text": reading_text(reading),
        "samples": reading.samples,
        "required_samples": reading.required,
        "resolution": reading.resolution,
        "state": result.state.value,
    }


def _finding(finding: Finding) -> Json:
    return {
        "law": finding.law.value,
        "effect": finding.effect.value,
        "stage": finding.stage,
        "text": finding.text,
    }


def verdict_to_json(verdict: Verdict) -> Json:
    """The verdict as JSON values; a number that may not be relied on is null."""
    return {
        "schema_version": VERDICT_SCHEMA,
        "run_id": verdict.run_id,
        "scenario": verdict.scenario,
        "scale": verdict.scale,
        "is_scaled": verdict.is_scaled,
        "load_model": verdict.load_model,
        "load_percent": verdict.load_percent,
        "outcome": verdict.outcome.value,
        "is_complete": verdict.is_complete,
        "is_generator_limited": verdict.is_generator_limited,
        "state": verdict.state.value,
        "reasons": list(verdict.reasons),
        "notes": list(verdict.notes),
        "objectives": [
            {**_result(result, result.objective), "reason": result.reason}
            for result in verdict.objectives
        ],
        "alerts": [_result(result, result.alert) for result in verdict.alerts],
        "findings": [_finding(finding) for finding in verdict.findings],
    }


def to_json(run: Run, verdict: Verdict) -> Json:
    """Verdict and all tables as JSON values."""
    tables = build_tables(run, verdict, build_figures(run))
    rows: Json = {table.name: [dict(row) for row in to_rows(table)] for table in tables}
    return {**verdict_to_json(verdict), "tables": rows}


def encode_verdict(verdict: Verdict) -> bytes:
    """`verdict.json`: indented, keys sorted, newline at the end."""
    data = msgspec.json.encode(verdict_to_json(verdict), order="sorted")
    return msgspec.json.format(data, indent=2) + b"\n"


def write_verdict(run_dir: Path, verdict: Verdict) -> Path:
    """Write `verdict.json` in one step and list its checksum; HarnessError if it cannot be."""
    add_file(run_dir, VERDICT_FILE, encode_verdict(verdict))
    return run_dir / VERDICT_FILE


def _heading(run: Run, verdict: Verdict) -> Text:
    text = Text(verdict.state.value, style=style_of(verdict.state.value))
    text.append(f"  {clean(verdict.scenario)}", style="bold")
    if mark := scale_text(verdict.scale):
        text.append(f"  {mark}: does not show that the full target is met", style="bold yellow")
    started = start_text(run.manifest.t0_unix_ns, run.manifest.created_unix_ns)
    text.append(f"\nrun {verdict.run_id}, {started}, {verdict.load_model} load")
    if verdict.load_percent is not None:
        text.append(f", {verdict.load_percent:g} % of its baseline")
    if run.manifest.target_version:
        text.append(f", target {clean(run.manifest.target_version)}")
    return text


def _lines(title: str, lines: Iterable[str]) -> list[RenderableType]:
    items = [Text(f"  - {clean(line, _LONGEST_LINE)}") for line in lines]
    return [Text(title, style="bold"), *items, Text("")] if items else []


def show(run: Run, verdict: Verdict) -> RenderableType:
    """The whole page for a terminal."""
    if run.manifest.t0_unix_ns is None and verdict.reasons:
        # Nothing was sent: the other reasons follow from the first, and there are no figures.
        return Group(_heading(run, verdict), Text(""), *_lines("Why", verdict.reasons[:1]))
    tables = build_tables(run, verdict, build_figures(run))
    warnings = [str(finding) for finding in verdict.findings if not finding.is_invalid]
    return Group(
        _heading(run, verdict),
        Text(""),
        *_lines("Why", verdict.reasons),
        *_lines("Besides, without effect on this verdict", verdict.notes),
        *_lines("Warnings", warnings),
        *(to_rich(table) for table in tables),
    )
