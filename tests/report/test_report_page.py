"""What a report says: verdict first, sources, nothing active, the same bytes every time."""

from __future__ import annotations

import dataclasses
import html.parser
import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from golden_files import PLACES, compare_golden
from report_runs import (
    eventful_plan,
    eventful_run,
    eventful_traces,
    facts_of,
    laid_out,
    lossy,
    short_plan,
    texts_of,
    write_events,
)
from synthetic_run import S, good_plan, good_traces, manifest_of, with_objectives, write_run
from test_stream_tables import with_messages, with_streams

from analysis import run_tables
from analysis.baselines import list_baselines, promote
from analysis.report.facts import ReportFacts, build_facts
from analysis.report.index import to_index
from analysis.report.layout import _PLACES, MOST_ROWS, _part
from analysis.report.page import scenario_lines
from analysis.report.source import SOURCES
from analysis.report.writing import write_report
from analysis.tables import Table, words
from analysis.verdict import judge
from loadtests.errors import HarnessError
from loadtests.plan.codec import encode_plan
from loadtests.plan.model import Hold, LoadModel, Stage
from loadtests.record.archive import Manifest, Run, create_archive, list_runs, load_run, verify
from loadtests.record.checksums import read_checksums
from loadtests.record.manifest import Outcome
from loadtests.record.window import Window

TABLES = re.compile(
    r"analysis\.(stage_tables|stream_tables|worker_table|(recovery|server_side)\.tables)"
)
GOLDEN = Path(__file__).parent / "golden"
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "=cmd|' /C calc'!A0",
    "\x1b[2J\u202e\u200b\x00",
    "]]> --> </svg></style>",
    "{{ 7 * 191 }}{% raw %}",
    "](javascript:alert(1)) http://evil.example/ www.evil.example",
    "`| | a | b |`",
    r"$\frac{1}{0}$ $",
    "\u4e2d\u6587 #010101 fill: #010101",
)


