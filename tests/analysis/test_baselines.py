"""Baselines: what may be promoted, what is refused, and the tables made of them."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from golden_files import compare_golden
from synthetic_run import MS, RUN_ID, Trace, good_plan, good_traces, write_run
from test_pages import GOLDEN, HOSTILE

from analysis.baseline_types import Baseline
from analysis.baselines import list_baselines, newest_before, promote, record_results
from analysis.figures import build_figures
from analysis.judging import State
from analysis.kept_histogram import keep
from analysis.verdict import Verdict, judge
from loadtests.cli import main
from loadtests.errors import ExitCode, HarnessError, ScenarioError
from loadtests.plan.call import Call, CallShape, Compression, Protocol
from loadtests.plan.model import Plan
from loadtests.record.archive import Run
from loadtests.record.histogram import Histogram
from loadtests.record.manifest import Manifest, Outcome

SECOND_ID = "20260922T142640Z_good_0123abce"


def judged(
    results: Path,
    plan: Plan | None = None,
    change: Callable[[Trace], None] = lambda _trace: None,
    **manifest: object,
) -> tuple[Run, Verdict]:
    """A run with changed requests and manifest, and its verdict."""
    plan = good_plan() if plan is None else plan
    traces = good_traces(plan)
    for trace in traces:
        change(trace)

    def replace(facts: Manifest) -> Manifest:
        return msgspec.structs.replace(facts, **manifest)

    run = write_run(results, plan, traces, change=replace)
    return run, judge(run)


def slow(trace: Trace) -> None:
    """Every answer a second later."""
    trace.delay(trace.stage == 1, 1000 * MS)


def late(trace: Trace) -> None:
    """The generator sends late."""
    trace.sent_ns += 20 * MS
    trace.done_ns += 20 * MS


def test_a_promoted_run_is_kept_and_listed(tmp_path: Path) -> None:
    """A PASS becomes one small file and a row with its run id."""
    promote(*judged(tmp_path), tmp_path)
    (baseline,) = list_baselines(tmp_path)
    assert baseline.run_id == RUN_ID
    assert baseline.rows[0].throughput_per_s == 500.0
    assert baseline.rows[0].n == 5000
    assert (tmp_path / "baselines" / f"{RUN_ID}.json").stat().st_size < 4096
    assert RUN_ID in (tmp_path / "BASELINES.md").read_text()


def test_a_failed_run_is_a_result_too(tmp_path: Path) -> None:
    """A FAIL may be promoted and its row says FAIL."""
    run, verdict = judged(tmp_path, change=slow)
    assert verdict.state is State.FAIL
    promote(run, verdict, tmp_path)
    row = next(csv.DictReader((tmp_path / "BASELINES.csv").open(newline="")))
    assert (row["verdict"], row["run_id"]) == ("FAIL", RUN_ID)


REFUSED: dict[str, tuple[str, dict[str, object]]] = {
    "generator-limited": ("generator limited", {"change": late}),
    "aborted": ("ended aborted", {"outcome": Outcome.ABORTED}),
    "inconclusive": ("INCONCLUSIVE", {"total_sums": None}),
}


@pytest.mark.parametrize(("text", "changes"), REFUSED.values(), ids=REFUSED.keys())
def test_a_run_that_measured_nothing_is_refused(
    tmp_path: Path, text: str, changes: dict[str, object]
) -> None:
    """An INCONCLUSIVE, generator-limited or aborted run is no baseline, and the error says why."""
    run, verdict = judged(tmp_path, **changes)  # type: ignore[arg-type]  # one table for two kinds
    with pytest.raises(ScenarioError, match=text):
        promote(run, verdict, tmp_path)
    assert not (tmp_path / "BASELINES.md").exists()


def test_a_partial_run_is_refused(tmp_path: Path) -> None:
    """A run whose archive is partial is no baseline, whatever its verdict would be."""
    run, verdict = judged(tmp_path)
    with pytest.raises(ScenarioError, match="ended"):
        promote(run, dataclasses.replace(verdict, is_complete=False), tmp_path)


def test_the_verdict_of_another_run_is_refused(tmp_path: Path) -> None:
    """A verdict cannot be lent, nor a scale changed on the way."""
    run, verdict = judged(tmp_path)
    for other in ({"run_id": SECOND_ID}, {"scale": 0.5}):
        with pytest.raises(ScenarioError, match="another run"):
            promote(run, dataclasses.replace(verdict, **other), tmp_path)


def test_promoting_again_changes_nothing(tmp_path: Path) -> None:
    """The same run gives the same bytes."""
    run, verdict = judged(tmp_path)
    promote(run, verdict, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.glob("**/*.[jmc]*") if path.is_file()}
    promote(run, verdict, tmp_path)
    assert before == {path: path.read_bytes() for path in before}


def test_history_is_not_rewritten(tmp_path: Path) -> None:
    """A run promoted before with other figures is an error, and its file stays."""
    run, verdict = judged(tmp_path)
    promote(run, verdict, tmp_path)
    path = tmp_path / "baselines" / f"{RUN_ID}.json"
    path.write_bytes(path.read_bytes().replace(b"5000", b"5001"))
    with pytest.raises(ScenarioError, match="history is kept"):
        promote(run, verdict, tmp_path)
    assert b"5001" in path.read_bytes()


@pytest.mark.parametrize("data", [b"", b"{}", b'{"schema_version": 1}', b"\xff\xfe", b"[1]"])
def test_a_damaged_baseline_is_named(tmp_path: Path, data: bytes) -> None:
    """A file that is no baseline is an error with its path, never skipped."""
    folder = tmp_path / "baselines"
    folder.mkdir()
    (folder / f"{RUN_ID}.json").write_bytes(data)
    with pytest.raises(HarnessError, match=RUN_ID):
        list_baselines(tmp_path)


def test_a_baseline_under_another_name_is_refused(tmp_path: Path) -> None:
    """No row without its own run id."""
    promote(*judged(tmp_path), tmp_path)
    path = tmp_path / "baselines" / f"{RUN_ID}.json"
    path.rename(path.with_name("20260101T000000Z_x_00000000.json"))
    with pytest.raises(HarnessError, match="run id"):
        list_baselines(tmp_path)


def test_the_tables_are_as_agreed(tmp_path: Path) -> None:
    """Scaled runs stand in a section of their own, under their warning."""
    promote(*judged(tmp_path), tmp_path)
    scaled = judged(tmp_path, good_plan(scale=0.01, load_percent=200.0), slow, run_id=SECOND_ID)
    promote(*scaled, tmp_path)
    compare_golden(GOLDEN, "BASELINES.md", (tmp_path / "BASELINES.md").read_text())
    compare_golden(GOLDEN, "BASELINES.csv", (tmp_path / "BASELINES.csv").read_bytes().decode())


def test_the_command_lists_every_baseline_in_its_section(tmp_path: Path) -> None:
    """`headroom baseline list`: the page's tables for a terminal, and all of it as JSON."""
    stdout, stderr = io.StringIO(), io.StringIO()
    words = ("baseline", "list", "--results", str(tmp_path))
    assert main(words, stdout, stderr) is ExitCode.PASS
    assert (stdout.getvalue(), stderr.getvalue().startswith("no baselines in")) == ("", True)
    promote(*judged(tmp_path), tmp_path)
    scaled = judged(tmp_path, good_plan(scale=0.01, load_percent=200.0), slow, run_id=SECOND_ID)
    promote(*scaled, tmp_path)
    stdout = io.StringIO()
    assert main(words, stdout, stderr) is ExitCode.PASS
    compare_golden(GOLDEN, "baseline-list.txt", stdout.getvalue())
    stdout = io.StringIO()
    assert main((*words, "--json"), stdout, stderr) is ExitCode.PASS
    assert [one["run_id"] for one in json.loads(stdout.getvalue())] == [RUN_ID, SECOND_ID]


