"""A search on a page: the answer in one sentence, what has to be said of it, its tables.

For a terminal, as Markdown and as table rows; names are escaped by each format.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from analysis.capacity.search.bounds import FEWEST_AGREEING, Bound
from analysis.capacity.search.decide import Ending
from analysis.capacity.search.result import SearchResult
from analysis.capacity.search.trials import (
    OBJECTIVES,
    Purpose,
    Trial,
    TrialState,
    evidence,
    not_recovered,
)
from analysis.cells import number_column, text_column, whole_column
from analysis.tables import Cell, Table, to_markdown, to_rich, words
from analysis.text import UNKNOWN, clean, latency, markdown_cell, rate, ratio, utc

LONGEST_LINE: Final = 400
_UNIT: Final = "requests/s"


def headline(result: SearchResult) -> str:
    """The answer; never a point."""
    bounds = result.objectives
    lower = None if bounds.lower is None else rate(bounds.lower.rate_per_s)
    upper = None if bounds.upper is None else rate(bounds.upper.rate_per_s)
    if lower is not None and upper is not None:
        return f"the objectives hold up to a rate between {lower} and {upper} {_UNIT}"
    valid = evidence(result.trials, OBJECTIVES, result.settings.trial_s)
    if lower is not None:
        return f"the objectives hold at {lower} {_UNIT} at least; no upper bound: {_missed(valid)}"
    if upper is not None:
        return f"the objectives do not hold at {upper} {_UNIT}; no lower bound: {_held(valid)}"
    if not valid:
        return "no bound: no trial has counted yet"
    return f"no bound yet, each takes {FEWEST_AGREEING} trials: {_held(valid)}, {_missed(valid)}"


def _missed(valid: Sequence[Trial]) -> str:
    """What the trials that count know of an upper end."""
    missed = [trial.rate_per_s for trial in valid if trial.state is TrialState.MISSED]
    if not missed:
        return f"nothing was missed up to {rate(max(trial.rate_per_s for trial in valid))}"
    return f"{len(missed)} of {len(valid)} missed, from {rate(min(missed))} on"


def _held(valid: Sequence[Trial]) -> str:
    """What they know of a lower end."""
    held = [trial.rate_per_s for trial in valid if trial.state is TrialState.HELD]
    if not held:
        return f"nothing held down to {rate(min(trial.rate_per_s for trial in valid))}"
    return f"{len(held)} of {len(valid)} held, up to {rate(max(held))}"


def critical_line(result: SearchResult) -> str | None:
    """The critical rate as two bounds; None where it was not asked for."""
    if result.critical is None:
        return None
    limits = ", ".join(f"{ns // 1_000_000}" for ns in sorted(result.settings.critical_ns))
    lower, upper = result.critical.lower_per_s, result.critical.upper_per_s
    seen = f"between {rate(lower)} and {rate(upper)} {_UNIT}"
    if lower is None and upper is None:
        seen = "not found"
    return f"critical rate, the geometric mean of the rates at p99 <= {limits} ms: {seen}"


def notes(result: SearchResult) -> tuple[str, ...]:
    """What has to be said beside the bounds."""
    return (*_of_the_end(result), *_of_the_width(result), *_of_order(result), *_of_trials(result))


def _of_the_end(result: SearchResult) -> Iterator[str]:
    if result.ending is None:
        yield "the search has not ended"
        return
    detail = f": {result.ending_detail}" if result.ending_detail else ""
    yield f"{result.ending.value}, after {len(result.trials)} trials{detail}"
    if result.ceiling_per_s is not None:
        lower = result.objectives.lower
        least = (
            "nothing is known of the target"
            if lower is None
            else (f"the target holds at least {rate(lower.rate_per_s)}")
        )
        is_own = result.ending is Ending.GENERATOR_LIMITED
        limit = "the generator's limit is" if is_own else "what can be judged ends at"
        yield f"{limit} {rate(result.ceiling_per_s)} {_UNIT}; {least}"


def _of_the_width(result: SearchResult) -> Iterator[str]:
    bounds = result.objectives
    if result.drift_ratio is not None:
        way = "fell" if result.drift_ratio < 0 else "rose"
        yield (
            f"unstable: the limit {way} by about {ratio(abs(result.drift_ratio))} during the "
            "search, so the bounds are of no one limit"
        )
    if bounds.width_ratio is not None and not bounds.is_precise:
        asked, noise = ratio(bounds.goal.width_ratio), ratio(bounds.scatter_ratio)
        kind = "wider than" if result.is_stable else "unstable: much wider than"
        yield (
            f"the bounds are {ratio(bounds.width_ratio)} apart, {kind} the {asked} asked for: "
            f"from trial to trial the limit scatters by about {noise}; more trials narrow them"
        )


def _of_order(result: SearchResult) -> Iterator[str]:
    valid = evidence(result.trials, OBJECTIVES, result.settings.trial_s)
    held = max((t.rate_per_s for t in valid if t.state is TrialState.HELD), default=0.0)
    missed = [t.rate_per_s for t in valid if t.state is TrialState.MISSED]
    if missed and min(missed) < held:
        yield (
            f"outcomes are mixed from {rate(min(missed))}, the lowest rate that was missed, "
            f"to {rate(held)}, the highest that held"
        )


def _of_trials(result: SearchResult) -> Iterator[str]:
    voids = [trial for trial in result.trials if trial.state is TrialState.VOID]
    if voids:
        reasons = sorted({trial.reason for trial in voids})
        yield f"{_trials(len(voids))} void and moved no bound: {reasons[0]}" + (
            f", and {len(reasons) - 1} other reasons" if len(reasons) > 1 else ""
        )
    if ill := not_recovered(result.trials):
        yield (
            f"{_trials(len(ill))} made while the target had not recovered from an overload, "
            "and not counted"
        )


def _trials(number: int) -> str:
    return "1 trial was" if number == 1 else f"{number} trials were"


def _rate_cell(value: float | None) -> Cell:
    return Cell(text=rate(value), value=value)


def _bound_cells(bound: Bound | None, *, is_lower: bool) -> tuple[Cell, Cell]:
    if bound is None:
        return _rate_cell(None), Cell(text=UNKNOWN, value=None)
    own = bound.held if is_lower else bound.missed
    word = "held" if is_lower else "missed"
    text = f"{own} of {bound.held + bound.missed} {word}, {bound.agreeing} agree"
    return _rate_cell(bound.rate_per_s), words(text)


def bounds_table(result: SearchResult) -> Table:
    """One row a goal."""
    rows = []
    for bounds in result.bounds:
        width = bounds.width_ratio
        rows.append(
            (
                words(bounds.goal.name),
                *_bound_cells(bounds.lower, is_lower=True),
                *_bound_cells(bounds.upper, is_lower=False),
                Cell(text=ratio(width), value=width),
                Cell(text=ratio(bounds.scatter_ratio), value=bounds.scatter_ratio),
            )
        )
    return Table(
        name="bounds",
        title=f"Bounds, {_UNIT} (each right with 99 %; trials at that rate, and how many "
        "at it or beyond agree)",
        columns=(
            text_column("goal"),
            number_column("lower_per_s", "holds at"),
            text_column("lower_trials", "trials there"),
            number_column("upper_per_s", "does not hold at"),
            text_column("upper_trials", "trials there"),
            number_column("width_ratio", "apart"),
            number_column("scatter_ratio", "noise"),
        ),
        rows=tuple(rows),
    )


def _time_cell(value_ns: float | None) -> Cell:
    return Cell(text=latency(value_ns), value=value_ns)


def _trial_row(trial: Trial, ill: frozenset[int]) -> tuple[Cell, ...]:
    state = trial.state.value
    if trial.purpose is Purpose.RECOVERY:
        state = f"{state} (is it well again?)"
    elif trial.number in ill:
        state = f"{state} (not recovered)"
    return (
        Cell(text=str(trial.number), value=trial.number),
        _rate_cell(trial.rate_per_s),
        Cell(text=f"{trial.judged_s:g}", value=trial.judged_s),
        words(state),
        _time_cell(trial.p95_ns),
        _time_cell(trial.p99_ns),
        Cell(text=ratio(trial.error_ratio), value=trial.error_ratio),
        words(trial.run_id),
    )


def trials_table(result: SearchResult) -> Table:
    """One row a trial, in their order."""
    ill = not_recovered(result.trials)
    return Table(
        name="trials",
        title="Trials (seconds judged; 0: ended before its time)",
        columns=(
            number_column("number", "#"),
            number_column("rate_per_s", "rate"),
            number_column("judged_s", "s"),
            text_column("state"),
            number_column("p95_ns", "p95"),
            number_column("p99_ns", "p99"),
            number_column("error_ratio", "errors"),
            whole_column("run_id", "run"),
        ),
        rows=tuple(_trial_row(trial, ill) for trial in result.trials),
    )


def _heading(result: SearchResult) -> str:
    subject = result.subject
    return (
        f"capacity of {clean(subject.scenario)}, stage {clean(subject.stage)}; "
        f"search {result.search_id}, {utc(subject.created_unix_ns)}"
    )


def page(result: SearchResult) -> RenderableType:
    """The whole page for a terminal."""
    critical = critical_line(result)
    return Group(
        Text(_heading(result)),
        Text(headline(result), style="bold"),
        *([Text(critical)] if critical else []),
        *(Text(f"  - {clean(line, LONGEST_LINE)}") for line in notes(result)),
        Text(""),
        to_rich(bounds_table(result)),
        to_rich(trials_table(result)),
    )


def to_page(result: SearchResult, hosts: Table | str) -> str:
    """The same as Markdown, and the hosts that make the rate, or why none are named."""
    critical = critical_line(result)
    lines = [
        f"# {markdown_cell(_heading(result), LONGEST_LINE)}",
        "",
        f"**{markdown_cell(headline(result))}**",
        "",
        *([markdown_cell(critical, LONGEST_LINE), ""] if critical else []),
        *(f"- {markdown_cell(line, LONGEST_LINE)}" for line in notes(result)),
        "",
        to_markdown(bounds_table(result)),
        to_markdown(trials_table(result)),
        *_hosts_lines(hosts),
    ]
    return "\n".join(lines)


def _hosts_lines(hosts: Table | str) -> list[str]:
    if isinstance(hosts, str):
        return [f"{markdown_cell(hosts, LONGEST_LINE)}\n"]
    return [f"## {markdown_cell(hosts.title)}", "", to_markdown(hosts)]
