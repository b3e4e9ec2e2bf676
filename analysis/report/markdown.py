"""`report.md`: the same report as text; figures are said in words and lie in `report.html`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from analysis.report.layout import Report, Section
from analysis.report.page import scenario_lines, source_table
from analysis.tables import to_markdown
from analysis.text import markdown_text

_LONGEST: Final = 400


def _line(text: str) -> str:
    return markdown_text(text, _LONGEST)


def _list(title: str, lines: Iterable[str]) -> Iterator[str]:
    items = [f"- {_line(line)}" for line in lines]
    if items:
        yield from (f"**{title}**", "", *items, "")


def _section(section: Section) -> Iterator[str]:
    yield from (f"## {_line(section.title)}", "")
    if section.note:
        yield from (_line(section.note), "")
    for picture in section.pictures:
        yield f"- Figure {_line(picture.title)} (in report.html): {_line(picture.alt)}"
    yield ""
    for part in section.parts:
        yield from (f"### {_line(part.table.title)}", "", to_markdown(part.table))
        if part.left_out:
            yield from (f"{part.left_out} more rows are not shown here.", "")
        yield from (f"Source: {_line(str(part.source))}", "")


def _fence(text: str) -> str:
    """A fence longer than any that the text has."""
    ticks = "```"
    while ticks in text:
        ticks += "`"
    return ticks


def to_markdown_page(report: Report) -> str:
    """The whole text."""
    lines = [f"# {_line(report.state)}: {_line(report.scenario)}", "", f"Run {report.run_id}", ""]
    lines += [f"- {_line(line)}" for line in report.lines]
    lines += ["", f"**{_line(report.warning)}**", ""] if report.warning else [""]
    lines += _list("Why", report.why)
    lines += _list("Besides, without effect on this verdict", report.besides)
    lines += _list("Warnings", report.warnings)
    for section in report.sections:
        lines += _section(section)
    scenario = scenario_lines(report.scenario_text)
    fence = _fence(scenario)
    lines += ["### The scenario, as it was written", "", f"{fence}toml", scenario, fence, ""]
    lines += ["## Where each number comes from", "", to_markdown(source_table(report))]
    return "\n".join(lines)
