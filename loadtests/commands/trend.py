"""`headroom trend`: where the history of a scenario changed, from archives and baselines."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from analysis.baseline_types import Baseline
from analysis.baselines import read_baselines
from analysis.text import clean
from analysis.trend.change_points import SHIFT_TO_NOISE, SIGNIFICANCE
from analysis.trend.digests import Digest, load_digest
from analysis.trend.history import History, LeftOut, build_history
from analysis.trend.pages import show_trend, sum_up, trend_to_json
from analysis.trend.series import LEAST_RUNS, build_trend
from loadtests.commands.options import (
    Commands,
    add_json,
    add_results,
    positive_int,
    ratio,
    write_output,
)
from loadtests.commands.terminal import Terminal, after_a_while
from loadtests.errors import ExitCode, HarnessError, Mistake, ScenarioError
from loadtests.plan.scenario import load_scenario
from loadtests.record.catalogue import RunState, RunSummary, list_runs

NEWEST_RUNS: Final = 120  # a third of a year of nights: time grows with the square
_EPILOG: Final = f"""\
A change is sudden and lasts at least three runs; a slow drift shows as steps. At least
{LEAST_RUNS} comparable runs are needed. How small a shift can be found within three nights is
said beside each series: about {SHIFT_TO_NOISE:g} times its noise, so 5 % at 1.8 % noise. At 5 %
noise no method finds 5 % in three nights.

exit code: 0 with enough runs, whatever they show; 3 with too few

example: headroom trend rest-100
         headroom trend scenarios/rest-100.toml --plot trend.svg --json
"""


def add_parser(commands: Commands) -> None:
    """One command."""
    parser = commands.add_parser(
        "trend",
        help="find where a scenario's history changed",
        description="Looks for change points in every stage's p50, p95, p99, throughput and "
        "error ratio over the archived runs of a scenario, and over promoted baselines whose "
        "archives are gone. Only runs of one scale, load model, mix and stages are compared.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scenario", metavar="SCENARIO", help="its name, or its file")
    parser.add_argument(
        "--like",
        metavar="RUN",
        help="take the runs that can be compared with this one: an id, its beginning, or latest, "
        "the newest usable run (default: latest)",
    )
    parser.add_argument(
        "--last",
        type=positive_int,
        default=NEWEST_RUNS,
        metavar="N",
        help=f"look at the newest N comparable runs (default: {NEWEST_RUNS})",
    )
    parser.add_argument(
        "--significance",
        type=ratio,
        default=SIGNIFICANCE,
        metavar="RATIO",
        help="part of unchanged series that may show a change by chance at each look "
        f"(default: {SIGNIFICANCE:g})",
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write an SVG of every series")
    add_results(parser)
    add_json(parser)
    parser.set_defaults(execute=execute)


def _name_of(text: str) -> str:
    """A scenario's name, from its file where it is one."""
    return load_scenario(Path(text)).document.name if text.endswith(".toml") else text


def _digests(
    summaries: tuple[RunSummary, ...], terminal: Terminal, unreadable: list[LeftOut]
) -> Iterator[Digest]:
    """Digests of complete runs; what cannot be read is added to `unreadable` with its reason."""
    report = after_a_while(terminal)
    for number, summary in enumerate(summaries, start=1):
        report(f"reading runs: {number} of {len(summaries)}")
        try:
            yield load_digest(summary.path)
        except HarnessError as error:
            unreadable.append(LeftOut(run_id=summary.run_id, reason=str(error)))


def _history(
    scenario: str,
    summaries: Sequence[RunSummary],
    baselines: Sequence[Baseline],
    terminal: Terminal,
    *,
    like: str | None,
    last: int,
    damaged: Sequence[LeftOut] = (),
) -> History:
    unreadable = list(damaged)
    whole: list[RunSummary] = []
    for summary in summaries:
        if summary.manifest is None:
            unreadable.append(LeftOut(run_id=summary.run_id, reason=f"damaged: {summary.problem}"))
        elif summary.manifest.scenario_name != scenario:
            continue
        elif summary.state is RunState.COMPLETE:
            whole.append(summary)
        else:
            unreadable.append(LeftOut(run_id=summary.run_id, reason=summary.state.value))
    digests = list(_digests(tuple(whole), terminal, unreadable))
    return build_history(
        scenario,
        digests,
        baselines,
        unreadable=unreadable,
        like=like,
    ).newest(last)


def change_notes(
    summaries: Sequence[RunSummary], baselines: Sequence[Baseline], terminal: Terminal
) -> dict[tuple[str, float], str]:
    """What is said of the changes of each scenario, at the scale of its newest usable run."""
    runs = Counter(
        summary.manifest.scenario_name
        for summary in summaries
        if summary.manifest is not None and summary.state is RunState.COMPLETE
    )
    notes = {}
    for scenario in sorted(name for name, number in runs.items() if number >= LEAST_RUNS):
        history = _history(scenario, summaries, baselines, terminal, like=None, last=NEWEST_RUNS)
        notes[scenario, history.scale] = sum_up(build_trend(history, SIGNIFICANCE))
    return notes


def _damaged(errors: Sequence[HarnessError], terminal: Terminal) -> Iterator[LeftOut]:
    """Baselines that cannot be read: said, and left out."""
    for error in errors:
        terminal.error(str(error))
        yield LeftOut(run_id=Path(error.where).stem, reason=f"damaged baseline: {error.seen}")


def execute(arguments: argparse.Namespace, terminal: Terminal) -> ExitCode:
    """0 with enough runs, whatever they show."""
    baselines, errors = read_baselines(arguments.results)
    history = _history(
        _name_of(arguments.scenario),
        list_runs(arguments.results),
        baselines,
        terminal,
        like=arguments.like,
        last=arguments.last,
        damaged=tuple(_damaged(errors, terminal)),
    )
    if not history.runs and not history.left_out:
        mistake = Mistake(
            where="SCENARIO",
            seen=f"{arguments.scenario!r}, of which there is no run in {arguments.results}",
            expected="the name of a scenario of `headroom runs`, or its file",
        )
        raise ScenarioError("trend", (mistake,))
    report = after_a_while(terminal)
    trend = build_trend(
        history, arguments.significance, lambda stage: report(f"looking at stage {clean(stage)}")
    )
    if arguments.plot is not None:
        from analysis.trend.plot import draw_trend  # noqa: PLC0415 - Matplotlib takes a second

        write_output("--plot", arguments.plot, draw_trend(trend))
    if arguments.json:
        terminal.json(trend_to_json(trend))
    else:
        terminal.out.print(show_trend(trend))
    return ExitCode.PASS if trend.has_enough_runs else ExitCode.INCONCLUSIVE
