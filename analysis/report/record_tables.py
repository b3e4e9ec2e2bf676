"""Tables of what the archive says about the run itself: stages, events, workers, manifest.

They are of the report alone; what `headroom show` prints as well is in `run_tables`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import pandas as pd

from analysis.cells import count_cell, latency_cell, number_column, text_column, whole_column
from analysis.figures import NS_PER_S
from analysis.tables import Cell, Table, words
from analysis.text import UNKNOWN, latency, ratio, utc
from loadtests.plan.model import Hold, Plan, Profile, Ramp, Sine, Spike, Step
from loadtests.plan.units import format_duration
from loadtests.record.archive import Run
from loadtests.record.directory import MANIFEST_FILE
from loadtests.record.fault_events import FaultEvent
from loadtests.record.manifest import AgentFacts

Row = tuple[Cell, ...]
# What is looked for in single rows, the column that has it, and its unit.
_EXTREMES: Final = (
    ("latest answer", "response_max_us"),
    ("latest failed answer", "failed_response_max_us"),
    ("latest send", "send_lag_max_us"),
    ("most errors in a second", "failed"),
    ("most dropped in a second", "dropped"),
)
_MIB: Final = 1 << 20
_LOOK: Final = FaultEvent.ROLLOUT_LOOK.value


def offset_cell(seconds: float) -> Cell:
    """A moment of the run in seconds from T0, to a tenth."""
    return Cell(text=f"{seconds:+,.1f} s", value=seconds)


def _level(profile: Profile) -> str:
    match profile:
        case Hold(level=level):
            return f"{level:,.6g}"
        case Ramp(start=start, end=end):
            return f"{start:,.6g} to {end:,.6g}"
        case Step(start=start, end=end, steps=steps):
            return f"{start:,.6g} to {end:,.6g} in {steps} steps"
        case Spike(base=base, peak=peak, peak_ns=peak_ns):
            return f"{base:,.6g}, peak {peak:,.6g} for {format_duration(peak_ns)}"
        case Sine(mean=mean, amplitude=amplitude, period_ns=period_ns):
            return f"{mean:,.6g} ± {amplitude:,.6g} every {format_duration(period_ns)}"


def stage_table(plan: Plan) -> Table:
    """The plan's stages: level in arrivals per second (open) or connections (closed)."""
    return Table(
        name="stages",
        title=f"Stages (level: {'arrivals/s' if plan.load_model.value == 'open' else 'users'})",
        columns=(
            text_column("stage"),
            number_column("from_s", "from T0"),
            number_column("length_s", "length"),
            text_column("level"),
            text_column("judged"),
        ),
        rows=tuple(
            (
                words(stage.name),
                offset_cell(stage.start_ns / NS_PER_S),
                Cell(
                    text=format_duration(stage.end_ns - stage.start_ns),
                    value=(stage.end_ns - stage.start_ns) / NS_PER_S,
                ),
                words(_level(stage.profile)),
                words("yes" if stage.is_judged else "no"),
            )
            for stage in plan.stages
        ),
    )


def event_table(run: Run) -> Table:
    """Everything that happened besides requests, numbered as in the figures."""
    t0_ns = run.manifest.t0_unix_ns or run.manifest.created_unix_ns
    looks = sum(event.kind == _LOOK for event in run.events)  # one every moment of a rollout
    others = f"; {looks} looks at a rollout are in the file alone" if looks else ""
    numbers = f"the number is the line of events.jsonl and the mark in the figures{others}"
    return Table(
        name="events",
        title=f"Events ({numbers})",
        columns=(
            number_column("line", "no."),
            number_column("at_s", "from T0"),
            whole_column("at", "UTC"),
            text_column("kind"),
            text_column("who"),
            text_column("what"),
        ),
        rows=tuple(
            (
                count_cell(number),
                offset_cell((event.at_unix_ns - t0_ns) / NS_PER_S),
                words(utc(event.at_unix_ns)),
                words(event.kind),
                words(event.who),
                words(event.text),
            )
            for number, event in enumerate(run.events, start=1)
            if event.kind != _LOOK
        ),
    )


