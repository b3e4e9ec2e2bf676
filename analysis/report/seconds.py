"""What each second of a run counted, as arrays over one axis of whole seconds.

A second that no engine reported is unknown (NaN), not zero; in one that was reported and in
which nothing ended, counts are 0. Percentiles are not here: they need merged histograms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.figures import NS_PER_S
from loadtests.record.archive import Run
from loadtests.record.window import Count

Floats = NDArray[np.float64]
_COUNTED: Final = (
    Count.PLANNED, Count.SENT, Count.DROPPED, Count.OK, Count.CLIENT_ERROR, Count.FAILED,
)  # fmt: skip
_US_PER_NS: Final = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Seconds:
    """Arrays of the same length, from unix second `first_s` on; NaN where nothing is known.

    `counts` are requests in the second, `in_flight` the mean over it, `backlog` and
    `connections` those at its end; latencies are in us, `cpu` a ratio by engine.
    """

    first_s: int
    counts: Mapping[Count, Floats]
    in_flight: Floats
    backlog: Floats
    connections: Floats
    response_max_us: Floats
    send_lag_p99_us: Floats
    send_lag_max_us: Floats
    hiccup_max_us: Floats
    cpu: Mapping[str, Floats]

    def __len__(self) -> int:
        return int(self.in_flight.size)

    @property
    def answered(self) -> Floats:
        """Requests that ended in the second, whatever became of them."""
        ended = (Count.OK, Count.CLIENT_ERROR, Count.FAILED)
        total: Floats = np.sum([self.counts[count] for count in ended], axis=0)
        return total


class _Axis:
    """Whole seconds from T0 to the last row of the run."""

    def __init__(self, run: Run) -> None:
        first_s = (run.manifest.t0_unix_ns or 0) // NS_PER_S
        frames = [frame for frame in (run.windows, run.engines, run.hiccups) if len(frame)]
        self.first_s = min([first_s, *(int(frame["window_s"].min()) for frame in frames)])
        last_s = max((int(frame["window_s"].max()) for frame in frames), default=self.first_s - 1)
        self.size = last_s - self.first_s + 1

    def at(self, frame: pd.DataFrame) -> NDArray[np.int64]:
        """Index of each row."""
        return frame["window_s"].to_numpy(dtype=np.int64) - self.first_s

    def sums(self, at: NDArray[np.int64], values: NDArray[np.float64]) -> Floats:
        """Sum over the rows of each second; 0 where there is none."""
        return np.bincount(at, weights=values, minlength=self.size).astype(np.float64)

    def largest(self, at: NDArray[np.int64], values: Floats) -> Floats:
        """Largest over the rows of each second; NaN where there is none."""
        found = np.full(self.size, np.nan)
        np.fmax.at(found, at, values)
        return found


def _cpu(run: Run, axis: _Axis) -> dict[str, Floats]:
    rows = run.engines[run.engines["wall_ns"] > 0]
    return {
        str(engine): axis.largest(axis.at(own), (own["cpu_ns"] / own["wall_ns"]).to_numpy())
        for engine, own in rows.groupby("engine", observed=True)
    }


def _column(frame: pd.DataFrame, name: str) -> Floats:
    return frame[name].to_numpy(dtype=np.float64)


def build_seconds(run: Run) -> Seconds:
    """Add up the tables of a run by second; of length 0 when nothing was recorded."""
    axis = _Axis(run)
    windows, engines, hiccups = run.windows, run.engines, run.hiccups
    at, engine_at = axis.at(windows), axis.at(engines)
    is_known = np.zeros(axis.size, dtype=np.bool_)
    is_known[at] = is_known[engine_at] = True
    unknown = np.where(is_known, 0.0, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        wall_ns = _column(engines, "wall_ns")
        mean = np.where(wall_ns > 0, _column(engines, "in_flight_ns") / wall_ns, 0.0)

    def of_engines(values: Floats) -> Floats:
        found = axis.sums(engine_at, values)
        has_rows = np.bincount(engine_at, minlength=axis.size) > 0
        return np.where(has_rows, found, np.nan)

    return Seconds(
        first_s=axis.first_s,
        counts={
            count: axis.sums(at, _column(windows, count.name.lower())) + unknown
            for count in _COUNTED
        },
        in_flight=of_engines(mean),
        backlog=of_engines(_column(engines, "backlog")),
        connections=of_engines(_column(engines, "connections")),
        response_max_us=axis.largest(at, _column(windows, "response_max_us")),
        send_lag_p99_us=axis.largest(at, _column(windows, "send_lag_p99_us")),
        send_lag_max_us=axis.largest(at, _column(windows, "send_lag_max_us")),
        hiccup_max_us=axis.largest(axis.at(hiccups), _column(hiccups, "max_ns") * _US_PER_NS),
        cpu=_cpu(run, axis),
    )
