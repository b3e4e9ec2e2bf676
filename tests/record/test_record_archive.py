"""A run written and read back: exact, complete or honestly partial, and never by halves."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader
from record_builders import (
    PLAN,
    RUN_ID,
    T0_S,
    files_of,
    finished,
    good_manifest,
    only_slots,
    replaced,
    window_of,
)

from loadtests.errors import HarnessError
from loadtests.record import checksums
from loadtests.record.archive import (
    ArchiveWriter,
    Event,
    RunState,
    create_archive,
    list_runs,
    load_run,
    new_run_id,
    verify,
)
from loadtests.record.checksums import add_file, checksums_text
from loadtests.record.event import EventValue
from loadtests.record.files import sha256_of
from loadtests.record.hlog import decode_tag, parse_log
from loadtests.record.manifest import RUN_ID as RUN_ID_SHAPE
from loadtests.record.manifest import Manifest, Outcome, decode_manifest, encode_manifest
from loadtests.record.totals import keys_of
from loadtests.record.window import Count, Kind, Window, histogram_of, merge_windows

SECONDS = 8


def windows_of(manifest: Manifest, seed: int = 1) -> list[Window]:
    """One window a second, the last two with answers to the last stage only."""
    rng = np.random.default_rng(seed)
    slots = manifest.slots
    last = [slots.slot(1, request, node) for request in range(2) for node in range(2)]
    return [
        window_of(T0_S + second, slots, rng, wanted=last if second >= 6 else None,
                  samples=30, overflow=second % 2)
        for second in range(SECONDS)
    ]  # fmt: skip


def event(kind: str = "agent_lost", text: str = "a2 fell silent") -> Event:
    """An event with a field of every type."""
    fields: dict[str, EventValue] = {"n": 3, "ratio": 0.5, "ok": True, "who": "a2", "none": None}
    return Event(at_unix_ns=T0_S * 10**9, kind=kind, who="a2", text=text, fields=fields)


def written(
    results: Path, manifest: Manifest | None = None, *, seconds: int = SECONDS
) -> ArchiveWriter:
    """A writer that was given everything but its end."""
    draft = good_manifest() if manifest is None else manifest
    writer = create_archive(results, draft, PLAN)
    for window in windows_of(draft)[:seconds]:
        writer.journal_windows("a1", [window])
        writer.append_window(window)
    writer.append_event(event())
    return writer


def complete(results: Path) -> Path:
    """A complete archive."""
    writer = written(results)
    return writer.finish(finished(writer.manifest))


def assert_same_counts(one: Window, other: Window) -> None:
    """Equal counters, histograms and errors."""
    for name in ("slots", "counters", "keys", "counts"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert dict(one.errors) == dict(other.errors)
    assert dict(one.messages) == dict(other.messages)


def test_a_complete_run_reads_back_exactly(tmp_path: Path) -> None:
    """Sums, rows, errors, hosts, events, plan and manifest are what was written."""
    path = complete(tmp_path)
    windows = windows_of(good_manifest())
    run = load_run(path)
    assert (run.is_complete, run.findings, run.plan_bytes) == (True, (), PLAN)
    assert run.manifest.outcome is Outcome.COMPLETE
    assert run.manifest.warnings == ()
    assert run.events == (event(),)
    assert_same_counts(run.merged(judged=False), merge_windows(T0_S, windows))
    assert len(run.windows) == sum(window.slots.size for window in windows)
    for count in Count:
        assert run.windows[count.name.lower()].sum() == sum(w.total(count) for w in windows)
    assert run.errors["count"].sum() == sum(sum(w.errors.values()) for w in windows)
    assert run.engines["cpu_ns"].tolist() == [3 * 10**8] * SECONDS
    assert run.hiccups["max_ns"].tolist() == [1900] * SECONDS
    assert run.messages["steady", "POST tx", "n2", "status_503"] == "503 from slot 9"


def test_a_row_is_that_window_and_slot(tmp_path: Path) -> None:
    """A row of the table has the counters and quantiles of its slot in its second."""
    run = load_run(complete(tmp_path))
    window = windows_of(good_manifest())[3]
    rows = run.windows
    wanted = (rows["window_s"] == T0_S + 3) & (rows["stage"] == "steady")
    row = rows[wanted & (rows["request"] == "POST tx") & (rows["node"] == "n1")].iloc[0]
    slot = run.slots.slot(1, 1, 0)
    response = histogram_of(window, Kind.RESPONSE, [slot])
    assert row["response_n"] == response.n == 27
    assert row["response_p95_us"] == response.quantile_us(0.95)
    assert row["response_max_us"] == response.max_us() == np.inf
    assert row["overflow"] == 1
    assert row["send_lag_p99_us"] == histogram_of(window, Kind.SEND_LAG, [slot]).quantile_us(0.99)
    assert (row["ok"], row["failed"], row["part"], row["judged"]) == (27, 3, 0, True)


def test_totals_are_the_sums_of_the_intervals(tmp_path: Path) -> None:
    """Adding up the log of intervals by name gives the stored totals, bucket by bucket."""
    path = complete(tmp_path)
    run = load_run(path)
    dense: dict[tuple[str, ...], np.ndarray] = {}
    for interval in parse_log((path / "latency.hlog").read_bytes().splitlines()):
        keys, counts = keys_of(interval, run.slots)
        counters = dense.setdefault(interval.names, np.zeros(23_553, dtype=np.int64))
        np.add.at(counters, keys.astype(np.int64) % 23_553, counts)
    totals = run.totals(judged=False)
    assert {(*names[:3], names[3].name.lower()) for names in totals} == set(dense)
    for (stage, request, node, kind), histogram in totals.items():
        expected = dense[stage, request, node, kind.name.lower()]
        np.testing.assert_array_equal(histogram.counts, expected)


def test_the_public_tools_read_the_latency_log(tmp_path: Path) -> None:
    """PyPI's HistogramLogReader finds as many samples of each tag as the totals hold."""
    path = complete(tmp_path)
    found: dict[tuple[str, ...], int] = {}
    reader = HistogramLogReader(str(path / "latency.hlog"), HdrHistogram(1, 3_600_000_000, 3))
    while (interval := reader.get_next_interval_histogram()) is not None:
        tag = decode_tag(interval.get_tag())
        found[tag] = found.get(tag, 0) + interval.get_total_count()
    reader.input_file.close()
    totals = load_run(path).totals(judged=False)
    expected = {
        (*names[:3], names[3].name.lower()): histogram.n - histogram.overflow
        for names, histogram in totals.items()
    }
    assert found == expected


