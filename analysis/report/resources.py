"""What could have been the limit, server and client, on the time axis of all figures.

A value of the target is a mean since the scrape before, so it stands for every second since
then; seconds before the first scrape, and those of a scrape that brought nothing, are unknown.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.report.envelope import Envelope, build_envelope
from analysis.report.plots.over_time import OverTime
from analysis.server_side.saturation import CPU_RATIO
from analysis.server_side.series import NodeSeries, ServerSide
from loadtests.plan.concurrency import carriers
from loadtests.plan.model import Plan
from loadtests.plan.server_metrics import CPU

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Ratios (0-1): CPU of the busiest node, of the busiest engine, and what is in flight.

    `in_flight` is of all that the plan allows at a time, `ended` of its own highest second.
    `sentences` say what saturated first.
    """

    server_cpu: Envelope
    engine_cpu: Envelope
    in_flight: Envelope
    ended: Envelope
    cpu_limit_ratio: float
    sentences: tuple[str, ...]


def by_second(series: NodeSeries, first_s: int, length_s: int) -> Floats:
    """The values of a node for each second of an axis, each until its own scrape."""
    found = np.full(length_s, np.nan)
    ends = np.ceil(series.times_s - first_s).astype(np.int64)
    for start, end, value in zip(ends[:-1], ends[1:], series.numbers[1:], strict=True):
        found[max(0, start) : max(0, end)] = value
    return found


def _scaled(envelope: Envelope, factor: float) -> Envelope:
    return Envelope(
        step_s=envelope.step_s,
        at_s=envelope.at_s,
        low=envelope.low * factor,
        high=envelope.high * factor,
        mean=envelope.mean * factor,
    )


def _highest(side: ServerSide, first_s: int, length_s: int) -> Floats:
    highest = np.full(length_s, np.nan)
    for series in side.of(CPU):
        highest = np.fmax(highest, by_second(series, first_s, length_s))
    return highest


def build_resources(
    plan: Plan, over: OverTime | None, side: ServerSide | None, sentences: tuple[str, ...]
) -> Resources | None:
    """The figure's values; None for a run that asked its target for nothing, or never started."""
    if over is None or side is None:
        return None
    series, line = over.series, over.timeline
    allowed = min(plan.in_flight_limit, sum(carrier.available for carrier in carriers(plan)))
    ended = series.answered.high[np.isfinite(series.answered.high)]
    limits = [one.limit for one in plan.objectives if one.measure.server == CPU]
    return Resources(
        server_cpu=build_envelope(_highest(side, line.first_s, line.length_s), series.step_s),
        engine_cpu=series.cpu_highest,
        in_flight=_scaled(series.in_flight, 1 / max(1, allowed)),
        ended=_scaled(series.answered, 1 / max(1.0, float(ended.max(initial=1.0)))),
        cpu_limit_ratio=min([*limits, CPU_RATIO]),
        sentences=sentences,
    )
