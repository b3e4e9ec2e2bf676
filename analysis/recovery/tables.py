"""Tables of failovers: what each fault cost, to whom, and how close that is known."""

from __future__ import annotations

from analysis.cells import count_cell, latency_cell, number_column, text_column, total_cell
from analysis.recovery.connections import Storm
from analysis.recovery.expected import prediction_table
from analysis.recovery.measures import PartRecovery, Recoveries, Recovery
from analysis.recovery.rollback_table import rollback_table
from analysis.recovery.writes import WriteAudit
from analysis.tables import Cell, Table, words
from analysis.text import UNKNOWN, latency, ratio
from analysis.unmeasured import Unmeasured
from loadtests.record.archive import Run

_NEVER = Cell(text="-", value=None)
_FROM_FIRST = "(from the first on)"


def _duration_cell(value_ns: int | None, otherwise: Cell = _NEVER) -> Cell:
    """A duration, in us for machines; one that did not happen is a dash."""
    return otherwise if value_ns is None else latency_cell(value_ns / 1000)


def _name(recovery: Recovery) -> Cell:
    return words(_FROM_FIRST if recovery.fault is None else recovery.fault.name)


def _rows(recoveries: Recoveries) -> list[Recovery]:
    """Every fault, and all of them together where there are several."""
    many = [recoveries.whole] if len(recoveries.faults) > 1 else []
    return [*recoveries.faults, *many]


def fault_table(run: Run, recoveries: Recoveries) -> Table:
    """What was done and when, whether there was downtime, and what it cost of the budget."""
    t0_ns = run.manifest.t0_unix_ns or 0
    rows = []
    for recovery in _rows(recoveries):
        fault, downtime = recovery.fault, recovery.downtime
        is_none = {True: "none", False: "yes", None: UNKNOWN}[downtime.is_none]
        slow = downtime.slow_seconds
        rows.append(
            (
                _name(recovery),
                words("" if fault is None else fault.action),
                words("" if fault is None else ", ".join(fault.nodes)),
                _NEVER if fault is None else latency_cell((fault.at_ns - t0_ns) / 1000),
                _NEVER
                if fault is None or fault.gone_ns is None
                else latency_cell((fault.gone_ns - t0_ns) / 1000),
                words(is_none),
                count_cell(downtime.failed),
                count_cell(downtime.failed_seconds),
                Cell(text=UNKNOWN if slow is None else f"{slow}", value=slow),
                _budget_cell(recovery.budget_ratio),
            )
        )
    return Table(
        name="faults",
        title="Faults (times from T0; downtime: a failed request, or a second out of its limits)",
        columns=(
            text_column("fault"),
            text_column("action"),
            text_column("nodes"),
            number_column("at_us", "at"),
            number_column("gone_us", "gone at"),
            text_column("downtime"),
            number_column("failed"),
            number_column("failed_seconds", "s with success < 99.9 %"),
            number_column("slow_seconds", "s with p99 too late"),
            number_column("budget_ratio", "error budget"),
        ),
        rows=tuple(rows),
    )


def _budget_cell(budget_ratio: float | None) -> Cell:
    return Cell(text="no slo" if budget_ratio is None else ratio(budget_ratio), value=budget_ratio)


def _recovered_cell(part: PartRecovery) -> Cell:
    recovered = part.recovered
    if recovered is None:
        return Cell(text=UNKNOWN, value=None)
    if recovered.after_ns is not None:
        text = latency(recovered.after_ns) if recovered.after_ns else "at once"
        return Cell(text=text, value=recovered.after_ns / 1000)
    is_open = recovered.tail_ns is not None
    return Cell(text="the run ended too soon" if is_open else "not recovered", value=None)


def _felt(recovery: Recovery) -> list[PartRecovery]:
    """All requests, and the parts, unless none of them felt anything."""
    parts = recovery.parts
    is_felt = any(
        part.outage.stretches or part.outage.failed or part.outage.dropped or part.late
        for part in parts
    )
    return [*parts] if is_felt else [recovery.whole]


