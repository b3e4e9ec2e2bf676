"""Response time against throughput, with the objectives' lines: where the knee is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from analysis.report.load_points import QUANTILES, LoadPoint
from analysis.report.plots.axes import compact, fit_latencies, limit_line
from analysis.report.plots.canvas import (
    DASHES,
    FIRST,
    MUTED,
    SECOND,
    THIRD,
    Picture,
    draw,
    put_legend,
    short,
)
from analysis.report.plots.over_time import Limit
from analysis.report.source import Source
from analysis.text import latency, rate

_HEIGHT_IN: Final = 2.6
_STYLES: Final = (
    (THIRD, "^", DASHES[2]), (FIRST, "s", DASHES[1]), (SECOND, "o", DASHES[0]),
)  # fmt: skip
_MOST_NAMES: Final = 6


def throughput_picture(
    points: Sequence[LoadPoint], limits: Sequence[Limit], mark: str, source: Source
) -> Picture:
    """One point a stage and percentile; stages are joined in their order."""
    limits = [limit for limit in limits if limit.quantile in dict(QUANTILES).values()]

    def paint(axes: Axes) -> None:
        for (label, _q), (color, marker, dash) in zip(QUANTILES, _STYLES, strict=True):
            found = [(p.throughput_per_s, p.percentiles_us.get(label, np.nan)) for p in points]
            axes.plot(
                [x for x, _ in found], [y for _, y in found], color=color, marker=marker,
                markersize=5, linewidth=1, linestyle=dash, label=label,
            )  # fmt: skip
        values = [value for point in points for value in point.percentiles_us.values()]
        finite = [*filter(np.isfinite, values), *(limit.value_us for limit in limits)]
        fit_latencies(axes, min(finite, default=1.0), max(finite, default=1000.0))
        axes.set_xlim(0, max(point.throughput_per_s for point in points) * 1.12 or 1)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _at: compact(value)))
        axes.set_xlabel("throughput, answers/s", loc="right", labelpad=2)
        for point in points if len(points) <= _MOST_NAMES else ():
            top = max(point.percentiles_us.values(), default=None)
            if top is not None and np.isfinite(top):
                axes.annotate(
                    short(point.stage, 16), (point.throughput_per_s, top), xytext=(0, 6),
                    textcoords="offset points", ha="center", fontsize=9, color=MUTED,
                )  # fmt: skip
        for limit in limits:
            limit_line(axes, limit.value_us, limit.text)
        put_legend(axes)

    alt = "Response time against throughput. " + " ".join(
        f"{short(point.stage)}: {rate(point.throughput_per_s)} answers/s, "
        + ", ".join(f"{k} {latency(v * 1000)}" for k, v in point.percentiles_us.items())
        + "."
        for point in points
    )
    return Picture(
        name="throughput",
        title=f"Response time against throughput{mark}",
        caption="One point a judged stage, joined in their order. Dashed: limits.",
        alt=alt,
        source=source,
        svg=draw("throughput", alt, _HEIGHT_IN, paint),
    )
