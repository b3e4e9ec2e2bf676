"""The figures over time: rate, response time, errors, in flight, send lag, CPU.

Each is a list of lines on the same axis; a thinned line keeps its highest and lowest second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from matplotlib.axes import Axes

from analysis.attribution import ENGINE_CPU_RATIO
from analysis.report.envelope import Envelope
from analysis.report.plots.axes import (
    count_axis,
    draw_line,
    fit_latencies,
    highest_of,
    limit_line,
    time_axis,
)
from analysis.report.plots.canvas import (
    DASHES,
    FIRST,
    MUTED,
    SECOND,
    SERIES,
    THIRD,
    Dash,
    Picture,
    draw,
    put_legend,
    short,
)
from analysis.report.series import PERCENTILES, Series
from analysis.report.source import Source
from analysis.report.timeline import Timeline
from analysis.text import clean, count, latency, ratio
from loadtests.record.window import Count

if TYPE_CHECKING:  # it is made of what is drawn here
    from analysis.report.resources import Resources

_HEIGHT_IN: Final = 2.3
_SOLID, _DASHED, _DOTTED, _ = DASHES
_EACH_ENGINE: Final = len(SERIES)  # more are drawn as their highest alone
_CPU_TOP: Final = 1.08


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A limit on a percentile of response time that holds for all requests; in us."""

    text: str
    quantile: float
    value_us: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OverTime:
    """What all figures over time are drawn from; `mark` says that a run is scaled."""

    timeline: Timeline
    series: Series
    limits: tuple[Limit, ...]
    send_lag_limit_us: float
    mark: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    series: Envelope
    label: str
    color: str
    dash: Dash
    is_mean: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sketch:
    """One figure: `text` begins its caption, `say` writes a value, `fit` sets the y axis."""

    name: str
    title: str
    text: str
    lines: Sequence[_Line]
    say: Callable[[float], str]
    fit: Callable[[Axes], None]


def _number(value: float) -> str:
    return count(round(value))


def _time(value_us: float) -> str:
    return latency(value_us * 1000)


def _lowest(lines: Sequence[_Line]) -> float:
    values = np.concatenate([line.series.low for line in lines])
    known = values[np.isfinite(values) & (values > 0)]
    return float(known.min()) if known.size else 1.0


def _highest(lines: Sequence[_Line]) -> float:
    return highest_of(*(line.series for line in lines))


def _thinning(step_s: int, *, has_mean: bool) -> str:
    if step_s == 1:
        return "One point a second."
    line = "the line is the mean" if has_mean else "the line is the highest, nothing is averaged"
    return f"One point is {step_s} s: the band goes from the lowest to the highest second, {line}."


def _marks(timeline: Timeline) -> str:
    parts = []
    if timeline.marks:
        parts.append("Numbered lines: events, as in their table.")
    if timeline.unmarked:
        parts.append(f"{timeline.unmarked} more events are in the table alone.")
    if timeline.gaps:
        parts.append("Shaded in the colour of errors: lost windows.")
    if timeline.faults:
        parts.append("Hatched: faults in force.")
    if any(not band.is_judged for band in timeline.bands):
        parts.append("Shaded grey: not judged.")
    return " ".join(parts)


def _picture(over: OverTime, sketch: _Sketch, source: Source) -> Picture:
    def paint(axes: Axes) -> None:
        time_axis(axes, over.timeline)
        for line in sketch.lines:
            draw_line(
                axes, line.series, color=line.color, label=line.label, dash=line.dash,
                is_mean=line.is_mean,
            )  # fmt: skip
        sketch.fit(axes)
        put_legend(axes)

    worst = ", ".join(f"{one.label} {sketch.say(_highest([one]))}" for one in sketch.lines)
    alt = f"{sketch.title} over time. Highest second: {worst}."
    has_mean = any(line.is_mean for line in sketch.lines)
    thinned = _thinning(over.series.step_s, has_mean=has_mean)
    return Picture(
        name=sketch.name,
        title=f"{sketch.title}{over.mark}",
        caption=" ".join(filter(None, (sketch.text, thinned, _marks(over.timeline)))),
        alt=alt,
        source=source,
        svg=draw(sketch.name, alt, _HEIGHT_IN, paint),
    )


