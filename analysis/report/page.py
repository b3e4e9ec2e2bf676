"""`report.html`: one file, nothing loaded from anywhere, no script."""

from __future__ import annotations

from typing import Final

from markupsafe import Markup

from analysis.report.layout import Report
from analysis.report.rendering import render_page
from analysis.tables import Column, Table, words
from analysis.text import clean

_LONGEST_SCENARIO: Final = 100_000
RECIPE: Final = """\
import pandas
from loadtests.record.archive import load_run   # checks every file against its SHA-256
run = load_run(FOLDER)
rows = run.windows[run.windows["judged"]]       # pandas.read_parquet("windows.parquet")
rows.groupby(["stage", "request"], observed=True)[["planned", "sent", "ok", "failed"]].sum()
for names, histogram in run.totals(judged=True).items():   # stage, request, node, kind
    print(names, histogram.n, histogram.quantile_us(0.99))
"""


def scenario_lines(text: str) -> str:
    """A scenario file line by line, without active characters."""
    cut = text[:_LONGEST_SCENARIO]
    lines = [clean(line, len(line)) for line in cut.replace("\t", "    ").splitlines()]
    return "\n".join([*lines, "…"] if len(text) > len(cut) else lines)


def source_table(report: Report) -> Table:
    """Every table and figure of the report with its source."""
    shown = [
        *((part.table.title, part.source) for one in report.sections for part in one.parts),
        *((pic.title, pic.source) for one in report.sections for pic in one.pictures),
    ]
    return Table(
        name="sources",
        title="Sources",
        columns=tuple(
            Column(key=key, header=key, is_number=False)
            for key in ("table or figure", "files", "columns", "rows", "how")
        ),
        rows=tuple(
            tuple(map(words, (title, ", ".join(s.files), s.columns, s.rows, s.how)))
            for title, s in shown
        ),
    )


def to_html(report: Report) -> str:
    """The whole page."""
    scenario = Markup.escape(scenario_lines(report.scenario_text))
    values: dict[str, object] = {
        "report": report,
        "scenario_text": scenario,
        "sources": source_table(report),
        "recipe": Markup.escape(RECIPE),
    }
    return render_page("page.html", values)
