"""Writes the archive of one run while it runs.

Owns the order of writing. While load runs, `results/runs/<id>.partial/` holds the draft
`run.json`, the plan, the events and the journal, each append in the kernel when the call
returns; tables and logs grow beside them. `finish` closes everything, writes checksums,
syncs and renames: a directory without `.partial` is complete and verified or not there.

Refuses to carry on after a disk error: every call raises a HarnessError naming file and
errno, and what was written before stays readable. Secrets are taken out here
(`redaction.py`), of every text that goes into a file.

A merged window is held back `HOLD_S` seconds before it becomes rows and log lines, so
that late parts still merge into it; the journal has them already.
"""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from loadtests.clock import NS_PER_S
from loadtests.errors import HarnessError
from loadtests.record.checksums import checksums_text
from loadtests.record.directory import (
    CHECKSUMS_FILE,
    EVENTS_FILE,
    JOURNAL_FILE,
    LATENCY_FILE,
    MANIFEST_FILE,
    PARTIAL,
    PLAN_FILE,
    TOTALS_FILE,
    create_run_directory,
)
from loadtests.record.event import Event, encode_event
from loadtests.record.files import (
    AppendFile,
    replace_file,
    sha256_of,
    size_of,
    sync_directory,
    writing,
)
from loadtests.record.hlog import IntervalEncoder, log_header
from loadtests.record.hold_back import HoldBack
from loadtests.record.journal import Batch, Journal, ServerBatch
from loadtests.record.manifest import Manifest, Outcome, encode_manifest
from loadtests.record.memory import give_back_memory
from loadtests.record.parquet import TableFile
from loadtests.record.redaction import clean_message, redact, redact_command, secrets_of
from loadtests.record.server import SERVER_TABLE, ServerRow
from loadtests.record.server_file import ServerFile
from loadtests.record.tables import SCHEMAS, RowBuilder
from loadtests.record.totals import Totals, intervals_of
from loadtests.record.window import Count, Window, check_slots, pack_window

HOLD_S: Final = 10


def create_archive(results: Path, draft: Manifest, plan: bytes) -> ArchiveWriter:
    """Make `results/runs/<draft.run_id>.partial/`; `plan` is `encode_plan`'s bytes.

    HarnessError when the folder cannot be written or the run id is taken.
    """
    path = create_run_directory(results, draft.run_id)
    replace_file(path / PLAN_FILE, plan)
    return ArchiveWriter(path, draft, plan, None)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class KeptFiles:
    """What stays of a partial run that is taken up again (`reopening.py`)."""

    journal: Journal  # locked
    events: AppendFile
    event_count: int


