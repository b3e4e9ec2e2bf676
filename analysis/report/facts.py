"""Everything that a report says, computed once from the archive: `build_facts`.

Drawing and laying out read `ReportFacts` and compute nothing. What a run does not have (no
answer, no second, no baseline) is None or empty here, and left out there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from analysis.attribution import send_lag_limit_ns
from analysis.baseline_types import Baseline
from analysis.baselines import newest_before
from analysis.blocks import Blocks, reading_blocks, step_for
from analysis.figures import StageFigures, build_figures
from analysis.report.baseline_overlay import (
    baseline_table,
    curve_of,
    row_of,
)
from analysis.report.heat import HeatMap, build_heat_map
from analysis.report.intervals import Intervals, build_intervals
from analysis.report.load_points import LoadPoint, build_load_points
from analysis.report.plots.over_time import Limit, OverTime
from analysis.report.plots.spectra import Spectra
from analysis.report.record_tables import (
    engine_table,
    event_table,
    extreme_table,
    file_table,
    lost_table,
    run_table,
    stage_table,
    worker_table,
)
from analysis.report.requirement import (
    compare_with_requirement,
    load_demands,
    requirement_table,
)
from analysis.report.resources import Resources, build_resources
from analysis.report.rows import chunks_of
from analysis.report.seconds import Seconds, build_seconds
from analysis.report.series import PERCENTILES, build_series
from analysis.report.sizing import sizing_table
from analysis.report.spectrum import (
    StageSpectra,
    build_spectra,
    drawn_stages,
    filled_stages,
)
from analysis.report.timeline import build_timeline
from analysis.run_tables import build_tables, objective_table, with_scale
from analysis.server_side.saturation import find_saturation
from analysis.server_side.series import build_server_side
from analysis.tables import Table
from analysis.text import scale_text
from analysis.verdict import Verdict, judge, plan_of
from loadtests.plan.host_types import HostTypes
from loadtests.plan.model import MeasureKind, Plan
from loadtests.record.archive import Run
from loadtests.record.window import Kind

Floats = NDArray[np.float64]
_GAP_QUANTILE: Final = 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFacts:
    """What is laid out; `mark` goes into every heading of a scaled run.

    `over_time` is None for a run that never started, `heat_map` without an ok request,
    `spectra` and `gap` without a stage that has one.
    """

    run: Run
    plan: Plan
    verdict: Verdict
    mark: str
    tables: tuple[Table, ...]
    over_time: OverTime | None
    heat_map: HeatMap | None
    spectra: Spectra | None
    gap: StageSpectra | None
    load_points: tuple[LoadPoint, ...]
    resources: Resources | None  # None where nobody asked the target
    saturation: tuple[str, ...]  # which saturated first; empty where nobody asked the target
    limits: tuple[Limit, ...]


def _limits(plan: Plan) -> tuple[Limit, ...]:
    """Limits on response time that hold for all requests of every judged stage."""
    return tuple(
        Limit(
            text=objective.text,
            quantile=objective.measure.quantile,
            value_us=objective.limit / 1000,
        )
        for objective in plan.objectives
        if objective.measure.kind is MeasureKind.RESPONSE_QUANTILE
        and objective.measure.quantile is not None
        and objective.request is None
        and objective.stage is None
    )


def _percentiles(overall: Iterable[Blocks], seconds: Seconds) -> dict[str, Floats]:
    """Percentiles of each second; where two stages have answers in one, the later ones."""
    found = {label: np.full(len(seconds), np.nan) for label, _ in PERCENTILES}
    for blocks in (chunk for one in overall for chunk in chunks_of(one)):
        for label, quantile in PERCENTILES:
            values = blocks.quantiles_us(quantile)
            for offset in range(blocks.step_s):
                at = blocks.window_s + offset - seconds.first_s
                inside = (at >= 0) & (at < len(seconds))
                known = found[label]
                known[at[inside]] = np.fmax(known[at[inside]], values[inside])
    return found


def _over_time(run: Run, plan: Plan, blocks: Sequence[Blocks], mark: str) -> OverTime | None:
    if run.manifest.t0_unix_ns is None:
        return None
    seconds = build_seconds(run)
    if not len(seconds):
        return None
    judged = [stage.name for stage in run.manifest.stages if stage.is_judged]
    limits_ns = [send_lag_limit_ns(plan, name) for name in judged or [run.manifest.stages[0].name]]
    return OverTime(
        timeline=build_timeline(run, seconds.first_s, len(seconds)),
        series=build_series(seconds, _percentiles(blocks, seconds)),
        limits=_limits(plan),
        send_lag_limit_us=min(limits_ns) / 1000,
        mark=mark,
    )


def _spectra(
    stages: Sequence[StageFigures],
    plan: Plan,
    intervals: Intervals,
    baseline: Baseline | None,
    mark: str,
) -> tuple[Spectra | None, StageSpectra | None]:
    """The curves of the last stages that have answers, and the stage with the widest gap."""
    filled, drawn = filled_stages(stages), drawn_stages(stages)
    if not drawn:
        return None, None
    built = [build_spectra(stage, intervals.bands.get(stage.facts.name)) for stage in drawn]
    rows = [(stage.facts.name, row_of(baseline, stage.facts.name)) for stage in drawn]
    name, row = next(((name, row) for name, row in rows if row is not None), ("", None))
    spectra = Spectra(
        stages=tuple(built),
        omitted=len(filled) - len(drawn),
        baseline=None if row is None else curve_of(row),
        baseline_name="" if baseline is None else baseline.run_id,
        baseline_stage=name,
        limits=_limits(plan),
        mark=mark,
    )

    def gap_us(stage: StageFigures) -> float:
        tally = stage.overall.tally
        response = tally.response.quantile_us(_GAP_QUANTILE)
        service = tally.service.quantile_us(_GAP_QUANTILE) if tally.service.n else response
        return response - service if np.isfinite(response) and np.isfinite(service) else 0.0

    widest = max(filled, key=gap_us)
    return spectra, build_spectra(widest, None)


def _tables(
    run: Run,
    verdict: Verdict,
    stages: Sequence[StageFigures],
    intervals: Mapping[int, str],
    baseline: Baseline | None,
    *,
    hosts: Table | None,
) -> tuple[Table, ...]:
    plan = plan_of(run)
    judged = [t for t in build_tables(run, verdict, stages) if t.name != "objectives"]
    own = (
        objective_table(verdict, intervals),
        requirement_table(compare_with_requirement(run, plan, verdict, stages, load_demands())),
        baseline_table(baseline, stages),
        stage_table(plan),
        extreme_table(run),
        engine_table(run),
        worker_table(run),
        lost_table(run),
        event_table(run),
        run_table(run, plan),
        file_table(run),
    )
    scaled = tuple(with_scale(table, verdict) for table in own if table.rows)
    return (*judged, *scaled, *(() if hosts is None else (hosts,)))  # it is of the unscaled plan


def _wanted(plan: Plan) -> set[str | None]:
    """All requests together, and those that have an objective alone."""
    return {objective.request for objective in plan.objectives} | {None}


def build_facts(
    run: Run, baselines: Sequence[Baseline], types: HostTypes | None = None
) -> ReportFacts:
    """Compute a report's contents; HarnessError when the archive cannot be read.

    Without host types nothing is said about hosts.
    """
    plan = plan_of(run)
    with reading_blocks(
        run, kind=Kind.RESPONSE, judged=False, step_s=step_for(run), requests=_wanted(plan)
    ) as response:
        verdict, stages, side = judge(run), build_figures(run), build_server_side(run, plan)
        saturation = () if side is None else find_saturation(run, plan, stages, side).sentences
        blocks = response() if stages else {}
    overall = {stage: one for (stage, request), one in blocks.items() if request is None}
    scale = scale_text(verdict.scale)
    mark = f" [{scale}]" if scale else ""
    intervals = build_intervals(run, plan, verdict, stages, blocks)
    baseline = newest_before(baselines, run.manifest, verdict.load_percent)
    spectra, gap = _spectra(stages, plan, intervals, baseline, mark)
    over_time = _over_time(run, plan, list(overall.values()), mark)
    hosts = sizing_table(run, plan, stages, types)
    heat_map = None
    if over_time is not None:
        line = over_time.timeline
        heat_map = build_heat_map(overall.values(), line.first_s, line.length_s)
    return ReportFacts(
        run=run,
        plan=plan,
        verdict=verdict,
        mark=mark,
        tables=_tables(run, verdict, stages, intervals.texts, baseline, hosts=hosts),
        over_time=over_time,
        heat_map=heat_map,
        spectra=spectra,
        gap=gap,
        load_points=build_load_points(stages),
        resources=build_resources(plan, over_time, side, saturation),
        saturation=saturation,
        limits=_limits(plan),
    )