def _engine_rows(run: Run) -> Iterator[Row]:
    sums = run.manifest.engine_sums
    finals = {engine.engine: "yes" if engine.has_final else "no" for engine in sums}
    for engine, rows in run.engines.groupby("engine", observed=True):
        live = rows[rows["wall_ns"] > 0]
        cpu = live["cpu_ns"] / live["wall_ns"]
        mean = float(live["cpu_ns"].sum() / live["wall_ns"].sum()) if len(live) else None
        highest = float(cpu.max()) if len(live) else None
        yield (
            words(str(engine)),
            count_cell(int(rows["window_s"].nunique())),
            Cell(text=ratio(mean), value=mean),
            Cell(text=ratio(highest), value=highest),
            latency_cell(float(rows["stalled_ns"].max()) / 1000),
            count_cell(int(rows["backlog"].max())),
            words(finals.get(str(engine), UNKNOWN)),
        )


def engine_table(run: Run) -> Table:
    """Each engine over the whole run; `FINAL`: whether it handed over its last sums."""
    return Table(
        name="engines",
        title="Engines (whole run; CPU of one core; stall: longest time its loop stood still)",
        columns=(
            text_column("engine"),
            number_column("windows", "seconds reported"),
            number_column("cpu_mean_ratio", "CPU mean"),
            number_column("cpu_max_ratio", "CPU max"),
            number_column("stalled_max_us", "longest stall"),
            number_column("backlog_max", "backlog max"),
            text_column("final", "FINAL"),
        ),
        rows=tuple(_engine_rows(run)),
    )


def _worker_row(agent: AgentFacts) -> Row:
    offset, trip = agent.clock_offset_ns, agent.round_trip_ns
    offset_text = UNKNOWN if offset is None else f"{offset / 1e6:+.3f} ms"
    uncertain = None if trip is None else trip / 2
    return (
        words(agent.agent),
        words(agent.host.hostname),
        count_cell(agent.host.cores),
        count_cell(agent.engines),
        Cell(text=offset_text, value=offset),
        Cell(text=UNKNOWN if uncertain is None else f"±{latency(uncertain)}", value=uncertain),
        words("yes" if agent.has_final else "no"),
        words(f"{agent.host.cpu_model}, {agent.host.kernel}, {agent.host.python}"),
        words("; ".join(agent.warnings)),
    )


def worker_table(run: Run) -> Table:
    """The agents: host, engines, and how far their clocks were from the master's."""
    return Table(
        name="workers",
        title="Workers (clock: against the master's, with half the best round trip)",
        columns=(
            text_column("worker"),
            text_column("host"),
            number_column("cores"),
            number_column("engines"),
            number_column("clock_offset_ns", "clock offset"),
            number_column("uncertain_ns", "uncertain by"),
            text_column("final", "FINAL"),
            text_column("machine"),
            text_column("warnings"),
        ),
        rows=tuple(map(_worker_row, run.manifest.agents)),
    )


def lost_table(run: Run) -> Table:
    """Stretches that were not handed over."""
    first_s = (run.manifest.t0_unix_ns or 0) / NS_PER_S
    return Table(
        name="lost_windows",
        title="Lost windows (not handed over; planned: arrivals of the plan in them)",
        columns=(
            text_column("who"),
            number_column("from_s", "from T0"),
            number_column("to_s", "to"),
            number_column("planned"),
        ),
        rows=tuple(
            (
                words(lost.who),
                offset_cell(lost.from_s - first_s),
                offset_cell(lost.to_s - first_s),
                count_cell(lost.planned),
            )
            for lost in run.manifest.lost_windows
        ),
    )


