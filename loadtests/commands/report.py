"""`headroom report`: the page that people read and decide on, from archives alone."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from analysis.baselines import read_baselines
from analysis.log_rows.memory import keep_freed_memory
from loadtests.commands.archive import find_run
from loadtests.commands.index import renew_index
from loadtests.commands.options import Commands, add_json, add_results
from loadtests.commands.size import add_hosts
from loadtests.commands.terminal import Terminal
from loadtests.errors import ExitCode, Mistake, ScenarioError
from loadtests.plan.host_types import load_host_types
from loadtests.record.archive import load_run

_EPILOG: Final = """\
The files lie in the run's folder, or with --output in that folder (of several runs: in one
below it each). Without --output, results/index.html then lists runs, baselines and trends.

example: headroom report latest
         headroom report 20261126T03 20261126T04 --output /tmp/reports
"""


def add_parser(commands: Commands) -> None:
    """The command's options."""
    parser = commands.add_parser(
        "report",
        help="write report.html and report.md of archived runs",
        description="Writes one self-contained page a run, verdict first, and the same as "
        "Markdown. The same archive gives the same bytes.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="run id, its beginning, a folder, or `latest`"
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="write there instead")
    add_hosts(parser)
    add_results(parser)
    add_json(parser)
    parser.set_defaults(execute=write_reports)


def _folder(output: Path | None, run_id: str, *, has_others: bool) -> Path | None:
    return output / run_id if output is not None and has_others else output


def _check_output(output: Path | None) -> None:
    """ScenarioError before anything is read where no report can be written."""
    if output is not None and output.exists() and not output.is_dir():
        mistake = Mistake(where="--output", seen=f"{output}, a file", expected="a folder")
        raise ScenarioError("report", (mistake,))


def write_reports(arguments: argparse.Namespace, terminal: Terminal) -> ExitCode:
    """One report a run, then the index; the exit code says only that they were written."""
    keep_freed_memory()
    # Matplotlib takes a second to load, which no other command should wait for.
    from analysis.report.writing import write_report  # noqa: PLC0415 - see above

    results: Path = arguments.results
    _check_output(arguments.output)
    types = load_host_types(arguments.hosts)
    paths = {path.resolve(): path for path in (find_run(results, n) for n in arguments.runs)}
    baselines, damaged = read_baselines(results)
    for error in damaged:  # a report stands without them
        terminal.error(str(error))
    written: list[Path] = []
    for path in paths.values():
        terminal.say(f"reading {path} ...")
        run = load_run(path)
        output = _folder(arguments.output, run.manifest.run_id, has_others=len(paths) > 1)
        written += write_report(run, baselines, output, types)
    if arguments.output is None and results.is_dir():
        written.append(renew_index(results, baselines, terminal))
    if arguments.json:
        terminal.json({"files": [str(path) for path in written]})
    else:
        for path in written:
            terminal.out.print(str(path), soft_wrap=True)
    return ExitCode.PASS