def test_a_partial_run_is_the_same_run(tmp_path: Path) -> None:
    """Rebuilt from the journal, tables and sums equal those of the complete archive."""
    writer = written(tmp_path)
    partial = load_run(writer.path)
    path = writer.finish(finished(writer.manifest))
    whole = load_run(path)
    assert (partial.is_complete, whole.is_complete) == (False, True)
    for judged in (True, False):
        assert_same_counts(partial.merged(judged=judged), whole.merged(judged=judged))
    for name in ("windows", "errors", "engines", "hiccups"):
        pd.testing.assert_frame_equal(getattr(partial, name), getattr(whole, name))
    assert partial.events == whole.events
    assert partial.messages == whole.messages


def test_a_partial_run_adds_up_its_agents(tmp_path: Path) -> None:
    """Windows of several agents for one second are merged, as the master would have."""
    manifest = good_manifest()
    writer = create_archive(tmp_path, manifest, PLAN)
    parts = [windows_of(manifest, seed) for seed in (1, 2)]
    for number, windows in enumerate(parts):
        writer.journal_windows(f"a{number}", windows)
    run = load_run(writer.path)
    assert_same_counts(run.merged(judged=False), merge_windows(T0_S, [*parts[0], *parts[1]]))
    assert run.windows["window_s"].is_monotonic_increasing
    assert not run.windows.duplicated(["window_s", "stage", "request", "node"]).any()


