"""The tables of one run: objectives, rates, latencies, the generator's health, errors.

One row per judged stage and request, "all" first; every percentile stands beside its
sample size. Without a judged stage all stages are shown, so that a run that was only a
warm-up is not an empty page. Every title of a scaled run says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np

from analysis.figures import Figures, StageFigures
from analysis.little import little_of
from analysis.tables import Cell, Column, Table, words
from analysis.text import (
    TOO_SMALL,
    UNKNOWN,
    count,
    latency,
    rate,
    ratio,
    reading_text,
    scale_text,
    with_unit,
)
from analysis.verdict import Verdict
from loadtests.plan.model import LoadModel
from loadtests.plan.objectives import required_samples
from loadtests.record.archive import Run
from loadtests.record.histogram import Histogram
from loadtests.record.window import CONNECTION, Count

QUANTILES: Final = (("p50", 0.5), ("p75", 0.75), ("p95", 0.95), ("p99", 0.99), ("p99.9", 0.999))
GAPS: Final = (("p99", 0.99), ("p99.9", 0.999), ("max", None))
ALL: Final = "all"
_LONGEST_MESSAGE: Final = 120

Row = tuple[Cell, ...]


def _text(key: str, header: str | None = None) -> Column:
    return Column(key=key, header=header or key.replace("_", " "), is_number=False)


def _number(key: str, header: str | None = None) -> Column:
    return Column(key=key, header=header or key.replace("_", " "), is_number=True)


def _count(value: int) -> Cell:
    return Cell(text=count(value), value=value)


def _rate(value: float | None) -> Cell:
    return Cell(text=rate(value), value=value)


def _ratio(part: int, whole: int) -> Cell:
    value = part / whole if whole else None
    return Cell(text=ratio(value), value=value)


def _latency(value_us: float | None) -> Cell:
    if value_us is None:
        return Cell(text=UNKNOWN, value=None)
    text = latency(value_us * 1000)
    return Cell(text=text, value=None if value_us == float("inf") else value_us)


def quantile_cell(histogram: Histogram, quantile: float | None) -> Cell:
    """A percentile (None: the maximum) in us; no number where the sample is too small."""
    if histogram.n == 0:
        return _latency(None)
    if quantile is None:
        return _latency(histogram.max_us())
    if histogram.n < required_samples(quantile):
        return Cell(text=TOO_SMALL, value=None)
    return _latency(histogram.quantile_us(quantile))


def shown(stages: Sequence[StageFigures]) -> tuple[StageFigures, ...]:
    """The judged stages, or all where none is judged."""
    judged = tuple(stage for stage in stages if stage.facts.is_judged)
    return judged or tuple(stages)


def _each(stages: Sequence[StageFigures]) -> Iterator[tuple[StageFigures, str, Figures]]:
    """Stage, request and figures; all requests together first, hidden if there is only one."""
    for stage in shown(stages):
        yield stage, ALL, stage.overall
        named = {name: part for name, part in stage.requests.items() if name is not None}
        if len(named) > 1:
            yield from ((stage, name, part) for name, part in named.items())


def _per_request(
    stages: Sequence[StageFigures], cells: Callable[[StageFigures, Figures], Row]
) -> tuple[Row, ...]:
    return tuple(
        (words(stage.facts.name), words(name), *cells(stage, part))
        for stage, name, part in _each(stages)
    )


def objective_table(verdict: Verdict) -> Table:
    """Each objective with value, sample size, resolution and state."""
    rows = []
    for result in verdict.objectives:
        reading = result.reading
        text = reading_text(reading)
        resolution = with_unit(reading.unit, reading.resolution)
        is_number = text not in {TOO_SMALL, UNKNOWN} and reading.value != float("inf")
        rows.append(
            (
                words(result.stage),
                words(result.objective),
                Cell(text=text, value=reading.value if is_number else None),
                _count(reading.samples),
                Cell(text=f"±{resolution}", value=reading.resolution),
                words(result.state.value),
                words(result.reason),
            )
        )
    return Table(
        name="objectives",
        title="Objectives",
        columns=(
            _text("stage"), _text("objective"), _number("value"), _number("n"),
            _number("resolution"), _text("state"), _text("reason"),
        ),
        rows=tuple(rows),
    )  # fmt: skip


def rate_table(stages: Sequence[StageFigures]) -> Table:
    """Rates over the judged time."""

    def cells(stage: StageFigures, part: Figures) -> Row:
        seconds, on_time = stage.span.seconds, part.on_time

        def per_s(value: int) -> Cell:
            return _rate(value / seconds if seconds else None)

        return (
            per_s(on_time.count(Count.PLANNED)),
            per_s(on_time.count(Count.SENT)),
            per_s(on_time.done),
            per_s(on_time.count(Count.OK)),
            _count(part.tally.count(Count.DROPPED)),
            _count(part.unanswered),
        )

    return Table(
        name="rates",
        title="Rates (requests/s over the judged time)",
        columns=(
            _text("stage"),
            _text("request"),
            _number("planned_per_s", "planned"),
            _number("sent_per_s", "sent"),
            _number("throughput_per_s", "throughput"),
            _number("goodput_per_s", "goodput"),
            _number("dropped"),
            _number("unanswered"),
        ),
        rows=_per_request(stages, cells),
    )


def outcome_table(stages: Sequence[StageFigures]) -> Table:
    """How requests ended; `errors` is the strict ratio, `SLO errors` that of failed ones."""

    def cells(_stage: StageFigures, part: Figures) -> Row:
        tally = part.tally
        client, failed = tally.count(Count.CLIENT_ERROR), tally.count(Count.FAILED)
        return (
            _count(tally.done),
            _count(tally.count(Count.OK)),
            _count(client),
            _count(failed),
            _ratio(client + failed, tally.done),
            _ratio(failed, tally.done),
        )

    return Table(
        name="outcomes",
        title="Outcomes",
        columns=(
            _text("stage"),
            _text("request"),
            _number("n"),
            _number("ok"),
            _number("client_error", "client errors"),
            _number("failed"),
            _number("error_ratio", "errors"),
            _number("slo_error_ratio", "SLO errors"),
        ),
        rows=_per_request(stages, cells),
    )


def latency_table(
    name: str, title: str, stages: Sequence[StageFigures], take: Callable[[Figures], Histogram]
) -> Table:
    """Percentiles of one histogram per stage and request, in us as values."""

    def cells(_stage: StageFigures, part: Figures) -> Row:
        histogram = take(part)
        quantiles = (quantile_cell(histogram, quantile) for _name, quantile in QUANTILES)
        return (_count(histogram.n), *quantiles, quantile_cell(histogram, None))

    columns = (_number(f"{label}_us", label) for label, _quantile in QUANTILES)
    return Table(
        name=name,
        title=title,
        columns=(
            _text("stage"),
            _text("request"),
            _number("n"),
            *columns,
            _number("max_us", "max"),
        ),
        rows=_per_request(stages, cells),
    )


def gap_table(stages: Sequence[StageFigures]) -> Table:
    """Response minus service time: what a clock started at the sending would have hidden."""

    def gap(part: Figures, quantile: float | None) -> Cell:
        response = quantile_cell(part.tally.response, quantile)
        service = quantile_cell(part.tally.service, quantile)
        if isinstance(response.value, float) and isinstance(service.value, float):
            return _latency(max(0.0, response.value - service.value))
        return Cell(text=response.text if response.value is None else service.text, value=None)

    return Table(
        name="coordinated_omission_gap",
        title="Coordinated-omission gap (response minus service time)",
        columns=(
            _text("stage"), _text("request"),
            *(_number(f"{label}_us", label) for label, _quantile in GAPS),
        ),
        rows=_per_request(
            stages, lambda _stage, part: tuple(gap(part, quantile) for _label, quantile in GAPS)
        ),
    )  # fmt: skip


def _health_cells(run: Run, stage: StageFigures) -> Row:
    """Hiccups, engine CPU and requests in flight over the judged time."""
    first_s, last_s = stage.span.first_s, stage.span.last_s

    def inside(window_s: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> object:
        return (window_s >= first_s) & (window_s <= last_s)

    hiccups = run.hiccups[inside(run.hiccups["window_s"].to_numpy())]
    engines = run.engines[inside(run.engines["window_s"].to_numpy())]
    cpu = engines["cpu_ns"] / engines["wall_ns"]
    law = little_of(run, stage)
    in_flight, from_service = (law.in_flight, law.from_service) if law else (None, None)
    return (
        _latency(float(hiccups["p99_ns"].max()) / 1000 if len(hiccups) else None),
        _latency(float(hiccups["max_ns"].max()) / 1000 if len(hiccups) else None),
        Cell(text=ratio(float(cpu.mean())) if len(cpu) else UNKNOWN,
             value=float(cpu.mean()) if len(cpu) else None),
        Cell(text=ratio(float(cpu.max())) if len(cpu) else UNKNOWN,
             value=float(cpu.max()) if len(cpu) else None),
        Cell(text=UNKNOWN if in_flight is None else f"{in_flight:.2f}", value=in_flight),
        Cell(text=UNKNOWN if from_service is None else f"{from_service:.2f}", value=from_service),
    )  # fmt: skip


def generator_table(run: Run, stages: Sequence[StageFigures]) -> Table:
    """The generator's own health: send lag beside the hosts' hiccups, CPU, Little's law."""
    rows = []
    for stage in shown(stages):
        lag = stage.overall.tally.send_lag
        lags = (quantile_cell(lag, q) for q in (0.5, 0.99, None))
        rows.append(
            (words(stage.facts.name), *lags, *_health_cells(run, stage), _count(stage.lost_planned))
        )
    return Table(
        name="generator",
        title="Generator (send lag; engine CPU; hiccups: worst window of a bare ticker)",
        columns=(
            _text("stage"), _number("send_lag_p50_us", "lag p50"),
            _number("send_lag_p99_us", "lag p99"), _number("send_lag_max_us", "lag max"),
            _number("hiccup_p99_us", "hiccup p99"), _number("hiccup_max_us", "hiccup max"),
            _number("engine_cpu_mean_ratio", "CPU mean"),
            _number("engine_cpu_max_ratio", "CPU max"),
            _number("in_flight_mean", "in flight"),
            _number("in_flight_by_little", "rate x service"),
            _number("lost_arrivals", "lost"),
        ),
        rows=tuple(rows),
    )  # fmt: skip


