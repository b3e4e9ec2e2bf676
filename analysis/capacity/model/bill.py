"""What a number of nodes and the load to test it cost: every sum a range.

month          sum over items; one whose growth is unknown costs between its price (fixed)
               and its price x nodes / nodes priced; never less than its price for fewer
generators     hosts = ceil(rate x CPU time per request / (0.9 x cores)), since an engine
               above 90 % of its core spoils a measurement; the CPU time is what the runs
               at hand took, the lowest to the highest of their stages
per million    month / (rate x seconds of a month / 10^6): at this rate around the clock;
               at a lower mean rate a request costs more in proportion
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from analysis.attribution import ENGINE_CPU_RATIO
from analysis.capacity.model.costs import Costs, Growth, Item
from analysis.capacity.model.intervals import Range
from analysis.capacity.model.loads import Load
from analysis.capacity.model.questions import NodesNeeded

SECONDS_PER_MONTH: Final = 730 * 3600  # of the requirement's 730 h
_MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRange:
    """From `low` to `high`; None: not known, infinite: without limit."""

    low: float
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """Costs of one answer, in the cost file's currency."""

    needed: NodesNeeded
    generator_hosts: Range
    month: OpenRange
    per_million: OpenRange


def _item_cost(item: Item, nodes: float) -> Range:
    if math.isinf(nodes):
        return Range(low=math.inf, high=math.inf)
    grown = item.per_month * max(1.0, nodes / item.nodes)
    match item.grows:
        case Growth.FIXED:
            return Range(low=item.per_month, high=item.per_month)
        case Growth.WITH_NODES:
            exact = item.per_month * nodes / item.nodes
            return Range(low=exact, high=exact)
        case Growth.UNKNOWN:
            return Range(low=item.per_month, high=grown)


def generator_hosts(costs: Costs, loads: Sequence[Load], per_s: float) -> Range:
    """Hosts that make a rate, by what the runs' engines took."""
    times = [load.generator_cpu_s for load in loads if load.generator_cpu_s > 0]
    usable = ENGINE_CPU_RATIO * costs.generators.cores
    low, high = (per_s * time / usable for time in (min(times), max(times))) if times else (0, 0)
    return Range(low=max(1, math.ceil(low)), high=max(1, math.ceil(high)))


def bill_of(costs: Costs, needed: NodesNeeded, loads: Sequence[Load]) -> Bill:
    """The costs of one answer."""
    hosts = generator_hosts(costs, loads, needed.per_s)
    host_month = costs.generators.per_hour * costs.generators.hours_per_month
    low = sum(_item_cost(item, needed.low).low for item in costs.items) + hosts.low * host_month
    high = None
    if needed.high is not None:
        most = needed.high
        high = sum(_item_cost(item, most).high for item in costs.items) + hosts.high * host_month
    millions = needed.per_s * SECONDS_PER_MONTH / _MILLION
    return Bill(
        needed=needed,
        generator_hosts=hosts,
        month=OpenRange(low=low, high=high),
        per_million=OpenRange(low=low / millions, high=None if high is None else high / millions),
    )
