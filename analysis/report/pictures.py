"""Draws every figure that a run has something for."""

from __future__ import annotations

from collections.abc import Iterator

from analysis.report.facts import ReportFacts
from analysis.report.plots.canvas import Picture
from analysis.report.plots.heat_map import heat_picture
from analysis.report.plots.over_time import (
    cpu_picture,
    has_trouble,
    in_flight_picture,
    rate_picture,
    resources_picture,
    response_picture,
    send_lag_picture,
    trouble_picture,
)
from analysis.report.plots.spectra import gap_picture, spectrum_picture
from analysis.report.plots.throughput import throughput_picture
from analysis.report.source import source_of


def draw_pictures(facts: ReportFacts) -> Iterator[Picture]:
    """All figures; which section has them is said by the layout."""
    run, over, mark = facts.run, facts.over_time, facts.mark
    if over is not None:
        yield rate_picture(over, source_of("rate", run))
        if has_trouble(over):
            yield trouble_picture(over, source_of("trouble", run))
        yield in_flight_picture(over, source_of("in_flight", run))
        yield response_picture(over, source_of("response", run))
        yield send_lag_picture(over, source_of("send_lag", run))
        if over.series.cpu:
            yield cpu_picture(over, source_of("cpu", run))
        if facts.resources is not None:
            yield resources_picture(over, facts.resources, source_of("resources", run))
        if facts.heat_map is not None:
            yield heat_picture(facts.heat_map, over.timeline, mark, source_of("heat_map", run))
    if facts.spectra is not None:
        yield spectrum_picture(facts.spectra, source_of("spectrum", run))
    if facts.gap is not None:
        yield gap_picture(facts.gap, mark, source_of("gap", run))
    if facts.load_points:
        source = source_of("throughput", run)
        yield throughput_picture(facts.load_points, facts.limits, mark, source)
