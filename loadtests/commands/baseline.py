"""`headroom baseline promote|list|show`: runs kept as references, and their generated tables."""

from __future__ import annotations

import argparse

from analysis.baseline_page import show_baseline
from analysis.baseline_tables import sections
from analysis.baselines import find_baseline, list_baselines, promote
from analysis.tables import retitled, to_rich
from analysis.verdict import judge
from loadtests.commands.archive import find_run
from loadtests.commands.index import renew_index
from loadtests.commands.options import Commands, add_json, add_results
from loadtests.commands.terminal import Terminal
from loadtests.errors import ExitCode
from loadtests.record.archive import load_run


def add_parser(commands: Commands) -> None:
    """All three verbs."""
    parser = commands.add_parser(
        "baseline",
        help="promote a run as reference, list or show the references",
        description="Keeps runs as baselines; results/BASELINES.md and .csv are made from them, "
        "and results/index.html lists them.",
        epilog="example: headroom baseline promote latest",
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    _add_promote(verbs)
    listing = verbs.add_parser(
        "list",
        help="print the baselines",
        description="Prints the promoted runs, full scale before scaled ones, or as JSON.",
        epilog="example: headroom baseline list --json",
    )
    add_results(listing)
    add_json(listing)
    listing.set_defaults(execute=print_baselines)
    showing = verbs.add_parser(
        "show",
        help="print everything that was kept of one baseline",
        description="Prints one promoted run: where it comes from, its verdict, and the figures "
        "of each judged stage. Its archive is not needed any more.",
        epilog="example: headroom baseline show latest",
    )
    showing.add_argument("run", metavar="BASELINE", help="run id, its beginning, or `latest`")
    add_results(showing)
    add_json(showing)
    showing.set_defaults(execute=print_baseline)


def _add_promote(verbs: Commands) -> None:
    promoting = verbs.add_parser(
        "promote",
        help="keep a run as a baseline",
        description="Keeps a run as a baseline. It must be a whole run with a PASS or a FAIL of "
        "its target: partial, aborted and INCONCLUSIVE ones show nothing and are refused.",
        epilog="example: headroom baseline promote latest --phase staging",
    )
    promoting.add_argument("run", metavar="RUN", help="run id, its beginning, or `latest`")
    promoting.add_argument(
        "--phase",
        metavar="WORD",
        help="where the target was, such as staging, canary or production; stands in the tables",
    )
    add_results(promoting)
    add_json(promoting)
    promoting.set_defaults(execute=promote_run)


def promote_run(arguments: argparse.Namespace, terminal: Terminal) -> ExitCode:
    """Refused for runs that show nothing: inconclusive, generator-limited, partial."""
    run = load_run(find_run(arguments.results, arguments.run))
    baseline = promote(run, judge(run), arguments.results, arguments.phase)
    renew_index(arguments.results, list_baselines(arguments.results), terminal)
    if arguments.json:
        terminal.json(baseline)
    else:
        terminal.out.print(f"promoted {baseline.run_id}; see {arguments.results}/BASELINES.md")
    return ExitCode.PASS


def print_baselines(arguments: argparse.Namespace, terminal: Terminal) -> ExitCode:
    """The tables of results/BASELINES.md for a terminal, or the baselines as JSON."""
    baselines = list_baselines(arguments.results)
    if arguments.json:
        terminal.json(baselines)
        return ExitCode.PASS
    if not baselines:
        terminal.say(f"no baselines in {arguments.results}")
    for chapter, table in sections(baselines):
        title = f"{chapter.title}: {table.title}" if chapter.title else table.title
        terminal.out.print(to_rich(retitled(table, title)))
    return ExitCode.PASS


def print_baseline(arguments: argparse.Namespace, terminal: Terminal) -> ExitCode:
    """One baseline, from its file alone."""
    baseline = find_baseline(arguments.results, arguments.run)
    if arguments.json:
        terminal.json(baseline)
    else:
        terminal.out.print(show_baseline(baseline))
    return ExitCode.PASS
