"""`headroom compare`: two sides of archived runs, from their files alone."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Final

from analysis.baseline_types import Baseline
from analysis.baselines import list_baselines, newest_before
from analysis.compare.comparison import compare
from analysis.compare.effects import Decision, Limits
from analysis.compare.likeness import Aspect
from analysis.compare.measures import measures_of
from analysis.compare.page import comparison_to_json, comparison_to_markdown, show_comparison
from analysis.compare.subject import AnySubject, FiledSubject, build_subject
from analysis.log_rows.memory import keep_freed_memory
from loadtests.commands.archive import find_run
from loadtests.commands.options import Commands, add_json, add_results
from loadtests.commands.terminal import Terminal
from loadtests.errors import ExitCode, Mistake, ScenarioError
from loadtests.plan.units import UnitError, parse_ratio
from loadtests.record.archive import load_run
from loadtests.record.directory import RUNS
from loadtests.record.files import replace_file

_BASELINE: Final = "baseline"
_PERCENTILES: Final = (0.5, 0.95, 0.99)
_CODES: Final = {
    Decision.SAME: ExitCode.PASS,
    Decision.IMPROVED: ExitCode.PASS,
    Decision.REGRESSED: ExitCode.FAIL,
    Decision.UNSTABLE: ExitCode.INCONCLUSIVE,
    Decision.TOO_SMALL: ExitCode.INCONCLUSIVE,
}
_EPILOG: Final = """\
Each effect is one of
  regressed, improved  Holm's p-value is below alpha and the change at least the threshold
  same                 it is not, and a change of the threshold would have been found
  unstable             the noise is larger than the threshold: nothing can be said
  n too small          too few samples or windows for an interval

exit codes: 0 same or improved, 1 regressed, 3 unstable or n too small, 2 and 5 as everywhere

example: headroom compare baseline latest
         headroom compare 20270101,20270102,20270103 20270104 --percentiles 50,99
         headroom compare baseline:20270101 latest --threshold 3% --json
