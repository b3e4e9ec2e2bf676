"""`headroom check`: validate scenarios and print their plans; start nothing."""

from __future__ import annotations

import argparse
from pathlib import Path

from loadtests.commands.failover_page import failover_document, print_failover
from loadtests.commands.options import Commands, add_json, add_plan, engines, positive_int
from loadtests.commands.preparation import (
    assess_here,
    build_plan,
    messages_table,
    mistakes_here,
    plan_document,
    print_plan,
)
from loadtests.commands.terminal import Terminal
from loadtests.errors import ExitCode, ScenarioError
from loadtests.plan.costs import measure_messages
from loadtests.plan.host import engine_count


def add_parser(commands: Commands) -> None:
    """Scenarios, and the size of the fleet that is to send them."""
    parser = commands.add_parser(
        "check",
        help="validate scenarios and print their plans",
        description="Validates scenario files, all mistakes at once, and prints their plans: "
        "stages, rates, shares, concurrency by Little's law, ports and descriptors, feasibility, "
        "and what each gRPC message costs to render.",
        epilog="example: headroom check scenarios/rest-100.toml --scale 0.01",
    )
    parser.add_argument(
        "scenarios", type=Path, nargs="+", metavar="SCENARIO", help="scenario files (TOML)"
    )
    add_plan(parser)
    parser.add_argument(
        "--hosts",
        type=positive_int,
        default=1,
        metavar="N",
        help="hosts that send, such as 4; other ones have variables of their own (default: 1)",
    )
    parser.add_argument(
        "--engines", type=engines, metavar="N|auto", help="engines on each host (default: auto)"
    )
    add_json(parser)
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace, terminal: Terminal) -> ExitCode:
    """Every scenario is checked, also after one with mistakes. USAGE if any cannot run."""
    code = ExitCode.PASS
    documents: list[dict[str, object]] = []
    per_host = engine_count(arguments.engines, beside_master=arguments.hosts == 1)
    for path in arguments.scenarios:
        try:
            plan = build_plan(
                path, scale=arguments.scale, seed=arguments.seed, targets=arguments.target
            )
        except ScenarioError as error:
            terminal.error(str(error))
            documents.append({"scenario": str(path), "mistakes": error.mistakes})
            code = ExitCode.USAGE
            continue
        total = per_host * arguments.hosts
        mistakes = mistakes_here(plan, is_local=arguments.hosts == 1)
        if mistakes:
            terminal.error(str(ScenarioError(str(path), mistakes)))
            code = ExitCode.USAGE
        feasibility = assess_here(plan, hosts=arguments.hosts, engines=total)
        messages = measure_messages(plan)
        document = plan_document(plan, feasibility, total)
        documents.append(
            {
                "scenario": str(path),
                "mistakes": mistakes,
                **document,
                "messages": messages,
                "failover": failover_document(plan),
            }
        )
        if not arguments.json:
            print_plan(terminal, plan, feasibility, total)
            if messages:
                terminal.out.print(messages_table(messages))
            print_failover(terminal, plan)
        if not feasibility.can_reach:
            code = ExitCode.USAGE
    if arguments.json:
        terminal.json(documents)
    return code