def test_a_torn_partial_run_says_what_was_cut(tmp_path: Path) -> None:
    """A journal and an event torn by a crash cost their last entry, and the run says so."""
    writer = written(tmp_path)
    writer.abandon("power went")
    for name in ("journal.bin", "events.jsonl"):
        file = writer.path / name
        file.write_bytes(file.read_bytes()[:-3])
    run = load_run(writer.path)
    assert len(run.findings) == 3
    assert "crashed" in run.findings[0]
    assert "journal" in run.findings[1]
    assert "event" in run.findings[2]
    expected = windows_of(good_manifest())[:-1]
    assert_same_counts(run.merged(judged=False), merge_windows(T0_S, expected))


def test_a_run_that_died_says_so(tmp_path: Path) -> None:
    """A draft without a living writer is a run that died; with one it is being written."""
    writer = written(tmp_path)
    assert load_run(writer.path).findings == ("the run is still being written",)
    assert list_runs(tmp_path)[0].state is RunState.RUNNING
    copy = tmp_path / "elsewhere" / writer.path.name
    shutil.copytree(writer.path, copy)
    assert load_run(copy).findings == ("the run died without recording an end",)
    writer.abandon("test")
    assert list_runs(tmp_path)[0].state is RunState.PARTIAL


def test_an_abandoned_run_keeps_its_reason(tmp_path: Path) -> None:
    """After `abandon` the draft says crashed and why, and the data is still there."""
    writer = written(tmp_path)
    path = writer.abandon("ENOSPC in windows.parquet")
    run = load_run(path)
    assert run.manifest.outcome is Outcome.CRASHED
    assert run.manifest.outcome_reason == "ENOSPC in windows.parquet"
    assert run.merged(judged=False).total(Count.SENT) > 0


def test_a_run_stopped_at_once_is_not_called_a_crash(tmp_path: Path) -> None:
    """`abandon` takes the outcome: a partial run that its user stopped says aborted."""
    path = written(tmp_path).abandon("second SIGINT", Outcome.ABORTED)
    run = load_run(path)
    assert run.manifest.outcome is Outcome.ABORTED
    assert run.findings == ("the archive was not closed; the run ended: aborted",)


def test_late_parts_of_a_window_add_up(tmp_path: Path) -> None:
    """A part that comes soon merges into its row; one after the hold is a row of its own."""
    manifest = good_manifest()
    writer = create_archive(tmp_path, manifest, PLAN)
    rng = np.random.default_rng(3)
    early = [window_of(T0_S + s, manifest.slots, rng, samples=10) for s in range(20)]
    soon = only_slots(window_of(T0_S, manifest.slots, rng, wanted=[9], samples=10), T0_S + 19)
    late = only_slots(window_of(T0_S, manifest.slots, rng, wanted=[9], samples=10), T0_S + 1)
    for window in (*early, soon, late):
        writer.append_window(window)
    path = writer.finish(finished(manifest))
    run = load_run(path)
    assert_same_counts(run.merged(judged=False), merge_windows(T0_S, [*early, soon, late]))
    merged = run.windows[run.windows["window_s"] == T0_S + 19]
    assert merged["part"].tolist() == [0] * 12
    assert merged["sent"].sum() == 13 * 10
    apart = run.windows[run.windows["window_s"] == T0_S + 1]
    assert sorted(apart["part"]) == [0] * 12 + [1]
    assert verify(path) == ()


def test_requests_in_flight_follow_sent_and_done(tmp_path: Path) -> None:
    """A row's in_flight is what its slot sent and was not answered yet."""
    manifest = good_manifest()
    writer = create_archive(tmp_path, manifest, PLAN)
    for second, (sent, ok) in enumerate([(5, 2), (4, 1), (0, 6)]):
        counters = np.zeros((1, len(Count)), dtype=np.int64)
        counters[0, [Count.SENT, Count.OK]] = sent, ok
        empty = Window.empty(T0_S + second)
        writer.append_window(
            Window(
                start_s=empty.start_s, slots=np.array([7], dtype=np.uint32), counters=counters,
                keys=empty.keys, counts=empty.counts, errors={}, messages={}, health=(),
                hiccups=(),
            )
        )  # fmt: skip
    run = load_run(writer.finish(finished(manifest)))
    assert run.windows["in_flight"].tolist() == [3, 6, 0]
    assert run.windows["response_p50_us"].isna().all()


