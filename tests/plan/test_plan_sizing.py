"""Hosts for a rate, by hand: every formula of `sizing.py`, and what the file of types refuses."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.errors import ScenarioError
from loadtests.plan.host_types import HostType, HostTypes, Limits, MasterLoad, load_host_types
from loadtests.plan.sizing import Demand, Traffic, master_load, size_fleets, size_for, wire_bytes
from loadtests.plan.spread import Spread, exactly

SHIPPED = Path(__file__).resolve().parents[2] / "scenarios" / "costs" / "aws-hosts.toml"
HOUR_NS = 3600 * 10**9
KIND = HostType(name="big", cores=16, per_hour=0.5, network="10 Gbps")
TYPES = HostTypes(
    version=1,
    currency="USD",
    as_of=date(2026, 11, 26),
    nights_per_month=30.0,
    minimum="60 s",
    beside="30 min",
    limits=Limits(descriptors=100_000, ports=60_000),
    master=(
        MasterLoad(agents=10, low="10 %", high="12 %"),
        MasterLoad(agents=100, low="28 %", high="30 %"),
    ),
    hosts=(KIND,),
)


def demand(per_s: float, low_us: float, high_us: float, **bytes_: Spread | None) -> Demand:
    """An hour of requests with 320,000 connections over 4 nodes."""
    traffic = {"sent_bytes": exactly(180), "received_bytes": exactly(620), **bytes_}
    cpu = Spread(low=low_us * 1000, high=high_us * 1000)
    return Demand(
        per_s=per_s,
        length_ns=HOUR_NS,
        in_flight=310_400,
        connections=320_000,
        to_one_node=80_000,
        traffic=Traffic(request_ns=cpu, **traffic),
    )


def test_a_fleet_by_hand() -> None:
    """1,552,000/s at 10 to 20 us are 15.52 to 31.04 core seconds: 18 to 35 engines at 90 %."""
    size = size_for(demand(1_552_000, 10, 20), KIND, TYPES)
    assert (size.engines, size.limit) == (Spread(low=18, high=35), "CPU")
    assert size.hosts == Spread(low=2, high=3)  # 18 / 16 and 35 / 15, whole
    assert size.connections_per_host == Spread(low=106_667, high=160_000)
    assert size.ports_per_host_and_node == Spread(low=26_667, high=40_000)
    assert size.addresses_per_host == exactly(1)
    assert size.descriptors_per_engine == Spread(low=6_667 + 64, high=10_667 + 64)
    # 0.5 an hour, 1.5 h, with the master's host: 3 to 4 of them; 30 nights.
    assert size.run_cost == Spread(low=2.25, high=3.0)
    assert size.month_cost == Spread(low=67.5, high=90.0)
    assert size.master_ratio == Spread(low=0.0, high=0.12)  # fewer agents than were measured


def test_bytes_on_the_wire_by_hand() -> None:
    """180 bytes: at least their part of full segments, at most one and an acknowledgement."""
    both = wire_bytes(exactly(180), exactly(620))
    assert both.low == pytest.approx(180 + 180 / 1448 * 90)
    assert both.high == 180 + 2 * 90
    assert wire_bytes(exactly(3000), exactly(1449)).high == 3000 + (3 + 2) * 90


def test_the_network_can_be_the_limit() -> None:
    """Answers of 20 kB at 500,000/s and overhead are 85 Gbit/s: 9 hosts of 10 Gbit/s."""
    size = size_for(demand(500_000, 10, 20, received_bytes=exactly(20_000)), KIND, TYPES)
    assert size.limit == "network, received"
    assert size.hosts == exactly(9)
    assert size.received_bits_per_s is not None
    assert size.received_bits_per_s.high == pytest.approx((20_000 + 15 * 90) * 8 * 500_000 / 9)


def test_bytes_that_nobody_measured_are_unknown() -> None:
    """Nothing is said of the network then, and CPU alone decides."""
    size = size_for(demand(1_552_000, 10, 20, sent_bytes=None), KIND, TYPES)
    assert size.sent_bits_per_s is None
    assert size.hosts == Spread(low=2, high=3)


def test_more_connections_than_ports_take_addresses() -> None:
    """One host with 80,000 connections to a node needs two addresses of 60,000 ports."""
    size = size_for(demand(10_000, 10, 20), KIND, TYPES)
    assert size.hosts == exactly(1)
    assert size.addresses_per_host == exactly(2)


@pytest.mark.parametrize(
    ("agents", "low", "high"),
    [(1, 0.0, 0.12), (10, 0.10, 0.12), (55, 0.19, 0.21), (100, 0.28, 0.30)],
)
def test_a_masters_load_is_on_the_measured_line(agents: int, low: float, high: float) -> None:
    """Between measured fleets; of smaller ones only a bound is known."""
    load = master_load(TYPES.master, exactly(agents))
    assert load is not None
    assert load.low == pytest.approx(low)
    assert load.high == pytest.approx(high)


def test_a_masters_load_is_not_guessed() -> None:
    """Beyond the largest fleet that was measured, and where none was."""
    assert master_load(TYPES.master, exactly(101)) is None
    assert master_load((), exactly(1)) is None


@given(
    per_s=st.floats(1, 1e7),
    low=st.floats(0.5, 1000),
    more=st.floats(0, 1000),
    size=st.floats(0, 1e6),
)
def test_ranges_hold_together(per_s: float, low: float, more: float, size: float) -> None:
    """Whatever is asked: low is at most high, and the most hosts carry the load at their limit."""
    asked = demand(per_s, low, low + more, received_bytes=exactly(size))
    (one,) = size_fleets(asked, TYPES)
    assert 1 <= one.hosts.low <= one.hosts.high
    assert one.hosts.high * (KIND.cores - 1) >= one.engines.high
    assert one.received_bits_per_s is not None
    # A range's high end is of the fewest hosts, which the low end of the bytes fits.
    assert one.received_bits_per_s.low <= KIND.bits_per_s * (1 + 1e-9)
    assert one.run_cost.low > 0


def test_the_shipped_file_is_read() -> None:
    """Types of EC2 with what they are limited by, and the measured masters."""
    types = load_host_types(SHIPPED)
    assert {one.name for one in types.hosts} >= {"c6i.4xlarge", "c7g.4xlarge"}
    assert types.master[-1].agents == 2000
    assert types.hosts[0].bits_per_s == 6.25e9


# Of no measurement, whose figures change: an entry of its own before the others.
_FALLING = '[[master]]\nagents = 1\nlow = "52 %"\nhigh = "51 %"\n\n[[master]]'


@pytest.mark.parametrize(
    ("before", "after", "seen"),
    [
        ("version = 1", "version = 2", "version 2"),
        ('"6.25 Gbps"', '"6.25 GB"', 'a bandwidth such as "12.5 Gbps"'),
        ('"6.25 Gbps"', '"0 Gbps"', "a bandwidth"),
        ("cores = 32", "cores = 1", ">= 2"),
        ("per_hour = 1.36", "per_hour = -1", ">= 0"),
        ("per_hour = 1.36", "per_our = 1.36", "per_our"),
        ('name = "c6i.8xlarge"', 'name = "c6i.4xlarge"', "host types of one name"),
        ("agents = 300", "agents = 100", "not rising"),
        ("[[master]]", _FALLING, "from 0.52 to 0.51"),
        ('minimum = "60 s"', 'minimum = "60"', "a duration with its unit"),
        ("[limits]", "[limits", "at line 15"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, before: str, after: str, seen: str) -> None:
    """A typo is no default: the file and what is wrong with it are said."""
    text = SHIPPED.read_text(encoding="utf-8")
    assert before in text
    path = tmp_path / "hosts.toml"
    path.write_text(text.replace(before, after, 1), encoding="utf-8")
    with pytest.raises(ScenarioError) as caught:
        load_host_types(path)
    assert seen in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_spread_is_in_order() -> None:
    """A range that ends before it begins is an error of ours."""
    with pytest.raises(ValueError, match="spread from 2 to 1"):
        Spread(low=2, high=1)