def recovery_table(recoveries: Recoveries) -> Table:
    """The failover measures of all requests, and of each protocol, request and node."""
    rows = []
    for recovery in _rows(recoveries):
        for part in _felt(recovery):
            outage = part.outage
            rows.append(
                (
                    _name(recovery),
                    words(part.name if part.kind == "all" else f"{part.kind} {part.name}"),
                    _duration_cell(outage.first_bad_ns),
                    _duration_cell(outage.detected_ns),
                    total_cell(outage.unavailable_ns),
                    total_cell(outage.longest_ns),
                    total_cell(outage.blackout_ns),
                    _recovered_cell(part),
                    count_cell(outage.failed + outage.dropped),
                    Cell(text=UNKNOWN, value=None) if part.late is None else count_cell(part.late),
                    count_cell(outage.planned),
                    Cell(text=f"±{latency(part.resolution_ns)}", value=part.resolution_ns / 1000),
                )
            )
    limit_ns = recoveries.whole.whole.late_limit_ns
    late = "" if limit_ns is None else f"late: ok after more than {latency(limit_ns)}; "
    return Table(
        name="recovery",
        title="Failover, from the fault's acknowledged time "
        f"(bins of 100 ms; {late}{recoveries.unknown} requests of the run unknown)",
        columns=(
            text_column("fault"),
            text_column("of"),
            number_column("first_bad_us", "first bad"),
            number_column("detected_us", "detected"),
            number_column("unavailable_us", "unavailable"),
            number_column("longest_us", "longest"),
            number_column("blackout_us", "blackout"),
            number_column("recovered_us", "recovered after"),
            number_column("failed"),
            number_column("late"),
            number_column("planned"),
            number_column("resolution_us", "resolution"),
        ),
        rows=tuple(rows),
    )


def _unbroken(storm: Storm) -> str:
    """Where no time can be told until all were back."""
    if not storm.is_restored:
        return "not restored"
    # Opened again before the bin that lost them was over.
    return "at once" if storm.connects else "none lost"


def storm_table(recoveries: Recoveries) -> Table:
    """Connections lost and opened again."""
    rows = []
    for recovery in _rows(recoveries):
        storm = recovery.storm
        if storm is None:
            continue
        restored = Cell(text=_unbroken(storm), value=None)
        rows.append(
            (
                _name(recovery),
                count_cell(storm.before),
                count_cell(storm.fewest),
                count_cell(storm.connects),
                count_cell(storm.failures),
                count_cell(storm.highest_per_s),
                _duration_cell(storm.restored_ns, restored),
            )
        )
    return Table(
        name="connection_storm",
        title="Connections after a fault (attempts in the busiest second; ±100 ms)",
        columns=(
            text_column("fault"),
            number_column("before"),
            number_column("fewest"),
            number_column("connects", "opened"),
            number_column("failures", "refused"),
            number_column("highest_per_s", "attempts/s"),
            number_column("restored_us", "all back after"),
        ),
        rows=tuple(rows),
    )


def write_tables(audit: WriteAudit | Unmeasured) -> tuple[Table, ...]:
    """What became of the writes, with examples; none of a run without an audit."""
    if isinstance(audit, Unmeasured):
        return ()
    findings = {
        "lost (acknowledged, absent)": audit.lost,
        "resurrected (refused, present)": audit.resurrected,
        "duplicated (present twice)": audit.duplicated,
    }
    rows = [
        (words(text), count_cell(found.number), words(", ".join(found.examples)))
        for text, found in findings.items()
    ]
    others = {
        "acknowledged": audit.acknowledged,
        "refused": audit.refused,
        "unknown to their client": audit.unknown,
        "of these, present": audit.unknown_present,
        "not read back": audit.unread,
    }
    rows += [(words(text), count_cell(number), words("")) for text, number in others.items()]
    return (
        Table(
            name="writes",
            title="Audit of writes, read back over another node",
            columns=(text_column("writes"), number_column("number"), text_column("examples")),
            rows=tuple(rows),
        ),
    )


def recovery_tables(run: Run, recoveries: Recoveries | Unmeasured) -> tuple[Table, ...]:
    """None of a run without faults."""
    if isinstance(recoveries, Unmeasured):
        return ()
    rollback = () if recoveries.rollback is None else (rollback_table(run, recoveries.rollback),)
    return (
        fault_table(run, recoveries), prediction_table(run, recoveries),
        recovery_table(recoveries), *rollback, storm_table(recoveries),
    )  # fmt: skip
