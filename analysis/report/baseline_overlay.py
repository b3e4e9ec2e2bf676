"""The baseline that a run is drawn beside: the newest promoted one of the same kind.

`analysis.baselines.newest_before` chooses it. Its histogram is drawn as a curve, as far as its
samples carry it; of an older baseline, which keeps a few percentiles alone, these are points and
nothing is made up between them. Whether a difference means anything is for `headroom compare`
to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from analysis.baseline_types import Baseline, BaselineRow
from analysis.cells import latency_cell, number_column, quantile_cell, rate_cell, text_column
from analysis.figures import StageFigures
from analysis.report.spectrum import Curve, build_spectrum
from analysis.tables import Cell, Table, words
from analysis.text import UNKNOWN, significant

_KEPT: Final = ((0.5, "p50_us"), (0.95, "p95_us"), (0.99, "p99_us"), (0.999, "p999_us"))


def curve_of(row: BaselineRow) -> Curve:
    """The response times that a baseline keeps of a stage."""
    if row.response is not None:
        spectrum = build_spectrum(row.response.histogram())
        is_carried = spectrum.quantiles <= spectrum.carried_q
        return Curve(
            quantiles=spectrum.quantiles[is_carried],
            values_us=spectrum.values_us[is_carried],
            is_whole=True,
        )
    kept = [(q, value) for q, name in _KEPT if (value := getattr(row, name)) is not None]
    return Curve(
        quantiles=np.array([q for q, _ in kept], dtype=np.float64),
        values_us=np.array([value for _, value in kept], dtype=np.float64),
        is_whole=False,
    )


def row_of(baseline: Baseline | None, stage: str) -> BaselineRow | None:
    """Its row of a stage, if that stage was judged then."""
    rows = baseline.rows if baseline is not None else ()
    return next((row for row in rows if row.stage == stage), None)


def _change(own: Cell, kept: Cell) -> Cell:
    """The difference as a part of the baseline's value, where both are numbers."""
    if not isinstance(own.value, float) or not isinstance(kept.value, float) or not kept.value:
        return Cell(text=UNKNOWN, value=None)
    change = own.value / kept.value - 1
    sign = "+" if change > 0 else "-" if change < 0 else ""
    return Cell(text=f"{sign}{significant(abs(change) * 100)} %", value=change)


def _pairs(stage: StageFigures, row: BaselineRow) -> Iterator[tuple[str, Cell, Cell]]:
    seconds = stage.span.seconds
    throughput = stage.overall.on_time.answered / seconds if seconds else None
    yield "throughput", rate_cell(throughput), rate_cell(row.throughput_per_s)
    for quantile, name in _KEPT:
        own = quantile_cell(stage.overall.tally.response, quantile)
        yield f"p{quantile * 100:g}", own, latency_cell(getattr(row, name))


def baseline_table(baseline: Baseline | None, stages: Sequence[StageFigures]) -> Table:
    """Each value that both have; a row a judged stage and measure."""
    rows = [
        (words(stage.facts.name), words(measure), own, kept, _change(own, kept))
        for stage in stages
        if (row := row_of(baseline, stage.facts.name)) is not None and stage.facts.is_judged
        for measure, own, kept in _pairs(stage, row)
    ]
    name = "" if baseline is None else baseline.run_id
    return Table(
        name="baseline",
        title=f"Beside the baseline {name} (what a difference means: headroom compare)",
        columns=(
            text_column("stage"),
            text_column("measure"),
            number_column("this_run", "this run"),
            number_column("baseline"),
            number_column("change_ratio", "change"),
        ),
        rows=tuple(rows),
    )
