"""Lists the runs of a results folder, from their manifests alone.

A damaged archive is a line of the list that says so: it never hides the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from loadtests.errors import HarnessError
from loadtests.record.directory import (
    MANIFEST_FILE,
    PARTIAL,
    RUNS,
    check_run_directory,
    is_being_written,
    is_partial,
)
from loadtests.record.files import read_file, reading
from loadtests.record.manifest import RUN_ID, Manifest, decode_manifest


class RunState(Enum):
    """What a run directory is."""

    COMPLETE = "complete"
    RUNNING = "running"
    PARTIAL = "partial"  # its writer is gone
    DAMAGED = "damaged"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """One run directory; `manifest` is None and `problem` says why where it is damaged."""

    run_id: str
    path: Path
    state: RunState
    manifest: Manifest | None
    problem: str


def list_runs(results: Path) -> tuple[RunSummary, ...]:
    """Summaries of all runs in `results/runs/`, oldest first; empty without that folder.

    HarnessError only when the folder itself cannot be read.
    """
    runs = results / RUNS
    if not runs.exists():
        return ()
    with reading(runs):
        paths = sorted(runs.iterdir())
    return tuple(_summary(path) for path in paths if RUN_ID.fullmatch(_run_id(path)))


def _run_id(path: Path) -> str:
    return path.name.removesuffix(PARTIAL)


def _summary(path: Path) -> RunSummary:
    try:
        check_run_directory(path)
        manifest = decode_manifest(read_file(path / MANIFEST_FILE), str(path / MANIFEST_FILE))
    except HarnessError as error:
        return RunSummary(
            run_id=_run_id(path),
            path=path,
            state=RunState.DAMAGED,
            manifest=None,
            problem=str(error),
        )
    state = RunState.COMPLETE
    if is_partial(path):
        state = RunState.RUNNING if is_being_written(path) else RunState.PARTIAL
    return RunSummary(run_id=_run_id(path), path=path, state=state, manifest=manifest, problem="")
