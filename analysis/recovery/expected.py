"""What was expected of each fault, beside what came of it."""

from __future__ import annotations

from analysis.cells import number_column, text_column, total_cell
from analysis.recovery.measures import Recoveries
from analysis.tables import Cell, Table, words
from loadtests.record.archive import Run
from loadtests.record.fault_events import predictions


def prediction_table(run: Run, recoveries: Recoveries) -> Table:
    """What was expected of each fault, said before anything was done, beside what was measured."""
    measured = {one.fault.name: one.whole.outage for one in recoveries.faults if one.fault}
    rows = [
        (
            words(said.fault),
            words(said.text),
            Cell(text="while it lasts", value=None)
            if said.unavailable_ns is None
            else total_cell(said.unavailable_ns),
            total_cell(measured[said.fault].unavailable_ns),
        )
        for said in predictions(run.events)
        if said.fault in measured
    ]
    return Table(
        name="predictions",
        title="Expected of each fault, said before the run, and measured",
        columns=(
            text_column("fault"),
            text_column("expected"),
            number_column("most_us", "unavailable at most"),
            number_column("unavailable_us", "measured"),
        ),
        rows=tuple(rows),
    )
