"""The table of a rollout: what was moved, why it went back, and the criteria of a rollback."""

from __future__ import annotations

from analysis.cells import count_cell, latency_cell, text_column, total_cell
from analysis.recovery.rollback import Rollback
from analysis.tables import Cell, Table, words
from analysis.text import UNKNOWN, ratio
from loadtests.record.archive import Run


def _duration_cell(value_ns: int | None) -> Cell:
    """In us for machines; what did not happen is not known."""
    return latency_cell(None if value_ns is None else value_ns / 1000)


def rollback_table(run: Run, rollback: Rollback) -> Table:
    """What a rollout came to, the requirement's criteria among it."""
    t0_ns, restored, green = run.manifest.t0_unix_ns or 0, rollback.restored, rollback.green_ns
    decided_ns = None if rollback.decided_ns is None else rollback.decided_ns - t0_ns
    moved = ", ".join(ratio(share) for share in rollback.phases)
    never = Cell(text=UNKNOWN, value=None)
    rows = [
        (words("traffic of the new version"), words(moved or "none")),
        (words("held in every phase"), words("yes" if rollback.is_passed else "no")),
        (words("rolled back at (from T0)"), _duration_cell(decided_ns)),
        (words("because"), words(rollback.reason or "-")),
        (words("decision to traffic off"), _duration_cell(rollback.off_ns)),
        (
            words("decision to all green"),
            latency_cell(None) if green is None else total_cell(green),
        ),
        (
            words("previous version stable: relapses"),
            never if rollback.relapses is None else count_cell(rollback.relapses),
        ),
        (
            words("metrics restored: p95 before"),
            never if restored is None else latency_cell(restored.before_ns / 1000),
        ),
        (
            words("metrics restored: p95 after"),
            never if restored is None else latency_cell(restored.after_ns / 1000),
        ),
        (
            words("cascading failures: nodes that went down"),
            words(", ".join(rollback.went_down) or "none"),
        ),
        (words("times that nothing was known"), count_cell(rollback.gaps)),
    ]
    return Table(
        name="rollout",
        title="Rollout, and the way back (requirement, section 10)",
        columns=(text_column("what"), text_column("value")),
        rows=tuple(rows),
    )
