"""`headroom size`: the hosts that a rate takes, from what was calibrated and a file of prices."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from rich.table import Table as RichTable

from analysis.sizing_tables import demand_rows, fleet_notes, fleet_table
from analysis.tables import CellValue, Table, to_rich, to_rows
from analysis.text import rate as rate_text
from loadtests.commands.calibrate import SCENARIOS
from loadtests.commands.calibration import (
    Calibration,
    ProtocolCost,
    basis_here,
    basis_of,
    costs_by_kind,
    day_of,
    load_calibration,
)
from loadtests.commands.options import Commands, add_json, positive_float
from loadtests.commands.preparation import build_plan
from loadtests.commands.terminal import Terminal
from loadtests.errors import ExitCode, Mistake, ScenarioError
from loadtests.plan.engines import RequestKind, parts_of
from loadtests.plan.feasibility import HostLimits, assess
from loadtests.plan.host_types import HostTypes, load_host_types
from loadtests.plan.model import LoadModel, Plan
from loadtests.plan.resolve import HIGHEST_SCALE
from loadtests.plan.sizing import Demand, Traffic, size_fleets
from loadtests.plan.spread import Spread, exactly
from loadtests.plan.stages import peak_level

HOST_TYPES: Final = SCENARIOS / "costs" / "aws-hosts.toml"
# Whose mix, connections, objectives and length count where no scenario is given.
_PROFILES: Final = {"rest": "rest-100", "grpc": "grpc-100"}
_SUBJECT: Final = "headroom size"
_UNNAMED: Final = "no hosts are named"


def add_parser(commands: Commands) -> None:
    """Rate, and what it is made of."""
    parser = commands.add_parser(
        "size",
        help="how many hosts of each type a rate takes, and what they cost",
        description="Prints engines, hosts by type, connections, ports, descriptors, bandwidth, "
        "the master's load and the costs of a rate: from what `headroom calibrate` measured on "
        "this machine, as ranges, and from a file of host types and prices.",
        epilog="example: headroom size --rate 1552000 --protocol rest",
    )
    parser.add_argument(
        "--rate", type=positive_float, required=True, metavar="RPS", help="requests a second"
    )
    mix = parser.add_mutually_exclusive_group(required=True)
    mix.add_argument(
        "--protocol",
        choices=tuple(_PROFILES),
        help="the mix, objectives and length of scenarios/rest-100.toml or grpc-100.toml",
    )
    mix.add_argument(
        "--scenario", type=Path, metavar="FILE", help="those of a scenario of your own (open load)"
    )
    parser.add_argument(
        "--target",
        action="append",
        default=[],
        metavar="URL[,grpc=URL]",
        help="nodes instead of the scenario's: their number divides connections and ports",
    )
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="FILE",
        help="a calibration.json of another machine (default: of this one)",
    )
    add_hosts(parser)
    add_json(parser)
    parser.set_defaults(execute=execute)


def add_hosts(parser: argparse.ArgumentParser) -> None:
    """`--hosts`: what can be rented, and for how much."""
    parser.add_argument(
        "--hosts",
        type=Path,
        default=HOST_TYPES,
        metavar="FILE",
        help="host types and prices (default: scenarios/costs/aws-hosts.toml)",
    )


def execute(arguments: argparse.Namespace, terminal: Terminal) -> ExitCode:
    """Scale the plan to the rate, size it, print."""
    types = load_host_types(arguments.hosts)
    calibration, costs = _costs(arguments.calibration)
    is_own = arguments.calibration is None
    basis = basis_here(calibration) if is_own else basis_of(calibration)
    path = arguments.scenario or SCENARIOS / f"{_PROFILES[arguments.protocol]}.toml"
    plan = _plan_at(path, arguments.rate, arguments.target)
    demand = demand_of(plan, arguments.rate, traffic_of(plan, costs), types)
    sizes = size_fleets(demand, types)
    notes = tuple(fleet_notes(demand, sizes, types))
    if arguments.json:
        measured = {"calibrated": day_of(calibration), "calibrated_with": calibration.python}
        document = measured | {"demand": demand, "hosts": sizes, "notes": notes}
        terminal.json(document | {"scenario": plan.scenario_name, "currency": types.currency})
        return ExitCode.PASS
    table = RichTable(title=f"{plan.scenario_name} at this rate", show_header=False)
    for row in demand_rows(demand):
        table.add_row(*row)
    terminal.out.print(table)
    terminal.out.print(to_rich(fleet_table(_title(arguments.rate, basis), sizes, types)))
    for note in notes:
        terminal.out.print(f"note: {note}", soft_wrap=True)
    return ExitCode.PASS


def hosts_at(plan: Plan, per_s: float) -> Table | str:
    """Hosts that make a plan at a rate, by this machine's calibration; or why none are named."""
    calibration = load_calibration()
    if calibration is None:
        return f"{_UNNAMED}: this machine has no calibration; `headroom calibrate` measures one"
    costs = costs_by_kind(calibration)
    missing = [kind.value for kind in parts_of(plan) if kind not in costs]
    if missing:
        kinds = " and ".join(missing)
        return f"{_UNNAMED}: nobody calibrated {kinds} here; `headroom calibrate` measures it"
    if plan.load_model is not LoadModel.OPEN:
        return f"{_UNNAMED}: closed load has no rate; `headroom size` takes a scenario of open load"
    types = load_host_types(HOST_TYPES)
    demand = demand_of(plan, per_s, traffic_of(plan, costs), types)
    return fleet_table(_title(per_s, basis_here(calibration)), size_fleets(demand, types), types)


