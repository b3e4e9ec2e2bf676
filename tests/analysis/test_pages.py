"""Pages, JSON and verdict.json: golden files, terminals, hostile names, determinism."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from golden_files import PLACES, compare_golden
from rich.console import Console
from synthetic_run import S, Trace, good_plan, good_traces, host, with_objectives, write_run

from analysis.show import encode_verdict, show, to_json, write_verdict
from analysis.tables import Cell, Column, Table, to_markdown, to_rich
from analysis.verdict import judge
from loadtests.errors import HarnessError
from loadtests.record.archive import Run
from loadtests.record.manifest import LostWindow, Manifest, lost_requests_of

GOLDEN = Path(__file__).parent / "golden"
HOSTILE = "=cmd|' /C calc'!A0 [red]</script> \x1b[2J\u202e`|`"


def scaled_run(folder: Path) -> Run:
    """A scaled run that misses its error ratio, with too few samples for one percentile."""

    def change(trace: Trace) -> None:
        trace.fail(trace.stage * (trace.intended_ns // (10 * S) == 1) == 1, "status_503")

    plan = with_objectives(
        good_plan(scale=0.01), "p95 < 200 ms", "p99.9 < 1 s on submit", "error_ratio < 0.1 %",
        "throughput >= 500 rps",
    )  # fmt: skip
    traces = good_traces(plan)
    for trace in traces:
        change(trace)
    return write_run(folder, plan, traces)


def page(run: Run, width: int, *, is_terminal: bool = False) -> str:
    """What is printed on so many columns."""
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=is_terminal, highlight=False)
    console.print(show(run, judge(run)))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


@pytest.mark.parametrize("width", [120, 70])
def test_the_page_is_as_agreed(tmp_path: Path, width: int) -> None:
    """Verdict, reasons, warnings and tables, on a wide and on a narrow terminal."""
    compare_golden(GOLDEN, f"page-{width}.txt", page(scaled_run(tmp_path), width))


def test_the_json_is_as_agreed(tmp_path: Path) -> None:
    """Every table has its JSON, with null where there is no number to rely on."""
    run = scaled_run(tmp_path)
    data = msgspec.json.encode(to_json(run, judge(run)), order="sorted")
    compare_golden(GOLDEN, "run.json", msgspec.json.format(data, indent=2).decode() + "\n")


def test_what_a_lost_engine_left_open_is_shown(tmp_path: Path) -> None:
    """The total and the lost engine have their rows, on the page and as JSON."""

    def lose(manifest: Manifest) -> Manifest:
        first, second = manifest.engine_sums
        sums = msgspec.structs.replace(second.sums, ok=second.sums.ok - 2, in_flight_at_stop=2)
        engines = (first, msgspec.structs.replace(second, has_final=False, sums=sums))
        return msgspec.structs.replace(
            manifest,
            engine_sums=engines,
            lost_requests=lost_requests_of(engines),
            lost_windows=(LostWindow(who=second.engine, from_s=1, to_s=2, planned=41),),
        )

    run = write_run(tmp_path, change=lose)
    tables = to_json(run, judge(run))["tables"]
    assert isinstance(tables, dict)
    rows = tables["conservation"]
    assert isinstance(rows, list)
    keys = ("worker", "lost_in_flight", "lost_in_backlog", "lost_arrivals")
    seen = [tuple(row[key] for key in keys) for row in rows if isinstance(row, dict)]
    assert seen == [("total", 2, 0, 41), ("a1/1", 2, 0, 41)]
    line = next(line for line in page(run, 120).splitlines() if line.strip().startswith("a1/1"))
    assert line.split()[-3:] == ["2", "0", "41"]


def test_every_heading_of_a_scaled_run_says_so(tmp_path: Path) -> None:
    """Nobody can cut a table out of a scaled run's page that does not say it is scaled."""
    run = scaled_run(tmp_path)
    text = page(run, 120)
    titles = ["Objectives", "Rates", "Response time (", "Service time", "Coordinated", "Generator"]
    for title in titles:
        line = next(line for line in text.splitlines() if line.startswith(title))
        assert "SCALED x 0.01" in line, title