def test_a_scaled_run_never_appears_as_unscaled(tmp_path: Path) -> None:
    """With scaled runs alone the page says that there is no full-scale one."""
    promote(*judged(tmp_path, good_plan(scale=0.01)), tmp_path)
    text = (tmp_path / "BASELINES.md").read_text()
    before_scaled = text.split("## Scaled")[0]
    assert RUN_ID not in before_scaled
    assert before_scaled.count("No run has been promoted.") == 4
    row = next(csv.DictReader((tmp_path / "BASELINES.csv").open(newline="")))
    assert row["scale"] == "0.01"


def test_the_demo_records_what_it_may_and_says_why_not(tmp_path: Path) -> None:
    """Runs that measured nothing are left out with their reason; the others are promoted."""
    good = judged(tmp_path, good_plan(scale=0.01))
    bad = judged(tmp_path, good_plan(scale=0.01), late, run_id=SECOND_ID)
    first, second = record_results([good, bad], tmp_path)
    assert (first.is_promoted, second.is_promoted) == (True, False)
    assert "generator limited" in second.reason
    assert [baseline.run_id for baseline in list_baselines(tmp_path)] == [RUN_ID]


def test_hostile_names_do_nothing_in_a_spreadsheet(tmp_path: Path) -> None:
    """A name that begins like a formula is text in CSV, and cannot break a Markdown row."""
    plan = dataclasses.replace(good_plan(), scenario_name=HOSTILE)
    promote(*judged(tmp_path, plan, target_version=HOSTILE), tmp_path)
    text = (tmp_path / "BASELINES.csv").read_bytes().decode()
    row = next(csv.DictReader(io.StringIO(text)))
    assert row["scenario"].startswith("'=")
    assert "\x1b" not in text
    page = (tmp_path / "BASELINES.md").read_text()
    assert "</script>" not in page
    assert "\x1b" not in page


