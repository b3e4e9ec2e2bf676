"""The other tables of a run: objectives, the generator's health, errors, alerts; and all of them.

Every title of a scaled run says so. A table without a row is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from analysis.cells import (
    count_cell,
    latency_cell,
    number_column,
    quantile_cell,
    ratio_cell,
    text_column,
    whole_column,
)
from analysis.figures import StageFigures
from analysis.little import little_of
from analysis.recovery.measures import measure_recoveries
from analysis.recovery.tables import recovery_tables, write_tables
from analysis.recovery.writes import audit_writes
from analysis.server_side.saturation import find_saturation
from analysis.server_side.series import build_server_side
from analysis.server_side.tables import saturation_table, scrape_table, server_table
from analysis.stage_tables import gap_table, latency_table, outcome_table, rate_table, shown
from analysis.stream_tables import pool_table, stream_table
from analysis.tables import Cell, Table, words
from analysis.text import TOO_SMALL, UNKNOWN, ratio, reading_text, scale_text, with_unit
from analysis.verdict import Verdict, plan_of
from analysis.worker_table import conservation_table
from loadtests.plan.model import LoadModel
from loadtests.record.archive import Run
from loadtests.record.window import CONNECTION

_LONGEST_MESSAGE: Final = 120

Row = tuple[Cell, ...]


def objective_table(verdict: Verdict, intervals: Mapping[int, str] | None = None) -> Table:
    """Each objective with value, sample size, resolution and state.

    `intervals` are those of the values by their place in the verdict, where somebody has
    computed them: then there is a column of them.
    """
    rows = []
    for place, result in enumerate(verdict.objectives):
        reading = result.reading
        text = reading_text(reading)
        resolution = with_unit(reading.unit, reading.resolution)
        is_number = text not in {TOO_SMALL, UNKNOWN} and reading.value != float("inf")
        rows.append(
            (
                words(result.stage),
                words(result.objective),
                Cell(text=with_unit(reading.unit, result.limit), value=result.limit),
                Cell(text=text, value=reading.value if is_number else None),
                *(() if intervals is None else (words(intervals.get(place, UNKNOWN)),)),
                count_cell(reading.samples),
                Cell(text=f"±{resolution}", value=reading.resolution),
                words(result.state.value),
                words(result.reason),
            )
        )
    return Table(
        name="objectives",
        title="Objectives (resolution: the smallest difference that the value can show)",
        columns=(
            text_column("stage"),
            text_column("objective"),
            number_column("limit"),
            number_column("value"),
            *(() if intervals is None else (number_column("interval", "95 % interval"),)),
            number_column("n"),
            number_column("resolution"),
            whole_column("state"),
            text_column("reason"),
        ),
        rows=tuple(rows),
    )


def _health_cells(run: Run, stage: StageFigures) -> Row:
    """Hiccups, engine CPU and requests in flight over the judged time."""
    first_s, last_s = stage.span.first_s, stage.span.last_s

    def inside(window_s: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> object:
        return (window_s >= first_s) & (window_s <= last_s)

    hiccups = run.hiccups[inside(run.hiccups["window_s"].to_numpy())]
    engines = run.engines[inside(run.engines["window_s"].to_numpy())]
    engines = engines[engines["wall_ns"] > 0]  # none passed where an engine was stopped at once
    cpu = engines["cpu_ns"] / engines["wall_ns"]
    law = little_of(run, stage)
    in_flight, from_service = (law.in_flight, law.from_service) if law else (None, None)
    return (
        latency_cell(float(hiccups["p99_ns"].max()) / 1000 if len(hiccups) else None),
        latency_cell(float(hiccups["max_ns"].max()) / 1000 if len(hiccups) else None),
        Cell(
            text=ratio(float(cpu.mean())) if len(cpu) else UNKNOWN,
            value=float(cpu.mean()) if len(cpu) else None,
        ),
        Cell(
            text=ratio(float(cpu.max())) if len(cpu) else UNKNOWN,
            value=float(cpu.max()) if len(cpu) else None,
        ),
        Cell(text=UNKNOWN if in_flight is None else f"{in_flight:.2f}", value=in_flight),
        Cell(text=UNKNOWN if from_service is None else f"{from_service:.2f}", value=from_service),
    )


def generator_table(run: Run, stages: Sequence[StageFigures]) -> Table:
    """The generator's own health: send lag beside the hosts' hiccups, CPU, Little's law."""
    rows = []
    for stage in shown(stages):
        lag = stage.overall.tally.send_lag
        lags = (quantile_cell(lag, q) for q in (0.5, 0.99, None))
        rows.append(
            (
                words(stage.facts.name),
                *lags,
                *_health_cells(run, stage),
                count_cell(stage.lost_planned),
            )
        )
    return Table(
        name="generator",
        title="Generator (send lag; engine CPU; hiccups: worst window of a bare ticker)",
        columns=(
            text_column("stage"),
            number_column("send_lag_p50_us", "lag p50"),
            number_column("send_lag_p99_us", "lag p99"),
            number_column("send_lag_max_us", "lag max"),
            number_column("hiccup_p99_us", "hiccup p99"),
            number_column("hiccup_max_us", "hiccup max"),
            number_column("engine_cpu_mean_ratio", "CPU mean"),
            number_column("engine_cpu_max_ratio", "CPU max"),
            number_column("in_flight_mean", "in flight"),
            number_column("in_flight_by_little", "rate x service"),
            number_column("lost_arrivals", "lost"),
        ),
        rows=tuple(rows),
    )


