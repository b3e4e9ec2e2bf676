"""A trend for a terminal and as JSON; computes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from analysis.cells import count_cell, number_column, text_column, whole_column
from analysis.show import Json, JsonValue
from analysis.tables import Cell, Table, to_rich, words
from analysis.text import UNKNOWN, clean, scale_text, significant, utc_date, with_unit
from analysis.trend.series import (
    LEAST_RUNS,
    STRONG_EVIDENCE,
    Change,
    Metric,
    SeriesTrend,
    State,
    Trend,
)
from analysis.unit import Unit

TREND_SCHEMA: Final = 1
_LONGEST_LINE: Final = 400


def _value(metric: Metric, value: float) -> Cell:
    """Latencies in us for machines, as everywhere."""
    number = value / 1000 if metric.unit is Unit.NANOSECONDS else value
    return Cell(text=with_unit(metric.unit, value), value=number)


def _size(metric: Metric, value: float | None, *, is_signed: bool) -> Cell:
    if value is None:
        return Cell(text=UNKNOWN, value=None)
    sign = "+" if is_signed and value > 0 else ""
    unit = "%" if metric.is_factor else "points"  # percentage points: of a ratio, not by a factor
    return Cell(text=f"{sign}{significant(value * 100)} {unit}", value=value)


def sum_up(trend: Trend) -> str:
    """How many changes there are, and the newest of them, in a few words."""
    found = [(one.metric, one.stage, change) for one in trend.series for change in one.changes]
    if not trend.has_enough_runs:
        return f"fewer than {LEAST_RUNS} comparable runs"
    if not found:
        return f"none in {len(trend.history.runs)} runs"
    metric, stage, newest = max(found, key=lambda entry: entry[2].first.unix_ns)
    size = _size(metric, newest.size, is_signed=True).text
    judged = f"{'worse' if newest.is_worse else 'better'}, {_evidence(newest)}"
    date = utc_date(newest.first.unix_ns)
    return f"{len(found)}; the newest: {metric.key} of {stage} {size} ({judged}) from {date} on"


def _evidence(change: Change) -> str:
    return "strong" if change.is_strong else "weak"


def _change_row(series: SeriesTrend, change: Change) -> tuple[Cell, ...]:
    metric = series.metric
    return (
        words(series.stage),
        words(metric.key),
        words(utc_date(change.first.unix_ns)),
        words(change.first.run_id),
        _value(metric, change.before),
        _value(metric, change.after),
        _size(metric, change.size, is_signed=True),
        words("worse" if change.is_worse else "better"),
        Cell(text=significant(change.p_value, 2), value=change.p_value),
        words(_evidence(change)),
        count_cell(change.runs_after),
    )


def _mark(trend: Trend) -> str:
    mark = scale_text(trend.history.scale)
    return f", {mark}" if mark else ""


def change_table(trend: Trend) -> Table:
    """Every change of every series, in the order of the stages."""
    return Table(
        name="changes",
        title=f"Changes (medians before and after){_mark(trend)}",
        columns=(
            text_column("stage"),
            whole_column("metric"),
            whole_column("date"),
            whole_column("first_run", "first run"),
            number_column("before"),
            number_column("after"),
            number_column("change"),
            whole_column("direction"),
            number_column("p"),
            whole_column("evidence"),
            number_column("runs_after", "runs after"),
        ),
        rows=tuple(
            _change_row(series, change) for series in trend.series for change in series.changes
        ),
    )


def _series_row(series: SeriesTrend) -> tuple[Cell, ...]:
    metric, is_known = series.metric, series.state is not State.TOO_FEW
    newest = _value(metric, series.levels()[-1][2]) if is_known else Cell(text=UNKNOWN, value=None)
    return (
        words(series.stage),
        words(metric.key),
        count_cell(len(series.points)),
        count_cell(series.missing),
        newest,
        _size(metric, series.noise, is_signed=False),
        _size(metric, series.detectable, is_signed=False),
        words(series.state.value),
    )


def series_table(trend: Trend) -> Table:
    """What was looked at, how noisy it is, and what it could have shown."""
    return Table(
        name="series",
        title=f"Series (level: median since the last change){_mark(trend)}",
        columns=(
            text_column("stage"),
            whole_column("metric"),
            number_column("runs"),
            number_column("missing", "n too small"),
            number_column("level"),
            number_column("noise"),
            number_column("detectable", "found in 3 nights from"),
            whole_column("state"),
        ),
        rows=tuple(_series_row(series) for series in trend.series),
    )


def sentences(trend: Trend) -> tuple[str, ...]:
    """What the reader has to know before the tables."""
    history, looked_at = trend.history, sum(s.state is not State.TOO_FEW for s in trend.series)
    lines = [f"{len(history.runs)} comparable runs"]
    if history.older:
        lines[0] += f" ({history.older} older ones not looked at)"
    if history.from_baselines:
        lines[0] += f", {len(history.from_baselines)} of them from promoted baselines alone"
    if len(history.runs) < LEAST_RUNS:
        lines.append(f"too few for a trend: at least {LEAST_RUNS} are needed")
    if looked_at:
        lines.append(
            f"{looked_at} series were looked at; of series without any change one in "
            f"{1 / trend.significance:.0f} shows one by chance at each look, with strong "
            f"evidence (p <= {STRONG_EVIDENCE:g}) less than one in {1 / STRONG_EVIDENCE:.0f}"
        )
    return tuple(lines)


def _left_out(trend: Trend) -> Iterable[str]:
    return (f"{one.run_id}: {one.reason}" for one in trend.history.left_out)


def show_trend(trend: Trend) -> RenderableType:
    """The whole page for a terminal."""
    head = Text(clean(trend.history.scenario), style="bold")
    if mark := scale_text(trend.history.scale):
        head.append(f"  {mark}: does not show that the full target is met", style="bold yellow")
    parts: list[RenderableType] = [head, *map(Text, sentences(trend)), Text("")]
    parts.extend(to_rich(table) for table in (change_table(trend), series_table(trend))
                 if table.rows)  # fmt: skip
    left_out = [Text(f"  - {clean(line, _LONGEST_LINE)}") for line in _left_out(trend)]
    if left_out:
        parts.extend([Text("Left out", style="bold"), *left_out])
    return Group(*parts)


def _change_json(metric: Metric, change: Change) -> Json:
    return {
        "first_run": change.first.run_id,
        "created_unix_ns": change.first.unix_ns,
        "before": _value(metric, change.before).value,
        "after": _value(metric, change.after).value,
        "change": change.size,
        "direction": "worse" if change.is_worse else "better",
        "p_value": change.p_value,
        "is_strong": change.is_strong,
        "runs_after": change.runs_after,
    }


def _series_json(series: SeriesTrend) -> Json:
    metric = series.metric
    return {
        "stage": series.stage,
        "metric": metric.key,
        "unit": "us" if metric.unit is Unit.NANOSECONDS else metric.unit.value,
        "change_is": "ratio" if metric.is_factor else "difference",
        "state": series.state.value,
        "missing": series.missing,
        "noise": series.noise,
        "detectable_in_3_nights": series.detectable,
        "changes": [_change_json(metric, change) for change in series.changes],
        "points": [
            {
                "run_id": p.run_id,
                "created_unix_ns": p.unix_ns,
                "value": _value(metric, p.value).value,
            }
            for p in series.points
        ],
    }


def trend_to_json(trend: Trend) -> Json:
    """Everything that the page says, and every point."""
    history = trend.history
    return {
        "schema_version": TREND_SCHEMA,
        "scenario": history.scenario,
        "scale": history.scale,
        "is_scaled": history.scale != 1.0,
        "runs": len(history.runs),
        "older_runs": history.older,
        "least_runs": LEAST_RUNS,
        "from_baselines": list[JsonValue](sorted(history.from_baselines)),
        "significance": trend.significance,
        "series": [_series_json(series) for series in trend.series],
        "left_out": [{"run_id": o.run_id, "reason": o.reason} for o in history.left_out],
    }
