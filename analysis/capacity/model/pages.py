"""A capacity model for a terminal; computes nothing."""

from __future__ import annotations

import math
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from analysis.capacity.model.bill import Bill, OpenRange
from analysis.capacity.model.estimates import Estimate, Figure, has_no_knee
from analysis.capacity.model.loads import Axis
from analysis.capacity.model.model import Fitted, Model
from analysis.capacity.model.questions import EXTRAPOLATION_RATIO, FirstBreak, NodesNeeded
from analysis.cells import number_column, rate_cell, text_column, whole_column
from analysis.tables import Cell, Table, to_rich, words
from analysis.text import UNKNOWN, clean, rate, scale_text, significant

_LONGEST_LINE: Final = 400
_LARGE_SUM: Final = 100  # from here on without decimals
_OF_KNEE: Final = frozenset({Figure.KNEE_N, Figure.KNEE_PER_S})
_NAMES: Final = {
    Figure.GAMMA: "gamma, per second at N = 1",
    Figure.SIGMA: "sigma, contention",
    Figure.KAPPA: "kappa, coherency",
    Figure.KNEE_N: "knee, N",
    Figure.KNEE_PER_S: "knee, per second",
    Figure.PEAK_N: "peak, N",
    Figure.PEAK_PER_S: "peak, per second",
}


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _text(figure: Figure, value: float) -> str:
    if math.isinf(value):
        return "none"
    is_rate = figure in {Figure.GAMMA, Figure.KNEE_PER_S, Figure.PEAK_PER_S}
    return rate(value) if is_rate else significant(value)


def _mark(model: Model) -> str:
    mark = scale_text(model.scale)
    return f", {mark}" if mark else ""


def _estimate_row(one: Estimate, *, is_at_peak: bool) -> tuple[Cell, ...]:
    low, high = one.interval.low, one.interval.high
    least, most = one.stability.low, one.stability.high
    notes = ["" if one.stability.is_stable else "unstable: a single point decides it"]
    if is_at_peak:
        notes.append("no knee before the peak: it grows almost evenly until then")
    if one.is_extrapolated:
        notes.append(f"extrapolated beyond {EXTRAPOLATION_RATIO:g} x the largest N")
    return (
        words(_NAMES[one.figure]),
        Cell(text=_text(one.figure, one.value), value=_number(one.value)),
        words(f"{_text(one.figure, low)} to {_text(one.figure, high)}"),
        words(f"{_text(one.figure, least)} to {_text(one.figure, most)}"),
        words("; ".join(note for note in notes if note)),
    )


def estimate_table(model: Model) -> Table:
    """The law's figures, each with its interval."""
    is_at_peak = has_no_knee(model.estimates)
    return Table(
        name="law",
        title=f"Universal Scalability Law over N = {_axis_words(model)}{_mark(model)}",
        columns=(
            text_column("figure"),
            number_column("value"),
            whole_column("interval", "95 % interval"),
            whole_column("left_out", "with one point left out"),
            text_column("note"),
        ),
        rows=tuple(
            _estimate_row(one, is_at_peak=is_at_peak and one.figure in _OF_KNEE)
            for one in model.estimates
        ),
    )


def _axis_words(model: Model) -> str:
    return "nodes of the target" if model.axis is Axis.NODES else "requests in flight"


def _point_row(one: Fitted) -> tuple[Cell, ...]:
    sign = "+" if one.residual > 0 else ""
    return (
        words(one.point.run_id),
        words(one.point.stage),
        Cell(text=significant(one.point.n), value=one.point.n),
        rate_cell(one.point.per_s),
        rate_cell(one.fitted_per_s),
        Cell(text=f"{sign}{significant(one.residual * 100)} %", value=one.residual),
    )


def point_table(model: Model) -> Table:
    """Every point with its residual."""
    return Table(
        name="points",
        title=f"Points (goodput per second){_mark(model)}",
        columns=(
            whole_column("run"),
            text_column("stage"),
            number_column("n", "N"),
            number_column("measured"),
            number_column("fitted"),
            number_column("residual"),
        ),
        rows=tuple(_point_row(one) for one in sorted(model.fitted, key=lambda f: f.point.n)),
    )


