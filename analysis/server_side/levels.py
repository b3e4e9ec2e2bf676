"""A measure of the target in a stage: the level that an objective or an alert judges.

    level = the highest mean over a minute (over the stage, where it is shorter) of the worst node

Minutes begin at every sample and lie whole inside the stage; one that has fewer than 80 % of
its scrapes has no mean. An alert that says for how long judges the highest level that was
not left for so long: the largest of the smallest values in all stretches of that length.

A stage is known when every node has at least 5 samples and 80 % of those that it should
have, and no hole longer than three scrapes (at least 10 s). Otherwise nothing can pass; what
was seen to miss its limit in a whole minute is missed all the same.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from analysis.figures import Span
from analysis.reading import Reading
from analysis.server_side.series import ALL_NODES, NodeSeries, Numbers, ServerSide
from analysis.unit import Unit
from loadtests.plan.model import Objective
from loadtests.plan.server_metrics import KNOWN_RATIO, MEAN_S, Scraping, ServerUnit

HOLE_SCRAPES: Final = 3
SHORTEST_HOLE_S: Final = 10.0
_JITTER_RATIO: Final = 0.5  # of the time between scrapes: one may begin that much late
_NS_PER_S: Final = 1_000_000_000
_UNITS: Final = {
    ServerUnit.RATIO: Unit.RATIO,
    ServerUnit.BYTES: Unit.BYTES,
    ServerUnit.COUNT: Unit.COUNT,
    ServerUnit.PER_SECOND: Unit.COUNT_PER_SECOND,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLevel:
    """One measure of one node in a stage; None where nothing is known.

    `longest_hole_s` is the longest time without a sample, the stage's edges included.
    """

    node: str
    series: NodeSeries  # of the stage, unknown points too
    samples: int
    mean: float | None
    highest_minute: float | None
    highest: float | None
    longest_hole_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One measure of all nodes in a stage."""

    unit: Unit
    span: Span
    scraping: Scraping
    nodes: tuple[NodeLevel, ...]
    missing_nodes: int  # of the plan's nodes, those that a Prometheus server never named

    @property
    def worst(self) -> NodeLevel | None:
        """The node with the highest minute."""
        known = [node for node in self.nodes if node.highest_minute is not None]
        return max(known, key=lambda node: node.highest_minute or 0.0, default=None)

    @property
    def samples(self) -> int:
        """Of the node that is known least."""
        return min((node.samples for node in self.nodes), default=0)

    @property
    def required(self) -> int:
        """Samples that every node needs."""
        return self.scraping.required_scrapes(self.span.seconds)

    def unknown(self) -> str | None:
        """Why the stage is not known well enough for anything to pass; None when it is."""
        if self.missing_nodes:
            return f"{self.missing_nodes} nodes were never named by the Prometheus server"
        for node in sorted(self.nodes, key=lambda node: node.samples):
            if node.samples == 0:
                return f"node {node.node} has no value of {_asked(node.series)}"
            if node.samples < self.required:
                return f"n too small: {node.samples} of {self.required} samples of {node.node}"
        hole = max(self.nodes, key=lambda node: node.longest_hole_s, default=None)
        if hole is None:
            return "no node was asked"
        if hole.longest_hole_s > hole_limit_s(self.scraping):
            return f"{hole.longest_hole_s:.0f} s without a sample of {hole.node}"
        return None

    def held(self, sustain_ns: int) -> float | None:
        """The highest level of any node that was not left for `sustain_ns` on end."""
        found = [_held(node.series, sustain_ns, self.scraping) for node in self.nodes]
        return max((level for level in found if level is not None), default=None)


def _asked(series: NodeSeries) -> str:
    return series.source or f"server.{series.measure.name}"


def hole_limit_s(scraping: Scraping) -> float:
    """Time without a sample above which a stage is not known."""
    return max(SHORTEST_HOLE_S, HOLE_SCRAPES * scraping.every_ns / _NS_PER_S)