def _sample(run: Run, stage: str, request: str, kind: str) -> str:
    """One message of an error, whichever node it came from first in the plan's order."""
    for node in run.slots.nodes:
        text = run.messages.get((stage, request, node, kind))
        if text is not None:
            return text[:_LONGEST_MESSAGE]
    return ""


def error_table(run: Run, stages: Sequence[StageFigures]) -> Table:
    """Errors by kind, most frequent first; of all stages: faults strike where none is judged."""
    rows = []
    for stage in stages:
        parts = [(n, p.errors, p.tally.done) for n, p in stage.requests.items() if n is not None]
        parts.append((CONNECTION, stage.connection_errors, 0))
        for name, errors, done in parts:
            for kind, number in sorted(errors.items(), key=lambda e: (-e[1], e[0])):
                sample = _sample(run, stage.facts.name, name, kind)
                row = (words(stage.facts.name), words(name), words(kind), count_cell(number))
                rows.append((*row, ratio_cell(number, done), words(sample)))
    return Table(
        name="errors",
        title="Errors by kind",
        columns=(
            text_column("stage"),
            text_column("request"),
            text_column("kind"),
            number_column("count"),
            number_column("ratio"),
            text_column("sample"),
        ),
        rows=tuple(rows),
    )


def alert_table(verdict: Verdict) -> Table:
    """Alert levels and whether they were reached; they do not change the verdict."""
    rows = []
    for alert in verdict.alerts:
        text, value = reading_text(alert.reading), alert.reading.value
        shown_value = None if text == TOO_SMALL or value == float("inf") else value
        rows.append(
            (
                words(alert.stage),
                words(alert.alert),
                Cell(text=with_unit(alert.reading.unit, alert.limit), value=alert.limit),
                Cell(text=text, value=shown_value),
                words(alert.state.value),
            )
        )
    return Table(
        name="alerts",
        title="Alert levels",
        columns=(
            text_column("stage"),
            text_column("alert"),
            number_column("limit"),
            number_column("value"),
            text_column("state"),
        ),
        rows=tuple(rows),
    )


def with_scale(table: Table, verdict: Verdict) -> Table:
    """The table with the mark of a scaled run in its title."""
    mark = scale_text(verdict.scale)
    title = f"{table.title} [{mark}]" if mark else table.title
    return Table(name=table.name, title=title, columns=table.columns, rows=table.rows)


def build_tables(run: Run, verdict: Verdict, stages: Sequence[StageFigures]) -> tuple[Table, ...]:
    """Every table that has a row, in the order in which they are read."""
    plan = plan_of(run)
    side = build_server_side(run, plan)
    is_closed = verdict.load_model == LoadModel.CLOSED.value
    response = "Response time (closed load: equals service time, stalls are under-counted)"
    tables = [
        objective_table(verdict),
        *recovery_tables(run, measure_recoveries(run, plan)),
        *write_tables(audit_writes(run, plan)),
        rate_table(plan, stages),
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
        stream_table(run, stages),
        generator_table(run, stages),
        pool_table(run, stages),
        server_table(side, stages, len(plan.nodes)),
        scrape_table(side),
        *([saturation_table(find_saturation(run, plan, stages, side))] if side else []),
        conservation_table(run.manifest),
        error_table(run, stages),
        alert_table(verdict),
    ]
    return tuple(with_scale(table, verdict) for table in tables if table.rows)