def _break_row(one: FirstBreak) -> tuple[Cell, ...]:
    ends = one.breaks_per_s
    return (
        Cell(text=str(one.nodes), value=one.nodes),
        rate_cell(one.holds_per_s) if one.holds_per_s else Cell(text="none held", value=None),
        Cell(text="none broke", value=None) if ends is None else rate_cell(ends),
        words("; ".join(one.broken)),
        words(one.where),
    )


def break_table(model: Model) -> Table:
    """At which objective a target of each size broke first, between two loads."""
    return Table(
        name="breaks",
        title=f"Where it breaks first (between these two rates){_mark(model)}",
        columns=(
            number_column("nodes"),
            number_column("holds", "all hold at"),
            number_column("breaks", "one breaks at"),
            text_column("objectives", "broken objectives"),
            text_column("where"),
        ),
        rows=tuple(_break_row(one) for one in model.breaks),
    )


def _whole(value: float | None) -> str:
    if value is None:
        return UNKNOWN
    return "no number" if math.isinf(value) else f"{value:,.0f}"


def _money(value: float | None) -> str:
    if value is None:
        return UNKNOWN
    if math.isinf(value):
        return "no end"
    return f"{value:,.0f}" if value >= _LARGE_SUM else significant(value)


def _range_text(one: OpenRange) -> str:
    is_impossible = math.isinf(one.low)
    return UNKNOWN if is_impossible else f"{_money(one.low)} to {_money(one.high)}"


def _nodes_text(needed: NodesNeeded) -> str:
    is_impossible = math.isinf(needed.low)
    return "none will do" if is_impossible else f"{_whole(needed.low)} to {_whole(needed.high)}"


def _bill_row(bill: Bill) -> tuple[Cell, ...]:
    needed, hosts = bill.needed, bill.generator_hosts
    return (
        rate_cell(needed.per_s),
        words(needed.spare.value),
        words(_nodes_text(needed)),
        words(f"{hosts.low:.0f} to {hosts.high:.0f}"),
        words(_range_text(bill.month)),
        words(_range_text(bill.per_million)),
        words("extrapolated" if needed.is_extrapolated else ""),
    )


def bill_table(model: Model) -> Table:
    """Nodes, generators and costs for each rate, with what may be spared."""
    currency = clean(model.costs.currency, 12)
    return Table(
        name="demand",
        title=f"Nodes and costs for a rate, each from-to{_mark(model)}",
        columns=(
            number_column("rate", "rate per second"),
            text_column("spare", "to spare"),
            whole_column("nodes"),
            whole_column("generator_hosts", "generator hosts"),
            whole_column("month", f"{currency} a month"),
            whole_column("per_million", f"{currency} per million requests"),
            text_column("note"),
        ),
        rows=tuple(_bill_row(bill) for bill in model.bills),
    )


def sentences(model: Model) -> tuple[str, ...]:
    """What the reader has to know before the tables."""
    lines = [f"{len(model.fitted)} points, errors taken as {model.errors.value}"]
    if model.axis is Axis.IN_FLIGHT:
        lines.append(
            f"every run had {model.breaks[0].nodes} nodes: how many a rate takes is known from "
            "below alone (as if nodes added up fully); runs at several node counts say more"
        )
    else:
        lines.append(
            "a point is the largest rate at which a run held its objectives; what broke lies above"
        )
    if any(bill.needed.is_extrapolated for bill in model.bills):
        lines.append(
            f"extrapolated: more than {EXTRAPOLATION_RATIO:g} x the largest node count that was "
            "measured; nothing there has been seen"
        )
    lines.append(
        "costs per million requests are at that rate around the clock; generators included"
    )
    return tuple(lines)


def _voids(model: Model) -> list[str]:
    return [f"{void.run_id}, stage {void.stage}: {void.reason}" for void in model.voids]


def show_model(model: Model) -> RenderableType:
    """The whole page for a terminal."""
    head = Text(clean(", ".join(model.scenarios)), style="bold")
    if mark := scale_text(model.scale):
        head.append(f"  {mark}: says nothing about the full target", style="bold yellow")
    tables = (estimate_table, point_table, break_table, bill_table)
    parts: list[RenderableType] = [head, *map(Text, sentences(model)), Text("")]
    parts.extend(to_rich(table(model)) for table in tables)
    if voids := _voids(model):
        lines = [Text(f"  - {clean(line, _LONGEST_LINE)}") for line in voids]
        parts.extend([Text("Void", style="bold"), *lines])
    return Group(*parts)