"""


def add_parser(commands: Commands) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "compare",
        help="what changed between two runs, or two sides of runs, and how surely",
        description="Compares response times, throughput and error ratios of two sides, "
        "request by request and stage by stage, from the windows of their archives.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name, side in (("before", "first"), ("after", "second")):
        parser.add_argument(
            name,
            metavar=name.upper(),
            help=f"{side} side: a run (id, its beginning, folder, latest), several with commas "
            "between, baseline:RUN, or baseline for the newest of the other side's scenario",
        )
    parser.add_argument(
        "--threshold",
        type=_ratio,
        default=0.05,
        metavar="PERCENT",
        help="smallest change of a latency or of throughput that matters (default: 5%%)",
    )
    parser.add_argument(
        "--error-threshold",
        type=_ratio,
        default=0.001,
        metavar="PERCENT",
        help="smallest difference of error ratios that matters, in points (default: 0.1%%)",
    )
    parser.add_argument(
        "--alpha",
        type=_alpha,
        default=0.05,
        metavar="P",
        help="chance to call any change where there is none, over all tests (default: 0.05)",
    )
    parser.add_argument(
        "--percentiles",
        type=_percentiles,
        default=_PERCENTILES,
        metavar="P,P",
        help="which percentiles of the response time to compare (default: 50,95,99)",
    )
    parser.add_argument(
        "--allow",
        type=_aspects,
        action="extend",
        default=[],
        metavar="WHAT",
        help="compare although this differs, or is unsound: "
        + ", ".join(aspect.value for aspect in Aspect),
    )
    parser.add_argument(
        "--rank-test",
        action="store_true",
        help="p-values of latencies and throughput by Mann-Whitney, over blocks of windows that "
        "are as good as independent, or over runs where a side has several; intervals stay",
    )
    parser.add_argument("--markdown", type=_file, metavar="FILE", help="write the page as Markdown")
    add_results(parser)
    add_json(parser)
    parser.set_defaults(execute=compare_sides)


def _refuse(text: str, expected: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(f"saw {text!r}; expected {expected}")


def _ratio(text: str) -> float:
    """A percentage above 0 as a ratio."""
    try:
        value = parse_ratio(text)
    except UnitError:
        value = 0.0
    if not 0 < value < 1:
        raise _refuse(text, 'a percentage above 0 and below 100, such as "5 %"')
    return value


def _alpha(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 0.5:  # noqa: PLR2004 - above it every coin is a regression
        raise _refuse(text, "a probability above 0 and up to 0.5")
    return value


def _percentiles(text: str) -> tuple[float, ...]:
    """Percentiles as quantiles, from decimal text as objectives have them."""
    try:
        values = tuple(round(float(word.removeprefix("p")) / 100, 10) for word in text.split(","))
    except ValueError:
        values = ()
    if not values or not all(0 < value < 1 for value in values):
        raise _refuse(text, "percentiles above 0 and below 100, such as 50,95,99.9")
    return values


def _aspects(text: str) -> list[Aspect]:
    try:
        return [Aspect(word.strip()) for word in text.split(",")]
    except ValueError as error:
        raise _refuse(text, ", ".join(aspect.value for aspect in Aspect)) from error


def _file(text: str) -> Path:
    """A file to be written; asked for its folder now, not after the work is done."""
    path = Path(text)
    if not path.parent.is_dir() or path.is_dir():
        raise _refuse(text, "a file in a folder that is there")
    return path


def compare_sides(arguments: argparse.Namespace, terminal: Terminal) -> ExitCode:
    """The exit code is the decision."""
    keep_freed_memory()
    sides = _read_sides(arguments.results, arguments.before, arguments.after, terminal)
    comparison = compare(
        *sides,
        measures=measures_of(arguments.percentiles),
        limits=Limits(
            change=arguments.threshold,
            error_ratio=arguments.error_threshold,
            alpha=arguments.alpha,
        ),
        allowed=frozenset(arguments.allow),
        is_ranked=arguments.rank_test,
    )
    if arguments.markdown is not None:
        replace_file(arguments.markdown, comparison_to_markdown(comparison).encode())
    if arguments.json:
        terminal.json(comparison_to_json(comparison))
    else:
        terminal.out.print(show_comparison(comparison))
    return _CODES[comparison.decision]


def _read_sides(
    results: Path, before: str, after: str, terminal: Terminal
) -> tuple[list[AnySubject], list[AnySubject]]:
    """Both sides; a bare `baseline` is found once the other side is known."""
    say = terminal.say
    if before == after == _BASELINE:
        expected = "a run on at least one side"
        raise ScenarioError(
            "compare", (Mistake(where="BEFORE", seen=_BASELINE, expected=expected),)
        )
    if before == _BASELINE:
        second = _read_side(results, after, say)
        return _read_side(results, _newest(results, second[0]), say), second
    first = _read_side(results, before, say)
    name = _newest(results, first[0]) if after == _BASELINE else after
    return first, _read_side(results, name, say)


def _read_side(results: Path, text: str, say: Callable[[str], None]) -> list[AnySubject]:
    return [_read(results, name.strip(), say) for name in text.split(",")]


def _read(results: Path, name: str, say: Callable[[str], None]) -> AnySubject:
    if name.startswith(f"{_BASELINE}:"):
        baseline = _baseline(results, name.partition(":")[2])
        if not (results / RUNS / baseline.run_id).is_dir():
            return FiledSubject(baseline=baseline)
        name = baseline.run_id
    path = find_run(results, name)
    say(f"reading {path.name}")
    return build_subject(load_run(path))


def _baseline(results: Path, name: str) -> Baseline:
    """The one promoted baseline whose run id begins so; ScenarioError otherwise."""
    every = list_baselines(results)
    found = [baseline for baseline in every if name and baseline.run_id.startswith(name)]
    if len(found) == 1:
        return found[0]
    raise _no_baseline(f"{name!r}, which fits {len(found)} of {len(every)} baselines in {results}")


def _newest(results: Path, other: AnySubject) -> str:
    """The baseline that stands beside a run: of the same load, from before it."""
    if isinstance(other, FiledSubject):
        raise _no_baseline("a baseline on the other side")
    manifest, percent = other.run.manifest, other.verdict.load_percent
    found = newest_before(list_baselines(results), manifest, percent)
    if found is None:
        raise _no_baseline(
            f"none of scenario {manifest.scenario_name!r} at scale {manifest.scale:g} and this "
            f"load from before {other.run_id} in {results}"
        )
    return f"{_BASELINE}:{found.run_id}"


def _no_baseline(seen: str) -> ScenarioError:
    expected = "a promoted baseline (`headroom baseline list`), or a run"
    return ScenarioError("compare", (Mistake(where="baseline", seen=seen, expected=expected),))
