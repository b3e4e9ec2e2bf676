"""Hosts that a run's full rate takes, by what its own requests took of the engines.

Rate and connections are those of the unscaled plan; CPU and bytes of a request are what the
engines took in the judged stages, the lowest to the highest of them. Engines that are idle
take more for each request than under load: where none was busy, the table says `at most`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from analysis.capacity.model.loads import cpu_s_per_request
from analysis.figures import NS_PER_S, StageFigures
from analysis.sizing_tables import fleet_table
from analysis.tables import Table
from analysis.text import rate, ratio
from loadtests.plan.feasibility import HostLimits, assess
from loadtests.plan.host_types import HostTypes
from loadtests.plan.model import LoadModel, Plan
from loadtests.plan.sizing import Demand, Traffic, size_fleets
from loadtests.plan.spread import Spread
from loadtests.plan.stages import peak_level
from loadtests.record.archive import Run
from loadtests.record.window import Count

# From here on the cost of waking up is shared by many requests (send what is due, all at once).
BUSY_ENGINE_RATIO: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taken:
    """What one request took in one stage."""

    cpu_ns: float
    sent_bytes: float
    received_bytes: float
    busy_ratio: float  # CPU of the engines, of one core each


def _taken(run: Run, stage: StageFigures) -> _Taken | None:
    part, span = stage.overall.on_time, stage.span
    sent = part.count(Count.SENT)
    done = sum(part.count(one) for one in (Count.OK, Count.CLIENT_ERROR, Count.FAILED))
    window_s = run.engines["window_s"]
    rows = run.engines[(window_s >= span.first_s) & (window_s <= span.last_s)]
    if not sent or not done or rows.empty:
        return None
    return _Taken(
        cpu_ns=cpu_s_per_request(run, stage) * NS_PER_S,
        sent_bytes=part.count(Count.BYTES_SENT) / sent,
        received_bytes=part.count(Count.BYTES_RECEIVED) / done,
        busy_ratio=float(rows["cpu_ns"].sum() / rows["wall_ns"].sum()),
    )


def _spread(values: Sequence[float]) -> Spread:
    return Spread(low=min(values), high=max(values))


def _demand(plan: Plan, taken: Sequence[_Taken], types: HostTypes) -> Demand:
    """The unscaled plan, at what its requests took."""
    limits = HostLimits(
        cores=1, descriptors=types.limits.descriptors, ephemeral_ports=types.limits.ports
    )
    whole, scale = assess(plan, limits, None, hosts=1, engines=1), plan.scale
    in_flight = whole.in_flight_needed
    return Demand(
        per_s=max(peak_level(stage.profile) for stage in plan.stages) / scale,
        length_ns=plan.stages[-1].end_ns,
        in_flight=None if in_flight is None else in_flight / scale,
        connections=round(plan.all_connections / scale),
        to_one_node=round(whole.ports_per_host_and_node / scale),
        traffic=Traffic(
            request_ns=_spread([one.cpu_ns for one in taken]),
            sent_bytes=_spread([one.sent_bytes for one in taken]),
            received_bytes=_spread([one.received_bytes for one in taken]),
        ),
    )


def sizing_table(
    run: Run, plan: Plan, stages: Sequence[StageFigures], types: HostTypes | None
) -> Table | None:
    """The table; None without host types, for closed load, and where nothing was sent."""
    found = [_taken(run, stage) for stage in stages if stage.facts.is_judged]
    taken = [one for one in found if one is not None]
    if types is None or plan.load_model is not LoadModel.OPEN or not taken:
        return None
    busy = [one for one in taken if one.busy_ratio >= BUSY_ENGINE_RATIO]
    demand = _demand(plan, busy or taken, types)
    title = f"Hosts for the unscaled plan, {rate(demand.per_s)} requests/s"
    if not busy:
        most = max(one.busy_ratio for one in taken)
        title += f", at most: engines were {ratio(most)} busy, and idle ones cost more a request"
    return fleet_table(title, size_fleets(demand, types), types)