def test_a_run_that_never_started_is_an_archive(tmp_path: Path) -> None:
    """Ended before T0, a run has its manifest, events and plan, and no rows."""
    manifest = replaced(good_manifest(), t0_unix_ns=None)
    writer = create_archive(tmp_path, manifest, PLAN)
    writer.append_event(event())
    end = replaced(finished(manifest), outcome=Outcome.ABORTED, outcome_reason="no agents")
    path = writer.finish(end)
    run = load_run(path)
    assert (len(run.windows), len(run.events), run.totals(judged=True)) == (0, 1, {})
    assert run.merged(judged=False).slots.size == 0
    assert verify(path) == ()


def test_the_draft_can_be_replaced_before_windows(tmp_path: Path) -> None:
    """T0 and agents come after the barrier; windows before T0 and a moved T0 are mistakes."""
    manifest = good_manifest()
    writer = create_archive(tmp_path, replaced(manifest, t0_unix_ns=None), PLAN)
    window = windows_of(manifest)[0]
    with pytest.raises(ValueError, match="before T0"):
        writer.append_window(window)
    writer.update(manifest)
    assert decode_manifest((writer.path / "run.json").read_bytes(), "x").t0_unix_ns is not None
    writer.append_window(only_slots(window, T0_S + 200))
    with pytest.raises(ValueError, match="T0 cannot change"):
        writer.update(replaced(manifest, t0_unix_ns=5))
    with pytest.raises(ValueError, match="another run"):
        writer.update(replaced(manifest, nodes=("n1", "n3")))


def test_a_difference_to_what_was_handed_over_is_a_warning(tmp_path: Path) -> None:
    """What agents handed over and the archive does not hold is named in the manifest."""
    manifest = good_manifest()
    writer = create_archive(tmp_path, manifest, PLAN)
    windows = windows_of(manifest)
    writer.journal_windows("a1", windows)
    for window in windows[:-1]:
        writer.append_window(window)
    lost = windows[-1].total(Count.SENT)
    run = load_run(writer.finish(finished(manifest)))
    all_sent = sum(w.total(Count.SENT) for w in windows)
    assert (
        f"archived {all_sent - lost} sent, but agents handed over {all_sent}"
        in run.manifest.warnings
    )


def test_a_complete_archive_holds_only_what_it_lists(tmp_path: Path) -> None:
    """No journal, no temporary file: every file is in SHA256SUMS, and sha256sum agrees."""
    path = complete(tmp_path)
    listed = {line.split("  ")[1] for line in (path / "SHA256SUMS").read_text().splitlines()}
    assert set(files_of(path)) == listed | {"SHA256SUMS"}
    done = subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"],
                          cwd=path, capture_output=True, text=True, check=False)  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "")
    assert [p.name for p in (tmp_path / "runs").iterdir()] == [RUN_ID]


SMALL_BYTES = 4096  # up to here every byte is flipped, once
SAMPLE = 500  # bits of a larger file
CUTS = 60


