"""From command-line arguments to a plan that may run: resolved, authorised, feasible.

Shared by `check`, `run`, `calibrate` and `demo`, so that what `check` prints is what `run`
decides by.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from loadtests.commands.calibration import load_costs
from loadtests.commands.embedded import behaviour_mistakes
from loadtests.commands.terminal import Terminal
from loadtests.errors import Mistake, ScenarioError, TargetError
from loadtests.plan.authorisation import refuse_unauthorised
from loadtests.plan.costs import MessageCost
from loadtests.plan.environment import unfilled_scrape_variables, unfilled_variables
from loadtests.plan.feasibility import Feasibility, Finding, Severity, assess
from loadtests.plan.host import host_limits, own_configuration
from loadtests.plan.model import LoadModel, Node, Plan, Tls
from loadtests.plan.reflection import reflector
from loadtests.plan.scenario import ScenarioFile, load_scenario, resolve
from loadtests.plan.scraping import describe_scraping
from loadtests.plan.units import format_duration

STYLES = {Severity.INFO: "dim", Severity.WARNING: "yellow", Severity.REFUSAL: "bold red"}


def _reflect(nodes: Sequence[Node], tls: Tls | None) -> bytes:
    return reflector(own_configuration(), datetime.now(tz=UTC))(nodes, tls)


def build_plan(path: Path, *, scale: float, seed: int | None, targets: Sequence[str]) -> Plan:
    """The plan of a scenario file; ScenarioError with all mistakes.

    A scenario whose types come from server reflection asks the target, where that may be
    loaded; TargetError where not, or when it has no answer.
    """
    return resolve(load_here(path, targets), scale=scale, seed=seed, targets=targets)


def load_here(path: Path, targets: Sequence[str]) -> ScenarioFile:
    """A scenario file, to be resolved more than once; ScenarioError with all mistakes."""
    return load_scenario(path, targets=targets, reflect=_reflect)


def assess_here(plan: Plan, *, hosts: int, engines: int) -> Feasibility:
    """Feasibility on hosts like this one, at the costs that were calibrated here."""
    return assess(plan, host_limits(), load_costs(), hosts=hosts, engines=engines)


def mistakes_here(plan: Plan, *, is_local: bool) -> tuple[Mistake, ...]:
    """What this host's configuration and environment lack for a plan.

    Variables are needed where the engines run; on other hosts their own preflight looks.
    """
    found = unfilled_variables(plan, os.environ) if is_local else ()
    found += unfilled_scrape_variables(plan, os.environ)
    found += behaviour_mistakes(plan)
    try:
        refuse_unauthorised(plan, own_configuration(), datetime.now(tz=UTC))
    except TargetError as error:
        denied = Mistake(where=error.where, seen=error.seen, expected=error.expected)
        return (denied, *found)
    return found


def refuse_what_may_not_run(
    path: Path, plan: Plan, feasibility: Feasibility, *, force: bool, is_local: bool
) -> None:
    """TargetError for unauthorised targets, ScenarioError for what else keeps a plan from running.

    `force` runs a plan that cannot reach its rate, nothing else.
    """
    refuse_unauthorised(plan, own_configuration(), datetime.now(tz=UTC))
    if mistakes := mistakes_here(plan, is_local=is_local):
        raise ScenarioError(str(path), mistakes)
    if force or feasibility.can_reach:
        return
    raise ScenarioError(
        f"{path} cannot run as planned from here (--force runs it all the same)",
        tuple(
            Mistake(
                where="feasibility", seen=finding.text, expected="a plan that can reach its rate"
            )
            for finding in feasibility.findings
            if finding.severity is Severity.REFUSAL
        ),
    )


def _number(value: float | None, pattern: str = ",.0f") -> str:
    return "-" if value is None else format(value, pattern)


def plan_table(plan: Plan, feasibility: Feasibility) -> Table:
    """Stages with rates, arrivals and the concurrency that Little's law asks for."""
    scaled = "" if plan.scale == 1.0 else f", SCALED x {plan.scale:g}"
    table = Table(title=f"{plan.scenario_name}: {plan.load_model.value} load{scaled}")
    table.add_column("stage")
    for heading in ("length", "peak req/s", "arrivals", "p95 limit", "in flight needed"):
        table.add_column(heading, justify="right")
    for stage, need in zip(plan.stages, feasibility.stages, strict=True):
        limit = need.latency_limit_ns
        table.add_row(
            stage.name if stage.is_judged else f"{stage.name} (not judged)",
            format_duration(need.length_ns),
            _number(need.peak_per_s),
            _number(None if need.peak_per_s is None else need.planned),
            "-" if limit is None else format_duration(limit),
            _number(need.in_flight),
        )
    return table


def _rate_text(plan: Plan, per_s: float | None) -> str:
    """The most that a plan asks for; closed load only follows the answers."""
    if per_s is None:
        return "as fast as the target answers"
    if plan.load_model is LoadModel.CLOSED:
        return f"{per_s:,.0f} requests/s when answers take their limit"
    return f"at most {per_s:,.0f} requests/s"


def _url(node: Node) -> str:
    return f"{node.scheme}://{node.authority}{node.base_path}"


