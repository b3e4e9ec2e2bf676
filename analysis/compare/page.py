"""A comparison for a terminal, as Markdown and as JSON. Nothing is computed here.

`~` stands where there is no meaningful difference, as in benchstat: the decision is "same"
and the difference is not significant.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from analysis.cells import count_cell, number_column, text_column, whole_column
from analysis.compare.comparison import Comparison
from analysis.compare.effects import MOST_DETECTABLE, Decision, Effect
from analysis.compare.measures import ComparedMeasure, MeasureKind
from analysis.show import Json, JsonValue
from analysis.tables import Cell, Table, to_markdown, to_rich, words
from analysis.text import (
    TOO_SMALL,
    UNKNOWN,
    clean,
    latency,
    markdown_cell,
    rate,
    ratio,
    scale_text,
    significant,
)

SCHEMA: Final = 1
NO_DIFFERENCE: Final = "~"
NO_CHANGE: Final = "none"  # no change at all could have been shown
ALL_REQUESTS: Final = "all requests"
_STYLES: Final = {
    Decision.REGRESSED: "bold red",
    Decision.IMPROVED: "bold green",
    Decision.SAME: "green",
    Decision.UNSTABLE: "bold yellow",
    Decision.TOO_SMALL: "bold yellow",
}
_LONGEST_LINE: Final = 600


def _value(measure: ComparedMeasure, value: float | None) -> Cell:
    match measure.kind:
        case MeasureKind.PERCENTILE:
            text = latency(None if value is None else value * 1000)
        case MeasureKind.THROUGHPUT:
            text = rate(value)
        case MeasureKind.ERROR_RATIO:
            text = ratio(value)
    return Cell(text=text, value=_finite(value))


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _change(measure: ComparedMeasure, value: float | None) -> str:
    """A change as text: percent, of an error ratio percentage points."""
    if value is None:
        return UNKNOWN
    if math.isinf(value):
        return "∞"
    unit = "points" if measure.kind is MeasureKind.ERROR_RATIO else "%"
    sign = "-" if value < 0 else "+"
    return f"{sign}{significant(abs(value) * 100)} {unit}"


def _bound(measure: ComparedMeasure, value: float) -> str:
    """An end of an interval; beyond an elevenfold nobody asks how far."""
    is_huge = MOST_DETECTABLE < value < math.inf
    return f">{_change(measure, MOST_DETECTABLE)}" if is_huge else _change(measure, value)


def _detectable_cell(effect: Effect) -> Cell:
    value = effect.detectable
    is_none = value is not None and math.isinf(value)
    text = NO_CHANGE if is_none else _change(effect.contrast.measure, value)
    return Cell(text=text, value=_finite(value))


def _change_cell(effect: Effect, alpha: float) -> Cell:
    is_seen = effect.p_adjusted is None or effect.p_adjusted < alpha
    if effect.decision is Decision.SAME and not is_seen:
        return Cell(text=NO_DIFFERENCE, value=_finite(effect.change))
    return Cell(text=_change(effect.contrast.measure, effect.change), value=_finite(effect.change))


def _interval_cell(effect: Effect) -> Cell:
    if effect.low is None or effect.high is None:
        return Cell(text=TOO_SMALL, value=None)
    low, high = (_bound(effect.contrast.measure, bound) for bound in (effect.low, effect.high))
    return Cell(text=f"{low} .. {high}", value=None)


def _p_cell(value: float | None) -> Cell:
    if value is None:
        return Cell(text=UNKNOWN, value=None)
    return Cell(text="<0.001" if value < 0.001 else f"{value:.3f}", value=value)  # noqa: PLR2004 - three places


def _row(effect: Effect, alpha: float) -> tuple[Cell, ...]:
    contrast = effect.contrast
    measure = contrast.measure
    return (
        words(ALL_REQUESTS if contrast.request is None else contrast.request),
        words(measure.name),
        _value(measure, contrast.before),
        _value(measure, contrast.after),
        _change_cell(effect, alpha),
        _interval_cell(effect),
        _p_cell(effect.p_adjusted),
        _detectable_cell(effect),
        count_cell(contrast.samples_before),
        count_cell(contrast.samples_after),
        words(effect.decision.value),
        words(effect.reason or contrast.method),
    )


def tables_of(comparison: Comparison) -> tuple[Table, ...]:
    """One table a judged stage."""
    alpha, mark = comparison.limits.alpha, scale_text(comparison.scale)
    stages = dict.fromkeys(effect.contrast.stage for effect in comparison.effects)
    return tuple(
        Table(
            name=f"compare {stage}",
            title=f"Stage {stage}{f', {mark}' if mark else ''}",
            columns=(
                text_column("request"),
                whole_column("measure"),
                number_column("before"),
                number_column("after"),
                number_column("change"),
                number_column("interval", f"{1 - alpha:.4g} interval"),
                number_column("p_adjusted", "p (Holm)"),
                number_column("detectable", "could show"),
                number_column("n_before", "n before"),
                number_column("n_after", "n after"),
                whole_column("decision"),
                text_column("method", "how, or why not"),
            ),
            rows=tuple(
                _row(effect, alpha)
                for effect in comparison.effects
                if effect.contrast.stage == stage
            ),
        )
        for stage in stages
    )


def _sentences(comparison: Comparison) -> Iterator[tuple[str, str]]:
    """What is said beside the tables: heading, sentence."""
    limits = comparison.limits
    points = significant(limits.error_ratio * 100)
    threshold = f"{ratio(limits.change)} of latencies and throughput, {points} points of errors"
    yield "Threshold", f"{threshold}; alpha {limits.alpha:g}, Holm over all tests"
    for allowed in comparison.allowed:
        yield "Differs, and was allowed", allowed
    for stated in comparison.stated:
        yield "Differs", stated
    for note in comparison.notes:
        yield "Note", note


def _headline(comparison: Comparison) -> str:
    mark = scale_text(comparison.scale)
    return f"{clean(comparison.scenario)}{f', {mark}' if mark else ''}"


def show_comparison(comparison: Comparison) -> RenderableType:
    """The whole page for a terminal."""
    word = comparison.decision
    text = Text(word.value.upper(), style=_STYLES[word])
    text.append(f"  {_headline(comparison)}", style="bold")
    for label, runs in (("before", comparison.before), ("after", comparison.after)):
        text.append(f"\n{label}: {', '.join(runs)}")
    for label, sentence in _sentences(comparison):
        text.append(f"\n{label}: {clean(sentence, _LONGEST_LINE)}")
    return Group(text, Text(""), *(to_rich(table) for table in tables_of(comparison)))


def comparison_to_markdown(comparison: Comparison) -> str:
    """The same as Markdown; names are escaped."""
    lines = [
        f"# {comparison.decision.value}: {markdown_cell(_headline(comparison))}",
        "",
        f"- before: {', '.join(comparison.before)}",
        f"- after: {', '.join(comparison.after)}",
    ]
    for label, sentence in _sentences(comparison):
        lines.append(f"- {label}: {markdown_cell(clean(sentence, _LONGEST_LINE))}")
    for table in tables_of(comparison):
        lines += ["", f"## {markdown_cell(table.title)}", "", to_markdown(table).rstrip()]
    return "\n".join(lines) + "\n"


def _effect_to_json(effect: Effect) -> Json:
    contrast = effect.contrast
    return {
        "stage": contrast.stage,
        "request": contrast.request,
        "measure": contrast.measure.name,
        "unit": "us"
        if contrast.measure.kind is MeasureKind.PERCENTILE
        else contrast.measure.unit.value,
        "before": _finite(contrast.before),
        "after": _finite(contrast.after),
        "n_before": contrast.samples_before,
        "n_after": contrast.samples_after,
        "change": _finite(effect.change),
        "change_low": _finite(effect.low),
        "change_high": _finite(effect.high),
        "p_value": effect.p_value,
        "p_adjusted": effect.p_adjusted,
        "detectable": _finite(effect.detectable),
        "method": contrast.method,
        "decision": effect.decision.value,
        "reason": effect.reason,
    }


def comparison_to_json(comparison: Comparison) -> Json:
    """A document that is a function of the archives and the options alone."""
    limits = comparison.limits
    effects: list[JsonValue] = [_effect_to_json(effect) for effect in comparison.effects]
    return {
        "schema_version": SCHEMA,
        "decision": comparison.decision.value,
        "scenario": comparison.scenario,
        "scale": comparison.scale,
        "before": list(comparison.before),
        "after": list(comparison.after),
        "threshold": limits.change,
        "error_threshold": limits.error_ratio,
        "alpha": limits.alpha,
        "allowed": list(comparison.allowed),
        "stated": list(comparison.stated),
        "notes": list(comparison.notes),
        "effects": effects,
    }