def _sample(run: Run, stage: str, request: str, kind: str) -> str:
    """One message of an error, whichever node it came from first in the plan's order."""
    for node in run.slots.nodes:
        text = run.messages.get((stage, request, node, kind))
        if text is not None:
            return text[:_LONGEST_MESSAGE]
    return ""


def error_table(run: Run, stages: Sequence[StageFigures]) -> Table:
    """Errors by kind, most frequent first."""
    rows = []
    for stage in shown(stages):
        parts = [(n, p.errors, p.tally.done) for n, p in stage.requests.items() if n is not None]
        parts.append((CONNECTION, stage.connection_errors, 0))
        for name, errors, done in parts:
            for kind, number in sorted(errors.items(), key=lambda e: (-e[1], e[0])):
                sample = _sample(run, stage.facts.name, name, kind)
                row = (words(stage.facts.name), words(name), words(kind), _count(number))
                rows.append((*row, _ratio(number, done), words(sample)))
    return Table(
        name="errors",
        title="Errors by kind",
        columns=(
            _text("stage"), _text("request"), _text("kind"), _number("count"),
            _number("ratio"), _text("sample"),
        ),
        rows=tuple(rows),
    )  # fmt: skip


def alert_table(verdict: Verdict) -> Table:
    """Alert levels and whether they were reached; they do not change the verdict."""
    rows = []
    for alert in verdict.alerts:
        text, value = reading_text(alert.reading), alert.reading.value
        shown_value = None if text == TOO_SMALL or value == float("inf") else value
        rows.append(
            (words(alert.stage), words(alert.alert), Cell(text=text, value=shown_value),
             words(alert.state.value))
        )  # fmt: skip
    return Table(
        name="alerts",
        title="Alert levels",
        columns=(_text("stage"), _text("alert"), _number("value"), _text("state")),
        rows=tuple(rows),
    )