@pytest.fixture(scope="module")
def judged_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short complete archive with its verdict and report, as a run leaves it."""
    writer = written(tmp_path_factory.mktemp("judged"), seconds=1)
    path = writer.finish(finished(writer.manifest))
    for name in ("verdict.json", "report.html"):
        add_file(path, name, b"made after the run")
    return path


def places_of(size_bytes: int, rng: np.random.Generator) -> list[int]:
    """Bits to flip: one of every byte of a small file, a sample of a larger one and its ends."""
    bits = size_bytes * 8
    if size_bytes <= SMALL_BYTES:
        return [int(place) for place in np.arange(0, bits, 8) + rng.integers(0, 8, size_bytes)]
    return [0, bits - 1, *rng.choice(bits, SAMPLE, replace=False).tolist()]


FILES = (
    "SHA256SUMS", "engines.parquet", "errors.parquet", "events.jsonl", "hiccups.parquet",
    "latency.hlog", "plan.msgpack", "report.html", "run.json", "totals.hlog", "verdict.json",
    "windows.parquet",
)  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_every_flipped_bit_and_every_cut_is_found(judged_archive: Path, name: str) -> None:
    """One wrong bit in any file of an archive is found by `verify`; none in a sound one."""
    path = judged_archive / name
    data, rng = path.read_bytes(), np.random.default_rng(11)
    assert verify(judged_archive) == ()
    with path.open("r+b", buffering=0) as file:
        for place in places_of(len(data), rng):
            at, bit = divmod(place, 8)
            file.seek(at)
            file.write(bytes([data[at] ^ 1 << bit]))
            assert verify(judged_archive) != (), f"bit {place} of {name}"
            file.seek(at)
            file.write(data[at : at + 1])
    for length in {0, len(data) - 1, *rng.integers(0, len(data), CUTS).tolist()}:
        path.write_bytes(data[:length])
        assert verify(judged_archive) != (), f"{name} cut to {length} bytes"
    path.write_bytes(data)
    assert verify(judged_archive) == ()


def test_every_file_of_an_archive_is_damaged(judged_archive: Path) -> None:
    """The test above leaves out none."""
    assert sorted(FILES) == sorted(files_of(judged_archive))


@pytest.mark.parametrize(
    "name",
    ["run.json", "plan.msgpack", "events.jsonl", "windows.parquet", "errors.parquet",
     "engines.parquet", "hiccups.parquet", "totals.hlog"],
)  # fmt: skip
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    """Loading an archive with a cut, changed or missing file names the file, no traceback."""
    path = complete(tmp_path)
    data = (path / name).read_bytes()
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 4
    for damaged in (data[: len(data) // 2], bytes(flipped), b"", None):
        (path / name).unlink()
        if damaged is not None:
            (path / name).write_bytes(damaged)
        with pytest.raises(HarnessError, match=name):
            load_run(path)
        assert any(name in finding for finding in verify(path))


def test_another_value_in_the_manifest_is_named(tmp_path: Path) -> None:
    """A change that leaves run.json readable is its damage, not that of the list of sums."""
    path = complete(tmp_path)
    text = (path / "run.json").read_text(encoding="utf-8")
    (path / "run.json").write_text(text.replace('"seed": 7', '"seed": 8'), encoding="utf-8")
    (finding,) = verify(path)
    assert finding.startswith(f"{path / 'run.json'}: saw SHA-256 ")


def test_sums_that_contradict_each_other_are_found(tmp_path: Path) -> None:
    """Right checksums over totals that are not the intervals' sum do not pass `verify`."""
    path = complete(tmp_path)
    lines = (path / "latency.hlog").read_text(encoding="ascii").splitlines(keepends=True)
    (path / "latency.hlog").write_text("".join(lines[:-1]), encoding="ascii")
    _sign_again(path)
    findings = verify(path)
    assert any("totals of all windows" in finding for finding in findings)
    assert any("windows.parquet" in finding for finding in findings)