def _extreme_rows(run: Run) -> Iterator[Row]:
    names = [stage.name for stage in run.manifest.stages if stage.is_judged]
    is_judged = run.windows["judged"].to_numpy(dtype=bool)
    judged = run.windows[is_judged & run.windows["stage"].isin(names).to_numpy(dtype=bool)]
    first_s = (run.manifest.t0_unix_ns or 0) // NS_PER_S
    for what, column in _EXTREMES:
        values = judged[column].to_numpy(dtype=np.float64)
        if not values.size or np.isnan(values).all() or not np.nanmax(values) > 0:
            continue
        at = judged.index[int(np.nanargmax(values))]
        row: pd.Series = run.windows.loc[at]
        value = float(row[column])
        cell = latency_cell(value) if column.endswith("_us") else count_cell(int(value))
        place = (words(str(row[name])) for name in ("stage", "request", "node"))
        seconds = offset_cell(int(row["window_s"]) - first_s)
        yield (words(what), cell, seconds, *place, words(column), count_cell(int(at)))


def extreme_table(run: Run) -> Table:
    """The single worst rows of the judged windows, with their number in the file."""
    return Table(
        name="extremes",
        title="Worst single seconds (one request on one node; row: counted from 0)",
        columns=(
            text_column("what"),
            number_column("value"),
            number_column("at_s", "from T0"),
            text_column("stage"),
            text_column("request"),
            text_column("node"),
            text_column("column"),
            number_column("row"),
        ),
        rows=tuple(_extreme_rows(run)),
    )


def _facts(run: Run, plan: Plan) -> Iterator[tuple[str, str]]:
    manifest, host = run.manifest, run.manifest.host
    t0_ns, end_ns = manifest.t0_unix_ns, manifest.finished_unix_ns
    yield "run_id", manifest.run_id
    yield "scenario_name", manifest.scenario_name
    yield "description (plan)", plan.description
    yield "load_model", f"{manifest.load_model}, arrivals {plan.arrival_process.value}"
    yield "scale", f"{manifest.scale:.6g}"
    yield "seed", str(manifest.seed)
    yield "created_unix_ns", utc(manifest.created_unix_ns)
    yield "t0_unix_ns", "never started" if t0_ns is None else utc(t0_ns)
    yield "finished_unix_ns", UNKNOWN if end_ns is None else utc(end_ns)
    yield "outcome", f"{manifest.outcome.value} {manifest.outcome_reason}".strip()
    yield "nodes (plan)", ", ".join(f"{n.name} {n.scheme}://{n.authority}" for n in plan.nodes)
    yield "connections (plan)", f"{plan.all_connections:,}"
    yield "target_version", manifest.target_version or UNKNOWN
    yield "git_commit", manifest.git_commit or UNKNOWN
    yield "command", " ".join(manifest.command)
    yield "plan_sha256", manifest.plan_sha256
    yield "host", f"{host.hostname}, {host.cores} cores, {host.cpu_model}, {host.kernel}"
    yield "host.memory_bytes", f"{host.memory_bytes / _MIB:,.0f} MiB"
    yield "versions", ", ".join(f"{name} {v}" for name, v in sorted(manifest.versions.items()))
    yield "warnings", "; ".join(manifest.warnings) or "none"


def run_table(run: Run, plan: Plan) -> Table:
    """The manifest, one field a row."""
    return Table(
        name="run",
        title=f"The run ({MANIFEST_FILE})",
        columns=(text_column("field"), text_column("value")),
        rows=tuple((words(name), words(value)) for name, value in _facts(run, plan)),
    )


def file_table(run: Run) -> Table:
    """The archive's files, as their checksums were taken when the run ended."""
    sizes = run.manifest.sizes_bytes
    return Table(
        name="files",
        title="Files of the archive",
        columns=(text_column("file"), number_column("bytes"), text_column("sha256", "SHA-256")),
        rows=tuple(
            (
                words(name),
                count_cell(sizes[name]) if name in sizes else Cell(text=UNKNOWN, value=None),
                words(checksum),
            )
            for name, checksum in sorted(run.manifest.checksums.items())
        ),
    )