@dataclasses.dataclass(slots=True, kw_only=True)
class Markup(html.parser.HTMLParser):
    """The tags, attributes and texts of a page."""

    tags: list[str] = dataclasses.field(default_factory=list)
    attributes: list[tuple[str, str, str]] = dataclasses.field(default_factory=list)
    texts: list[str] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        html.parser.HTMLParser.__init__(self)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep it."""
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        """Keep it."""
        self.texts.append(data)


def parsed(page: str) -> Markup:
    """A page taken apart."""
    markup = Markup()
    markup.feed(page)
    markup.close()
    return markup


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two stages, a fault, errors."""
    return eventful_run(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def facts(run: Run) -> ReportFacts:
    """What is reported of it."""
    return facts_of(run)


@pytest.fixture(scope="module")
def texts(facts: ReportFacts) -> tuple[str, str]:
    """Its page and its Markdown."""
    return laid_out(facts)


def test_the_markdown_is_as_agreed(texts: tuple[str, str]) -> None:
    """The whole text, verdict first, each table with its source; sums and sizes left out."""
    text = re.sub(r"\b[0-9a-f]{64}\b", "SHA-256", texts[1])
    compare_golden(
        GOLDEN, "report.md", re.sub(r"(?m)^(\| [a-z.]+ \| )[\d,]+( \| SHA-256 \|)$", r"\1-\2", text)
    )


def test_the_page_begins_with_the_verdict(texts: tuple[str, str]) -> None:
    """Heading, state and reasons come before any table."""
    page = texts[0]
    begin, end = page.index("<body>"), page.index('<h2 id="objectives">')
    compare_golden(GOLDEN, "report-head.html", page[begin:end])
    assert page.index("FAIL") < page.index("<table>")


def test_the_page_loads_nothing_and_runs_nothing(texts: tuple[str, str]) -> None:
    """No script, no handler, no address but anchors and embedded pictures; below 5 MB."""
    page = texts[0]
    markup = parsed(page)
    assert not {"script", "iframe", "object", "embed", "link", "base", "form"} & set(markup.tags)
    for tag, name, value in markup.attributes:
        assert not name.startswith("on"), (tag, name)
        if name in {"href", "src", "xlink:href", "action", "data", "poster", "srcset"}:
            assert value.startswith(("#", "data:image/png;base64,")), (tag, name, value[:80])
    addresses = re.findall(r"[a-z]+://[^\s<\"]*", page)
    assert all(address.startswith("http://127.0.0.1:") for address in addresses), addresses
    assert "url(" not in re.sub(r'clip-path="url\(#\w+\)"', "", page)
    assert "@import" not in page
    assert len(page.encode()) < 1_000_000


def test_every_table_and_figure_has_its_source(texts: tuple[str, str]) -> None:
    """A line with file, columns, rows below each of them."""
    markup = parsed(texts[0])
    shown = markup.tags.count("figure") + sum(
        value.startswith("table-") for _, name, value in markup.attributes if name == "id"
    )
    sources = sum(value == "source" for _, name, value in markup.attributes if name == "class")
    assert shown == sources
    assert markup.tags.count("figure") == 10


def test_ids_are_unique_and_links_lead_somewhere(texts: tuple[str, str]) -> None:
    """Figures in one page do not share the ids of their clip paths."""
    markup = parsed(texts[0])
    ids = [value for _, name, value in markup.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    links = {value[1:] for _, name, value in markup.attributes if name == "href"}
    assert links <= set(ids)
    clips = set(re.findall(r"url\(#(\w+)\)", texts[0]))
    assert clips <= set(ids)


def test_every_figure_is_said_in_words(texts: tuple[str, str]) -> None:
    """An SVG is a picture with a label."""
    labels = [value for tag, name, value in parsed(texts[0]).attributes
              if tag == "svg" and name == "aria-label"]  # fmt: skip
    assert len(labels) == 10
    assert all(len(label) > 30 for label in labels)


def hostile_run(folder: Path) -> Run:
    """Every name that a scenario, target or worker has a say in."""
    plan = eventful_plan()
    names = [*HOSTILE, "x" * 10_240]
    base = plan.requests[0]
    requests = tuple(
        dataclasses.replace(base, name=f"{name} {at}", weight=1.0) for at, name in enumerate(names)
    )
    stages = tuple(
        Stage(name=f"{name} {at}", start_ns=at * S, end_ns=(at + 1) * S, is_judged=True,
              profile=Hold(level=110.0))
        for at, name in enumerate(names)
    )  # fmt: skip
    joined = " ".join(HOSTILE)
    plan = dataclasses.replace(
        plan, scenario_name=joined, scenario_text=joined * 50 + "\n```\n````", requests=requests,
        stages=stages, description=joined,
    )  # fmt: skip
    plan = with_objectives(plan, "p95 < 200 ms")
    traces = good_traces(plan)
    for trace in traces:
        trace.fail(trace.intended_ns % 7 == 0, f"status_{HOSTILE[0]}")
    events = [(at, name, name, name * 3) for at, name in enumerate(HOSTILE)]

    def change(manifest: Manifest) -> Manifest:
        return msgspec.structs.replace(
            manifest, target_version=joined, outcome_reason=joined, warnings=(joined,),
            command=HOSTILE,
        )  # fmt: skip

    return load_run(write_events(folder, plan, traces, events=events, change=change))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Page and Markdown of a run of hostile names."""
    return texts_of(hostile_run(tmp_path_factory.mktemp("results")))


def test_hostile_names_are_text_on_a_page(hostile: tuple[str, str]) -> None:
    """No tag, attribute, template or control character of theirs is live, in tables or figures."""
    page = hostile[0]
    markup = parsed(page)
    assert not {"script", "img"} & set(markup.tags)
    assert not [a for a in markup.attributes if a[1].startswith("on") or "javascript" in a[2][:20]]
    assert "1337" not in page
    assert "{{ 7 * 191 }}" in page
    assert not set("\x00\x1b\u202e\u200b") & set(page)
    assert "\\x1b[2J\\u202e" in page
    assert "<script>alert(1)" in " ".join(markup.texts)
    assert "x" * 301 not in page
    assert page.count("<style>") == page.count("</style>") == 1
    assert len(page.encode()) < 5_000_000


def test_mathematics_in_a_name_is_not_set(hostile: tuple[str, str]) -> None:
    """`$` is a dollar: the text of a figure is the name."""
    figures = re.findall(r"<svg.*?</svg>", hostile[0], re.DOTALL)
    texts = [text for figure in figures for text in re.findall(r">([^<>]+)</text>", figure)]
    assert any(text.startswith(r"$\frac{1}{0}$") for text in texts)
    assert any(text.startswith("\u4e2d\u6587 #010101") for text in texts)


def test_hostile_names_are_text_in_markdown(hostile: tuple[str, str]) -> None:
    """Each table keeps its cells, there is no HTML, no link, and the scenario stays fenced."""
    text = hostile[1]
    fence = re.search(r"^(`{3,})toml$", text, re.MULTILINE)
    assert fence is not None
    before, _, after = text.partition(fence[0])
    inside, _, behind = after.partition(f"\n{fence[1]}\n")
    assert len(fence[1]) > 4
    assert "\n```\n" in inside
    outside = before + behind
    assert "<" not in outside
    assert not set("\x00\x1b\u202e\u200b") & set(text)
    assert not re.search(r"(?<!\\)\]\(", outside)
    assert "http://" not in outside
    assert "www.evil" not in outside
    widths = set[int]()
    for line in outside.splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line))
        if not line.startswith("|"):
            widths.clear()
            continue
        widths.add(cells)
        assert len(widths) == 1, line


def test_a_scaled_run_says_so_in_every_heading(tmp_path: Path) -> None:
    """Whatever is cut out of the page says that it is scaled."""
    page, text = texts_of(write_run(tmp_path, good_plan(scale=0.01)))
    headings = re.findall(r"<h[23][^>]*>(.*?)</h[23]>", page)
    own = {"Where each number comes from", "To compute them again",
           "The scenario, as it was written"}  # fmt: skip
    assert [h for h in headings if "SCALED x 0.01" not in h and h not in own] == []
    assert len(headings) > 20
    assert "does not show that the full target is met" in page
    assert not re.search(r"> (✓ )?met</span>", page)
    rows = [line for line in text.splitlines() if "| REST |" in line]
    assert rows
    assert all("| not shown |" in row for row in rows)


def test_a_lost_window_and_an_abort_are_told(tmp_path: Path) -> None:
    """What was lost is shaded and listed; the end is in the warning."""

    def change(manifest: Manifest) -> Manifest:
        return msgspec.structs.replace(
            lossy(manifest), outcome=Outcome.ABORTED, outcome_reason="SIGINT by its user"
        )

    plan = short_plan()
    path = write_events(tmp_path, plan, eventful_traces(plan), change=change)
    page, _ = texts_of(load_run(path))
    assert "The run was aborted: it did not reach its end." in page
    assert "SIGINT by its user" in page
    assert "Lost windows (not handed over" in page
    assert "Shaded in the colour of errors: lost windows." in page
    assert "INCONCLUSIVE" in page


def test_a_partial_run_names_its_journal(tmp_path: Path) -> None:
    """A run that died is reported from what it handed over, and every source says from where."""
    plan = short_plan()
    path = write_events(tmp_path, plan, eventful_traces(plan), is_finished=False)
    page, text = texts_of(load_run(path))
    assert "Not a complete archive" in page
    assert "Source: journal.bin: planned, sent, ok" in page
    assert "windows.parquet:" not in text
    assert page.count("<figure") == 10


def test_a_run_that_never_started_has_one_reason_and_no_figure(tmp_path: Path) -> None:
    """Nothing was measured, so nothing is drawn, and no target is said to be anything."""
    plan = good_plan()
    manifest = msgspec.structs.replace(
        manifest_of(plan, []), t0_unix_ns=None, outcome=Outcome.ABORTED, agents=(),
        engine_sums=(), total_sums=None, outcome_reason="nobody came",
    )  # fmt: skip
    draft = msgspec.structs.replace(manifest, outcome=Outcome.RUNNING)
    writer = create_archive(tmp_path, draft, encode_plan(plan))
    page, _ = texts_of(load_run(writer.finish(manifest)))
    assert "<figure" not in page
    assert "nobody came" in page
    assert "INCONCLUSIVE" in page
    assert page.count("<li>completeness") == 1


def test_a_run_without_an_answer_has_no_latency(tmp_path: Path) -> None:
    """Zero data is INCONCLUSIVE or FAIL, never a curve."""
    plan = good_plan()
    traces = good_traces(plan)
    for trace in traces:
        trace.fail(trace.intended_ns >= 0, "connect_refused")
    page, text = texts_of(write_run(tmp_path, plan, traces))
    assert 'id="figure-heat_map"' not in page
    assert 'id="figure-spectrum"' not in page
    assert 'id="figure-trouble"' in page
    assert "✓ PASS" not in page
    assert text.startswith("# FAIL")


def test_closed_load_says_that_stalls_are_under_counted(tmp_path: Path) -> None:
    """The table's title says it, and no target of the requirement is met."""
    page, text = texts_of(write_run(tmp_path, good_plan(load_model=LoadModel.CLOSED)))
    assert "closed load: equals service time, stalls are under-counted" in page
    rows = [line for line in text.splitlines() if "| REST |" in line]
    assert all("| not shown | closed load: stalls are under-counted |" in row for row in rows)


def test_a_long_table_is_cut_and_says_so(facts: ReportFacts) -> None:
    """A thousand endpoints do not fit a page; what is left out is counted."""
    row = (words("x"),)
    table = Table(name="errors", title="t", columns=(), rows=(row,) * 1000)
    part = _part(table, facts)
    assert len(part.table.rows) == MOST_ROWS
    assert part.left_out == 1000 - MOST_ROWS


def test_the_report_is_listed_and_breaks_no_archive(tmp_path: Path) -> None:
    """The files have checksums, the archive stays sound, and an edited page is found."""
    run = write_run(tmp_path)
    written = write_report(run, (), None)
    assert [path.name for path in written] == ["report.html", "report.md"]
    assert {"report.html", "report.md"} <= read_checksums(run.path).keys()
    assert verify(run.path) == ()
    again = load_run(run.path)
    before = [path.read_bytes() for path in written]
    write_report(again, (), None)
    assert [path.read_bytes() for path in written] == before
    check = ["sha256sum", "--check", "--quiet", "SHA256SUMS"]
    assert subprocess.run(check, cwd=run.path, check=False).returncode == 0
    written[0].write_bytes(before[0].replace(b"PASS", b"FAIL"))
    assert subprocess.run(check, cwd=run.path, capture_output=True, check=False).returncode == 1


def test_a_run_that_is_being_written_gets_no_report_in_its_folder(tmp_path: Path) -> None:
    """It would stay there when the run goes on; elsewhere it is a view of the moment."""
    plan = short_plan()
    manifest = msgspec.structs.replace(
        manifest_of(plan, eventful_traces(plan)), outcome=Outcome.RUNNING
    )
    writer = create_archive(tmp_path, manifest, encode_plan(plan))
    run = load_run(writer.path)
    with pytest.raises(HarnessError, match="still being written"):
        write_report(run, (), None)
    page = write_report(run, (), tmp_path / "view")[0].read_text(encoding="utf-8")
    assert "a view of the moment" in page
    writer.abandon("the test is over")


def test_the_index_lists_what_is_there(tmp_path: Path) -> None:
    """Runs with links, a damaged one, histories of scenarios; hostile names do nothing."""
    run = write_run(tmp_path)
    write_report(run, (), None)
    damaged = tmp_path / "runs" / "20260921T142640Z_bad_0123abcd"
    damaged.mkdir()
    (damaged / "run.json").write_text("{", encoding="utf-8")
    hostile = hostile_run(tmp_path / "hostile")
    target = tmp_path / "runs" / "20260922T142640Z_evil_0123abcd"
    hostile.path.rename(target)
    page = to_index(list_runs(tmp_path), (), {("good", 1.0): "p99 rose by 12 % on 3 May"}, tmp_path)
    markup = parsed(page)
    links = [value for _, name, value in markup.attributes if name == "href"]
    assert f"runs/{run.manifest.run_id}/report.html" in links
    assert "damaged" in page
    assert "p99 rose by 12 % on 3 May" in page
    assert "script" not in markup.tags
    assert not re.findall(r"[a-z]+://", page)


def test_a_scenario_keeps_its_lines_and_loses_what_is_active() -> None:
    """Tabs become blanks, escapes visible, and a huge text ends in an ellipsis."""
    assert scenario_lines("a\n\tb\x1b[2J") == "a\n    b\\x1b[2J"
    assert scenario_lines("x\n" * 200_000).endswith("\n…")


def test_every_table_that_a_run_can_have_has_a_source_and_a_place() -> None:
    """One that somebody adds to `headroom show` is not forgotten: its report would fail."""
    modules = [run_tables, *(sys.modules[name] for name in sys.modules if TABLES.fullmatch(name))]
    names = {
        name
        for module in modules
        for name in re.findall(r'name="([a-z_]+)"', Path(str(module.__file__)).read_text("utf-8"))
    }
    names |= {"response_time", "service_time", "failed_response_time"}
    assert {"faults", "writes", "server", "streaming_calls", "conservation"} <= names
    assert names <= SOURCES.keys()
    assert names <= {name for place in _PLACES for name in place.tables}


def test_sources_name_files_of_the_archive(run: Run) -> None:
    """No source is of a file that an archive does not have."""
    asked = {"server.parquet", "bins.parquet", "writes.parquet", "read_back.parquet"}
    files = {path.name for path in run.path.iterdir()} | asked
    assert {file for source in SOURCES.values() for file in source.files} <= files


REPORT = """
import sys
from pathlib import Path
from analysis.report.writing import write_report
from loadtests.record.archive import load_run
for path in write_report(load_run(Path(sys.argv[1])), (), Path(sys.argv[2])):
    sys.stdout.buffer.write(path.read_bytes())
"""


@pytest.mark.system
@pytest.mark.parametrize(
    "environment",
    PLACES,
    ids=lambda environment: environment["TZ"],
)
def test_the_same_archive_gives_the_same_bytes_anywhere(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """Time zone, locale, hash seed and a user's Matplotlib settings change no byte."""
    run = write_run(tmp_path)
    page, text = texts_of(run)
    settings = tmp_path / "settings"
    settings.mkdir()
    (settings / "matplotlibrc").write_text(
        "lines.linewidth: 9\nfont.size: 30\nsvg.hashsalt: other\ntext.usetex: True\n",
        encoding="utf-8",
    )
    made = subprocess.run(
        [sys.executable, "-c", REPORT, str(run.path), str(tmp_path / "out")],
        env={**os.environ, **environment, "MPLCONFIGDIR": str(settings)},
        capture_output=True,
        check=True,
        cwd=settings,
    )
    assert made.stdout == (page + text).encode()


def test_the_newest_baseline_of_the_same_kind_stands_beside(tmp_path: Path) -> None:
    """Its curve is in the spectrum, its values in a table; one of another scale is not used."""
    first = write_run(tmp_path)
    promote(first, judge(first), tmp_path)
    kept = list_baselines(tmp_path)

    def later(manifest: Manifest) -> Manifest:
        return msgspec.structs.replace(
            manifest, run_id="20260922T142640Z_good_0123abcd",
            created_unix_ns=manifest.created_unix_ns + 86_400 * S,
        )  # fmt: skip

    plan = good_plan()
    traces = good_traces(plan)
    for trace in traces:
        trace.delay(trace.done_ns > 0, 20_000_000)
    second = write_run(tmp_path, plan, traces, change=later)
    facts = build_facts(second, kept)
    page, text = laid_out(facts)
    assert f"Dotted: the baseline, stage steady of {first.manifest.run_id}." in page
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| steady | p50 |")]
    assert rows[0][2:4] == ["40.2 ms", "20.2 ms"]
    assert float(rows[0][4].split()[0]) == pytest.approx(99, abs=3)
    assert facts.spectra is not None
    curve = facts.spectra.baseline
    assert curve is not None
    assert curve.is_whole
    (own,) = build_facts(first, ()).spectra.stages  # type: ignore[union-attr]  # it has one
    is_carried = own.response.quantiles <= own.response.carried_q
    assert np.array_equal(curve.values_us, own.response.values_us[is_carried])
    bare = tuple(msgspec.structs.replace(row, response=None) for row in kept[0].rows)
    older = [msgspec.structs.replace(kept[0], schema_version=2, rows=bare)]
    assert "Diamonds, all that it kept: the baseline" in laid_out(build_facts(second, older))[0]
    assert "the baseline, stage" not in laid_out(build_facts(first, kept))[0]
    scaled = [msgspec.structs.replace(kept[0], scale=0.5)]
    assert "the baseline, stage" not in laid_out(build_facts(second, scaled))[0]


def test_streams_of_grpc_are_in_the_report(tmp_path: Path) -> None:
    """Latencies inside streaming calls and the use of the pool, each with its source."""

    def streaming(window: Window) -> Window:
        return with_messages(with_streams(window))

    page, text = laid_out(build_facts(write_run(tmp_path, change_window=streaming), ()))
    assert "/stream_setup, first_message, message" in text
    assert SOURCES["stream_pool"].columns in text.replace("\\_", "_")
    inside = text.split("## Latency")[1].split("\n## ")[0]
    (row,) = [line for line in inside.splitlines() if "| first message |" in line]
    assert row.endswith("| 2.00 ms |")
    pool = text.split("## Generator health")[1].split("\n## ")[0]
    assert next(line for line in pool.splitlines() if line.startswith("| steady | 200 |"))
    assert "2.00 ms" in page
