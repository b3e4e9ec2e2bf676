"""`headroom capacity model`: what runs say about more nodes, and what those cost."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from analysis.capacity.model.costs import load_costs
from analysis.capacity.model.document import model_to_json
from analysis.capacity.model.loads import Axis
from analysis.capacity.model.model import build_model, check_one_system
from analysis.capacity.model.pages import show_model
from analysis.capacity.model.usl import Errors
from analysis.verdict import judge, plan_of
from loadtests.commands.archive import find_run
from loadtests.commands.calibrate import SCENARIOS
from loadtests.commands.options import Commands, add_json, add_results
from loadtests.commands.size import hosts_at, hosts_json, print_hosts
from loadtests.commands.terminal import Terminal, after_a_while
from loadtests.errors import ExitCode
from loadtests.record.archive import load_run

COSTS: Final = SCENARIOS / "costs" / "aurigraph.toml"
_OVER: Final = {"nodes": Axis.NODES, "in-flight": Axis.IN_FLIGHT}
_EPILOG: Final = """\
N is the number of nodes, where the runs had several and met their limits, else the requests
in flight: each judged stage is then a point. At least 6 points at 4 different N are needed.
Stages that the generator limited are void. A scaled run makes a scaled model.

example: headroom capacity model 20260921T142640Z 20260922T142640Z
         headroom capacity model latest --over in-flight --costs mine.toml --json
"""


def add_verb(verbs: Commands) -> None:
    """The verb of `headroom capacity`."""
    parser = verbs.add_parser(
        "model",
        help="fit the Universal Scalability Law to runs: nodes and costs for a rate",
        description="Fits the Universal Scalability Law to the judged stages of runs at several "
        "node counts or loads, and answers with ranges: where the knee and the peak are, what "
        "breaks first, how many nodes a rate takes (also with a node or a zone lost), and what "
        "they cost.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="run ids, their beginnings, folders, or `latest`"
    )
    parser.add_argument("--over", choices=tuple(_OVER), help="what N is (default: see below)")
    parser.add_argument(
        "--errors",
        choices=[errors.value for errors in Errors],
        default=Errors.RELATIVE.value,
        help="what measurements are wrong by: a part of them (default), or the same amount, "
        "as R's package usl takes it",
    )
    parser.add_argument(
        "--costs",
        type=Path,
        default=COSTS,
        metavar="FILE",
        help="prices, rates and zones (default: scenarios/costs/aurigraph.toml)",
    )
    add_results(parser)
    add_json(parser)
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace, terminal: Terminal) -> ExitCode:
    """0 when the runs carry a model."""
    costs, report = load_costs(arguments.costs), after_a_while(terminal)
    paths = [find_run(arguments.results, name) for name in arguments.runs]
    runs, judged = [], []
    for number, path in enumerate(paths, start=1):
        report(f"reading runs: {number} of {len(paths)}")
        runs.append(load_run(path))
    check_one_system(runs)
    for number, run in enumerate(runs, start=1):
        report(f"judging runs: {number} of {len(runs)}")
        judged.append((run, judge(run)))
    report("fitting the law and its replicates")
    axis = None if arguments.over is None else _OVER[arguments.over]
    model = build_model(judged, costs, axis, Errors(arguments.errors))
    hosts = hosts_at(plan_of(runs[0]), max(bill.needed.per_s for bill in model.bills))
    if arguments.json:
        terminal.json({**model_to_json(model), **hosts_json(hosts)})
    else:
        terminal.out.print(show_model(model))
        print_hosts(hosts, terminal)
    return ExitCode.PASS
