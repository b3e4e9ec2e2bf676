"""`report.html`: one file, nothing loaded from anywhere, no script.

Every text goes through autoescaping and, before it, through `clean`: what a scenario or a
target wrote is shown and does nothing. Only our own SVG and CSS are inserted as they are,
and a content security policy forbids the rest should both fail.
"""

from __future__ import annotations

from importlib import resources
from typing import Final

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from analysis.report.layout import Report
from analysis.tables import CellValue, Column, Table, words
from analysis.text import clean

_STATES: Final = {
    "PASS": "pass", "FAIL": "fail", "INCONCLUSIVE": "open", "met": "pass", "missed": "fail",
    "RAISED": "fail",
}  # fmt: skip
_SIGNS: Final = {"pass": "✓", "fail": "✕", "open": "?"}
_LONGEST_NAME: Final = 300
_LONGEST_TEXT: Final = 2000
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


def _exact(value: CellValue) -> str:
    return repr(value)


def scenario_lines(text: str) -> str:
    """A scenario file line by line, without active characters."""
    cut = text[:_LONGEST_SCENARIO]
    lines = [clean(line, len(line)) for line in cut.replace("\t", "    ").splitlines()]
    return "\n".join([*lines, "…"] if len(text) > len(cut) else lines)


def _finalize(value: object) -> object:
    """What autoescaping gets: no text is without `clean`, whoever wrote it."""
    is_ours = isinstance(value, Markup)
    return clean(value, _LONGEST_TEXT) if isinstance(value, str) and not is_ours else value


def _environment() -> Environment:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, finalize=_finalize
    )
    environment.filters["name"] = lambda text: clean(text, _LONGEST_NAME)
    environment.filters["exact"] = _exact
    return environment


def read_resource(name: str) -> str:
    """A file of this package."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


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


def render_page(template: str, values: dict[str, object]) -> str:
    """Fill a template of this package, with the style sheet that all pages share."""
    css = Markup(read_resource("page.css"))  # noqa: S704 - our own file
    page = _environment().from_string(read_resource(template))
    return page.render(css=css, states=_STATES, signs=_SIGNS, **values)


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
