"""The archive's front door: write a run, read a run, list runs, verify one.

`create_archive` makes `results/runs/<id>.partial/` and returns its `ArchiveWriter`;
`reopen_archive` takes up a partial run whose writer has died;
`load_run` reads a complete or partial run; `list_runs` never fails because of one broken
archive; `verify` reads every byte of one and names each thing that does not add up.
"""

from loadtests.record.catalogue import RunState, RunSummary, list_runs
from loadtests.record.directory import new_run_id
from loadtests.record.event import Event
from loadtests.record.manifest import Manifest
from loadtests.record.reader import Run, RunSoFar, TotalKey, load_run
from loadtests.record.reopening import reopen_archive
from loadtests.record.verification import verify
from loadtests.record.writer import ArchiveWriter, create_archive

__all__ = [
    "ArchiveWriter",
    "Event",
    "Manifest",
    "Run",
    "RunSoFar",
    "RunState",
    "RunSummary",
    "TotalKey",
    "create_archive",
    "list_runs",
    "load_run",
    "new_run_id",
    "reopen_archive",
    "verify",
]
