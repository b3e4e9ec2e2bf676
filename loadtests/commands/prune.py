"""`headroom prune`: archives of old nights removed, baselines and failures never."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from analysis.baselines import list_baselines
from analysis.cells import text_column, whole_column
from analysis.stored_verdict import verdict_text
from analysis.tables import Table, to_rich, words
from loadtests.commands.options import Commands, add_json, add_results, positive_int
from loadtests.commands.terminal import Terminal
from loadtests.errors import ExitCode
from loadtests.nightly.records import Nights, read_records
from loadtests.nightly.retention import Archive, Retention, decide_retention
from loadtests.record.catalogue import RunState, list_runs
from loadtests.record.directory import RUNS, check_run_directory
from loadtests.record.files import writing
from loadtests.record.manifest import Outcome

NIGHTS: Final = 30
_GOING: Final = ".going"  # what is half removed is no run any more


def add_parser(commands: Commands) -> None:
    """How many nights to keep."""
    parser = commands.add_parser(
        "prune",
        help="remove archives of old nights",
        description="Removes archived runs of `headroom nightly` that are older than the newest "
        "nights. Baselines, failures, damaged archives and runs that no night made stay.",
        epilog="example: headroom prune --nights 30 --dry-run",
    )
    parser.add_argument(
        "--nights",
        type=positive_int,
        default=NIGHTS,
        metavar="N",
        help=f"keep the archives of the newest N nights (default: {NIGHTS})",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would go, remove nothing")
    add_results(parser)
    add_json(parser)
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace, terminal: Terminal) -> ExitCode:
    """Decide, print, remove."""
    results: Path = arguments.results
    nights = read_records(results)
    for problem in nights.damaged.values():
        terminal.error(f"its runs stay: {problem}")
    decided = decide(results, nights, arguments.nights)
    if not arguments.dry_run:
        remove(results, decided)
    if arguments.json:
        terminal.json(
            {
                "is_dry_run": arguments.dry_run,
                "kept": [{"run_id": a.run_id, "why": why.value} for a, why in decided.kept],
                "gone": [archive.run_id for archive in decided.gone],
            }
        )
        return ExitCode.PASS
    if decided.kept or decided.gone:
        terminal.out.print(to_rich(_table(decided, is_dry_run=arguments.dry_run)))
    else:
        terminal.say(f"no runs of nights in {results}")
    return ExitCode.PASS


def decide(results: Path, nights: Nights, newest: int) -> Retention:
    """What stays and what goes in a results folder; runs of a damaged night stay."""
    return decide_retention(nights.records, _archives(results), newest)


def _archives(results: Path) -> Mapping[str, Archive]:
    baselines = {baseline.run_id for baseline in list_baselines(results)}
    return {
        one.run_id: Archive(
            run_id=one.run_id,
            path=one.path,
            is_running=one.state is RunState.RUNNING,
            is_damaged=one.state is RunState.DAMAGED,
            is_baseline=one.run_id in baselines,
            verdict=verdict_text(one),
            is_complete=one.state is RunState.COMPLETE
            and one.manifest is not None
            and one.manifest.outcome is Outcome.COMPLETE,
        )
        for one in list_runs(results)
    }


def remove(results: Path, decided: Retention) -> None:
    """Remove what goes: out of the way in one step, then for good; HarnessError if it cannot be."""
    for archive in decided.gone:
        check_run_directory(archive.path)
        with writing(archive.path):
            archive.path.rename(archive.path.with_name(f".{archive.run_id}{_GOING}"))
    for left in (results / RUNS).glob(f".*{_GOING}"):
        with writing(left):
            shutil.rmtree(left)


def _table(decided: Retention, *, is_dry_run: bool) -> Table:
    gone = "would go" if is_dry_run else "gone"
    rows = [
        *((words(a.run_id), words("stays"), words(why.value)) for a, why in decided.kept),
        *((words(a.run_id), words(gone), words("of an older night")) for a in decided.gone),
    ]
    return Table(
        name="prune",
        title=f"Runs of nights: {len(decided.gone)} {gone}, {len(decided.kept)} stay",
        columns=(whole_column("run"), whole_column("what"), text_column("why")),
        rows=tuple(rows),
    )
