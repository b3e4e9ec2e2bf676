"""A table as a value: the same cells for a terminal, for JSON and for Markdown.

A cell has a text for people and a value for machines (null where there is no number that
may be relied on). Rendering computes nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table as RichTable
from rich.text import Text

from analysis.text import clean, markdown_cell

CellValue = str | int | float | None
_GAP: Final = 3  # of a column: padding and separator
_FOLDED: Final = 12  # words may fold to this
_STYLES: Final = {
    "PASS": "bold green",
    "FAIL": "bold red",
    "INCONCLUSIVE": "bold yellow",
    "RAISED": "bold red",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """`key` in JSON, `header` for people; numbers, and words marked `is_whole`, never fold."""

    key: str
    header: str
    is_number: bool
    is_whole: bool = False

    @property
    def may_fold(self) -> bool:
        """True for words that may be broken where the terminal is narrow."""
        return not (self.is_number or self.is_whole)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One entry; `text` may still hold hostile characters, each rendering escapes them."""

    text: str
    value: CellValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows have one cell per column."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


def retitled(table: Table, title: str) -> Table:
    """The same table under another title."""
    return dataclasses.replace(table, title=title)


def words(text: str) -> Cell:
    """A cell of text."""
    return Cell(text=text, value=text)


def style_of(text: str) -> str:
    """Colour of a state; "" for any other text."""
    return _STYLES.get(text, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A table for a terminal; where its numbers do not fit, each row becomes a paragraph."""

    table: Table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(clean(self.table.title), style="italic")
        is_narrow = self._least_width() > options.max_width
        yield self._paragraphs(options.max_width) if is_narrow else self._grid()

    def _least_width(self) -> int:
        """Columns of the terminal that the table needs: what is whole, words folded."""
        return _GAP + sum(self._least(index) + _GAP for index in range(len(self.table.columns)))

    def _least(self, index: int) -> int:
        """Least width of a column: its longest whole entry, or a part of its words."""
        column = self.table.columns[index]
        widest = max((cell_len(clean(row[index].text)) for row in self.table.rows), default=0)
        least = min(widest, _FOLDED) if column.may_fold else widest
        return max(least, *map(cell_len, column.header.split()))

    def _grid(self) -> RichTable:
        drawn = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
        for index, column in enumerate(self.table.columns):
            drawn.add_column(
                Text(column.header),
                justify="right" if column.is_number else "left",
                overflow="fold",
                min_width=self._least(index),
                no_wrap=not column.may_fold,
            )
        for row in self.table.rows:
            drawn.add_row(*(_styled(cell) for cell in row))
        return drawn

    def _paragraphs(self, width: int) -> Text:
        """Each row as "header: value" entries, broken between entries."""
        text = Text()
        for row in self.table.rows:
            used = 0
            for column, cell in zip(self.table.columns, row, strict=True):
                entry = Text.assemble((f"  {column.header}: ", "dim"), _styled(cell))
                if used and used + entry.cell_len > width:
                    text.append("\n")
                    used = 0
                text.append(entry)
                used += entry.cell_len
            text.append("\n")
        return text


def _styled(cell: Cell) -> Text:
    return Text(clean(cell.text), style=style_of(cell.text))


def to_rich(table: Table) -> Drawn:
    """For a terminal of any width; nothing is cut."""
    return Drawn(table=table)


def to_rows(table: Table) -> list[dict[str, CellValue]]:
    """For JSON: one object per row."""
    return [
        {column.key: cell.value for column, cell in zip(table.columns, row, strict=True)}
        for row in table.rows
    ]


def to_markdown(table: Table) -> str:
    """A Markdown table, without its title."""

    def line(texts: Sequence[str]) -> str:
        return f"| {' | '.join(texts)} |"

    marks = ["---:" if column.is_number else "---" for column in table.columns]
    header = line([markdown_cell(column.header) for column in table.columns])
    body = [line([markdown_cell(cell.text) for cell in row]) for row in table.rows]
    return "\n".join([header, line(marks), *body]) + "\n"