def test_a_baseline_file_is_json_that_others_can_read(tmp_path: Path) -> None:
    """Units are in the names, and a small sample is null."""
    promote(*judged(tmp_path), tmp_path)
    document = json.loads((tmp_path / "baselines" / f"{RUN_ID}.json").read_bytes())
    assert document["rows"][0]["p95_us"] == 29183.0
    assert document["scale"] == 1.0


def as_schema_1(document: dict[str, object]) -> bytes:
    """The file as the version before wrote it."""
    new = {"phase", "protocols", "services", "mix_sha256", "load_sha256", "nodes"}
    old = {key: value for key, value in document.items() if key not in new}
    return json.dumps({**old, "schema_version": 1}).encode()


def test_baselines_of_schema_1_stay_readable(tmp_path: Path) -> None:
    """They stand in the tables, what they do not say is not guessed, their bytes are kept."""
    run, verdict = judged(tmp_path, good_plan(load_percent=None))
    promote(run, verdict, tmp_path)
    path = tmp_path / "baselines" / f"{RUN_ID}.json"
    path.write_bytes(as_schema_1(json.loads(path.read_bytes())))
    before = path.read_bytes()
    (baseline,) = list_baselines(tmp_path)
    assert (baseline.schema_version, baseline.protocols, baseline.mix_sha256) == (1, None, None)
    promote(run, verdict, tmp_path)
    assert path.read_bytes() == before
    page = (tmp_path / "BASELINES.md").read_text()
    assert RUN_ID in page.split("## Promoted before protocols were recorded")[1]


def test_a_baseline_keeps_every_bucket(tmp_path: Path) -> None:
    """The response times of all ok requests of a stage, in some kilobytes, from the file alone."""
    run, verdict = judged(tmp_path)
    promote(run, verdict, tmp_path)
    (baseline,) = list_baselines(tmp_path)
    (stage,) = [stage for stage in build_figures(run) if stage.facts.is_judged]
    kept = baseline.rows[0].response
    assert kept is not None
    assert np.array_equal(kept.histogram().counts, stage.overall.tally.response.counts)
    assert (tmp_path / "baselines" / f"{RUN_ID}.json").stat().st_size < 16_384


def test_overflow_is_kept_beside_the_buckets() -> None:
    """Samples beyond the layout's hour are counted; without a sample nothing is kept."""
    histogram = Histogram.of_ns(np.array([1_000_000, 2_000_000, 2 * 3600 * 10**9]))
    kept = keep(histogram)
    assert kept is not None
    assert (kept.overflow, kept.histogram().n) == (1, 3)
    assert np.array_equal(kept.histogram().counts, histogram.counts)
    assert keep(Histogram.empty()) is None


def test_baselines_of_schema_2_stay_readable(tmp_path: Path) -> None:
    """They have no histogram; promoting the run again keeps their bytes."""
    run, verdict = judged(tmp_path)
    promote(run, verdict, tmp_path)
    path = tmp_path / "baselines" / f"{RUN_ID}.json"
    document = json.loads(path.read_bytes())
    for row in document["rows"]:
        del row["response"]
    path.write_bytes(json.dumps({**document, "schema_version": 2}).encode())
    before = path.read_bytes()
    assert list_baselines(tmp_path)[0].rows[0].response is None
    promote(run, verdict, tmp_path)
    assert path.read_bytes() == before


def test_a_histogram_that_is_not_the_rows_is_refused(tmp_path: Path) -> None:
    """More samples than the stage had requests, and a payload that lies: the file is named."""
    run, verdict = judged(tmp_path)
    promote(run, verdict, tmp_path)
    path = tmp_path / "baselines" / f"{RUN_ID}.json"
    good = path.read_bytes()
    document = json.loads(good)
    document["rows"][0]["n"] = 10
    path.write_bytes(json.dumps(document).encode())
    with pytest.raises(HarnessError, match="a histogram that is not of its 10 requests"):
        list_baselines(tmp_path)
    document = json.loads(good)
    document["rows"][0]["response"]["hdr"] = "bm90aGluZw=="
    path.write_bytes(json.dumps(document).encode())
    with pytest.raises(HarnessError, match=RUN_ID):
        list_baselines(tmp_path)