def _counts(lines: Sequence[_Line], unit: str) -> Callable[[Axes], None]:
    def fit(axes: Axes) -> None:
        count_axis(axes, _highest(lines))
        axes.set_ylabel(unit)

    return fit


def rate_picture(over: OverTime, source: Source) -> Picture:
    """Planned, sent and ended."""
    counts = over.series.counts
    rows = (
        (counts[Count.PLANNED], "planned", MUTED, _DASHED),
        (counts[Count.SENT], "sent", FIRST, _SOLID),
        (over.series.answered, "ended", SECOND, _DOTTED),
    )
    lines = [_Line(series=s, label=n, color=c, dash=d, is_mean=True) for s, n, c, d in rows]
    sketch = _Sketch(
        name="rate", title="Rate", text="Requests planned, sent and ended in each second.",
        lines=lines, say=_number, fit=_counts(lines, "requests/s"),
    )  # fmt: skip
    return _picture(over, sketch, source)


def response_picture(over: OverTime, source: Source) -> Picture:
    """Percentiles of response time, second by second, with their limits."""
    found = over.series.percentiles
    styles = ((THIRD, _DOTTED), (FIRST, _DASHED), (SECOND, _SOLID))
    lines = [
        _Line(series=series, label=label, color=color, dash=dash)
        for (label, series), (color, dash) in zip(found.items(), styles, strict=False)
    ]
    top = _Line(series=over.series.response_max, label="max", color=MUTED, dash=_SOLID)
    limits = [limit for limit in over.limits if limit.quantile in dict(PERCENTILES).values()]
    limits_us = [limit.value_us for limit in limits]

    def fit(axes: Axes) -> None:
        axes.plot(top.series.at_s, top.series.high, ".", color=MUTED, markersize=2.5, label="max")
        lowest = _lowest(lines or [top])
        fit_latencies(axes, min([lowest, *limits_us]), max([_highest([top]), *limits_us]))
        for limit in limits:
            limit_line(axes, limit.value_us, limit.text)

    sketch = _Sketch(
        name="response", title="Response time",
        text="Of all ok requests that ended in a second, from the intended start.",
        lines=lines, say=_time, fit=fit,
    )  # fmt: skip
    return _picture(over, sketch, source)


def has_trouble(over: OverTime) -> bool:
    """Whether anything went wrong in any second; else the table of outcomes says so in a row."""
    kinds = (Count.FAILED, Count.CLIENT_ERROR, Count.DROPPED)
    return highest_of(*(over.series.counts[kind] for kind in kinds)) > 0


def trouble_picture(over: OverTime, source: Source) -> Picture:
    """What went wrong, by second."""
    counts = over.series.counts
    rows = (
        (counts[Count.FAILED], "failed", SECOND, _SOLID),
        (counts[Count.CLIENT_ERROR], "client error", FIRST, _DASHED),
        (counts[Count.DROPPED], "dropped", THIRD, _DOTTED),
    )
    lines = [_Line(series=s, label=n, color=c, dash=d) for s, n, c, d in rows]
    sketch = _Sketch(
        name="trouble", title="Errors and dropped arrivals",
        text="Requests that ended badly, and arrivals that were never sent.",
        lines=lines, say=_number, fit=_counts(lines, "requests/s"),
    )  # fmt: skip
    return _picture(over, sketch, source)


