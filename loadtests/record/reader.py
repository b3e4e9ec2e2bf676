"""Reads a run back: a complete archive from its tables, a partial one from its journal.

`load_run` checks the checksum of every file that the archive lists, also of those that it
does not read, and refuses damage with a sentence. A partial run
is rebuilt from what was acknowledged, says that it is incomplete, and what was cut off.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from loadtests.clock import NS_PER_S
from loadtests.errors import HarnessError
from loadtests.record.bin_rows import BINS_TABLE
from loadtests.record.checksums import check_files, check_manifest
from loadtests.record.directory import (
    EVENTS_FILE,
    JOURNAL_FILE,
    LATENCY_FILE,
    MANIFEST_FILE,
    PLAN_FILE,
    TOTALS_FILE,
    check_run_directory,
    is_being_written,
    is_partial,
)
from loadtests.record.event import Event, decode_events
from loadtests.record.files import read_file
from loadtests.record.histogram import LENGTH, Histogram
from loadtests.record.hlog import parse_log
from loadtests.record.hold_back import windows_in_order
from loadtests.record.journal import Batch, JournalReader, ServerBatch
from loadtests.record.manifest import Manifest, Outcome, decode_manifest
from loadtests.record.parquet import read_table
from loadtests.record.read_back import load_read_back
from loadtests.record.server import SERVER_TABLE, ServerRow, server_batch
from loadtests.record.tables import ALL_SCHEMAS, SCHEMAS, RowBuilder, frame_of, table_of
from loadtests.record.totals import KeyCounts, Totals, keys_of
from loadtests.record.window import (
    Count,
    Kind,
    SlotSpace,
    Window,
    histogram_of,
)
from loadtests.record.writes import WRITES_TABLE

TotalKey = tuple[str, str, str, Kind]  # stage, request, node, kind
ErrorKey = tuple[str, str, str, str]  # stage, request, node, error kind
_COUNT_COLUMNS: Final = [count.name.lower() for count in Count]
_SLOT_COLUMNS: Final = ["stage", "request", "node"]
_ALWAYS: Final = (PLAN_FILE, EVENTS_FILE)  # files that every complete archive must list
_OF_LOAD: Final = (*(f"{name}.parquet" for name in SCHEMAS), LATENCY_FILE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run read back.

    `windows`: the columns of `tables.WINDOWS`; `errors`: those of `tables.ERRORS` without
    the message; `engines`, `hiccups`: window_s and the fields of `EngineHealth`, `Hiccup`.
    `bins`: the columns of `bin_rows.BINS`, where the scenario asked for bins.
    `writes`: the columns of `writes.WRITES`, where it asked for an audit.
    `server`: the columns of `server.SERVER`, one row a scrape and measure; no row where the
    scenario asked for none, or before it could.
    Names (stage, request, node, kind, engine, agent, measure) are categories: group with
    `observed=True`. Rows add up; a window that came in parts has several (`part`).
    `judged_sum` and `everything_sum` are merged windows (counters and histograms, without
    health), fit for `tally_of`.
    """

    path: Path
    manifest: Manifest
    is_complete: bool
    findings: tuple[str, ...]  # what was cut or missing in a partial run; empty if complete
    windows: pd.DataFrame
    errors: pd.DataFrame
    engines: pd.DataFrame
    hiccups: pd.DataFrame
    bins: pd.DataFrame
    writes: pd.DataFrame
    read_back: pd.DataFrame | None  # columns of `read_back.READ_BACK`; None: not read back
    server: pd.DataFrame
    events: tuple[Event, ...]
    messages: Mapping[ErrorKey, str]  # one sample of each
    plan_bytes: bytes
    judged_sum: Window
    everything_sum: Window

    @property
    def slots(self) -> SlotSpace:
        """The numbering of this run's windows."""
        return self.manifest.slots

    def merged(self, *, judged: bool) -> Window:
        """Exact sum of each stage's judged windows, or of every window of the run."""
        return self.judged_sum if judged else self.everything_sum

    def totals(self, *, judged: bool) -> Mapping[TotalKey, Histogram]:
        """Histograms of `merged` by name; what has no samples is not in it."""
        return histograms_by_name(self.merged(judged=judged), self.slots)