def _with_scale(table: Table, verdict: Verdict) -> Table:
    mark = scale_text(verdict.scale)
    title = f"{table.title} [{mark}]" if mark else table.title
    return Table(name=table.name, title=title, columns=table.columns, rows=table.rows)


def build_tables(run: Run, verdict: Verdict, stages: Sequence[StageFigures]) -> tuple[Table, ...]:
    """Every table that has a row, in the order in which they are read."""
    is_closed = verdict.load_model == LoadModel.CLOSED.value
    response = "Response time (closed load: equals service time, stalls are under-counted)"
    tables = [
        objective_table(verdict),
        rate_table(stages),
        outcome_table(stages),
        latency_table(
            "response_time",
            response if is_closed else "Response time (from the intended start; ok requests)",
            stages,
            lambda part: part.tally.response,
        ),
        latency_table(
            "service_time",
            "Service time (from the sending; ok requests)",
            stages,
            lambda part: part.tally.service,
        ),
        gap_table(stages),
        latency_table(
            "failed_response_time",
            "Response time of client errors and failed requests",
            stages if any(stage.overall.errors for stage in shown(stages)) else (),
            lambda part: part.tally.failed_response,
        ),
        generator_table(run, stages),
        error_table(run, stages),
        alert_table(verdict),
    ]
    return tuple(_with_scale(table, verdict) for table in tables if table.rows)
