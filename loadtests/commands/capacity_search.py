"""`headroom capacity search`: the largest rate that holds the objectives, between two bounds.

The command line: what is allowed (`capacity_space`), the trials (`capacity_trials`), the page.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Final

from analysis.capacity.search.decide import Ending
from analysis.capacity.search.pages import (
    bounds_table,
    headline,
    page,
    trials_table,
)
from analysis.capacity.search.pages import notes as notes_of
from analysis.capacity.search.result import (
    SearchResult,
    Subject,
    build_result,
    load_result,
    search_path,
)
from analysis.capacity.search.settings import CRITICAL_NS, Settings
from analysis.tables import Table, to_rows
from analysis.text import rate
from loadtests.commands.capacity_space import Space, build_space, rates_of
from loadtests.commands.capacity_trials import SearchRunner, hosts_of
from loadtests.commands.options import (
    Commands,
    add_json,
    add_logs,
    add_plan,
    add_results,
    engines,
    positive_float,
    positive_int,
)
from loadtests.commands.preparation import assess_here, print_reach, refuse_what_may_not_run
from loadtests.commands.run import load_swarm
from loadtests.commands.size import hosts_json, print_hosts
from loadtests.commands.terminal import Terminal
from loadtests.errors import ExitCode, Mistake, ScenarioError
from loadtests.plan.host import local_engine_count
from loadtests.record.archive import new_run_id

PRECISION_PERCENT: Final = 5.0
TRIAL_S: Final = 10.0
WARM_UP_S: Final = 3.0
MOST_TRIALS: Final = 25
SETTLE_S: Final = 2.0
SHORTEST_TRIAL_S: Final = 5.0  # two partial seconds are not judged: three are left
_ABORTED: Final = frozenset({Ending.INTERRUPTED, Ending.TARGET_LOST})


def add_verb(verbs: Commands) -> None:
    """The scenario, the rates, and how much time it may take."""
    parser = verbs.add_parser(
        "search",
        help="find the largest rate that holds a scenario's objectives",
        description="Runs a scenario at one rate after the other until the largest rate that "
        "holds its objectives lies between two bounds. Exit code 0: both bounds found; 3: one is "
        "missing, or they are of no one limit (the generator was the limit, the highest rate "
        "holds, the lowest does not, the target is unstable); 4: stopped before its end, the "
        "bounds so far are printed and kept.",
        epilog="example: headroom capacity search scenarios/smoke.toml --max-rate 4000",
    )
    parser.add_argument("scenario", type=Path, metavar="SCENARIO", help="scenario file (TOML)")
    add_plan(parser)
    _add_space(parser)
    parser.add_argument(
        "--workers",
        type=positive_int,
        default=1,
        metavar="N",
        help="start N workers on this host (default: 1)",
    )
    parser.add_argument(
        "--engines", type=engines, metavar="N|auto", help="engines a worker (default: auto)"
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="search although the highest rate cannot be reached from here",
    )
    parser.add_argument(
        "--resume", metavar="ID", help="go on with a search that was stopped, options as then"
    )
    add_results(parser)
    add_logs(parser)
    add_json(parser)
    parser.set_defaults(
        execute=execute,
        expect_workers=None,
        bind=("127.0.0.1", None),
        metrics_port=None,
    )


def _add_space(parser: argparse.ArgumentParser) -> None:
    numbers = (
        ("--min-rate", None, "RPS", "lowest rate to try (default: 1 %% of the highest)"),
        (
            "--max-rate",
            None,
            "RPS",
            "highest rate to try (default: twice the stage's, within target.max_rate)",
        ),
        (
            "--precision",
            PRECISION_PERCENT,
            "PERCENT",
            "how far apart the bounds may be, 1 to 50 (default: 5)",
        ),
        (
            "--trial-duration",
            TRIAL_S,
            "SECONDS",
            f"judged length of a trial, {SHORTEST_TRIAL_S:g} or more (default: {TRIAL_S:g})",
        ),
        ("--warm-up", WARM_UP_S, "SECONDS", "ramp before each trial, not judged (default: 3)"),
        ("--settle", SETTLE_S, "SECONDS", "pause between trials (default: 2)"),
    )
    for name, default, unit, text in numbers:
        parser.add_argument(name, type=positive_float, default=default, metavar=unit, help=text)
    parser.add_argument(
        "--max-trials",
        type=positive_int,
        default=MOST_TRIALS,
        metavar="N",
        help=f"trials at most, void ones included (default: {MOST_TRIALS})",
    )
    parser.add_argument(
        "--stage", metavar="NAME", help="the judged stage to search, where there are several"
    )
    parser.add_argument(
        "--no-critical",
        dest="critical",
        action="store_false",
        help="leave out the critical rate (p99 <= 50, 100, 200, 300, 500 ms), for fewer trials",
    )


def execute(arguments: argparse.Namespace, terminal: Terminal) -> ExitCode:
    """Refuse, search, print."""
    _refuse_odd(arguments)
    space = build_space(arguments)
    total = local_engine_count(arguments.engines, arguments.workers) * arguments.workers
    settings = _settings(space, arguments, total, terminal)
    highest = space.plan_at(settings.max_per_s, 0)
    feasibility = assess_here(highest, hosts=1, engines=total)
    refuse_what_may_not_run(
        arguments.scenario, highest, feasibility, force=arguments.force, is_local=True
    )
    terminal.say(_asked(space, settings))
    print_reach(terminal, highest, feasibility, total)
    search = _begin(space, settings, arguments)
    load_swarm()
    result = SearchRunner(space, search, arguments, terminal).run()
    _print(result, hosts_of(space, result), arguments, terminal)
    return _exit_code(result)


def _asked(space: Space, settings: Settings) -> str:
    """What is searched: each trial has a rate, and so a scale, of its own."""
    base = space.base
    return (
        f"{base.scenario_name}, stage {space.stage.name} ({rate(space.peak_per_s)} requests/s in "
        f"the scenario): trials from {rate(settings.min_per_s)} to {rate(settings.max_per_s)} "
        f"requests/s, {settings.trial_s:g} s each"
    )


def _refuse_odd(arguments: argparse.Namespace) -> None:
    mistakes = []
    if arguments.trial_duration < SHORTEST_TRIAL_S:
        seen, expected = f"{arguments.trial_duration:g} s", f"{SHORTEST_TRIAL_S:g} s or more"
        mistakes.append(Mistake(where="--trial-duration", seen=seen, expected=expected))
    if not 1 <= arguments.precision <= 50:  # noqa: PLR2004 - percent
        seen, expected = f"{arguments.precision:g} %", "1 to 50 %"
        mistakes.append(Mistake(where="--precision", seen=seen, expected=expected))
    if mistakes:
        raise ScenarioError("headroom capacity search", tuple(mistakes))


def _settings(
    space: Space, arguments: argparse.Namespace, total_engines: int, terminal: Terminal
) -> Settings:
    lowest, highest = rates_of(space, arguments, total_engines, terminal)
    return Settings(
        min_per_s=lowest,
        max_per_s=highest,
        precision_ratio=arguments.precision / 100,
        trial_s=arguments.trial_duration,
        max_trials=arguments.max_trials,
        settle_s=arguments.settle,
        critical_ns=CRITICAL_NS if arguments.critical else (),
    )


def _begin(space: Space, settings: Settings, arguments: argparse.Namespace) -> SearchResult:
    """A search without trials, or the one that is resumed; ScenarioError when it is another."""
    subject = Subject(
        scenario=space.base.scenario_name,
        stage=space.stage.name,
        objectives=tuple(objective.text for objective in space.objectives),
        nodes=tuple(f"{node.scheme}://{node.authority}" for node in space.base.nodes),
        seed=space.base.seed,
        created_unix_ns=time.time_ns(),
    )
    if arguments.resume is None:
        search_id = new_run_id(f"{subject.scenario}-search", subject.created_unix_ns)
        return build_result(search_id, subject, settings, (), ending=None)
    before = load_result(search_path(arguments.results, arguments.resume))
    now = (subject.scenario, subject.stage, subject.objectives, subject.nodes, settings)
    then = before.subject
    if now != (then.scenario, then.stage, then.objectives, then.nodes, before.settings):
        expected = "the same scenario, target, rates and options as when it was begun"
        mistake = Mistake(where="--resume", seen=f"search {arguments.resume}", expected=expected)
        raise ScenarioError("headroom capacity search", (mistake,))
    return before


def _print(
    result: SearchResult, hosts: Table | str, arguments: argparse.Namespace, terminal: Terminal
) -> None:
    if arguments.json:
        terminal.json(
            {
                "search_id": result.search_id,
                "answer": headline(result),
                "is_found": result.is_found,
                "ending": None if result.ending is None else result.ending.name.lower(),
                "critical": result.critical,
                "notes": notes_of(result),
                "bounds": to_rows(bounds_table(result)),
                "trials": to_rows(trials_table(result)),
            }
            | hosts_json(hosts)
        )
        return
    terminal.out.print(page(result))
    print_hosts(hosts, terminal)
    terminal.out.print(
        f"search: {search_path(arguments.results, result.search_id)}", soft_wrap=True
    )


def _exit_code(result: SearchResult) -> ExitCode:
    if result.ending in _ABORTED:
        return ExitCode.ABORTED
    return ExitCode.PASS if result.is_found else ExitCode.INCONCLUSIVE
