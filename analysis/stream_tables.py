"""What only HTTP/2 and streaming calls have: the use of the stream pool, latencies inside calls.

A run without them has no row here, and so no such table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import pandas as pd

from analysis.cells import count_cell, number_column, quantile_cell, text_column
from analysis.figures import StageFigures
from analysis.pool_use import use_by_second
from analysis.stage_tables import QUANTILES, shown
from analysis.tables import Cell, Table, words
from analysis.text import ratio
from loadtests.record.archive import Run
from loadtests.record.histogram import Histogram
from loadtests.record.window import CONNECTION, Kind, histogram_of

_KINDS: Final = (
    (Kind.STREAM_SETUP, "head of the answer"),
    (Kind.FIRST_MESSAGE, "first message"),
    (Kind.MESSAGE, "later messages"),
)

Row = tuple[Cell, ...]


def pool_table(run: Run, stages: Sequence[StageFigures]) -> Table:
    """Streams in use beside what the open connections carry at once, over the judged time.

    `use max` is what an objective on `pool_use` judges.
    """
    return Table(
        name="stream_pool",
        title="Stream pool (HTTP/2; requests at once on all connections; use: in use / size)",
        columns=(
            text_column("stage"),
            number_column("size"),
            number_column("in_use_mean", "in use mean"),
            number_column("in_use_max", "in use max"),
            number_column("use_mean_ratio", "use mean"),
            number_column("use_max_ratio", "use max"),
        ),
        rows=tuple(_pool_rows(run, stages)),
    )


def _pool_rows(run: Run, stages: Sequence[StageFigures]) -> Iterator[Row]:
    pools = run.engines.groupby("window_s")[["streams", "streams_in_use"]].sum()
    uses = pd.Series(use_by_second(run), dtype="float64")
    for stage in shown(stages):
        own = pools.loc[stage.span.first_s : stage.span.last_s]
        use = uses.loc[stage.span.first_s : stage.span.last_s]
        if use.empty:
            continue
        size, used = int(own["streams"].max()), own["streams_in_use"]
        yield (
            words(stage.facts.name),
            count_cell(size),
            Cell(text=f"{used.mean():.2f}", value=float(used.mean())),
            count_cell(int(used.max())),
            Cell(text=ratio(float(use.mean())), value=float(use.mean())),
            Cell(text=ratio(float(use.max())), value=float(use.max())),
        )


def stream_table(run: Run, stages: Sequence[StageFigures]) -> Table:
    """Latencies inside streaming calls, as they happen, whatever became of the call."""
    return Table(
        name="streaming_calls",
        title="Inside streaming calls (from the sending; later messages: from the one before)",
        columns=(
            text_column("stage"),
            text_column("request"),
            text_column("until"),
            number_column("n"),
            *(number_column(f"{label}_us", label) for label, _quantile in QUANTILES),
            number_column("max_us", "max"),
        ),
        rows=tuple(_stream_rows(run, stages)),
    )


def _stream_rows(run: Run, stages: Sequence[StageFigures]) -> Iterator[Row]:
    for stage in shown(stages):
        for request in run.slots.requests:
            if request == CONNECTION:
                continue
            for kind, until in _KINDS:
                histogram = _histogram(run, stage.facts.name, request, kind)
                if histogram.n:
                    quantiles = (quantile_cell(histogram, q) for _label, q in QUANTILES)
                    yield (
                        *map(words, (stage.facts.name, request, until)),
                        count_cell(histogram.n),
                        *quantiles,
                        quantile_cell(histogram, None),
                    )


def _histogram(run: Run, stage: str, request: str, kind: Kind) -> Histogram:
    slots = run.slots
    at = slots.stages.index(stage), slots.requests.index(request)
    own = [slots.slot(*at, node) for node in range(len(slots.nodes))]
    return histogram_of(run.merged(judged=True), kind, own)
