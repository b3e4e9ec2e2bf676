"""`headroom stop`: the kill switch. Ends runs and nights by their stop files.

Without a RUN the whole results folder is asked: what runs, the night, also between its runs, and
runs that are still being prepared and have no folder yet.
"""

from __future__ import annotations

import argparse
import getpass
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loadtests.commands.night_lock import night_under_way
from loadtests.commands.options import Commands, add_json, add_results, positive_float
from loadtests.commands.terminal import Terminal
from loadtests.errors import ExitCode, Mistake, ScenarioError
from loadtests.nightly.records import read_records
from loadtests.record.directory import PARTIAL, RUNS, is_being_written
from loadtests.record.stop_file import ask_to_stop, is_under_way

_POLL_S: Final = 0.05
_LINE_EVERY_S: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What was asked to end: `row` says it to machines."""

    name: str
    row: dict[str, str | None]
    goes_on: Callable[[], bool]
    is_dead: bool = False  # or nobody can tell: locks may be missing


def add_parser(commands: Commands) -> None:
    """Which runs, why, and how long to wait for their archives."""
    parser = commands.add_parser(
        "stop",
        help="end running runs: no further request, complete archives",
        description="Ends runs whose master is on this host: all of a results folder with its "
        "night and what is still being prepared, or one. No request is sent after a second; "
        "answers under way are waited for and archived. Agents that cannot be reached end by "
        "their lease, within 10 s. `touch RESULTS/stop` (all), `touch RUN.partial/stop`, SIGINT "
        "and SIGTERM of the run or the night do the same.",
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


def _run(path: Path) -> _Asked:
    name = path.name.removesuffix(PARTIAL)
    return _Asked(
        name=name,
        row={"run_id": name},
        goes_on=lambda: path.exists() and is_being_written(path),
        is_dead=not is_being_written(path),
    )


def _night(results: Path) -> list[_Asked]:
    """The night that goes on; it has ended when its record has, whatever is uploaded then."""
    holder = night_under_way(results)
    if holder is None:
        return []

    def goes_on() -> bool:
        ended = {one.night for one in read_records(results).records if one.ended_unix_ns}
        return holder.night not in ended and night_under_way(results) == holder

    return [_Asked(name=f"night {holder.night}", row={"night": holder.night}, goes_on=goes_on)]


def _prepared(results: Path) -> list[_Asked]:
    """A run that is under way without a folder."""
    if not is_under_way(results):
        return []
    name = "a run that is being prepared"
    return [_Asked(name=name, row={"run_id": None}, goes_on=lambda: is_under_way(results))]


def _ask(results: Path, name: str | None, reason: str) -> list[_Asked]:
    """Write the stop files and name who hears them; ScenarioError where nobody does.

    The folder's own is written whoever is known to be there: it reaches what cannot be seen.
    """
    runs = _running(results, name)
    for path in runs:
        ask_to_stop(path, reason)
    asked = [_run(path) for path in runs]
    if name is None and results.is_dir():
        ask_to_stop(results, reason)
        asked += _night(results)
        asked = asked or _prepared(results)
    if not asked:
        what = "running run and no night" if name is None else f"unfinished run {name!r}"
        seen, expected = f"no {what} in {results / RUNS}", "one of `headroom runs`"
        raise ScenarioError("stop", (Mistake(where="RUN", seen=seen, expected=expected),))
    return asked


def execute(arguments: argparse.Namespace, terminal: Terminal) -> ExitCode:
    """Ask, wait, say what became of each; HARNESS when one did not end in time."""
    reason = f"headroom stop, {getpass.getuser()}"
    reason += f": {arguments.reason}" if arguments.reason else ""
    asked = _ask(arguments.results, arguments.run, reason)
    for one in asked:
        seen = ", although nobody seems to be writing it" if one.is_dead else ""
        terminal.say(f"asked to stop: {one.name}{seen}")
    left = _wait(asked, arguments.wait, terminal)
    if arguments.json:
        terminal.json([{**one.row, "has_ended": one not in left} for one in asked])
    for one in left:
        terminal.error(f"{one.name} has not ended; its agents' load ends by lease, within 10 s")
    return ExitCode.HARNESS if left else ExitCode.PASS


def _wait(asked: Sequence[_Asked], wait_s: float, terminal: Terminal) -> list[_Asked]:
    """Those that still go on after so long."""
    began_s = told_s = time.monotonic()
    left = list(asked)
    while left and time.monotonic() - began_s < wait_s:
        time.sleep(_POLL_S)
        left = [one for one in left if one.goes_on()]
        if left and time.monotonic() - told_s >= _LINE_EVERY_S:
            told_s = time.monotonic()
            terminal.say("waiting for answers under way and the archives: " + _names(left))
    return left


def _names(asked: Sequence[_Asked]) -> str:
    return ", ".join(one.name for one in asked)