def histograms_by_name(window: Window, slots: SlotSpace) -> dict[TotalKey, Histogram]:
    """Every histogram of a window by stage, request, node and kind."""
    named: dict[TotalKey, Histogram] = {}
    for slot in np.unique(window.keys // (LENGTH * len(Kind))).tolist():
        stage, request, node = slots.indices(slot)
        names = (slots.stages[stage], slots.requests[request], slots.nodes[node])
        for kind in Kind:
            histogram = histogram_of(window, kind, [slot])
            if histogram.n:
                named[*names, kind] = histogram
    return named


def load_run(path: Path) -> Run:
    """Read `results/runs/<id>` or `<id>.partial`; HarnessError on damage.

    A partial run whose writer is alive reads as far as it got.
    """
    check_run_directory(path)
    data = read_file(path / MANIFEST_FILE)
    manifest = decode_manifest(data, str(path / MANIFEST_FILE))
    if is_partial(path):
        return _load_partial(path, manifest)
    if manifest.outcome is Outcome.RUNNING:
        raise HarnessError(
            where=str(path), seen="a draft in a complete run", expected="the outcome of the run"
        )
    return _load_complete(path, manifest, data)


def _load_complete(path: Path, manifest: Manifest, manifest_data: bytes) -> Run:
    sums = check_manifest(path, manifest, manifest_data)
    has_load = TOTALS_FILE in manifest.checksums  # else it ended before T0: no window, no table
    check_files(path, manifest, (*_ALWAYS, *(_OF_LOAD if has_load else ())))
    plan = read_file(path / PLAN_FILE)
    events, torn = decode_events(read_file(path / EVENTS_FILE), str(path / EVENTS_FILE))
    if torn:
        raise HarnessError(
            where=str(path / EVENTS_FILE), seen="a torn last line", expected="whole lines"
        )
    files = {name: f"{name}.parquet" for name in ALL_SCHEMAS}
    tables = {
        name: read_table(path / file, name) if file in manifest.checksums else table_of(name, [])
        for name, file in files.items()
    }
    log = read_file(path / TOTALS_FILE) if has_load else b""
    frames = {name: frame_of(table) for name, table in tables.items()}
    judged, everything = _sums_of_log(path, log, manifest, frames)
    return _run(
        path=path,
        manifest=manifest,
        findings=(),
        frames=frames,
        events=events,
        plan=plan,
        judged=judged,
        everything=everything,
        read_back=load_read_back(path, sums),
    )


def _sums_of_log(
    path: Path, log: bytes, manifest: Manifest, frames: Mapping[str, pd.DataFrame]
) -> tuple[Window, Window]:
    """Both sums: histograms from the log of totals, counters and errors from the tables."""
    slots = manifest.slots
    keys: dict[str, list[KeyCounts]] = {"judged": [], "everything": []}
    try:
        for interval in parse_log(log.splitlines()):
            keys[interval.names[0]].append(keys_of(interval, slots))
    except (ValueError, KeyError) as error:
        raise HarnessError(
            where=str(path / TOTALS_FILE), seen=str(error), expected="a log of this run's totals"
        ) from error
    start_s = (manifest.t0_unix_ns or 0) // NS_PER_S
    windows, errors = frames["windows"], frames["errors"]
    return (
        _sum_window(
            start_s,
            keys["judged"],
            windows[windows["judged"]],
            errors[errors["judged"]],
            slots,
        ),
        _sum_window(start_s, keys["everything"], windows, errors, slots),
    )


def _sum_window(
    start_s: int,
    parts: list[KeyCounts],
    rows: pd.DataFrame,
    errors: pd.DataFrame,
    slots: SlotSpace,
) -> Window:
    numbers = _slot_numbers(rows, slots)
    hit = np.unique(numbers)
    counters = np.zeros((hit.size, len(Count)), dtype=np.int64)
    np.add.at(counters, np.searchsorted(hit, numbers), rows[_COUNT_COLUMNS].to_numpy(np.int64))
    empty = Window.empty(start_s)
    keys = np.concatenate([empty.keys, *(keys for keys, _ in parts)])
    counts = np.concatenate([empty.counts, *(counts for _, counts in parts)])
    order = np.argsort(keys, kind="stable")
    kinds: Counter[tuple[int, str]] = Counter()
    messages: dict[tuple[int, str], str] = {}
    labels = zip(_slot_numbers(errors, slots).tolist(), errors["kind"].tolist(), strict=True)
    texts = errors["message"].astype(object).where(errors["message"].notna(), None).tolist()
    for label, count, text in zip(labels, errors["count"].tolist(), texts, strict=True):
        kinds[label] += count
        if text is not None:
            messages[label] = min(text, messages.get(label, text))
    return Window(
        start_s=start_s,
        slots=hit.astype(np.uint32),
        counters=counters,
        keys=keys[order],
        counts=counts[order],
        errors=kinds,
        messages=messages,
        health=(),
        hiccups=(),
    )


def _slot_numbers(rows: pd.DataFrame, slots: SlotSpace) -> NDArray[np.int64]:
    """Slot number of each row, by its names."""
    words = (slots.stages, slots.requests, slots.nodes)
    stages, requests, nodes = (
        pd.Categorical(rows[column], categories=list(names)).codes.astype(np.int64)
        for column, names in zip(_SLOT_COLUMNS, words, strict=True)
    )
    if min(codes.min(initial=0) for codes in (stages, requests, nodes)) < 0:
        raise ValueError("a row names a stage, request or node that the run does not have")
    return (stages * len(slots.requests) + requests) * len(slots.nodes) + nodes


def read_plan(path: Path, manifest: Manifest) -> bytes:
    """The plan of a partial archive; HarnessError unless it is what the run began with."""
    plan = read_file(path / PLAN_FILE)
    if hashlib.sha256(plan).hexdigest() != manifest.plan_sha256:
        raise HarnessError(
            where=str(path / PLAN_FILE), seen="another checksum than the draft says",
            expected="the plan that the run was started with",
        )  # fmt: skip
    return plan


def _load_partial(path: Path, manifest: Manifest) -> Run:
    """Rebuild a run from its journal: what a crash left is all there, to the last frame."""
    plan = read_plan(path, manifest)
    findings = [_partial_state(path, manifest)]
    # A run that died between two files being made has no journal or no events yet.
    rebuilt = RunSoFar(manifest)
    if (path / JOURNAL_FILE).exists():
        journal = JournalReader(path / JOURNAL_FILE, manifest.slots)
        for window in windows_in_order(rebuilt.batches(journal)):
            rebuilt.add(window)
        if journal.cut_bytes:
            findings.append(f"the journal's last {journal.cut_bytes} bytes are damaged: left out")
    events: tuple[Event, ...] = ()
    if (path / EVENTS_FILE).exists():
        events, torn = decode_events(read_file(path / EVENTS_FILE), str(path / EVENTS_FILE))
        if torn:
            findings.append(f"the last event is torn ({torn} bytes): left out")
    return _run(
        path=path,
        manifest=manifest,
        findings=tuple(findings),
        frames=rebuilt.frames(),
        events=events,
        plan=plan,
        judged=rebuilt.totals.judged(),
        everything=rebuilt.totals.everything(),
    )


def _partial_state(path: Path, manifest: Manifest) -> str:
    if is_being_written(path):
        return "the run is still being written"
    if manifest.outcome is Outcome.RUNNING:
        return "the run died without recording an end"
    return f"the archive was not closed; the run ended: {manifest.outcome.value}"


class RunSoFar:
    """Makes the same tables and sums of windows as the writer of a complete archive.

    `rows` are those kept, of all tables: 0.1-0.4 kB of memory each.
    """

    def __init__(self, manifest: Manifest) -> None:
        self.rows = 0
        self.totals = Totals(manifest)
        self._rows = RowBuilder(manifest, str)  # texts were cleaned when they were written
        self._columns: dict[str, list[pa.RecordBatch]] = {name: [] for name in ALL_SCHEMAS}

    def batches(self, journal: Iterable[Batch | ServerBatch | bytes]) -> Iterator[Batch]:
        """The batches of windows of a journal; rows of scrapes are kept on the way."""
        for batch in journal:
            if isinstance(batch, ServerBatch):
                self.add_server(batch.rows)
            elif isinstance(batch, Batch):
                yield batch

    def add(self, window: Window) -> None:
        """Take a window, or a further part of one."""
        self.totals.add(window)
        for name, rows in self._rows.batches(window).items():
            self._keep(name, rows)

    def add_server(self, rows: Sequence[ServerRow]) -> None:
        """Take rows of scrapes."""
        self._keep(SERVER_TABLE, server_batch(rows))

    def _keep(self, name: str, rows: pa.RecordBatch) -> None:
        self._columns[name].append(rows)
        self.rows += rows.num_rows

    def frames(self) -> dict[str, pd.DataFrame]:
        """Tables of all that was added."""
        return {name: frame_of(table_of(name, parts)) for name, parts in self._columns.items()}

    def run(self, path: Path, manifest: Manifest, plan: bytes) -> Run:
        """The run as far as it was taken in, without events; `manifest` of the same run."""
        return _run(
            path=path,
            manifest=manifest,
            findings=("the run is under way",),
            frames=self.frames(),
            events=(),
            plan=plan,
            judged=self.totals.judged(),
            everything=self.totals.everything(),
        )


def _run(
    *,
    path: Path,
    manifest: Manifest,
    findings: tuple[str, ...],
    frames: Mapping[str, pd.DataFrame],
    events: tuple[Event, ...],
    plan: bytes,
    judged: Window,
    everything: Window,
    read_back: pd.DataFrame | None = None,
) -> Run:
    slots = manifest.slots
    messages: dict[ErrorKey, str] = {}
    for (slot, kind), text in sorted(everything.messages.items()):
        stage, request, node = slots.indices(slot)
        messages[slots.stages[stage], slots.requests[request], slots.nodes[node], kind] = text
    return Run(
        path=path,
        manifest=manifest,
        is_complete=not findings,
        findings=findings,
        windows=frames["windows"],
        errors=frames["errors"].drop(columns="message"),
        engines=frames["engines"],
        hiccups=frames["hiccups"],
        bins=frames[BINS_TABLE],
        writes=frames[WRITES_TABLE],
        read_back=read_back,
        server=frames[SERVER_TABLE],
        events=events,
        messages=messages,
        plan_bytes=plan,
        judged_sum=judged,
        everything_sum=everything,
    )
