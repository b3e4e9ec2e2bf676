"""Series of the target's own metrics, by node, on the time axis of the windows.

Every scrape of a node is a point, also one that failed: then there is no value (NaN). A
counter becomes a rate between two scrapes; one that fell was reset (its node started anew),
and that interval has no value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
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
    table = _Table(run.server)
    scrapes = run.server[run.server["measure"] == SCRAPE]
    failed = scrapes[scrapes["value"] == 0]
    reasons = zip(map(str, failed["node"]), map(str, failed["failure"]), strict=True)
    return ServerSide(
        scraping=plan.scraping,
        series={
            measure.name: tuple(
                table.series(measure, node, by_all=plan.scraping.prometheus is not None)
                for node in _nodes(measure, table, plan.scraping)
            )
            for measure in plan.scraping.measures
        },
        scrapes=len(scrapes),
        failures=Counter(reasons),
    )


def _nodes(measure: ServerMeasure, table: _Table, scraping: Scraping) -> Sequence[str]:
    """The plan's; of a Prometheus server, those that its answers named."""
    if scraping.prometheus is None:
        return [endpoint.node for endpoint in scraping.endpoints]
    return table.named(measure.name) or [ALL_NODES]


class _Table:
    """Rows of `server.parquet`, found by measure and node."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._at_ns = frame["at_unix_ns"].to_numpy(dtype=np.int64)
        self._values = frame["value"].to_numpy(dtype=np.float64)
        self._sources = frame["series"].astype(object).to_numpy()
        measures, nodes = (pd.Categorical(frame[name]) for name in ("measure", "node"))
        keys = measures.codes.astype(np.int64) * len(nodes.categories) + nodes.codes
        order = np.argsort(keys, kind="stable")
        labels, starts = np.unique(keys[order], return_index=True)
        self._rows: dict[tuple[str, str], NDArray[np.intp]] = {}
        for label, rows in zip(labels.tolist(), np.split(order, starts[1:]), strict=False):
            measure, node = divmod(label, len(nodes.categories))
            self._rows[str(measures.categories[measure]), str(nodes.categories[node])] = rows

    def named(self, measure: str) -> list[str]:
        """Nodes that have a value of a measure."""
        return sorted(
            node
            for (name, node), rows in self._rows.items()
            if name == measure and not np.isnan(self._values[rows]).all()
        )

    def series(self, measure: ServerMeasure, node: str, *, by_all: bool) -> NodeSeries:
        """Values at every scrape of the node; `by_all`: of whoever is asked for all nodes."""
        none = np.empty(0, dtype=np.intp)
        own = self._rows.get((measure.name, node), none)
        asked = self._rows.get((SCRAPE, ALL_NODES if by_all else node), none)
        times_ns = np.sort(self._at_ns[asked])
        numbers = np.full(times_ns.size, np.nan)
        at = np.searchsorted(times_ns, self._at_ns[own])
        is_there = at < times_ns.size
        numbers[at[is_there]] = self._values[own][is_there]
        is_known = ~np.isnan(self._values[own])
        sources = self._sources[own[is_known] if is_known.any() else own]
        times_s = times_ns / NS_PER_S
        return NodeSeries(
            node=node,
            measure=measure,
            times_s=times_s,
            numbers=_rates(times_s, numbers) if _is_counter(measure) else numbers,
            source=str(sources[-1]) if sources.size else "",
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
