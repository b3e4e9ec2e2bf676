"""A trend as an SVG: a panel a series, with its levels and the changes between them.

The same trend gives the same bytes. Names are drawn as they are (no mathematics in `$`), SVG's
own characters are escaped by Matplotlib; active characters are made visible before. Colours
are Okabe and Ito's, which colour-blind people tell apart; shape says the same as colour.
"""

from __future__ import annotations

import io
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from analysis.text import clean, scale_text, utc_date, with_unit
from analysis.trend.series import Change, SeriesTrend, State, Trend
from analysis.unit import Unit

_RUNS: Final = "#0072B2"
_LEVEL: Final = "#000000"
_WORSE: Final = "#D55E00"
_BETTER: Final = "#009E73"
_WIDTH_IN: Final = 10.0
_PANEL_IN: Final = 1.7
_STYLE: Final[dict[Any, Any]] = {
    "svg.hashsalt": "headroom",  # ids in the file are of its content alone
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_LONGEST_TITLE: Final = 100


def _draw_change(axes: Axes, series: SeriesTrend, change: Change) -> None:
    at = series.points.index(change.first)
    colour = _WORSE if change.is_worse else _BETTER
    axes.axvline(at - 0.5, color=colour, linestyle="--" if change.is_strong else ":", linewidth=1.2)
    sign = "+" if change.size > 0 else ""
    unit = "%" if series.metric.is_factor else "points"
    text = f"{utc_date(change.first.unix_ns)}\n{sign}{change.size * 100:.3g} {unit}"
    axes.annotate(text, (at - 0.5, 1.0), xycoords=("data", "axes fraction"), color=colour,
                  fontsize=7, ha="left", va="top", xytext=(2, 0), textcoords="offset points",
                  parse_math=False)  # fmt: skip


def _limits(series: SeriesTrend) -> tuple[float, float]:
    """Of the value axis: a change that counts is seen, noise below it is not blown up."""
    values, metric = [point.value for point in series.points], series.metric
    low, high = min(values, default=0.0), max(values, default=0.0)
    least = 4 * metric.least * (high if metric.is_factor else 1.0)
    spare = max(0.1 * (high - low), (least - (high - low)) / 2, 0.0)
    label = 0.3 * (high - low + spare) if series.changes else 0.0
    return (low - spare if metric.is_factor else 0.0), high + spare + label


def _draw_series(axes: Axes, series: SeriesTrend) -> None:
    values = [point.value for point in series.points]
    axes.plot(range(len(values)), values, "o", color=_RUNS, markersize=3.5)
    if series.state is not State.TOO_FEW:
        for first, last, level in series.levels():
            axes.plot([first - 0.4, last + 0.4], [level, level], color=_LEVEL, linewidth=1.4)
    for change in series.changes:
        _draw_change(axes, series, change)
    if series.points:
        axes.set_ylim(*_limits(series))
    unit = series.metric.unit
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(unit, value)))
    title = clean(f"{series.stage}: {series.metric.key}", _LONGEST_TITLE)
    axes.set_title(f"{title} ({series.state.value})", loc="left", fontsize=9, parse_math=False)
    ticks = sorted(
        {0, len(values) // 3, 2 * len(values) // 3, len(values) - 1} & set(range(len(values)))
    )
    axes.set_xticks(ticks, [utc_date(series.points[at].unix_ns) for at in ticks])


def _tick(unit: Unit, value: float) -> str:
    return "0" if value == 0 else with_unit(unit, value)


def draw_trend(trend: Trend) -> bytes:
    """The SVG; of a trend without a series a page that says so."""
    with mpl.rc_context(_STYLE):
        panels = max(1, len(trend.series))
        figure = Figure(figsize=(_WIDTH_IN, 0.6 + _PANEL_IN * panels), layout="constrained")
        mark = scale_text(trend.history.scale)
        heading = clean(f"Trend of {trend.history.scenario}", _LONGEST_TITLE)
        figure.suptitle(f"{heading}{', ' if mark else ''}{mark}", fontsize=11, parse_math=False)
        for at, series in enumerate(trend.series):
            _draw_series(figure.add_subplot(panels, 1, at + 1), series)
        if not trend.series:
            figure.text(0.5, 0.3, "no comparable run", ha="center", parse_math=False)
        out = io.BytesIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return out.getvalue()
