"""Takes a partial run up again: its journal and events stay, what was made of them does not.

Owns the order of it: the lock on the journal comes first, so that nobody takes up a run whose
writer lives, nor twice; torn ends are cut off; tables and logs without an end are removed,
because they are made again from the journal. A crash in between leaves a partial run that
can be taken up again.
"""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import Final

import msgspec

from loadtests.errors import HarnessError
from loadtests.record.directory import (
    CHECKSUMS_FILE,
    EVENTS_FILE,
    JOURNAL_FILE,
    LATENCY_FILE,
    MANIFEST_FILE,
    READ_BACK_FILE,
    REPORT_FILES,
    TOTALS_FILE,
    VERDICT_FILE,
    check_run_directory,
    is_partial,
)
from loadtests.record.event import decode_events
from loadtests.record.files import AppendFile, read_file, writing
from loadtests.record.journal import Journal, JournalReader
from loadtests.record.manifest import Manifest, Outcome, decode_manifest
from loadtests.record.reader import read_plan
from loadtests.record.tables import ALL_SCHEMAS
from loadtests.record.writer import ArchiveWriter, KeptFiles

# The list of checksums goes first: without it nothing else looks like a finished file.
_MADE_AGAIN: Final = (
    CHECKSUMS_FILE, VERDICT_FILE, READ_BACK_FILE, *REPORT_FILES, LATENCY_FILE, TOTALS_FILE,
    *(f"{name}.parquet" for name in ALL_SCHEMAS),
)  # fmt: skip


def reopen_archive(path: Path) -> tuple[ArchiveWriter, Manifest]:
    """A writer of `results/runs/<id>.partial`, and the manifest that its run ended with.

    The writer's own is a draft again. HarnessError for a complete run, one that is being
    written, and damage.
    """
    check_run_directory(path)
    if not is_partial(path):
        raise HarnessError(
            where=str(path), seen="a complete run", expected="a partial one: nothing is missing"
        )
    manifest = decode_manifest(read_file(path / MANIFEST_FILE), str(path / MANIFEST_FILE))
    plan = read_plan(path, manifest)
    kept = _kept_files(path, manifest)
    for name in _MADE_AGAIN:
        with writing(path / name):
            (path / name).unlink(missing_ok=True)
    draft = msgspec.structs.replace(
        manifest, outcome=Outcome.RUNNING, outcome_reason="", finished_unix_ns=None
    )
    return ArchiveWriter(path, draft, plan, kept), manifest


def _kept_files(path: Path, manifest: Manifest) -> KeptFiles:
    """Journal and events, locked and cut to what is whole; empty ones where there were none."""
    for name in (JOURNAL_FILE, EVENTS_FILE):  # a run may have died before it had them
        with writing(path / name):
            (path / name).touch()
    journal = Journal(path / JOURNAL_FILE, 0)
    try:
        fcntl.flock(journal.file.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        journal.file.close()
        raise HarnessError(
            where=str(path), seen="the run is still being written", expected="a run that died"
        ) from error
    reader = JournalReader(path / JOURNAL_FILE, manifest.slots)
    for _ in reader.opaque():
        pass
    journal.file.size_bytes = reader.whole_bytes
    journal.file.cut()
    data = read_file(path / EVENTS_FILE)
    events, torn = decode_events(data, str(path / EVENTS_FILE))
    file = AppendFile(path / EVENTS_FILE, len(data) - torn)
    file.cut()
    return KeptFiles(journal=journal, events=file, event_count=len(events))
