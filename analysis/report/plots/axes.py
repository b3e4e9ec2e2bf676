"""Axes that several figures share: time with its stages and events, latencies, thinned lines."""

from __future__ import annotations

from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from analysis.report.envelope import Envelope
from analysis.report.plots.canvas import BAD, INK, MUTED, WARM_UP, Dash, short
from analysis.report.timeline import Timeline
from analysis.text import latency

_MINUTE_S: Final = 60
_HOUR_S: Final = 3600
_STEPS: Final = [1, 1.5, 2, 3, 5, 6, 10]
_LABEL_PART: Final = 0.06  # of the axis: narrower stages have no name of their own
_CHARACTER_PART: Final = 0.017  # of the axis that a character of a name takes
_BAND_ALPHA: Final = 0.16
_FEW: Final = 60
# Decades that an axis spans at least -> where each of them has ticks.
_TICKS: Final = ((3.2, (1,)), (2, (1, 3)), (0.9, (1, 2, 5)), (0, (1, 1.5, 2, 3, 4, 5, 6, 8)))


def _scale(timeline: Timeline) -> tuple[float, str]:
    for unit_s, name, least in ((_HOUR_S, "h", 3), (_MINUTE_S, "min", 3)):
        if timeline.length_s >= least * unit_s:
            return float(unit_s), name
    return 1.0, "s"


def time_axis(axes: Axes, timeline: Timeline) -> None:
    """Seconds from the axis' start as s, min or h; stages, lost windows and events on it."""
    unit_s, unit = _scale(timeline)
    length = max(1, timeline.length_s)
    axes.set_xlim(0, length)
    axes.xaxis.set_major_locator(_Whole(unit_s))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _at: f"{value / unit_s:g}"))
    axes.set_xlabel(f"{unit} from T0", loc="right", labelpad=2)
    above = axes.get_xaxis_transform()
    for number, band in enumerate(timeline.bands):
        if not band.is_judged:
            axes.axvspan(band.start_s, band.end_s, color=WARM_UP, alpha=_BAND_ALPHA, linewidth=0)
        elif number:
            axes.axvline(band.start_s, color=MUTED, linewidth=0.8, linestyle=(0, (2, 2)))
        part = (min(band.end_s, length) - band.start_s) / length
        if part >= _LABEL_PART:
            name = short(band.name, max(3, int(part / _CHARACTER_PART)))
            axes.text(
                band.start_s + 0.004 * length, 0.985, name, transform=above, va="top",
                color=MUTED, fontsize=9, clip_on=True,
            )  # fmt: skip
    for gap in timeline.gaps:
        axes.axvspan(gap.start_s, gap.end_s, color=BAD, alpha=_BAND_ALPHA, linewidth=0)
    for fault in timeline.faults:
        axes.axvspan(
            fault.start_s, fault.end_s, facecolor="none", edgecolor=BAD, hatch="//",
            alpha=2 * _BAND_ALPHA, linewidth=0,
        )  # fmt: skip
    for place, mark in enumerate(timeline.marks):
        axes.axvline(mark.at_s, color=BAD, linewidth=1.1)
        axes.text(
            mark.at_s, 0.02 + place % 3 * 0.1, f" {mark.number}", transform=above, va="bottom",
            color=BAD, fontsize=9, fontweight="bold", clip_on=True,
        )  # fmt: skip


class _Whole(MaxNLocator):
    """Ticks at round numbers of a unit."""

    def __init__(self, unit_s: float) -> None:
        super().__init__(nbins=8, steps=_STEPS)
        self._unit_s = unit_s

    def tick_values(self, vmin: float, vmax: float) -> list[float]:
        values = super().tick_values(vmin / self._unit_s, vmax / self._unit_s)
        return [float(value) * self._unit_s for value in values]


def latency_axis(axis: Axis) -> None:
    """A logarithmic axis in us, with ticks as the tables write latencies."""
    low, high = axis.get_view_interval()
    decades = np.log10(high / low)
    parts = next(parts for least, parts in _TICKS if decades >= least)
    axis.set_major_locator(LogLocator(base=10, subs=parts, numticks=20))
    axis.set_major_formatter(FuncFormatter(lambda value_us, _at: _tick(value_us)))
    axis.set_minor_formatter(NullFormatter())
    axis.set_minor_locator(FixedLocator([]))


def _tick(value_us: float) -> str:
    number, unit = latency(value_us * 1000).split(" ")
    return f"{float(number):g} {unit}"


def fit_latencies(axes: Axes, lowest_us: float, highest_us: float) -> None:
    """A logarithmic y axis with room above for the names of stages."""
    axes.set_yscale("log")
    low = max(1.0, lowest_us)
    high = max(highest_us, low * 2)
    axes.set_ylim(low / 1.25, high * (high / low) ** 0.14 * 1.1)
    latency_axis(axes.yaxis)


def count_axis(axes: Axes, highest: float) -> None:
    """A linear y axis from 0, with room above for the names of stages."""
    axes.set_ylim(0, max(1.0, highest) * 1.16)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _at: compact(value)))


def compact(value: float) -> str:
    """A count in few characters: 950, 12.5k, 1.2M."""
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:g}{unit}"
    return f"{value:g}"


def draw_line(
    axes: Axes, series: Envelope, *, color: str, label: str, dash: Dash, is_mean: bool
) -> None:
    """A series over the band of its lowest and highest second: its mean, or the highest itself."""
    if series.is_thinned:
        axes.fill_between(
            series.at_s, series.low, series.high, color=color, alpha=0.22, linewidth=0
        )
    values = series.mean if is_mean else series.high
    marker = "." if values.size <= _FEW else ""  # or a second between two unknown ones is not seen
    axes.plot(
        series.at_s, values, color=color, label=label, linestyle=dash, marker=marker, markersize=4
    )


def highest_of(*series: Envelope) -> float:
    """The largest finite value of all; 0 where nothing is known."""
    values = np.concatenate([one.high for one in series]) if series else np.empty(0)
    finite = values[np.isfinite(values)]
    return float(finite.max()) if finite.size else 0.0


def limit_line(axes: Axes, value: float, label: str) -> None:
    """A limit with its text at the left end, on the side where there is room."""
    axes.axhline(value, color=INK, linewidth=1, linestyle=(0, (4, 2)))
    axes.text(
        0.995, value, short(label, 40), transform=axes.get_yaxis_transform(), ha="right",
        va="bottom", fontsize=9, color=INK, clip_on=True,
    )  # fmt: skip