def _sign_again(path: Path) -> None:
    """Checksums of the files as they are now: an archive that lies consistently."""
    manifest = decode_manifest((path / "run.json").read_bytes(), "run.json")
    sums = {name: sha256_of(path / name) for name in manifest.checksums}
    manifest = replaced(manifest, checksums=sums)
    (path / "run.json").write_bytes(encode_manifest(manifest))
    text = checksums_text(manifest, sha256_of(path / "run.json"))
    (path / "SHA256SUMS").write_bytes(text)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def _flip(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


@pytest.mark.parametrize("change", [Path.unlink, _cut, _flip])
def test_any_damaged_file_is_damage_to_reader_and_list(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    """Every file, read or not, is checked; a list calls the run damaged and has no verdict."""
    sound = complete(tmp_path / "sound")
    for name in sorted(file.name for file in sound.iterdir()):
        path = Path(shutil.copytree(sound, tmp_path / name / "runs" / sound.name))
        change(path / name)
        with pytest.raises(HarnessError, match=name):
            load_run(path)
        (summary,) = list_runs(tmp_path / name)
        assert (summary.state, summary.manifest) == (RunState.DAMAGED, None), name
        assert name in summary.problem


def test_a_list_finds_a_large_file_that_was_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files too large to be hashed by a list are held against their length."""
    monkeypatch.setattr(checksums, "_SMALL_BYTES", 0)
    path = complete(tmp_path)
    assert list_runs(tmp_path)[0].state is RunState.COMPLETE
    _cut(path / "windows.parquet")
    assert list_runs(tmp_path)[0].state is RunState.DAMAGED


def test_a_verdict_is_listed_only_as_it_was_written(tmp_path: Path) -> None:
    """A verdict that was not listed is none; one that was changed is damage."""
    path = complete(tmp_path)
    (path / "verdict.json").write_text("FAIL", encoding="ascii")
    assert list_runs(tmp_path)[0].verdict is None
    add_file(path, "verdict.json", b"FAIL")
    assert list_runs(tmp_path)[0].verdict == b"FAIL"
    assert verify(path) == ()
    (path / "verdict.json").write_text("PASS", encoding="ascii")
    assert "verdict.json" in verify(path)[0]
    assert list_runs(tmp_path)[0].state is RunState.DAMAGED


def test_a_newer_archive_is_refused_with_advice(tmp_path: Path) -> None:
    """An archive of a later schema says that it is newer; a list still shows the others."""
    path = complete(tmp_path)
    text = (path / "run.json").read_text(encoding="utf-8")
    (path / "run.json").write_text(
        text.replace('"schema_version": 1', '"schema_version": 9'), encoding="utf-8"
    )
    with pytest.raises(HarnessError, match="schema 9, newer"):
        load_run(path)
    assert "newer" in verify(path)[0]
    other = create_archive(tmp_path, replaced(good_manifest(), run_id=new_run_id("b", 0)), PLAN)
    states = {summary.run_id: summary.state for summary in list_runs(tmp_path)}
    assert states == {RUN_ID: RunState.DAMAGED, other.manifest.run_id: RunState.RUNNING}


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "a\0b", "x" * 4096, "=cmd|' /C calc'!A0", "</script>", "\x1b[2J",
     "\u202egnp.exe", "", ".", "..", ".partial", "a/b\\c:d", "Überlast 200 %", "-rf"],
)  # fmt: skip
def test_hostile_scenario_names_make_plain_directories(tmp_path: Path, name: str) -> None:
    """Whatever a scenario is called, its run is one plain directory in `runs`."""
    run_id = new_run_id(name, T0_S * 10**9)
    assert RUN_ID_SHAPE.fullmatch(run_id)
    manifest = replaced(good_manifest(), run_id=run_id, scenario_name=name)
    path = create_archive(tmp_path, manifest, PLAN).finish(finished(manifest))
    assert path.parent == tmp_path / "runs"
    assert load_run(path).manifest.scenario_name == name


def test_an_id_can_be_taken_once(tmp_path: Path) -> None:
    """A second run with the id of a running, a complete or a linked one fails and harms none."""
    writer = create_archive(tmp_path, good_manifest(), PLAN)
    with pytest.raises(HarnessError, match="not taken"):
        create_archive(tmp_path, good_manifest(), PLAN)
    path = writer.finish(finished(good_manifest()))
    before = files_of(path)
    with pytest.raises(HarnessError, match="not taken"):
        create_archive(tmp_path, good_manifest(), PLAN)
    assert files_of(path) == before
    assert [p.name for p in (tmp_path / "runs").iterdir()] == [RUN_ID]
    shutil.rmtree(path)
    (tmp_path / "runs" / RUN_ID).symlink_to(tmp_path)
    with pytest.raises(HarnessError, match="not taken"):
        create_archive(tmp_path, good_manifest(), PLAN)


def test_links_are_not_followed(tmp_path: Path) -> None:
    """A run directory or a file of it that is a link is refused."""
    path = complete(tmp_path)
    link = path.with_name(new_run_id("link", 0))
    link.symlink_to(path)
    with pytest.raises(HarnessError, match="symbolic link"):
        load_run(link)
    assert [s.state for s in list_runs(tmp_path)] == [RunState.DAMAGED, RunState.COMPLETE]
    moved = tmp_path / "plan"
    (path / "plan.msgpack").rename(moved)
    (path / "plan.msgpack").symlink_to(moved)
    with pytest.raises(HarnessError, match="ELOOP"):
        load_run(path)


@pytest.mark.parametrize("name", ["nowhere", "file"])
def test_what_is_no_run_is_refused(tmp_path: Path, name: str) -> None:
    """A path that is missing or a file is an error with a sentence."""
    (tmp_path / "file").write_bytes(b"x")
    for ask in (load_run, verify):
        with pytest.raises(HarnessError, match="expected a run directory"):
            ask(tmp_path / name)
    assert list_runs(tmp_path / "nowhere") == ()


def test_a_slot_of_another_run_is_not_archived(tmp_path: Path) -> None:
    """A window that names an unknown slot is refused before anything of it is written."""
    manifest = good_manifest()
    writer = create_archive(tmp_path, manifest, PLAN)
    alien = Window(
        start_s=T0_S, slots=np.array([99], dtype=np.uint32),
        counters=np.ones((1, len(Count)), dtype=np.int64), keys=Window.empty(0).keys,
        counts=Window.empty(0).counts, errors={}, messages={}, health=(), hiccups=(),
    )  # fmt: skip
    for give in (writer.append_window, lambda window: writer.journal_windows("a1", [window])):
        with pytest.raises(ValueError, match="slot 99"):
            give(alien)
    assert load_run(writer.path).windows.empty


def test_no_secret_is_in_any_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A header, a `${env}` value and a literal credential are in no file, partial or complete."""
    monkeypatch.setenv("CANARY_TOKEN", "canary-from-environment-7f3a")
    canaries = [b"canary-from-environment-7f3a", b"canary-in-header-11aa", b"canary-pass-55bb"]
    header = "Authorization: Bearer canary-in-header-11aa"
    manifest = replaced(
        good_manifest(),
        scenario_text='headers = { Authorization = "Bearer ${env:CANARY_TOKEN}" }\n'
        'password = "canary-pass-55bb"\n',
        command=("headroom", "run", "-H", header, "--password", "canary-pass-55bb"),
        warnings=(f"odd header {header}",),
        target_version="1.0 canary-from-environment-7f3a",
    )
    writer = create_archive(tmp_path, manifest, PLAN)
    rng = np.random.default_rng(1)
    window = window_of(T0_S, manifest.slots, rng, wanted=[6], samples=20)
    texts = {(6, "status_503"): f"echo {header} canary-from-environment-7f3a \x1b[2J"}
    leaking = Window(
        **{name: getattr(window, name) for name in window.__slots__ if name != "messages"},
        messages=texts,
    )
    writer.journal_windows("a1", [leaking])
    writer.append_window(leaking)
    leak = event(text=f"saw {header}")
    leak.fields["echo"] = "password=canary-pass-55bb"
    writer.append_event(leak)
    partial = files_of(writer.path)
    read = load_run(writer.path)
    path = writer.finish(
        replaced(finished(manifest), outcome_reason="canary-from-environment-7f3a")
    )
    for files in (partial, files_of(path)):
        for name, data in files.items():
            assert not [c for c in canaries if c in data], name
    everything = repr((read.manifest, read.events, read.messages, load_run(path).messages))
    assert "canary-" not in everything
    assert "${env:CANARY_TOKEN}" in everything
    assert "\x1b" not in str(read.messages)
