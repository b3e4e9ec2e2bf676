"""The series of a run over time, thinned out to what a figure can show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from analysis.report.envelope import Envelope, build_envelope, step_for
from analysis.report.seconds import Seconds
from loadtests.record.window import Count

Floats = NDArray[np.float64]
PERCENTILES: Final = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Everything that is drawn over time; counts per second, latencies in us, ratios 0-1.

    `percentiles` are those of each second's merged histogram, by label.
    """

    step_s: int
    counts: Mapping[Count, Envelope]
    answered: Envelope
    in_flight: Envelope
    backlog: Envelope
    connections: Envelope
    percentiles: Mapping[str, Envelope]
    response_max: Envelope
    send_lag_p99: Envelope
    send_lag_max: Envelope
    hiccup_max: Envelope
    cpu: Mapping[str, Envelope]
    cpu_highest: Envelope


def _highest(series: Sequence[Floats], size: int) -> Floats:
    found = np.full(size, np.nan)
    for one in series:
        found = np.fmax(found, one)
    return found


def build_series(seconds: Seconds, percentiles: Mapping[str, Floats]) -> Series:
    """Thin everything out by the same step."""
    step_s = step_for(len(seconds))

    def thin(values: Floats) -> Envelope:
        return build_envelope(values, step_s)

    return Series(
        step_s=step_s,
        counts={count: thin(values) for count, values in seconds.counts.items()},
        answered=thin(seconds.answered),
        in_flight=thin(seconds.in_flight),
        backlog=thin(seconds.backlog),
        connections=thin(seconds.connections),
        percentiles={label: thin(values) for label, values in percentiles.items()},
        response_max=thin(seconds.response_max_us),
        send_lag_p99=thin(seconds.send_lag_p99_us),
        send_lag_max=thin(seconds.send_lag_max_us),
        hiccup_max=thin(seconds.hiccup_max_us),
        cpu={engine: thin(values) for engine, values in seconds.cpu.items()},
        cpu_highest=thin(_highest(list(seconds.cpu.values()), len(seconds))),
    )
