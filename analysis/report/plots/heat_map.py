"""The latency heat map: one colour, stronger where more requests were; empty cells are clear."""

from __future__ import annotations

from typing import Final

import numpy as np
from matplotlib.axes import Axes

from analysis.report.heat import HeatMap
from analysis.report.plots.axes import latency_axis, time_axis
from analysis.report.plots.canvas import Picture, draw
from analysis.report.source import Source
from analysis.report.timeline import Timeline
from analysis.text import count, latency

_HEIGHT_IN: Final = 2.6
_RGB: Final = (0x00, 0x8B, 0xC7)  # a picture cannot ask the page: seen on light and on dark
_FAINTEST: Final = 0.13
_BYTE: Final = 255


def _shades(heat: HeatMap) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """RGBA of each cell; opacity grows with the logarithm of the count."""
    part = np.log1p(heat.counts) / np.log1p(max(1, int(heat.counts.max())))
    alpha = np.where(heat.counts > 0, _FAINTEST + (1 - _FAINTEST) * part, 0)
    shades = np.empty((*heat.counts.shape, 4), dtype=np.uint8)
    shades[..., :3] = _RGB
    shades[..., 3] = np.round(alpha * _BYTE)
    return shades


def heat_picture(heat: HeatMap, timeline: Timeline, mark: str, source: Source) -> Picture:
    """Ok requests by second and response time."""
    low, high = float(heat.edges_us[0]), float(heat.edges_us[-1])
    end_s = heat.counts.shape[1] * heat.step_s

    def paint(axes: Axes) -> None:
        axes.set_yscale("log")
        # Rows are equal steps of a logarithm: the picture is laid out in it.
        own = axes.twinx()
        own.set_ylim(np.log(low), np.log(high))
        own.set_axis_off()
        own.set_zorder(axes.get_zorder() - 1)  # stages and events lie over it
        own.imshow(
            _shades(heat), origin="lower", aspect="auto", interpolation="nearest",
            extent=(0, end_s, np.log(low), np.log(high)),
        )  # fmt: skip
        time_axis(axes, timeline)
        axes.set_ylim(low, high)
        latency_axis(axes.yaxis)
        axes.grid(visible=False)

    worst_row = int(np.flatnonzero(heat.counts.sum(axis=1))[-1])
    top = latency(float(heat.edges_us[worst_row + 1]) * 1000)
    alt = (
        f"Heat map of response time over time: {count(int(heat.counts.sum()))} ok requests in "
        f"cells of {heat.step_s} s, the highest ones below {top}."
    )
    caption = (
        f"Ok requests by the second in which they ended; a cell is {heat.step_s} s wide. The "
        f"stronger, the more (logarithmic; the strongest cell has {count(int(heat.counts.max()))})."
    )
    return Picture(
        name="heat_map",
        title=f"Response time, heat map{mark}",
        caption=caption,
        alt=alt,
        source=source,
        svg=draw("heat_map", alt, _HEIGHT_IN, paint),
    )
