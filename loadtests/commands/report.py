"""`headroom report`: the page that people read and decide on, from archives alone."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from analysis.baselines import list_baselines
from loadtests.commands.archive import find_run
from loadtests.commands.options import Commands, add_json, add_results
from loadtests.commands.size import HOST_TYPES
from loadtests.commands.terminal import Terminal
from loadtests.commands.trend import change_notes
from loadtests.errors import ExitCode, HarnessError, Mistake, ScenarioError
from loadtests.plan.host_types import load_host_types
from loadtests.record.archive import list_runs, load_run

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
    parser.add_argument(
        "--hosts",
        type=Path,
        default=HOST_TYPES,
        metavar="FILE",
        help="host types and prices (default: scenarios/costs/aws-hosts.toml)",
    )
    add_results(parser)
    add_json(parser)
    parser.set_defaults(execute=write_reports)


def _folder(arguments: argparse.Namespace, run_id: str) -> Path | None:
    output: Path | None = arguments.output
    return output / run_id if output is not None and len(arguments.runs) > 1 else output


def _check_output(output: Path | None) -> None:
    """ScenarioError before anything is read where no report can be written."""
    if output is not None and output.exists() and not output.is_dir():
        mistake = Mistake(where="--output", seen=f"{output}, a file", expected="a folder")
        raise ScenarioError("report", (mistake,))


def write_reports(arguments: argparse.Namespace, terminal: Terminal) -> ExitCode:
    """One report a run, then the index; the exit code says only that they were written."""
    # Matplotlib takes a second to load, which no other command should wait for.
    from analysis.report.index import write_index  # noqa: PLC0415 - see above
    from analysis.report.writing import write_report  # noqa: PLC0415 - see above

    results: Path = arguments.results
    _check_output(arguments.output)
    types = load_host_types(arguments.hosts)
    paths = list(dict.fromkeys(find_run(results, name) for name in arguments.runs))
    try:
        baselines = list_baselines(results)
    except HarnessError as error:  # a report stands without one
        terminal.error(str(error))
        baselines = ()
    written: list[Path] = []
    for path in paths:
        terminal.say(f"reading {path} ...")
        run = load_run(path)
        written += write_report(run, baselines, _folder(arguments, run.manifest.run_id), types)
    if arguments.output is None and results.is_dir():
        summaries = list_runs(results)
        changes = change_notes(summaries, baselines, terminal)
        written.append(write_index(summaries, baselines, changes, results))
    if arguments.json:
        terminal.json({"files": [str(path) for path in written]})
    else:
        for path in written:
            terminal.out.print(str(path), soft_wrap=True)
    return ExitCode.PASS
