"""`headroom stop`: the kill switch. Ends running runs by their stop files."""

from __future__ import annotations

import argparse
import getpass
import time
from pathlib import Path
from typing import Final

from loadtests.commands.options import Commands, add_json, add_results, positive_float
from loadtests.commands.terminal import Terminal
from loadtests.errors import ExitCode, Mistake, ScenarioError
from loadtests.record.directory import PARTIAL, RUNS, is_being_written
from loadtests.record.stop_file import ask_to_stop

_POLL_S: Final = 0.05
_LINE_EVERY_S: Final = 2.0


def add_parser(commands: Commands) -> None:
    """Which runs, why, and how long to wait for their archives."""
    parser = commands.add_parser(
        "stop",
        help="end running runs: no further request, complete archives",
        description="Ends runs whose master is on this host: all of a results folder, or one. No "
        "request is sent after a second; answers under way are waited for and archived. Agents "
        "that cannot be reached end by their lease, within 10 s. `touch RUN.partial/stop`, SIGINT "
        "and SIGTERM of the run do the same.",
        epilog='example: headroom stop --reason "the target pages its owner"',
    )
    parser.add_argument(
        "run", nargs="?", metavar="RUN", help="run id or its beginning (default: all that run)"
    )
    parser.add_argument("--reason", default="", metavar="TEXT", help="for the archive")
    parser.add_argument(
        "--wait",
        type=positive_float,
        default=60.0,
        metavar="SECONDS",
        help="wait so long for the archives (default: 60)",
    )
    add_results(parser)
    add_json(parser)
    parser.set_defaults(execute=execute)


def _running(results: Path, name: str | None) -> list[Path]:
    """Folders of runs to stop. A named one counts although it looks dead: locks may be missing."""
    partial = sorted((results / RUNS).glob(f"*{PARTIAL}"))
    if name is None:
        return [path for path in partial if is_being_written(path)]
    return [path for path in partial if path.name.startswith(name.removesuffix(PARTIAL))]


def execute(arguments: argparse.Namespace, terminal: Terminal) -> ExitCode:
    """Ask, wait, say what became of each; HARNESS when one did not end in time."""
    runs = _running(arguments.results, arguments.run)
    if not runs:
        what = "running run" if arguments.run is None else f"unfinished run {arguments.run!r}"
        seen, expected = f"no {what} in {arguments.results / RUNS}", "one of `headroom runs`"
        raise ScenarioError("stop", (Mistake(where="RUN", seen=seen, expected=expected),))
    reason = f"headroom stop, {getpass.getuser()}"
    reason += f": {arguments.reason}" if arguments.reason else ""
    for path in runs:
        ask_to_stop(path, reason)
        name = path.name.removesuffix(PARTIAL)
        seen = "" if is_being_written(path) else ", although nobody seems to be writing it"
        terminal.say(f"asked to stop: {name}{seen}")
    left = _wait(runs, arguments.wait, terminal)
    rows = [{"run_id": p.name.removesuffix(PARTIAL), "has_ended": p not in left} for p in runs]
    if arguments.json:
        terminal.json(rows)
    for path in left:
        terminal.error(f"{path.name} has not ended; its agents' load ends by lease, within 10 s")
    return ExitCode.HARNESS if left else ExitCode.PASS


def _wait(runs: list[Path], wait_s: float, terminal: Terminal) -> list[Path]:
    """Those that are still being written after so long."""
    began_s = told_s = time.monotonic()
    left = runs
    while left and time.monotonic() - began_s < wait_s:
        time.sleep(_POLL_S)
        left = [path for path in left if path.exists() and is_being_written(path)]
        if left and time.monotonic() - told_s >= _LINE_EVERY_S:
            told_s = time.monotonic()
            terminal.say(f"waiting for answers under way and {len(left)} archives")
    return left
