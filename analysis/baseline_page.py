"""One baseline on a page for a terminal, from its file alone."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from analysis.baseline_types import Baseline, BaselineRow
from analysis.cells import (
    count_cell,
    number_column,
    percentile_cell,
    rate_cell,
    text_column,
)
from analysis.tables import Cell, Table, style_of, to_rich, words
from analysis.text import clean, ratio, scale_text, utc
from loadtests.plan.units import format_duration

_LONGEST_LINE = 400


def _cells(row: BaselineRow) -> tuple[Cell, ...]:
    return (
        words(row.stage),
        Cell(text=format_duration(row.duration_s * 1e9), value=row.duration_s),
        rate_cell(row.planned_per_s),
        rate_cell(row.throughput_per_s),
        rate_cell(row.goodput_per_s),
        count_cell(row.n),
        *map(percentile_cell, (row.p50_us, row.p95_us, row.p99_us, row.p999_us, row.max_us)),
        Cell(text=ratio(row.error_ratio), value=row.error_ratio),
        count_cell(row.dropped),
    )


def stage_table(baseline: Baseline) -> Table:
    """The figures of each judged stage, all requests together."""
    mark = scale_text(baseline.scale)
    numbers = ("duration", "planned", "throughput", "goodput", "ended", "p50", "p95", "p99",
               "p99.9", "max", "error rate", "dropped")  # fmt: skip
    return Table(
        name="baseline",
        title="Judged stages (response times, rates per second)" + (f", {mark}" if mark else ""),
        columns=(text_column("stage"), *map(number_column, numbers)),
        rows=tuple(_cells(row) for row in baseline.rows),
    )


def _facts(baseline: Baseline) -> list[str]:
    """What is known of how the run was made; what an older file does not say is left out."""
    made = utc(baseline.created_unix_ns)
    facts = [f"run {baseline.run_id}, prepared {made}, {baseline.load_model} load"]
    if baseline.load_percent is not None:
        facts.append(f"{baseline.load_percent:g} % of its baseline")
    if baseline.phase:
        facts.append(f"phase {baseline.phase}")
    if baseline.protocols:
        services = f" ({', '.join(baseline.services)})" if baseline.services else ""
        facts.append(" + ".join(baseline.protocols) + services)
    nodes = "" if baseline.nodes is None else f"{baseline.nodes} nodes, "
    facts.append(f"{nodes}load from {baseline.hosts} hosts")
    if baseline.target_version:
        facts.append(f"target {baseline.target_version}")
    if baseline.git_commit:
        facts.append(f"commit {baseline.git_commit}")
    return facts


def show_baseline(baseline: Baseline) -> RenderableType:
    """The whole page."""
    head = Text(baseline.verdict, style=style_of(baseline.verdict))
    head.append(f"  {clean(baseline.scenario)}", style="bold")
    if mark := scale_text(baseline.scale):
        head.append(f"  {mark}: does not show that the full target is met", style="bold yellow")
    lines = [clean(fact, _LONGEST_LINE) for fact in _facts(baseline)]
    lines.extend(f"why: {clean(reason, _LONGEST_LINE)}" for reason in baseline.reasons)
    lines.extend(f"warning: {clean(name)}" for name in baseline.warnings)
    return Group(head, *map(Text, lines), Text(""), to_rich(stage_table(baseline)))