@pytest.mark.parametrize("width", [40, 70, 120, 200])
def test_no_number_is_broken_or_cut(tmp_path: Path, width: int) -> None:
    """Whatever the width, each latency stands whole on its line."""
    run = write_run(tmp_path)
    text = page(run, width)
    assert "30.0 ms" in text
    assert all(len(line) <= width for line in text.splitlines())


def test_a_terminal_has_colours_and_a_file_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Colour on a terminal, none in a file or with NO_COLOR."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    run = write_run(tmp_path)
    assert "\x1b[" in page(run, 120, is_terminal=True)
    assert "\x1b[" not in page(run, 120)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[1;32m" not in page(run, 120, is_terminal=True)


def hostile_run(folder: Path) -> Run:
    """Names that would act on a terminal, a page or a spreadsheet."""
    plan = good_plan()
    request = dataclasses.replace(plan.requests[0], name=HOSTILE)
    plan = dataclasses.replace(plan, scenario_name=HOSTILE, requests=(request, plan.requests[1]))
    traces = good_traces(plan)
    traces[0].fail(traces[0].request == 0, f"status_{HOSTILE}")
    return write_run(
        folder, plan, traces,
        change=lambda m: msgspec.structs.replace(m, target_version=HOSTILE, host=host()),
    )  # fmt: skip


def test_hostile_names_do_nothing_on_a_terminal(tmp_path: Path) -> None:
    """Control and bidirectional characters are made visible; markup is text."""
    text = page(hostile_run(tmp_path), 120)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "\\x1b[2J" in text.replace("\n", "")
    assert "[red]" in text


def test_hostile_names_do_nothing_in_markdown() -> None:
    """A name cannot open a cell, a tag or code in a Markdown table."""
    column = Column(key="name", header="Name", is_number=False)
    table = Table(
        name="t", title="t", columns=(column,), rows=((Cell(text=HOSTILE, value=HOSTILE),),)
    )
    row = to_markdown(table).splitlines()[2]
    assert row.count("|") - row.count("\\|") == 2
    assert "<" not in row
    assert "\\`" in row
    assert "\x1b" not in row


def test_a_table_keeps_every_cell_when_it_is_narrow() -> None:
    """On a narrow terminal rows become paragraphs with every value."""
    columns = tuple(Column(key=f"c{i}", header=f"h{i}", is_number=True) for i in range(9))
    row = tuple(Cell(text=f"{i}23456", value=i) for i in range(9))
    out = io.StringIO()
    Console(file=out, width=30).print(
        to_rich(Table(name="t", title="t", columns=columns, rows=(row,)))
    )
    assert all(cell.text in out.getvalue() for cell in row)


def test_verdict_json_is_written_in_one_step(tmp_path: Path) -> None:
    """verdict.json holds the verdict and leaves no other file behind."""
    run = write_run(tmp_path)
    before = set(run.path.iterdir())
    path = write_verdict(run.path, judge(run))
    assert set(run.path.iterdir()) - before == {path}
    document = json.loads(path.read_bytes())
    assert document["state"] == "PASS"
    assert document["run_id"] == run.manifest.run_id


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A verdict that cannot be stored is a harness error with the folder's name."""
    run = write_run(tmp_path)
    with pytest.raises(HarnessError, match="nowhere"):
        write_verdict(tmp_path / "nowhere", judge(run))


JUDGE = """
import sys
from pathlib import Path
from analysis.show import encode_verdict
from analysis.verdict import judge
from loadtests.record.archive import load_run
sys.stdout.buffer.write(encode_verdict(judge(load_run(Path(sys.argv[1])))))
"""


@pytest.mark.system
@pytest.mark.parametrize(
    "environment",
    PLACES,
    ids=lambda environment: environment["TZ"],
)
def test_the_same_archive_gives_the_same_verdict_anywhere(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """Time zone, locale and hash seed change no byte of the verdict."""
    run = scaled_run(tmp_path)
    judged = subprocess.run(
        [sys.executable, "-c", JUDGE, str(run.path)],
        env={**os.environ, **environment},
        capture_output=True,
        check=True,
    )
    assert judged.stdout == encode_verdict(judge(run))