def in_flight_picture(over: OverTime, source: Source) -> Picture:
    """Requests in flight, waiting arrivals, open connections."""
    series = over.series
    rows = (
        (series.connections, "connections open", MUTED, _DASHED),
        (series.in_flight, "in flight (mean)", FIRST, _SOLID),
        (series.backlog, "waiting", SECOND, _DOTTED),
    )
    lines = [_Line(series=s, label=n, color=c, dash=d) for s, n, c, d in rows]
    sketch = _Sketch(
        name="in_flight", title="In flight",
        text="Requests in flight; arrivals waiting for a connection at the end of a second.",
        lines=lines, say=_number, fit=_counts(lines, "requests"),
    )  # fmt: skip
    return _picture(over, sketch, source)


def send_lag_picture(over: OverTime, source: Source) -> Picture:
    """The generator's own lateness, beside that of a bare ticker on its hosts."""
    series, limit_us = over.series, over.send_lag_limit_us
    rows = (
        (series.hiccup_max, "host's ticker max", MUTED, _DASHED),
        (series.send_lag_max, "max", THIRD, _DOTTED),
        (series.send_lag_p99, "p99, worst request", FIRST, _SOLID),
    )
    lines = [_Line(series=s, label=n, color=c, dash=d) for s, n, c, d in rows]

    def fit(axes: Axes) -> None:
        fit_latencies(axes, min(_lowest(lines), limit_us), max(_highest(lines), limit_us))
        limit_line(axes, limit_us, f"limit of a stage's p99: {_time(limit_us)}")

    sketch = _Sketch(
        name="send_lag", title="Send lag",
        text="How late requests were sent, and how late a bare ticker on the same host was.",
        lines=lines, say=_time, fit=fit,
    )  # fmt: skip
    return _picture(over, sketch, source)


def cpu_picture(over: OverTime, source: Source) -> Picture:
    """CPU of the engines; of many, the highest of each second."""
    engines = over.series.cpu
    shown = engines
    if len(engines) > _EACH_ENGINE:
        shown = {f"highest of {len(engines)} engines": over.series.cpu_highest}
    lines = [
        _Line(series=series, label=short(name), color=color, dash=dash)
        for (name, series), color, dash in zip(shown.items(), SERIES, DASHES, strict=False)
    ]

    def fit(axes: Axes) -> None:
        axes.set_ylim(0, max(_CPU_TOP, _highest(lines) * 1.1))
        axes.yaxis.set_major_formatter(lambda value, _at: f"{value * 100:g} %")
        limit_line(axes, ENGINE_CPU_RATIO, "90 %: three seconds above it end a verdict")

    sketch = _Sketch(
        name="cpu", title="Engine CPU", text="CPU of each engine, of one core.",
        lines=lines, say=ratio, fit=fit,
    )  # fmt: skip
    return _picture(over, sketch, source)


def resources_picture(over: OverTime, resources: Resources, source: Source) -> Picture:
    """Server and client on one axis: what was at its limit, and when."""
    rows = (
        (resources.server_cpu, "server CPU", SECOND, _SOLID),
        (resources.engine_cpu, "engine CPU", FIRST, _DASHED),
        (resources.in_flight, "in flight", THIRD, _DOTTED),
        (resources.ended, "answers", MUTED, _SOLID),
    )
    lines = [_Line(series=s, label=n, color=c, dash=d) for s, n, c, d in rows]

    def fit(axes: Axes) -> None:
        axes.set_ylim(0, max(_CPU_TOP, _highest(lines) * 1.1))
        axes.yaxis.set_major_formatter(lambda value, _at: f"{value * 100:g} %")
        limit = resources.cpu_limit_ratio
        limit_line(axes, limit, f"limit of the server's CPU: {ratio(limit)}")

    first = clean(resources.sentences[0])
    sketch = _Sketch(
        name="resources", title="Server and client",
        text=f"{first[:1].upper()}{first[1:]}. CPU of the busiest node and of the busiest engine; "
        "requests in flight, of those allowed; answers, of their highest second.",
        lines=lines, say=ratio, fit=fit,
    )  # fmt: skip
    return _picture(over, sketch, source)
