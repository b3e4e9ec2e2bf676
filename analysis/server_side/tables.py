"""Tables of the target's own metrics: levels of each node, and what saturated first."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from analysis.cells import count_cell, number_column, text_column, whole_column
from analysis.figures import StageFigures
from analysis.server_side.levels import Level, NodeLevel, build_level
from analysis.server_side.saturation import Resource, Saturation
from analysis.server_side.series import ServerSide
from analysis.stage_tables import shown
from analysis.tables import Cell, Table, words
from analysis.text import UNKNOWN, with_unit

Row = tuple[Cell, ...]


def server_table(side: ServerSide | None, stages: Sequence[StageFigures], nodes: int) -> Table:
    """Each measure that any node has, of its worst node; `n` is of the node known least."""
    return Table(
        name="server",
        title="Server side (what the nodes say of themselves; minute: highest mean over a minute "
        "of the worst node, which objectives judge)",
        columns=(
            text_column("stage"),
            whole_column("measure"),
            number_column("nodes"),
            number_column("n"),
            number_column("mean"),
            number_column("highest_minute", "minute"),
            number_column("highest"),
            text_column("worst_node"),
            text_column("series"),
        ),
        rows=() if side is None else tuple(_server_rows(side, stages, nodes)),
    )


def _server_rows(side: ServerSide, stages: Sequence[StageFigures], nodes: int) -> Iterator[Row]:
    for stage in shown(stages):
        for measure in side.series:
            level = build_level(side, measure, stage.span, nodes)
            known = [node for node in level.nodes if node.samples]
            if known:
                yield _row(stage.facts.name, measure, level, known)


def _row(stage: str, measure: str, level: Level, known: Sequence[NodeLevel]) -> Row:
    def cell(value: float | None) -> Cell:
        return Cell(text=with_unit(level.unit, value), value=value)

    worst = level.worst
    return (
        words(stage),
        words(measure),
        count_cell(len(known)),
        count_cell(level.samples),
        cell(math.fsum(node.mean or 0.0 for node in known) / len(known)),
        cell(None if worst is None else worst.highest_minute),
        cell(max(node.highest or 0.0 for node in known)),
        words(UNKNOWN if worst is None else worst.node),
        words(known[0].series.source),
    )


def scrape_table(side: ServerSide | None) -> Table:
    """Scrapes that brought nothing, by node and reason."""
    failures = {} if side is None else side.failures
    return Table(
        name="failed_scrapes",
        title=f"Failed scrapes (of {0 if side is None else side.scrapes} in the whole run)",
        columns=(text_column("node"), text_column("reason"), number_column("count")),
        rows=tuple(
            (words(node), words(kind), count_cell(number))
            for (node, kind), number in sorted(failures.items())
        ),
    )


def saturation_table(saturation: Saturation) -> Table:
    """Each resource: whether it was at its limit, since when, and how that is known."""
    return Table(
        name="saturation",
        title="What saturated first (the first of 3 seconds on end at its limit)",
        columns=(
            whole_column("resource"),
            text_column("saturated"),
            text_column("stage"),
            number_column("offset_s", "after"),
            text_column("evidence"),
        ),
        rows=tuple(_saturation_row(resource, saturation) for resource in Resource),
    )


def _saturation_row(resource: Resource, saturation: Saturation) -> Row:
    crossing = next((one for one in saturation.crossings if one.resource is resource), None)
    if crossing is None:
        state = "not known" if resource in saturation.unknown else "no"
        none = Cell(text=UNKNOWN if resource in saturation.unknown else "-", value=None)
        return (words(resource.value), words(state), words(""), none, words(""))
    is_first = resource in saturation.first
    state = "later" if not is_first else "first" if len(saturation.first) == 1 else "first, tied"
    return (
        words(resource.value),
        words(state),
        words(crossing.stage),
        Cell(text=f"{crossing.offset_s:.0f} s", value=crossing.offset_s),
        words(crossing.evidence),
    )