def hosts_json(hosts: Table | str) -> dict[str, list[dict[str, CellValue]] | str | None]:
    """The rows of what `hosts_at` says, and the sentence where there are none."""
    if isinstance(hosts, str):
        return {"hosts": None, "hosts_note": hosts}
    return {"hosts": to_rows(hosts), "hosts_note": None}


def print_hosts(hosts: Table | str, terminal: Terminal) -> None:
    """The same for people."""
    if isinstance(hosts, str):
        terminal.out.print(hosts, soft_wrap=True)
    else:
        terminal.out.print(to_rich(hosts))


def _title(per_s: float, basis: str) -> str:
    return f"Hosts for {rate_text(per_s)} requests/s (calibrated on {basis})"


def _costs(path: Path | None) -> tuple[Calibration, Mapping[RequestKind, ProtocolCost]]:
    """A calibration and its costs; ScenarioError where there is none."""
    calibration = load_calibration(path)
    if calibration is None:
        seen = "no calibration of this machine" if path is None else f"no file {path}"
        expected = "what `headroom calibrate` measures (a minute)"
        raise ScenarioError(
            _SUBJECT, (Mistake(where="--calibration", seen=seen, expected=expected),)
        )
    return calibration, costs_by_kind(calibration)


def _plan_at(path: Path, per_s: float, targets: list[str]) -> Plan:
    """The scenario scaled so that its highest stage has this rate; open load only."""
    whole = build_plan(path, scale=1.0, seed=None, targets=targets)
    peak = max(peak_level(stage.profile) for stage in whole.stages)
    if whole.load_model is not LoadModel.OPEN:
        expected = "open load, which has a rate to be scaled"
        mistake = Mistake(where="load.model", seen=whole.load_model.value, expected=expected)
        raise ScenarioError(str(path), (mistake,))
    if per_s > peak * HIGHEST_SCALE:
        expected = f"at most {HIGHEST_SCALE:g} times the scenario's {peak:g} requests/s"
        mistake = Mistake(where="--rate", seen=f"{per_s:g} requests/s", expected=expected)
        raise ScenarioError(str(path), (mistake,))
    return build_plan(path, scale=per_s / peak, seed=None, targets=targets)


def traffic_of(plan: Plan, costs: Mapping[RequestKind, ProtocolCost]) -> Traffic:
    """What a request of the plan's mix takes, by the kinds it is made of.

    From the cheapest try of constant requests to the dearest of all that was measured, the
    varied mix included. ScenarioError for kinds that nobody has calibrated.
    """
    parts = parts_of(plan)
    missing = [kind.value for kind in parts if kind not in costs]
    if missing:
        seen = f"no calibrated cost of {' and '.join(missing)}"
        mistake = Mistake(where="requests", seen=seen, expected="kinds that calibrate measures")
        raise ScenarioError(_SUBJECT, (mistake,))
    of_kinds = [(part, costs[kind]) for kind, part in parts.items()]
    sent = [(part, cost.sent_bytes) for part, cost in of_kinds]
    received = [(part, cost.received_bytes) for part, cost in of_kinds]
    return Traffic(
        request_ns=Spread(
            low=sum(part * cost.request_ns_low for part, cost in of_kinds),
            high=sum(
                part * max(cost.request_ns_high, cost.mix_request_ns or 0.0)
                for part, cost in of_kinds
            ),
        ),
        sent_bytes=_mean(sent),
        received_bytes=_mean(received),
    )


def _mean(parts: list[tuple[float, float | None]]) -> Spread | None:
    known = [part * value for part, value in parts if value is not None]
    return exactly(sum(known)) if len(known) == len(parts) else None


def demand_of(plan: Plan, per_s: float, traffic: Traffic, types: HostTypes) -> Demand:
    """What the plan asks for, by the feasibility of all of it on one host.

    Above the plan's own highest rate all that goes with the rate grows with it.
    """
    limits = HostLimits(
        cores=1, descriptors=types.limits.descriptors, ephemeral_ports=types.limits.ports
    )
    whole = assess(plan, limits, None, hosts=1, engines=1)
    in_flight = whole.in_flight_needed
    grown = max(1.0, per_s / max(peak_level(stage.profile) for stage in plan.stages))
    return Demand(
        per_s=per_s,
        length_ns=plan.stages[-1].end_ns,
        in_flight=None if in_flight is None else in_flight * grown,
        connections=round(plan.all_connections * grown),
        to_one_node=round(whole.ports_per_host_and_node * grown),
        traffic=traffic,
    )
