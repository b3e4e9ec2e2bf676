"""Failovers on the pages that are kept: the hardening table, and the report's time axis."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from binned_run import FAULT_NS, applied, binned_run
from synthetic_run import RUN_ID, T0_S, S

from analysis.baselines import list_baselines, promote
from analysis.report.timeline import build_timeline
from analysis.report.writing import write_report
from analysis.verdict import judge
from loadtests.record.fault_events import FaultEvent


def test_a_failover_stands_in_the_hardening_table_and_in_no_other(tmp_path: Path) -> None:
    """Date, scenario, expected, actual, status and run id: one row for each objective."""
    run = binned_run(tmp_path, "time_to_recover < 300 s", "downtime == none", outage_s=2.0)
    promote(run, judge(run), tmp_path)
    (baseline,) = list_baselines(tmp_path)
    assert [(row.expected, row.status) for row in baseline.hardening] == [
        ("time_to_recover < 300 s", "PASS"),
        ("downtime == none", "FAIL"),
    ]
    page = (tmp_path / "BASELINES.md").read_text(encoding="utf-8")
    before, _, after = page.partition("## Hardening scenarios")
    assert RUN_ID not in before
    (row,) = [line for line in after.split("\n") if "300 s" in line]
    assert row.startswith("| 2026-")
    assert "| PASS |" in row
    assert RUN_ID in row


def test_the_report_of_a_failover_is_written(tmp_path: Path) -> None:
    """What is judged once a run belongs to no stage, and has no interval."""
    run = binned_run(tmp_path / "run", "time_to_recover < 300 s", "lost_writes == 0", outage_s=2.0)
    written = write_report(run, (), tmp_path / "report")
    assert {path.name for path in written} == {"report.html", "report.md"}
    text = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert "time_to_recover &lt; 300 s" in text or "time_to_recover < 300 s" in text


def test_the_time_axis_has_a_band_for_each_fault_in_force(tmp_path: Path) -> None:
    """From its acknowledged time until it was gone; to the end where it was not undone."""
    gone = dataclasses.replace(applied(FAULT_NS + 5 * S), kind=FaultEvent.GONE)
    undone = binned_run(tmp_path / "a", faults=(applied(FAULT_NS), gone))
    (band,) = build_timeline(undone, T0_S, 60).faults
    assert (band.start_s, band.end_s) == pytest.approx((7.03, 12.03), abs=1e-5)
    left = dataclasses.replace(undone, events=undone.events[:1])
    (band,) = build_timeline(left, T0_S, 60).faults
    assert band.end_s == 60