def build_level(side: ServerSide, measure: str, span: Span, plan_nodes: int) -> Level:
    """The level of a measure over the judged time of a stage."""
    nodes = tuple(_node_level(series, span, side.scraping) for series in side.of(measure))
    names = {node.node for node in nodes}
    is_by_node = side.scraping.prometheus is not None and names != {ALL_NODES}
    return Level(
        unit=_UNITS[side.scraping.measure(measure).unit],
        span=span,
        scraping=side.scraping,
        nodes=nodes,
        missing_nodes=max(0, plan_nodes - len(nodes)) if is_by_node else 0,
    )


def _node_level(series: NodeSeries, span: Span, scraping: Scraping) -> NodeLevel:
    first_s, end_s = float(span.first_s), float(span.last_s + 1)
    own = series.between(first_s, end_s)
    known = own.known()
    edges = np.concatenate([[first_s], known.times_s, [max(first_s, end_s)]])
    return NodeLevel(
        node=series.node,
        series=own,
        samples=known.numbers.size,
        mean=float(known.numbers.mean()) if known.numbers.size else None,
        highest_minute=_highest_minute(known, span, scraping),
        highest=float(known.numbers.max()) if known.numbers.size else None,
        longest_hole_s=float(np.diff(edges).max()),
    )


def _highest_minute(known: NodeSeries, span: Span, scraping: Scraping) -> float | None:
    """The highest mean over `MEAN_S` seconds inside the stage, or over a shorter stage."""
    length_s = float(min(MEAN_S, span.seconds))
    expected = scraping.expected_scrapes(length_s)
    required = max(1, math.ceil(KNOWN_RATIO * expected))
    if known.numbers.size < required:
        return None
    last_start_s = span.last_s + 1 - length_s
    starts_s = np.append(known.times_s[known.times_s <= last_start_s], last_start_s)
    from_index = np.searchsorted(known.times_s, starts_s, side="left")
    to_index = np.searchsorted(known.times_s, starts_s + length_s, side="left")
    sums = np.concatenate([[0.0], np.cumsum(known.numbers)])
    counts = to_index - from_index
    is_known = counts >= required
    if not is_known.any():
        return None
    means = np.where(is_known, (sums[to_index] - sums[from_index]) / np.maximum(counts, 1), -1.0)
    # Differences of sums are off by an ulp or two, and a level may lie on its limit.
    at = int(means.argmax())
    own = known.numbers[from_index[at] : to_index[at]].tolist()
    return math.fsum(own) / len(own)


def _held(series: NodeSeries, sustain_ns: int, scraping: Scraping) -> float | None:
    """The largest of the smallest values in stretches of consecutive scrapes."""
    length = max(1, -(-sustain_ns // scraping.every_ns))
    if series.numbers.size < length:
        return None
    lowest = _windows(series.numbers, length).min(axis=1)  # NaN where one is unknown
    times_s = _windows(series.times_s, length)
    lasted_s = times_s[:, -1] - times_s[:, 0]
    longest_s = (length - 1 + _JITTER_RATIO) * scraping.every_ns / _NS_PER_S
    known = lowest[~np.isnan(lowest) & (lasted_s <= longest_s)]
    return float(known.max()) if known.size else None


def _windows(values: Numbers, length: int) -> Numbers:
    return np.lib.stride_tricks.sliding_window_view(values, length)


def read_level(objective: Objective, level: Level) -> Reading:
    """The level as an objective or alert asks for it; samples are those of a node."""
    worst = level.worst
    value = None if worst is None else worst.highest_minute
    return Reading(
        unit=level.unit,
        value=level.held(objective.sustain_ns) if objective.sustain_ns else value,
        samples=level.samples,
        required=level.required,
        resolution=None,
    )


def levels_of(
    side: ServerSide | None,
    spans: Sequence[tuple[str, Span]],
    measures: Collection[str],
    plan_nodes: int,
) -> dict[tuple[str, str], Level]:
    """These measures in every stage, by (stage, measure); empty without scraping."""
    if side is None:
        return {}
    return {
        (stage, measure): build_level(side, measure, span, plan_nodes)
        for stage, span in spans
        for measure in measures
    }
