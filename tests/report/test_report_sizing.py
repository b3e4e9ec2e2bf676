"""The hosts that a run's unscaled plan takes, by hand, from the archive's own rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from report_runs import facts_of
from synthetic_run import good_plan, good_traces, write_run

from analysis.figures import build_figures
from analysis.report.facts import build_facts
from analysis.report.layout import build_report
from analysis.report.markdown import to_markdown_page
from analysis.report.page import to_html
from analysis.report.sizing import sizing_table
from analysis.tables import Table, to_rows
from loadtests.plan.host_types import load_host_types
from loadtests.plan.model import LoadModel
from loadtests.record.archive import Run
from loadtests.record.window import Count, Window

TYPES = load_host_types(
    Path(__file__).resolve().parents[2] / "scenarios" / "costs" / "aws-hosts.toml"
)


def engines_at(cpu_ns_per_request: int, per_s: int) -> Callable[[Window], Window]:
    """Windows whose engines together take so much for each of so many requests a second."""

    def changed(window: Window) -> Window:
        each = cpu_ns_per_request * per_s // len(window.health)
        engines = tuple(msgspec.structs.replace(e, cpu_ns=each) for e in window.health)
        return dataclasses.replace(window, health=engines)

    return changed


def table_of(run: Run) -> Table | None:
    """The table of a run."""
    facts = facts_of(run)
    return sizing_table(run, facts.plan, build_figures(run), TYPES)


def test_hosts_are_of_the_unscaled_rate(tmp_path: Path) -> None:
    """100 times the rate of a run at 0.01, at the CPU time that its requests took."""
    plan = good_plan(scale=0.01)
    per_s = 500
    ms = 5_000_000  # of CPU for each: engines are busy
    run = write_run(tmp_path, plan, good_traces(plan), change_window=engines_at(ms, per_s))
    table = table_of(run)
    assert table is not None
    assert f"{per_s * 100:,}" in table.title
    first = to_rows(table)[0]
    needed = per_s * 100 * ms / 1e9 / 0.9
    low, _, high = str(first["engines"]).partition(" to ")
    assert int(low) == pytest.approx(needed, rel=0.02)
    assert int(high or low) == pytest.approx(needed, rel=0.02)
    assert first["type"] == TYPES.hosts[0].name


def test_idle_engines_give_an_upper_bound_and_say_so(tmp_path: Path) -> None:
    """A request costs more where a wake-up serves it alone."""
    run = write_run(tmp_path, change_window=engines_at(100_000, 500))
    table = table_of(run)
    assert table is not None
    assert "at most: engines were" in table.title


def test_closed_load_plans_no_rate(tmp_path: Path) -> None:
    """There is nothing to size for; nor without a file of host types."""
    run = write_run(tmp_path)
    facts = facts_of(run)
    closed = dataclasses.replace(facts.plan, load_model=LoadModel.CLOSED)
    assert sizing_table(run, closed, build_figures(run), TYPES) is None
    assert sizing_table(run, facts.plan, build_figures(run), None) is None


def test_the_report_has_it_in_both_forms(tmp_path: Path) -> None:
    """A section of its own, with its source."""
    run = write_run(tmp_path)
    report = build_report(build_facts(run, (), TYPES), ())
    for page in (to_html(report), to_markdown_page(report)):
        assert "Hosts for the unscaled plan" in page
        assert "c6i.4xlarge" in page
        assert "engines.parquet" in page
    assert Count.BYTES_SENT.name.lower() in to_markdown_page(report)
