"""Tables of failovers: what each fault cost, to whom, and how close that is known."""

from __future__ import annotations

from analysis.cells import count_cell, latency_cell, number_column, text_column
from analysis.recovery.measures import PartRecovery, Recoveries, Recovery
from analysis.recovery.writes import WriteAudit
from analysis.tables import Cell, Table, words
from analysis.text import UNKNOWN, latency, ratio
from loadtests.record.archive import Run

_NEVER = Cell(text="-", value=None)
_FROM_FIRST = "(from the first on)"


def _duration_cell(value_ns: int | None, otherwise: Cell = _NEVER) -> Cell:
    """A duration, in us for machines; one that did not happen is a dash."""
    return otherwise if value_ns is None else latency_cell(value_ns / 1000)


def _exact_cell(value_ns: int) -> Cell:
    """A total that may be nothing at all."""
    return Cell(text=latency(value_ns) if value_ns else "none", value=value_ns / 1000)


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
                Cell(text=ratio(recovery.budget_ratio), value=recovery.budget_ratio),
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


def _recovered_cell(part: PartRecovery) -> Cell:
    recovered = part.recovered
    if recovered is None:
        return Cell(text=UNKNOWN, value=None)
    if recovered.after_ns is not None:
        return _exact_cell(recovered.after_ns)
    is_open = recovered.tail_ns is not None
    return Cell(text="the run ended too soon" if is_open else "not recovered", value=None)


def recovery_table(recoveries: Recoveries) -> Table:
    """The failover measures of all requests, and of each protocol, request and node."""
    rows = []
    for recovery in _rows(recoveries):
        for part in recovery.parts:
            outage = part.outage
            rows.append(
                (
                    _name(recovery),
                    words(part.name if part.kind == "all" else f"{part.kind} {part.name}"),
                    _duration_cell(outage.first_bad_ns),
                    _duration_cell(outage.detected_ns),
                    _exact_cell(outage.unavailable_ns),
                    _exact_cell(outage.longest_ns),
                    _exact_cell(outage.blackout_ns),
                    _recovered_cell(part),
                    count_cell(outage.failed + outage.dropped),
                    Cell(text=UNKNOWN, value=None) if part.late is None else count_cell(part.late),
                    count_cell(outage.planned),
                    Cell(text=f"±{latency(part.resolution_ns)}", value=part.resolution_ns / 1000),
                )
            )
    limit_ns = recoveries.whole.whole.late_limit_ns
    late = "late" if limit_ns is None else f"late: ok after more than {latency(limit_ns)}"
    return Table(
        name="recovery",
        title="Failover, from the fault's acknowledged time "
        f"(bins of 100 ms; {late}; {recoveries.unknown} requests of the run unknown)",
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


def storm_table(recoveries: Recoveries) -> Table:
    """Connections lost and opened again."""
    rows = []
    for recovery in _rows(recoveries):
        storm = recovery.storm
        if storm is None:
            continue
        restored = Cell(text="none lost" if storm.is_restored else "not restored", value=None)
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


def write_tables(audit: WriteAudit | None) -> tuple[Table, ...]:
    """What became of the writes, with examples; none of a run without an audit."""
    if audit is None:
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


def recovery_tables(run: Run, recoveries: Recoveries | None) -> tuple[Table, ...]:
    """None of a run without faults."""
    if recoveries is None:
        return ()
    return (
        fault_table(run, recoveries), recovery_table(recoveries), storm_table(recoveries),
    )  # fmt: skip
