"""`headroom runs`, `show` and `verify`: archives listed, judged again, checked to the byte."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from analysis.cells import number_column, whole_column
from analysis.stored_verdict import verdict_text
from analysis.tables import Table, to_rich, words
from analysis.text import UNKNOWN
from analysis.verdict import judge
from loadtests.commands.judgement import exit_code_of, print_run
from loadtests.commands.options import Commands, add_json, add_results
from loadtests.commands.terminal import Terminal
from loadtests.errors import ExitCode, Mistake, ScenarioError
from loadtests.record.archive import load_run, verify
from loadtests.record.catalogue import RunState, RunSummary, list_runs
from loadtests.record.directory import MANIFEST_FILE, is_being_written, is_partial
from loadtests.record.manifest import Outcome


def add_parser(commands: Commands) -> None:
    """All three commands."""
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
    _add_run(show, show_archive)
    check = commands.add_parser(
        "verify",
        help="read every byte of an archived run against its checksums and sums",
        description="Checks every file of a complete archive against SHA256SUMS, and the files "
        "against each other. Exit code 0: sound; 5: damaged, with each thing that is wrong.",
        epilog="example: headroom verify latest",
    )
    _add_run(check, verify_archive)


def _add_run(
    parser: argparse.ArgumentParser, execute: Callable[[argparse.Namespace, Terminal], ExitCode]
) -> None:
    parser.add_argument("run", metavar="RUN", help="run id, its beginning, a folder, or `latest`")
    add_results(parser)
    add_json(parser)
    parser.set_defaults(execute=execute)


def find_run(results: Path, name: str) -> Path:
    """The folder of a run named by id, unique beginning, path or `latest`; ScenarioError else."""
    if name and Path(name).is_dir():
        if (Path(name) / MANIFEST_FILE).exists():
            return Path(name).resolve() if Path(name).name in {"", ".."} else Path(name)
        raise _no_run(f"{str(Path(name).resolve())!r}, a folder without {MANIFEST_FILE}")
    summaries = list_runs(results)
    if name == "latest":
        found = list(summaries[-1:])
    else:
        found = [summary for summary in summaries if name and summary.run_id.startswith(name)]
    if len(found) == 1:
        return found[0].path
    raise _no_run(f"{name!r}, which fits {len(found)} of {len(summaries)} runs in {results}")


def _no_run(seen: str) -> ScenarioError:
    expected = "a run id of `headroom runs`, its unique beginning, a run's folder, or latest"
    return ScenarioError("RUN", (Mistake(where="RUN", seen=seen, expected=expected),))


def _end_text(summary: RunSummary) -> str:
    """How the run ended, and what its archive is where that is not a whole one."""
    manifest = summary.manifest
    if manifest is None or summary.state is RunState.RUNNING:
        return summary.state.value
    if summary.state is RunState.COMPLETE:
        return manifest.outcome.value
    how = "died" if manifest.outcome is Outcome.RUNNING else manifest.outcome.value
    return f"{how}, {summary.state.value}"


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
        "verdict": verdict_text(summary),
    }


def list_archives(arguments: argparse.Namespace, terminal: Terminal) -> ExitCode:
    """One line a run; a damaged archive is a line that says so."""
    results: Path = arguments.results
    if results.exists() and not results.is_dir():
        mistake = Mistake(where="--results", seen=f"{str(results)!r}", expected="a folder")
        raise ScenarioError("headroom runs", (mistake,))
    summaries = list_runs(results)
    if arguments.json:
        terminal.json([_document(summary) for summary in summaries])
        return ExitCode.PASS
    if not summaries:
        terminal.say(f"no runs in {results}")
        return ExitCode.PASS
    terminal.out.print(to_rich(_table(summaries)))
    for summary in summaries:
        if summary.problem:
            terminal.say(f"damaged: {summary.problem}")
    return ExitCode.PASS


def _table(summaries: Sequence[RunSummary]) -> Table:
    rows = []
    for summary in summaries:
        manifest = summary.manifest
        scale = UNKNOWN if manifest is None else f"{manifest.scale:g}"
        cells = (summary.run_id, scale, _end_text(summary), verdict_text(summary))
        rows.append(tuple(words(cell) for cell in cells))
    return Table(
        name="runs",
        title="Runs (an id begins with the start, UTC, and the scenario)",
        columns=(
            whole_column("run"),
            number_column("scale"),
            whole_column("end"),
            whole_column("verdict"),
        ),
        rows=tuple(rows),
    )


def show_archive(arguments: argparse.Namespace, terminal: Terminal) -> ExitCode:
    """Judge again; the archive is not changed."""
    run = load_run(find_run(arguments.results, arguments.run))
    verdict = judge(run)
    print_run(terminal, run, verdict, as_json=arguments.json)
    return exit_code_of(run.manifest.outcome, verdict.state)


def verify_archive(arguments: argparse.Namespace, terminal: Terminal) -> ExitCode:
    """Name everything that is wrong with an archive."""
    path = find_run(arguments.results, arguments.run)
    if is_partial(path) and is_being_written(path):
        mistake = Mistake(where="RUN", seen="a run that goes on", expected="one that has ended")
        raise ScenarioError(str(path), (mistake,))
    findings = verify(path)
    if arguments.json:
        terminal.json({"path": str(path), "is_sound": not findings, "findings": list(findings)})
    elif not findings:
        terminal.say(f"sound: {path}")
    for finding in findings:
        terminal.error(finding)
    return ExitCode.HARNESS if findings else ExitCode.PASS
