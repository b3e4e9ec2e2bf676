"""`headroom nightly PLAN`: the night that is due, or whether nights still come to a result.

The rim of `loadtests/nightly`: this clock, this host, child processes, files, messages.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

from analysis.text import utc
from loadtests.clock import NS_PER_S, SystemClock
from loadtests.commands.night_lock import night_under_way
from loadtests.commands.night_pages import print_night, print_not_due, print_plan
from loadtests.commands.night_run import run_night
from loadtests.commands.options import Commands, add_json, add_results
from loadtests.commands.preparation import build_plan
from loadtests.commands.terminal import Terminal
from loadtests.errors import ExitCode, Mistake, ScenarioError
from loadtests.nightly.plan import NightPlan, load_nightly, unset_variables
from loadtests.nightly.records import EXIT_CODES, read_last_result, read_records, silence_of
from loadtests.nightly.schedule import Due, NotDue, decide_due, scheduled_at
from loadtests.nightly.spec import HOUR
from loadtests.plan.host import LOCAL_JOIN_WAIT_S

OVERDUE_NS: Final = 26 * HOUR
_EPILOG: Final = """\
A timer or cron job starts it once a day (deploy/); without a night that is due it does nothing.
The record of each night is results/nights/NIGHT.json. Exit codes: 0 PASS, 1 FAIL, 3 INCONCLUSIVE
or void (the host moved); 2, 4 and 5 as everywhere. --check: 0, or 1 where nights have stopped.

example: headroom nightly scenarios/nightly.toml --dry-run
         headroom nightly --check
"""


def add_parser(commands: Commands) -> None:
    """The plan, and what to do with it."""
    parser = commands.add_parser(
        "nightly",
        help="run the suite of the night that is due",
        description="Runs an ordered suite once a night: the host is measured first, then each "
        "step within its budget and windows; what only the host made INCONCLUSIVE is tried again.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("plan", type=Path, nargs="?", metavar="PLAN", help="nightly plan (TOML)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--check", action="store_true", help="only say whether there is a result of the last 26 h"
    )
    what.add_argument(
        "--dry-run", action="store_true", help="print the plan and what is due, run nothing"
    )
    what.add_argument("--now", action="store_true", help="run today's night, whatever the time")
    add_results(parser)
    add_json(parser)
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace, terminal: Terminal) -> ExitCode:
    """Check, show, or run what is due."""
    if arguments.check:
        return _check(arguments, terminal)
    plan = _load(arguments.plan)
    now = datetime.now(tz=UTC)
    if arguments.dry_run:
        print_plan(plan, _due(plan, arguments, now), now, terminal, as_json=arguments.json)
        return ExitCode.PASS
    if mistakes := unset_variables(plan, os.environ.get):
        raise ScenarioError(str(plan.path), mistakes)
    due = _due(plan, arguments, now)
    if isinstance(due, NotDue):
        print_not_due(due, terminal, as_json=arguments.json)
        return ExitCode.PASS
    record = run_night(
        plan,
        lambda: _due(plan, arguments, datetime.now(tz=UTC)),
        arguments.results,
        terminal,
        due.night.isoformat(),
    )
    if isinstance(record, NotDue):
        print_not_due(record, terminal, as_json=arguments.json)
        return ExitCode.PASS
    print_night(record, terminal, as_json=arguments.json)
    return EXIT_CODES[record.state]


def _load(path: Path | None) -> NightPlan:
    if path is None:
        expected = "the file of a plan, such as scenarios/nightly.toml"
        mistake = Mistake(where="PLAN", seen="nothing", expected=expected)
        raise ScenarioError("headroom nightly", (mistake,))
    return load_nightly(path, lengths_ns)


def lengths_ns(scenario: Path, arguments: Sequence[str]) -> tuple[int, int]:
    """Length of the load that `headroom run` with these arguments makes, and of its join wait."""
    # The parser knows every command, this one among them.
    from loadtests.commands.dispatch import build_parser  # noqa: PLC0415 - see above

    try:
        words = ["run", str(scenario), *arguments]
        parsed = build_parser(words).parse_args(words)
    except SystemExit as ended:
        expected = "arguments of `headroom run`, as its help has them"
        mistake = Mistake(where="arguments", seen=" ".join(arguments), expected=expected)
        raise ScenarioError(str(scenario), (mistake,)) from ended
    plan = build_plan(scenario, scale=parsed.scale, seed=parsed.seed, targets=parsed.target)
    wait_s = LOCAL_JOIN_WAIT_S if parsed.expect_workers is None else parsed.expect_workers_max_wait
    return plan.stages[-1].end_ns + plan.grace_ns, round(wait_s * NS_PER_S)


def _due(plan: NightPlan, arguments: argparse.Namespace, now: datetime) -> Due | NotDue:
    begun = read_records(arguments.results).last
    last = None if begun is None else date.fromisoformat(begun)
    if not arguments.now:
        return decide_due(
            now, plan.at_minute, timedelta(microseconds=plan.catch_up_ns / 1000), last
        )
    night = now.date()
    scheduled = min(now, scheduled_at(night, plan.at_minute))
    following = scheduled_at(night + timedelta(days=1), plan.at_minute)
    if last is not None and last >= night:
        return NotDue(why=f"night {last} was begun already", following=following)
    return Due(night=night, scheduled=scheduled, missed=())


def _check(arguments: argparse.Namespace, terminal: Terminal) -> ExitCode:
    """0 where nights come to results, 1 where they have stopped."""
    most_ns = OVERDUE_NS if arguments.plan is None else _load(arguments.plan).overdue_ns
    last = read_last_result(arguments.results)
    now_unix_ns = SystemClock().unix_ns()
    under_way = _under_way(arguments.results, now_unix_ns)
    begun_unix_ns = None if under_way is None else under_way[1]
    silence = silence_of(last, now_unix_ns, most_ns, begun_unix_ns)
    if arguments.json:
        running = None if under_way is None else under_way[0]
        document = {"is_alive": silence is None, "why": silence, "last": last}
        terminal.json(document | {"under_way": running})
    elif silence is not None:
        terminal.error(f"{silence} (in {arguments.results})")
    elif last is not None:
        ended = utc(last.written_unix_ns)
        running = "" if under_way is None else f"; night {under_way[0]} is under way"
        terminal.out.print(f"night {last.night}: {last.state.value}, ended {ended}{running}")
    return ExitCode.PASS if silence is None else ExitCode.FAIL


def _under_way(results: Path, now_unix_ns: int) -> tuple[str, int] | None:
    """The night whose process lives and is in its time, and when it began."""
    holder = night_under_way(results)
    if holder is None or now_unix_ns > holder.until_unix_ns:
        return None
    begun = {one.night: one.started_unix_ns for one in read_records(results).records}
    return holder.night, begun.get(holder.night, now_unix_ns)  # no record: it measures its host