def _grpc_url(node: Node) -> str | None:
    return None if node.grpc is None else f"{node.grpc.scheme}://{node.grpc.authority}"


def _node_text(node: Node) -> str:
    url = _url(node)
    if node.grpc is not None:
        url += f" and {_grpc_url(node)} for gRPC"
    return url if node.name == node.authority else f"{node.name} {url}"


def resources_table(plan: Plan, feasibility: Feasibility, engines: int) -> Table:
    """What the run takes: shares, connections, ports, descriptors, engines."""
    table = Table(title="Resources", show_header=False)
    table.add_column("what")
    table.add_column("value")
    peak, multiplexing = feasibility.peak_per_s, plan.multiplexing
    share = None if peak is None else peak / engines
    rows = (
        ("nodes", "\n".join(map(_node_text, plan.nodes))),
        ("arrivals", f"{plan.arrival_process.value}, seed {plan.seed}"),
        ("share of one engine", f"1 of {engines}: {_rate_text(plan, share)}"),
        (
            "connections",
            f"{plan.connections:,}, {feasibility.connections_per_engine:,} per engine"
            if plan.connections
            else "-",
        ),
        (
            "channels",
            f"{multiplexing.connections:,} x {multiplexing.streams:,} streams, "
            f"{feasibility.channels_per_engine:,} per engine"
            if multiplexing.connections
            else "-",
        ),
        ("in flight allowed", f"{feasibility.in_flight_available:,}"),
        ("descriptors per engine", f"{feasibility.descriptors_per_engine:,}"),
        ("ports per host and node", f"{feasibility.ports_per_host_and_node:,}"),
        ("engines needed", _number(feasibility.engines_needed)),
        ("on a lost worker", plan.loss_policy.value),
        ("server metrics", "\n".join(describe_scraping(plan.scraping)) if plan.scraping else "-"),
    )
    for what, value in rows:
        table.add_row(what, value)
    return table


def messages_table(costs: Sequence[MessageCost]) -> Table:
    """What each kind of request message costs here."""
    table = Table(title="Request messages (gRPC), rendered on this machine")
    for heading in ("request", "kind"):
        table.add_column(heading)
    for heading in ("first, bytes", "us each"):
        table.add_column(heading, justify="right")
    for cost in costs:
        table.add_row(
            cost.request,
            cost.kind.value,
            f"{cost.size_bytes:,}",
            f"{cost.render_ns / 1000:.2f}",
        )
    return table


def plan_document(plan: Plan, feasibility: Feasibility, engines: int) -> dict[str, object]:
    """What `print_plan` says, for machines."""
    return {
        "plan": {
            "name": plan.scenario_name,
            "load_model": plan.load_model.value,
            "scale": plan.scale,
            "seed": plan.seed,
            "arrivals": plan.arrival_process.value,
            "nodes": [
                {"name": node.name, "url": _url(node), "grpc": _grpc_url(node)}
                for node in plan.nodes
            ],
            "stages": [{"name": s.name, "is_judged": s.is_judged} for s in plan.stages],
            "connections": plan.connections,
            "channels": plan.multiplexing.connections,
            "streams": plan.multiplexing.streams,
            "loss_policy": plan.loss_policy.value,
            "server_metrics": describe_scraping(plan.scraping) if plan.scraping else None,
            "engines": engines,
        },
        "feasibility": feasibility,
        "can_reach": feasibility.can_reach,
    }


def print_summary(terminal: Terminal, plan: Plan, feasibility: Feasibility, engines: int) -> None:
    """A plan in a few lines, to standard error, with the findings that ask for attention."""
    scaled = "" if plan.scale == 1.0 else f", SCALED x {plan.scale:g}"
    stages = ", ".join(f"{s.name} {format_duration(s.end_ns - s.start_ns)}" for s in plan.stages)
    terminal.say(f"{plan.scenario_name}: {plan.load_model.value} load{scaled}; {stages}")
    print_reach(terminal, plan, feasibility, engines)


def print_reach(terminal: Terminal, plan: Plan, feasibility: Feasibility, engines: int) -> None:
    """How much a plan asks for, of whom, and what stands in its way; to standard error."""
    count = f"{engines} engine" if engines == 1 else f"{engines} engines"
    nodes = ", ".join(map(_node_text, plan.nodes))
    terminal.say(
        f"{_rate_text(plan, feasibility.peak_per_s)}, with {count} and "
        f"{plan.all_connections:,} connections to {nodes} (the whole plan: headroom check)"
    )
    for finding in feasibility.findings:
        if finding.severity is not Severity.INFO:
            _print_finding(terminal.err, finding)


def _print_finding(console: Console, finding: Finding) -> None:
    severity = (f"{finding.severity.value}:", STYLES[finding.severity])
    console.print(Text.assemble(severity, f" {finding.text}"), soft_wrap=True)


def print_plan(terminal: Terminal, plan: Plan, feasibility: Feasibility, engines: int) -> None:
    """The whole plan to standard output, findings last."""
    terminal.out.print(plan_table(plan, feasibility))
    terminal.out.print(resources_table(plan, feasibility, engines))
    for finding in feasibility.findings:
        _print_finding(terminal.out, finding)
