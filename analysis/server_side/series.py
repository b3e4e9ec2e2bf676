"""Series of the target's own metrics, by node, on the time axis of the windows.

Every scrape of a node is a point, also one that failed: then there is no value (NaN). A
counter becomes a rate between two scrapes; one that fell was reset (its node started anew),
and that interval has no value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.figures import NS_PER_S
from loadtests.plan.model import Plan
from loadtests.plan.server_metrics import Scraping, ServerMeasure, ServerUnit
from loadtests.record.archive import Run
from loadtests.record.server import SCRAPE

ALL_NODES: Final = "all"  # of a Prometheus server's answers that name no node
Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSeries:
    """One measure of one node: `numbers[i]` at unix second `times_s[i]`, NaN where unknown.

    `source` is the name of the series that it was read from.
    """

    node: str
    measure: ServerMeasure
    times_s: Numbers
    numbers: Numbers
    source: str

    def between(self, first_s: float, end_s: float) -> NodeSeries:
        """The points of `[first_s, end_s)`."""
        is_inside = (self.times_s >= first_s) & (self.times_s < end_s)
        return NodeSeries(
            node=self.node,
            measure=self.measure,
            times_s=self.times_s[is_inside],
            numbers=self.numbers[is_inside],
            source=self.source,
        )

    def known(self) -> NodeSeries:
        """The points that have a value."""
        is_known = ~np.isnan(self.numbers)
        return NodeSeries(
            node=self.node,
            measure=self.measure,
            times_s=self.times_s[is_known],
            numbers=self.numbers[is_known],
            source=self.source,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSide:
    """All series of a run by measure, and how the scrapes went.

    `failures` counts scrapes that brought nothing, by node and kind.
    """

    scraping: Scraping
    series: Mapping[str, tuple[NodeSeries, ...]]
    scrapes: int
    failures: Mapping[tuple[str, str], int]

    def of(self, measure: str) -> tuple[NodeSeries, ...]:
        """The series of a measure, one for each node; () where there are none."""
        return self.series.get(measure, ())


def build_server_side(run: Run, plan: Plan) -> ServerSide | None:
    """The target's metrics of a run; None where its scenario asked for none."""
    if plan.scraping is None:
        return None
    frame = run.server
    scrapes = frame[frame["measure"] == SCRAPE]
    failed = scrapes[scrapes["value"] == 0]
    failures = failed.groupby(["node", "failure"], observed=True).size()
    return ServerSide(
        scraping=plan.scraping,
        series={
            measure.name: tuple(_series_of(measure, frame, scrapes, plan.scraping))
            for measure in plan.scraping.measures
        },
        scrapes=len(scrapes),
        failures={(str(node), str(kind)): int(number) for (node, kind), number in failures.items()},
    )


def _series_of(
    measure: ServerMeasure, frame: pd.DataFrame, scrapes: pd.DataFrame, scraping: Scraping
) -> Iterator[NodeSeries]:
    """One for each node; of a Prometheus server, one for each that its answers named."""
    rows = frame[frame["measure"] == measure.name]
    nodes = [endpoint.node for endpoint in scraping.endpoints]
    if scraping.prometheus is not None:
        seen = rows[rows["value"].notna()]
        nodes = sorted(map(str, seen["node"].unique())) or [ALL_NODES]
    for node in nodes:
        own = rows[rows["node"] == node]
        asked = scrapes if scraping.prometheus is not None else scrapes[scrapes["node"] == node]
        times_ns = asked["at_unix_ns"].to_numpy(dtype=np.int64)
        values = own.set_index("at_unix_ns")["value"].reindex(times_ns)
        order = np.argsort(times_ns, kind="stable")
        times_s = times_ns[order] / NS_PER_S
        levels = values.to_numpy(dtype=np.float64)[order]
        known = own[own["value"].notna()]
        named = known if len(known) else own
        yield NodeSeries(
            node=node,
            measure=measure,
            times_s=times_s,
            numbers=_rates(times_s, levels) if _is_counter(measure) else levels,
            source=str(named["series"].iloc[-1]) if len(named) else "",
        )


def _is_counter(measure: ServerMeasure) -> bool:
    return measure.unit is ServerUnit.PER_SECOND


def _rates(times_s: Numbers, totals: Numbers) -> Numbers:
    """Growth per second since the last known total; NaN at the first one and after a fall."""
    rates = np.full(totals.size, np.nan)
    at = np.flatnonzero(~np.isnan(totals))
    growth, passed_s = np.diff(totals[at]), np.diff(times_s[at])
    is_sound = (growth >= 0) & (passed_s > 0)
    rates[at[1:][is_sound]] = growth[is_sound] / passed_s[is_sound]
    return rates
