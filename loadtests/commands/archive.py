"""`headroom runs` and `headroom show`: archives listed and judged again, from their files alone."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from analysis.judging import State
from analysis.verdict import judge
from loadtests.clock import NS_PER_S
from loadtests.commands.judgement import CODES, print_run
from loadtests.commands.options import Commands, add_json, add_results
from loadtests.commands.terminal import Terminal
from loadtests.errors import ExitCode, Mistake, ScenarioError
from loadtests.record.archive import load_run
from loadtests.record.catalogue import RunSummary, list_runs


def add_parser(commands: Commands) -> None:
    """Both commands."""
    runs = commands.add_parser(
        "runs",
        help="list the archived runs",
        description="Lists the runs of a results folder, oldest first.",
        epilog="example: headroom runs --json",
    )
    add_results(runs)
    add_json(runs)
    runs.set_defaults(execute=list_archives)
    show = commands.add_parser(
        "show",
        help="verdict and tables of a run again, from its archive alone",
        description="Judges an archived run again and prints verdict and tables. "
        "The exit code is the verdict.",
        epilog="example: headroom show latest",
    )
    show.add_argument("run", metavar="RUN", help="run id, its beginning, a folder, or `latest`")
    add_results(show)
    add_json(show)
    show.set_defaults(execute=show_archive)


def find_run(results: Path, name: str) -> Path:
    """The folder of a run named by id, unique beginning, path or `latest`; ScenarioError else."""
    if Path(name).is_dir():
        return Path(name)
    summaries = list_runs(results)
    if name == "latest":
        found = list(summaries[-1:])
    else:
        found = [summary for summary in summaries if summary.run_id.startswith(name)]
    if len(found) == 1:
        return found[0].path
    seen = f"{name!r}, which fits {len(found)} of {len(summaries)} runs in {results}"
    expected = "a run id of `headroom runs`, its unique beginning, a folder, or latest"
    raise ScenarioError("RUN", (Mistake(where="RUN", seen=seen, expected=expected),))


def _verdict_text(summary: RunSummary) -> str:
    """The stored verdict's word; `?` where nobody has judged or the file is damaged."""
    import json  # noqa: PLC0415 - one word of one file

    try:
        document = json.loads((summary.path / "verdict.json").read_text(encoding="utf-8"))
        return State(document["state"]).value
    except (OSError, ValueError, KeyError, TypeError):
        return "?"


def _document(summary: RunSummary) -> dict[str, object]:
    manifest = summary.manifest
    return {
        "run_id": summary.run_id,
        "path": str(summary.path),
        "state": summary.state.value,
        "problem": summary.problem,
        "scenario": None if manifest is None else manifest.scenario_name,
        "scale": None if manifest is None else manifest.scale,
        "created_unix_ns": None if manifest is None else manifest.created_unix_ns,
        "outcome": None if manifest is None else manifest.outcome.value,
        "verdict": _verdict_text(summary),
    }


def list_archives(arguments: argparse.Namespace, terminal: Terminal) -> ExitCode:
    """One line a run; a damaged archive is a line that says so."""
    summaries = list_runs(arguments.results)
    if arguments.json:
        terminal.json([_document(summary) for summary in summaries])
        return ExitCode.PASS
    if not summaries:
        terminal.say(f"no runs in {arguments.results}")
        return ExitCode.PASS
    table = Table("run", "scenario", "started (UTC)", "scale", "state", "verdict")
    for summary in summaries:
        manifest = summary.manifest
        if manifest is None:
            table.add_row(escape(summary.run_id), "?", "?", "?", summary.state.value, "?")
            continue
        started = datetime.fromtimestamp(manifest.created_unix_ns / NS_PER_S, tz=UTC)
        table.add_row(
            escape(summary.run_id),
            escape(manifest.scenario_name),
            f"{started:%Y-%m-%d %H:%M:%S}",
            f"{manifest.scale:g}",
            summary.state.value,
            _verdict_text(summary),
        )
    terminal.out.print(table)
    return ExitCode.PASS


def show_archive(arguments: argparse.Namespace, terminal: Terminal) -> ExitCode:
    """Judge again; the archive is not changed."""
    run = load_run(find_run(arguments.results, arguments.run))
    verdict = judge(run)
    print_run(terminal, run, verdict, as_json=arguments.json)
    return CODES[verdict.state]
