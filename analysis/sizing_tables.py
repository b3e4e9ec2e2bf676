"""Tables of hosts for a rate: the same for `headroom size` and for reports of runs.

Every figure that was measured with a spread is printed as one, "4 to 6"; computes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from analysis.cells import number_column, text_column, whole_column
from analysis.tables import Cell, Table, words
from analysis.text import UNKNOWN, count, latency, rate, ratio, significant, size
from loadtests.plan.host_types import HostTypes
from loadtests.plan.sizing import Demand, FleetSize, wire_of
from loadtests.plan.spread import Spread
from loadtests.plan.units import format_duration

_LARGE_SUM: Final = 100  # from here on without decimals
TABLE: Final = "hosts"


def spread_text(spread: Spread | None, text: Callable[[float], str]) -> str:
    """One figure where both ends read alike."""
    if spread is None:
        return UNKNOWN
    low, high = text(spread.low), text(spread.high)
    return low if low == high else f"{low} to {high}"


def _whole(value: float) -> str:
    return count(round(value))


def _gbps(value: float) -> str:
    return f"{significant(value / 1e9)} Gbit/s"


def _sum(value: float) -> str:
    return f"{value:,.0f}" if value >= _LARGE_SUM else f"{value:,.2f}"


def _bytes(value: float) -> str:
    return f"{significant(value)} B" if value < 1000 else size(value)  # noqa: PLR2004 - kB


def demand_rows(demand: Demand) -> Iterator[tuple[str, str]]:
    """What is asked for and what it is made of, as (what, text)."""
    yield "rate", f"{rate(demand.per_s)} requests/s for {format_duration(demand.length_ns)}"
    yield "engine CPU of a request", spread_text(demand.traffic.request_ns, latency)
    if demand.in_flight is not None:
        yield "in flight (Little's law, at the limits)", _whole(demand.in_flight)
    yield "connections and channels", _whole(demand.connections)
    yield "of them to the heaviest node", _whole(demand.to_one_node)
    wire = wire_of(demand.traffic)
    if wire is None:
        yield "bytes of a request and its answer", f"{UNKNOWN}: not measured"
        return
    for name, own, whole in zip(
        ("request", "answer"),
        (demand.traffic.sent_bytes, demand.traffic.received_bytes),
        wire,
        strict=True,
    ):
        yield (
            f"bytes of a{'n' * (name == 'answer')} {name}",
            f"{spread_text(own, _bytes)}, {spread_text(whole, _bytes)} on the wire",
        )
        yield f"all {name}s on the wire", spread_text(whole * (8 * demand.per_s), _gbps)


def fleet_table(title: str, sizes: Sequence[FleetSize], types: HostTypes) -> Table:
    """One row a host type; costs in the file's currency, with the master's host."""
    return Table(
        name=TABLE,
        title=title,
        columns=(
            whole_column("type"),
            whole_column("hosts"),
            text_column("limit", "most for"),
            whole_column("engines"),
            whole_column("engines_per_host", "engines a host"),
            whole_column("connections", "connections a host"),
            whole_column("ports", "ports a host and node"),
            whole_column("addresses", "addresses a host"),
            whole_column("descriptors", "descriptors an engine"),
            whole_column("sent", "sent a host"),
            whole_column("received", "received a host"),
            whole_column("master", "master, of a core"),
            number_column("run_cost", f"{types.currency} a run"),
            number_column("month_cost", f"a month, {types.nights_per_month:g} nights"),
        ),
        rows=tuple(_row(one) for one in sizes),
    )


def _row(one: FleetSize) -> tuple[Cell, ...]:
    return (
        words(one.type_name),
        words(spread_text(one.hosts, _whole)),
        words(one.limit),
        words(spread_text(one.engines, _whole)),
        words(spread_text(one.engines_per_host, _whole)),
        words(spread_text(one.connections_per_host, _whole)),
        words(spread_text(one.ports_per_host_and_node, _whole)),
        words(spread_text(one.addresses_per_host, _whole)),
        words(spread_text(one.descriptors_per_engine, _whole)),
        words(spread_text(one.sent_bits_per_s, _gbps)),
        words(spread_text(one.received_bits_per_s, _gbps)),
        words(_master(one.master_ratio)),
        words(spread_text(one.run_cost, _sum)),
        words(spread_text(one.month_cost, _sum)),
    )


def _master(load: Spread | None) -> str:
    if load is None:
        return f"{UNKNOWN}: more agents than were measured"
    return f"at most {ratio(load.high)}" if load.low == 0 else spread_text(load, ratio)


def fleet_notes(demand: Demand, sizes: Sequence[FleetSize], types: HostTypes) -> Iterator[str]:
    """What the table rests on, and what it does not know."""
    yield (
        f"prices and bandwidths as of {types.as_of.isoformat()}; a core of each type is taken "
        "for one that was measured: run headroom calibrate on the type and give its file"
    )
    yield (
        "the fewest hosts have an engine on every core, the most leave one of each host to the "
        "agent and the kernel's network work; packets a second that a cloud allows and TLS are "
        "not in it"
    )
    many = [one.type_name for one in sizes if one.addresses_per_host.high > 1]
    if many:
        yield (
            f"{', '.join(many)}: connections of a host to one node may need more than the "
            f"{types.limits.ports:,} ports of one source address; an engine binds none of its "
            "own, so take more hosts, or more nodes or addresses of the target"
        )
    full = [s.type_name for s in sizes if s.descriptors_per_engine.high > types.limits.descriptors]
    if full:
        yield f"{', '.join(full)}: an engine may need more descriptors than are allowed"
    if demand.in_flight is not None and demand.in_flight > demand.connections:
        yield (
            f"{_whole(demand.in_flight)} in flight are more than the connections and channels: "
            "they have to carry several each (pipelining, streams)"
        )