class ArchiveWriter:
    """Writes one run; not for several threads. See `create_archive` and `reopen_archive`."""

    def __init__(self, path: Path, draft: Manifest, plan: bytes, kept: KeptFiles | None) -> None:
        self._path = path
        self._secrets = secrets_of(draft.scenario_text, os.environ)
        self._plan_sha256 = hashlib.sha256(plan).hexdigest()
        self._draft = self._cleaned(draft)
        self._slots = draft.slots  # kept: made anew for each of 1,000 windows it costs 20 us
        self._held = HoldBack(HOLD_S)
        self._journalled = np.zeros(len(Count), dtype=np.int64)
        self._has_journalled = False
        self._encoder = IntervalEncoder()
        self._tables: dict[str, TableFile] = {}
        self._server: ServerFile | None = None
        self._rows: RowBuilder | None = None
        self._totals: Totals | None = None
        self._latency: AppendFile | None = None
        self._write_draft()
        if kept is None:
            self._journal = Journal(path / JOURNAL_FILE)
            with suppress(OSError):  # a file system without locks: the run looks dead to a list
                fcntl.flock(self._journal.file.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._events, self._event_count = AppendFile(path / EVENTS_FILE), 0
        else:
            self._journal = kept.journal
            self._events, self._event_count = kept.events, kept.event_count

    @property
    def path(self) -> Path:
        """The `.partial` directory; the final one after `finish`."""
        return self._path

    @property
    def manifest(self) -> Manifest:
        """What `run.json` says now."""
        return self._draft

    def update(self, draft: Manifest) -> None:
        """Replace the draft, as facts come in; T0 must be set before the first window."""
        self._check_same_run(draft)
        self._draft = self._cleaned(draft)
        self._write_draft()

    def clean(self, text: str) -> str:
        """Take secrets out of a text, and what does not belong into one."""
        return clean_message(text, self._secrets)

    def journal(self, batch: bytes) -> None:
        """Append opaque bytes: kept while the run is partial, handed back by `JournalReader`.

        Their texts cannot be cleaned of secrets here: `clean` them before.
        """
        self._journal.append_opaque(batch)

    def recall(self, batch: Batch | ServerBatch) -> None:
        """Count what the journal of a reopened run holds: nothing is written to it again.

        Rows of scrapes are archived by this; windows are, when they come back merged.
        """
        if isinstance(batch, ServerBatch):
            self._server_file().recall(batch.rows)
            return
        self._has_journalled = True
        for window in batch.windows:
            self._journalled += window.counters.sum(axis=0)

    def journal_windows(self, source: str, windows: Sequence[Window]) -> None:
        """Append acknowledged windows of one agent: a partial run is rebuilt from these.

        ValueError, and nothing written, for a window with a slot that the run does not have.
        """
        for window in windows:
            check_slots(window, self._slots)
        packed = [pack_window(self._without_secrets(window)) for window in windows]
        self._note_journalled(windows, [(source, packed, b"")])

    def journal_received(self, received: Sequence[tuple[str, Window, bytes, bytes]]) -> None:
        """Append windows of several agents at once, each (source, window, packed bytes, note).

        Packing again what was just unpacked costs about as much as unpacking it did; those
        that hold texts are packed again all the same, without secrets. One write for all of
        them: a master of 1,000 agents spent a tenth of its time on one for each. ValueError
        as `journal_windows`.
        """
        batches = []
        for source, window, packed, note in received:
            check_slots(window, self._slots)
            is_clean = not window.messages
            body = packed if is_clean else pack_window(self._without_secrets(window))
            batches.append((source, [body], note))
        self._note_journalled([window for _, window, _, _ in received], batches)

    def _note_journalled(
        self, windows: Sequence[Window], batches: Sequence[tuple[str, Sequence[bytes], bytes]]
    ) -> None:
        self._journal.append_windows(batches)
        self._has_journalled = True
        for window in windows:
            self._journalled += window.counters.sum(axis=0)

    def append_window(self, window: Window) -> None:
        """Archive a merged window of the whole run; a label may repeat, its parts add up.

        ValueError, and nothing counted, without T0 or for a slot that the run does not have.
        """
        check_slots(window, self._slots)
        if self._draft.t0_unix_ns is None:
            raise ValueError("a window before T0: call update with a manifest that has it")
        self._held.add(window)
        for due in self._held.due():
            self._write_window(due)

    def append_server(self, rows: Sequence[ServerRow]) -> None:
        """Archive what scrapes brought; in the kernel when this returns.

        The first call makes the file, also without a row: it says that there was scraping.
        """
        self._server_file().append(rows)

    def _server_file(self) -> ServerFile:
        if self._server is None:
            self._server = ServerFile(self._path, self._journal, self._secrets)
        return self._server

    def append_event(self, event: Event) -> None:
        """Archive an event; in the kernel when this returns."""
        clean = partial(clean_message, secrets=self._secrets)
        fields = {
            key: clean(value) if isinstance(value, str) else value
            for key, value in event.fields.items()
        }
        event = msgspec.structs.replace(
            event, who=clean(event.who), text=clean(event.text), fields=fields
        )
        self._events.append(encode_event(event))
        self._event_count += 1

    def finish(self, manifest: Manifest) -> Path:
        """Close, checksum and rename; returns the directory of the complete archive.

        `events`, `checksums` and `plan_sha256` are filled in here; a difference between
        what was journalled and what was archived becomes a warning.
        """
        if manifest.outcome is Outcome.RUNNING:
            raise ValueError("a finished run has an outcome other than RUNNING")
        self._check_same_run(manifest)
        self._draft = self._cleaned(manifest)
        for window in self._held.rest():
            self._write_window(window)
        self._write_totals()
        self._close_files()
        self._write_manifest()
        return self._publish()

    def abandon(self, reason: str, outcome: Outcome = Outcome.CRASHED) -> Path:
        """Stop writing where it is; what was written stays, as a partial run with this outcome.

        Never raises on disk errors, since one may be why it is called: then `run.json`
        stays a draft, which a reader reports as a run that died.
        """
        self._draft = msgspec.structs.replace(
            self._draft,
            outcome=outcome,
            outcome_reason=clean_message(reason, self._secrets),
            events=self._event_count,
        )
        with suppress(HarnessError):
            self._write_draft()
        for table in self._files():
            with suppress(HarnessError):
                table.discard()
        for file in (self._events, self._journal.file, self._latency):
            with suppress(HarnessError):
                if file is not None:
                    file.close()
        return self._path

    def _without_secrets(self, window: Window) -> Window:
        if not window.messages:
            return window
        messages = {at: clean_message(text, self._secrets) for at, text in window.messages.items()}
        return dataclasses.replace(window, messages=messages)

    def _check_same_run(self, manifest: Manifest) -> None:
        if (manifest.run_id, manifest.slots) != (self._draft.run_id, self._slots):
            raise ValueError("the manifest is another run's: id, stages, requests or nodes differ")
        has_windows = len(self._held) > 0 or self._rows is not None
        if has_windows and manifest.t0_unix_ns != self._draft.t0_unix_ns:
            raise ValueError("T0 cannot change once there are windows")

    def _cleaned(self, manifest: Manifest) -> Manifest:
        clean = partial(clean_message, secrets=self._secrets)
        agents = tuple(
            msgspec.structs.replace(agent, warnings=tuple(map(clean, agent.warnings)))
            for agent in manifest.agents
        )
        version = manifest.target_version
        return msgspec.structs.replace(
            manifest,
            scenario_text=redact(manifest.scenario_text, self._secrets),
            command=redact_command(manifest.command, self._secrets),
            target_version=None if version is None else clean(version),
            outcome_reason=clean(manifest.outcome_reason),
            warnings=tuple(map(clean, manifest.warnings)),
            agents=agents,
            plan_sha256=self._plan_sha256,
        )

    def _write_draft(self) -> None:
        replace_file(self._path / MANIFEST_FILE, encode_manifest(self._draft))

    def _open_tables(self) -> tuple[RowBuilder, Totals, AppendFile]:
        """Open what needs T0, on the first window."""
        if self._rows is None or self._totals is None or self._latency is None:
            clean = partial(clean_message, secrets=self._secrets)
            self._rows = RowBuilder(self._draft, clean)
            self._totals = Totals(self._draft)
            for name in SCHEMAS:
                self._table(name)
            self._latency = AppendFile(self._path / LATENCY_FILE)
            self._latency.append(log_header((self._draft.t0_unix_ns or 0) // NS_PER_S))
        return self._rows, self._totals, self._latency

    def _table(self, name: str) -> TableFile:
        """A table, whose file is made when it is first asked for."""
        if name not in self._tables:
            self._tables[name] = TableFile(self._path / f"{name}.parquet", name)
        return self._tables[name]

    def _write_window(self, window: Window) -> None:
        rows, totals, latency = self._open_tables()
        totals.add(window)
        batches = rows.batches(window).items()
        were_full = [self._table(name).append(batch) for name, batch in batches]
        intervals = intervals_of(window, self._draft.slots, 1, ())
        latency.append(b"".join(map(self._encoder.encode, intervals)))
        if any(were_full):
            give_back_memory()

    def _write_totals(self) -> None:
        """Both sums, in one log: the tag's first name says which."""
        if self._draft.t0_unix_ns is None:
            return
        _, totals, _ = self._open_tables()
        start_s = self._draft.t0_unix_ns // NS_PER_S
        length_s = max(0, self._held.newest_s + 1 - start_s)
        parts = [log_header(start_s)]
        for name, total in (("judged", totals.judged()), ("everything", totals.everything())):
            intervals = intervals_of(total, self._draft.slots, length_s, (name,))
            parts.extend(map(self._encoder.encode, intervals))
        file = AppendFile(self._path / TOTALS_FILE)
        try:
            file.append(b"".join(parts))
            file.sync()
        finally:
            file.close()

    def _files(self) -> list[TableFile | ServerFile]:
        """Tables that are open."""
        server = [self._server] if self._server is not None else []
        return [*self._tables.values(), *server]

    def _close_files(self) -> None:
        for table in self._files():
            table.close()
        for file in (self._latency, self._events):
            if file is not None:
                file.sync()
                file.close()

    def _write_manifest(self) -> None:
        names = [PLAN_FILE, EVENTS_FILE]
        tables = [*self._tables, *([SERVER_TABLE] if self._server is not None else [])]
        names += [f"{name}.parquet" for name in tables]
        if self._totals is not None:
            names += [LATENCY_FILE, TOTALS_FILE]
        self._draft = msgspec.structs.replace(
            self._draft,
            events=self._event_count,
            checksums={name: sha256_of(self._path / name) for name in sorted(names)},
            sizes_bytes={name: size_of(self._path / name) for name in sorted(names)},
            warnings=(*self._draft.warnings, *self._difference()),
        )
        self._write_draft()
        own = sha256_of(self._path / MANIFEST_FILE)
        replace_file(self._path / CHECKSUMS_FILE, checksums_text(self._draft, own))

    def _difference(self) -> tuple[str, ...]:
        """Compare what agents handed over with what was archived: they must be the same."""
        if not self._has_journalled or self._totals is None:
            return ()
        archived = self._totals.everything().counters.sum(axis=0)
        return tuple(
            f"archived {int(archived[count])} {count.name.lower()}, but agents handed over "
            f"{int(self._journalled[count])}"
            for count in Count
            if archived[count] != self._journalled[count]
        )

    def _publish(self) -> Path:
        final = self._path.with_name(self._path.name.removesuffix(PARTIAL))
        sync_directory(self._path)
        with writing(final):
            self._path.rename(final)
        sync_directory(final.parent)
        self._path = final
        # Only now: until the rename a crash needs the journal to be read from.
        self._journal.file.close()
        with writing(final / JOURNAL_FILE):
            (final / JOURNAL_FILE).unlink()
        return final
