"""Tables with one row per stage and request: rates, outcomes, latencies.

All requests together come first; every percentile stands beside its sample size. Judged
stages are shown; without one all are, so that a run that was only a warm-up is not an
empty page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from analysis.cells import (
    count_cell,
    latency_cell,
    number_column,
    quantile_cell,
    rate_cell,
    ratio_cell,
    text_column,
)
from analysis.figures import NS_PER_S, Figures, StageFigures
from analysis.tables import Cell, Table, words
from analysis.text import UNKNOWN
from loadtests.plan.model import LoadModel, Plan
from loadtests.plan.schedule import Schedule
from loadtests.record.error_kinds import Trait, count_with
from loadtests.record.histogram import Histogram
from loadtests.record.window import Count

QUANTILES: Final = (("p50", 0.5), ("p75", 0.75), ("p95", 0.95), ("p99", 0.99), ("p99.9", 0.999))
GAPS: Final = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("p99.9", 0.999))
ALL: Final = "all"

Row = tuple[Cell, ...]


def shown(stages: Sequence[StageFigures]) -> tuple[StageFigures, ...]:
    """The judged stages, or all where none is judged."""
    judged = tuple(stage for stage in stages if stage.facts.is_judged)
    return judged or tuple(stages)


def _each(stages: Sequence[StageFigures]) -> Iterator[tuple[StageFigures, str, Figures]]:
    """Stage, request and figures; all requests together first, hidden if there is only one."""
    for stage in shown(stages):
        yield stage, ALL, stage.overall
        named = {name: part for name, part in stage.requests.items() if name is not None}
        if len(named) > 1:
            yield from ((stage, name, part) for name, part in named.items())


def _per_request(
    stages: Sequence[StageFigures], cells: Callable[[StageFigures, Figures], Row]
) -> tuple[Row, ...]:
    return tuple(
        (words(stage.facts.name), words(name), *cells(stage, part))
        for stage, name, part in _each(stages)
    )


def _plan_rates(plan: Plan) -> dict[tuple[str, str], float]:
    """Arrivals per second that the plan has, by stage and request; none of closed load."""
    if plan.load_model is not LoadModel.OPEN:
        return {}
    weights = {request.name: request.weight for request in plan.requests}
    parts = {ALL: 1.0, **{name: w / sum(weights.values()) for name, w in weights.items()}}
    return {
        (stage.name, name): total * part * NS_PER_S / (stage.end_ns - stage.start_ns)
        for stage, total in zip(plan.stages, Schedule(plan).totals, strict=True)
        for name, part in parts.items()
    }


def rate_table(plan: Plan, stages: Sequence[StageFigures]) -> Table:
    """Rates over the judged time, beside that of the plan: what a lost worker left out shows."""
    plan_rates = _plan_rates(plan)

    def cells(stage: StageFigures, name: str, part: Figures) -> Row:
        seconds, on_time = stage.span.seconds, part.on_time

        def per_s(value: int) -> Cell:
            return rate_cell(value / seconds if seconds else None)

        return (
            rate_cell(plan_rates.get((stage.facts.name, name))),
            per_s(on_time.count(Count.PLANNED)),
            per_s(on_time.count(Count.SENT)),
            per_s(on_time.answered),
            per_s(on_time.count(Count.OK)),
            count_cell(part.tally.count(Count.DROPPED)),
            count_cell(part.unanswered),
            count_cell(stage.lost_planned) if name == ALL else Cell(text=UNKNOWN, value=None),
        )

    return Table(
        name="rates",
        title="Rates (requests/s over the judged time; throughput: answers; lost: not reported)",
        columns=(
            text_column("stage"),
            text_column("request"),
            number_column("plan_per_s", "plan"),
            number_column("planned_per_s", "planned"),
            number_column("sent_per_s", "sent"),
            number_column("throughput_per_s", "throughput"),
            number_column("goodput_per_s", "goodput"),
            number_column("dropped"),
            number_column("unanswered"),
            number_column("lost"),
        ),
        rows=tuple(
            (words(stage.facts.name), words(name), *cells(stage, name, part))
            for stage, name, part in _each(stages)
        ),
    )


def outcome_table(stages: Sequence[StageFigures]) -> Table:
    """How requests ended; `errors` is the strict ratio, `SLO errors` that of failed ones.

    Those that never left are among the failed and, for conservation, among the sent.
    """

    def cells(_stage: StageFigures, part: Figures) -> Row:
        tally = part.tally
        client, failed = tally.count(Count.CLIENT_ERROR), tally.count(Count.FAILED)
        return (
            count_cell(tally.done),
            count_cell(tally.count(Count.OK)),
            count_cell(client),
            count_cell(failed),
            count_cell(count_with(part.errors, Trait.NEVER_LEFT)),
            ratio_cell(client + failed, tally.done),
            ratio_cell(failed, tally.done),
        )

    return Table(
        name="outcomes",
        title="Outcomes (never left: counted as sent and as failed, but not a byte was sent)",
        columns=(
            text_column("stage"),
            text_column("request"),
            number_column("n"),
            number_column("ok"),
            number_column("client_error", "client errors"),
            number_column("failed"),
            number_column("never_left", "never left"),
            number_column("error_ratio", "errors"),
            number_column("slo_error_ratio", "SLO errors"),
        ),
        rows=_per_request(stages, cells),
    )


def latency_table(
    name: str, title: str, stages: Sequence[StageFigures], take: Callable[[Figures], Histogram]
) -> Table:
    """Percentiles of one histogram per stage and request, in us as values."""

    def cells(_stage: StageFigures, part: Figures) -> Row:
        histogram = take(part)
        quantiles = (quantile_cell(histogram, quantile) for _name, quantile in QUANTILES)
        return (count_cell(histogram.n), *quantiles, quantile_cell(histogram, None))

    columns = (number_column(f"{label}_us", label) for label, _quantile in QUANTILES)
    return Table(
        name=name,
        title=title,
        columns=(
            text_column("stage"),
            text_column("request"),
            number_column("n"),
            *columns,
            number_column("max_us", "max"),
        ),
        rows=_per_request(stages, cells),
    )


def gap_table(stages: Sequence[StageFigures]) -> Table:
    """Response minus service time: what a clock started at the sending would have hidden.

    Percentile minus percentile, which are of different requests: it has no maximum.
    """

    def gap(part: Figures, quantile: float) -> Cell:
        response = quantile_cell(part.tally.response, quantile)
        service = quantile_cell(part.tally.service, quantile)
        if isinstance(response.value, float) and isinstance(service.value, float):
            return latency_cell(max(0.0, response.value - service.value))
        return Cell(text=response.text if response.value is None else service.text, value=None)

    return Table(
        name="coordinated_omission_gap",
        title="Coordinated-omission gap (response minus service percentile, not of one request)",
        columns=(
            text_column("stage"),
            text_column("request"),
            *(number_column(f"{label}_us", label) for label, _quantile in GAPS),
        ),
        rows=_per_request(
            stages, lambda _stage, part: tuple(gap(part, quantile) for _label, quantile in GAPS)
        ),
    )