@pytest.mark.parametrize(
    ("changes", "text"),
    [({"schema_version": 4}, "schema 4"), ({"schema_version": 1, "phase": "x"}, "phase")],
)
def test_a_schema_that_is_not_what_it_says_is_refused(
    tmp_path: Path, changes: dict[str, object], text: str
) -> None:
    """A newer schema, and new keys in an old one."""
    promote(*judged(tmp_path), tmp_path)
    path = tmp_path / "baselines" / f"{RUN_ID}.json"
    path.write_bytes(json.dumps({**json.loads(path.read_bytes()), **changes}).encode())
    with pytest.raises(HarnessError, match=text):
        list_baselines(tmp_path)


def test_a_phase_is_kept_and_not_changed_afterwards(tmp_path: Path) -> None:
    """It stands in the table of the requirement's section 6; history is kept."""
    run, verdict = judged(tmp_path)
    promote(run, verdict, tmp_path, "staging")
    assert "| staging |" in (tmp_path / "BASELINES.md").read_text()
    with pytest.raises(ScenarioError, match="phase"):
        promote(run, verdict, tmp_path, "production")


def test_grpc_runs_stand_among_the_enhanced_services(tmp_path: Path) -> None:
    """With the services that they called, and with their protocol among the profiles."""
    call = Call(method="io.aurigraph.v11.grpc.TransactionService/SubmitTransaction",
                shape=CallShape.UNARY, message=(), messages=1, pace_ns=0,
                compression=Compression.IDENTITY, expected_codes=(0,), checks=(),
                response_type="x.Y")  # fmt: skip
    plan = good_plan()
    first = dataclasses.replace(plan.requests[0], protocol=Protocol.GRPC, call=call)
    plan = dataclasses.replace(plan, requests=(first, plan.requests[1]))
    promote(*judged(tmp_path, plan), tmp_path)
    page = (tmp_path / "BASELINES.md").read_text()
    enhanced = page.split("## Enhanced services (gRPC)")[1].split("##")[0]
    assert "| TransactionService |" in enhanced
    assert "| REST + gRPC |" in page.split("## Load profiles")[1]
    assert RUN_ID not in page.split("## REST baseline")[1].split("##")[0]


def test_a_baseline_is_shown_from_its_file_alone(tmp_path: Path) -> None:
    """`headroom baseline show`: by a beginning or `latest`, as a page and as JSON."""
    promote(*judged(tmp_path, good_plan(scale=0.01), slow), tmp_path)
    for name in (RUN_ID[:12], "latest"):
        stdout, stderr = io.StringIO(), io.StringIO()
        words = ("baseline", "show", name, "--results", str(tmp_path))
        assert main(words, stdout, stderr) is ExitCode.PASS
        for part in ("FAIL", "SCALED x 0.01", "steady", "2 nodes", "why: p95 < 200 ms"):
            assert part in stdout.getvalue()
    stdout = io.StringIO()
    assert main((*words, "--json"), stdout, stderr) is ExitCode.PASS
    assert json.loads(stdout.getvalue())["run_id"] == RUN_ID
    assert main(("baseline", "show", "x", "--results", str(tmp_path)), stdout, stderr) is (
        ExitCode.USAGE
    )


def test_beside_a_run_stands_what_came_before_it_under_the_same_load(tmp_path: Path) -> None:
    """Not the run itself, none of another load or scale, and nothing from its future."""
    run, verdict = judged(tmp_path)
    kept = promote(run, verdict, tmp_path)
    at_ns = kept.created_unix_ns

    def made(run_id: str, **changes: object) -> Baseline:
        return msgspec.structs.replace(kept, run_id=run_id, **changes)

    older = [made("a", created_unix_ns=at_ns - 2), made("b", created_unix_ns=at_ns - 1)]
    others = [
        kept,
        made("c", created_unix_ns=at_ns + 1),
        made("d", created_unix_ns=at_ns - 1, scale=0.5),
        made("e", created_unix_ns=at_ns - 1, load_percent=150.0),
        made("f", created_unix_ns=at_ns - 1, load_model="closed"),
        made("g", created_unix_ns=at_ns - 1, scenario="other"),
    ]
    manifest, percent = run.manifest, verdict.load_percent
    assert newest_before([*older, *others], manifest, percent) == older[1]
    assert newest_before(others, manifest, percent) is None
