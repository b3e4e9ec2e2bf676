"""The order of a report: sections with their tables and figures, the same for every format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from analysis.judging import State
from analysis.report.facts import ReportFacts
from analysis.report.plots.canvas import Picture
from analysis.report.source import Source, source_of
from analysis.tables import Table
from analysis.text import scale_text, start_text
from loadtests.record.directory import is_being_written
from loadtests.record.manifest import Outcome

_MOST_REASONS: Final = 8
MOST_ROWS: Final = 300  # of one table: a thousand endpoints do not fit a page


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A table that is shown: at most `MOST_ROWS` of its rows, and how many it leaves out."""

    table: Table
    source: Source
    left_out: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A section of the report; `note` is a sentence before its contents."""

    anchor: str
    name: str
    title: str  # the name, with the mark of a scaled run
    note: str
    parts: tuple[Part, ...]
    pictures: tuple[Picture, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that is laid out."""

    state: str
    scenario: str
    run_id: str
    lines: tuple[str, ...]  # what kind of run it was
    warning: str  # why its verdict is of less than the whole; "" for a whole, unscaled run
    why: tuple[str, ...]
    besides: tuple[str, ...]
    warnings: tuple[str, ...]
    sections: tuple[Section, ...]
    scenario_text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    anchor: str
    title: str
    note: str
    tables: tuple[str, ...]
    pictures: tuple[str, ...] = ()


_PLACES: Final = (
    _Place(anchor="objectives", title="Objectives", note="", tables=("objectives",)),
    _Place(
        anchor="requirement", title="Requirement and alert levels", note="",
        tables=("requirement", "alerts"),
    ),
    _Place(
        anchor="load", title="Load and outcomes", note="",
        tables=("stages", "rates", "outcomes", "errors"),
        pictures=("rate", "trouble", "in_flight", "throughput"),
    ),
    _Place(
        anchor="latency", title="Latency",
        note="Response time counts from the intended start and is what objectives judge; service "
        "time counts from the sending; their difference is what closed-loop tools do not see "
        "(coordinated omission). Percentiles come from merged histograms, never averaged.",
        tables=(
            "response_time", "baseline", "service_time", "coordinated_omission_gap",
            "failed_response_time", "streaming_calls",
        ),
        pictures=("response", "heat_map", "spectrum", "gap"),
    ),
    _Place(
        anchor="generator", title="Generator health",
        note="Whether the generator, and not the target, was the limit.",
        tables=(
            "generator", "stream_pool", "engines", "workers", "lost_windows", "conservation",
        ),
        pictures=("send_lag", "cpu"),
    ),
    _Place(
        anchor="hosts", title="Hosts",
        note="By what a request took of the engines here; prices and bandwidths are of the file "
        "of host types. The fewest hosts have an engine on every core, the most leave one core "
        "of each to the agent and the kernel. Packets a second and TLS are not in it.",
        tables=("hosts",),
    ),
    _Place(
        anchor="server", title="Server side", note="",
        tables=("saturation", "server", "failed_scrapes"), pictures=("resources",),
    ),
    _Place(
        anchor="failover", title="Failover", note="",
        tables=(
            "faults", "predictions", "recovery", "rollout", "connection_storm", "writes",
        ),
    ),
    _Place(anchor="events", title="Events", note="", tables=("events",)),
    _Place(anchor="worst", title="Worst seconds", note="", tables=("extremes",)),
    _Place(anchor="manifest", title="Manifest", note="", tables=("run", "files")),
)  # fmt: skip
_OTHERS: Final = _Place(anchor="further", title="Further tables", note="", tables=())


def _part(table: Table, facts: ReportFacts) -> Part:
    rows = table.rows[:MOST_ROWS]
    return Part(
        table=Table(name=table.name, title=table.title, columns=table.columns, rows=rows),
        source=source_of(table.name, facts.run),
        left_out=len(table.rows) - len(rows),
    )


def _sections(facts: ReportFacts, pictures: Sequence[Picture]) -> tuple[Section, ...]:
    tables = {table.name: table for table in facts.tables}
    drawn = {picture.name: picture for picture in pictures}
    placed = {name for place in _PLACES for name in place.tables}
    others = tuple(name for name in tables if name not in placed)
    further = _Place(anchor=_OTHERS.anchor, title=_OTHERS.title, note=_OTHERS.note, tables=others)
    sections = (
        Section(
            anchor=place.anchor,
            name=place.title,
            title=f"{place.title}{facts.mark}",
            note="; ".join(facts.saturation) if place.anchor == "server" else place.note,
            parts=tuple(_part(tables[name], facts) for name in place.tables if name in tables),
            pictures=tuple(drawn[name] for name in place.pictures if name in drawn),
        )
        for place in (*_PLACES[:-1], further, _PLACES[-1])
    )
    return tuple(section for section in sections if section.parts or section.pictures)


def _lines(facts: ReportFacts) -> tuple[str, ...]:
    manifest, verdict = facts.run.manifest, facts.verdict
    load = f"{verdict.load_model} load"
    if verdict.load_percent is not None:
        load = f"{load}, {verdict.load_percent:g} % of its baseline"
    nodes = ", ".join(f"{n.scheme}://{n.authority}" for n in facts.plan.nodes)
    version = f", version {manifest.target_version}" if manifest.target_version else ""
    started = start_text(manifest.t0_unix_ns, manifest.created_unix_ns)
    end = manifest.outcome.value + (f": {manifest.outcome_reason}" * bool(manifest.outcome_reason))
    return (
        f"{started[:1].upper()}{started[1:]}, {load}",
        f"Target {nodes}{version}",
        f"Ended {end}",
    )


def _warning(facts: ReportFacts) -> str:
    parts = []
    if mark := scale_text(facts.verdict.scale):
        parts.append(f"{mark}: this does not show that the full target is met.")
    if not facts.run.is_complete:
        parts.append(f"Not a complete archive: {'; '.join(facts.run.findings)}.")
    elif facts.verdict.outcome is not Outcome.COMPLETE:
        parts.append(f"The run was {facts.verdict.outcome.value}: it did not reach its end.")
    if is_being_written(facts.run.path):
        parts.append("It is still being written: this is a view of the moment.")
    return " ".join(parts)


def _why(facts: ReportFacts) -> tuple[str, ...]:
    """The reasons; of many the first, for the table of objectives has them all."""
    reasons = facts.verdict.reasons
    if len(reasons) > _MOST_REASONS:
        more = len(reasons) - _MOST_REASONS
        return (*reasons[:_MOST_REASONS], f"and {more} more, in the table of objectives")
    number = len(facts.verdict.objectives)
    held = f"all {number} objectives of the judged stages hold, each with enough samples"
    return (held,) if facts.verdict.state is State.PASS else reasons


def build_report(facts: ReportFacts, pictures: Sequence[Picture]) -> Report:
    """Put facts and figures in order."""
    verdict = facts.verdict
    has_begun = facts.run.manifest.t0_unix_ns is not None
    return Report(
        state=verdict.state.value,
        scenario=verdict.scenario,
        run_id=verdict.run_id,
        lines=_lines(facts),
        warning=_warning(facts),
        # Nothing was sent: what else is missing follows from the first reason.
        why=_why(facts) if has_begun else verdict.reasons[:1],
        besides=verdict.notes,
        warnings=tuple(str(finding) for finding in verdict.findings if not finding.is_invalid),
        sections=_sections(facts, pictures),
        scenario_text=facts.run.manifest.scenario_text,
    )
