"""The report's section on the target: server and client on one axis, and who was first."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import numpy as np
from server_rows import beside, plan_with, rows_of, scraping
from synthetic_run import T0_S, good_traces, write_run

from analysis.report.facts import build_facts
from analysis.report.layout import build_report
from analysis.report.markdown import to_markdown_page
from analysis.report.page import to_html
from analysis.report.pictures import draw_pictures
from analysis.report.resources import by_second
from analysis.server_side.series import build_server_side
from loadtests.plan.model import Plan
from loadtests.record.archive import Run
from loadtests.record.server import ServerRow

HOSTILE = '</svg><script>alert(1)</script>"=cmd'


def run_of(folder: Path, plan: Plan, rows: list[ServerRow]) -> Run:
    """An archive that the report can read its histograms of, beside these scrapes."""
    return beside(write_run(folder, plan, good_traces(plan)), plan, rows)


def pages(run: Run) -> tuple[str, str, dict[str, str]]:
    """HTML, Markdown, and the captions of figures by name."""
    facts = build_facts(run, ())
    pictures = tuple(draw_pictures(facts))
    report = build_report(facts, pictures)
    captions = {picture.name: picture.caption for picture in pictures}
    return to_html(report), to_markdown_page(report), captions


def test_server_and_client_share_an_axis(tmp_path: Path) -> None:
    """The figure says what saturated first, the tables with which evidence, all with sources."""
    plan = plan_with("server.cpu < 80 %", seconds=12)
    rows = rows_of(plan, lambda second, _node: 0.95 if second >= 6 else 0.4)
    page, text, captions = pages(run_of(tmp_path, plan, rows))
    assert captions["resources"].startswith("Server CPU saturated first. CPU of the busiest node")
    for document in (page, text):
        assert "Server side" in document
        assert "What saturated first" in document
        assert "server.parquet" in document
    assert 'aria-label="Server and client over time. Highest second: server CPU 95.0 %' in page


def test_a_value_stands_for_the_time_since_the_scrape_before(tmp_path: Path) -> None:
    """Every 5 s one; what was before the first and during a failed one is unknown."""
    plan = plan_with(seconds=18, every_s=5.0)
    rows = rows_of(plan, lambda second, _node: None if second == 10 else second / 100)
    side = build_server_side(run_of(tmp_path, plan, rows), plan)
    assert side is not None
    values = by_second(side.of("cpu")[0], T0_S, 20)
    assert np.isnan(values[0])
    assert values[1:6].tolist() == [0.05] * 5
    assert np.isnan(values[6:11]).all()
    assert values[11:16].tolist() == [0.15] * 5


def test_hostile_names_of_nodes_do_nothing(tmp_path: Path) -> None:
    """What a target, or a Prometheus server, calls its nodes is shown and not executed."""
    plan = plan_with("server.cpu < 80 %", seconds=12)
    plan = dataclasses.replace(plan, scraping=scraping(nodes=(HOSTILE, "n1")))
    rows = rows_of(plan, lambda *_: 0.95, nodes=(HOSTILE, "n1"))
    rows = [msgspec.structs.replace(row, series=HOSTILE) for row in rows]
    page, text, _ = pages(run_of(tmp_path, plan, rows))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "<script" not in text


def test_a_run_that_asked_for_nothing_has_no_such_section(tmp_path: Path) -> None:
    """No heading, no figure, no table."""
    page, _, captions = pages(write_run(tmp_path))
    assert "resources" not in captions
    assert "Server side" not in page
