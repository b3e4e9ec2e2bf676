"""CPU of target and generator on one time axis: which of them was at its limit first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from matplotlib.axes import Axes

from analysis.report.plots.axes import draw_line, limit_line, time_axis
from analysis.report.plots.canvas import (
    DASHES,
    MUTED,
    SERIES,
    Picture,
    draw,
    put_legend,
    short,
)
from analysis.report.plots.over_time import OverTime
from analysis.report.source import Source
from analysis.server_side.saturation import CPU_RATIO
from analysis.server_side.series import NodeSeries
from analysis.text import ratio

_HEIGHT_IN: Final = 2.3
_TOP: Final = 1.08


def _highest(nodes: Sequence[NodeSeries]) -> float:
    values = np.concatenate([node.known().numbers for node in nodes])
    return float(values.max()) if values.size else 0.0


def server_cpu_picture(
    over: OverTime, nodes: Sequence[NodeSeries], saturation: str, source: Source
) -> Picture:
    """Each node's CPU as it was scraped, beside the busiest engine; `nodes` is not empty."""
    first_s = over.timeline.first_s

    def paint(axes: Axes) -> None:
        time_axis(axes, over.timeline)
        draw_line(
            axes, over.series.cpu_highest, color=MUTED, label="busiest engine", dash=DASHES[1],
            is_mean=False,
        )  # fmt: skip
        for place, node in enumerate(nodes):
            axes.plot(
                node.times_s - first_s, node.numbers, color=SERIES[place % len(SERIES)],
                linestyle=DASHES[place // len(SERIES) % len(DASHES)], marker=".", markersize=4,
                label=short(node.node, 16) if place < len(SERIES) else None,
            )  # fmt: skip
        axes.set_ylim(0, max(_TOP, _highest(nodes) * 1.1))
        axes.yaxis.set_major_formatter(lambda value, _at: f"{value * 100:g} %")
        limit_line(axes, CPU_RATIO, "90 %")
        put_legend(axes, columns=5)

    alt = (
        f"CPU of {len(nodes)} nodes of the target and of the busiest engine over time. Highest "
        f"node: {ratio(_highest(nodes))}. {saturation}"
    )
    more = len(nodes) - len(SERIES)
    text = f"As the nodes say it, where they were asked; a gap: no answer. {saturation}."
    return Picture(
        name="server_cpu",
        title=f"CPU of target and generator{over.mark}",
        caption=text if more <= 0 else f"{text} {more} more nodes have no name here.",
        alt=alt,
        source=source,
        svg=draw("server_cpu", alt, _HEIGHT_IN, paint),
    )
