"""What workers counted over the whole run: the total, and each engine without a FINAL.

Lost is what such an engine left open: sent without an outcome, planned and still waiting
(both by the last sums it handed over), and the arrivals of the time it never reported.
"""

from __future__ import annotations

from collections.abc import Iterator

from analysis.cells import count_cell, number_column, text_column
from analysis.tables import Cell, Table, words
from loadtests.record.manifest import LostRequests, Manifest, Sums, lost_requests_of

TOTAL = "total"


def _row(who: str, sums: Sums, lost: LostRequests, lost_arrivals: int) -> tuple[Cell, ...]:
    return (
        words(who),
        count_cell(sums.planned),
        count_cell(sums.sent),
        count_cell(sums.dropped),
        count_cell(sums.done),
        count_cell(sums.in_flight_at_stop),
        count_cell(lost.in_flight),
        count_cell(lost.in_backlog),
        count_cell(lost_arrivals),
    )


def _rows(manifest: Manifest) -> Iterator[tuple[Cell, ...]]:
    total = manifest.total_sums
    if total is None:
        return
    lost = manifest.lost_requests or lost_requests_of(manifest.engine_sums)
    yield _row(TOTAL, total, lost, sum(entry.planned for entry in manifest.lost_windows))
    for engine in manifest.engine_sums:
        if not engine.has_final:
            arrivals = (e.planned for e in manifest.lost_windows if e.who == engine.engine)
            yield _row(engine.engine, engine.sums, lost_requests_of([engine]), sum(arrivals))


def conservation_table(manifest: Manifest) -> Table:
    """The sums of the whole run, warm-up included; no row while they are not stated."""
    return Table(
        name="conservation",
        title="Conservation (requests of the whole run; lost with engines without a FINAL)",
        columns=(
            text_column("worker"),
            number_column("planned"),
            number_column("sent"),
            number_column("dropped"),
            number_column("done"),
            number_column("in_flight_at_stop", "in flight"),
            number_column("lost_in_flight", "lost in flight"),
            number_column("lost_in_backlog", "lost waiting"),
            number_column("lost_arrivals", "not reported"),
        ),
        rows=tuple(_rows(manifest)),
    )
