"""Lists the runs of a results folder, checked as far as that is cheap.

Manifest, small files and verdict are held against their checksums, large files against
their lengths; `load_run` reads everything. A damaged archive is a line of the list that says
so: it never hides the others and is never shown with a verdict.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from loadtests.errors import HarnessError
from loadtests.record.checksums import (
    check_cheaply,
    check_manifest,
    read_checksums,
    sealed_verdict,
)
from loadtests.record.directory import (
    CHECKSUMS_FILE,
    MANIFEST_FILE,
    PARTIAL,
    RUNS,
    check_run_directory,
    is_being_written,
    is_partial,
)
from loadtests.record.files import read_file, reading
from loadtests.record.manifest import RUN_ID, Manifest, Outcome, decode_manifest


class RunState(Enum):
    """What a run directory is."""

    COMPLETE = "complete"
    RUNNING = "running"
    PARTIAL = "partial"  # its writer is gone
    DAMAGED = "damaged"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """One run directory; `manifest` is None and `problem` says why where it is damaged.

    `verdict` is `verdict.json` as it was written with the run, None where there is none.
    """

    run_id: str
    path: Path
    state: RunState
    manifest: Manifest | None
    verdict: bytes | None
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
        data = read_file(path / MANIFEST_FILE)
        manifest = decode_manifest(data, str(path / MANIFEST_FILE))
        verdict = _verdict(path) if is_partial(path) else _checked_verdict(path, manifest, data)
    except HarnessError as error:
        return RunSummary(
            run_id=_run_id(path),
            path=path,
            state=RunState.DAMAGED,
            manifest=None,
            verdict=None,
            problem=str(error),
        )
    state = RunState.COMPLETE
    if is_partial(path):
        state = RunState.RUNNING if is_being_written(path) else RunState.PARTIAL
    return RunSummary(
        run_id=_run_id(path),
        path=path,
        state=state,
        manifest=manifest,
        verdict=verdict,
        problem="",
    )


def _checked_verdict(path: Path, manifest: Manifest, data: bytes) -> bytes | None:
    """The verdict of a complete run; HarnessError when what can be checked cheaply is wrong."""
    sums = check_manifest(path, manifest, data)
    if manifest.run_id != path.name or manifest.outcome is Outcome.RUNNING:
        raise HarnessError(
            where=str(path / MANIFEST_FILE),
            seen=f"run {manifest.run_id}, {manifest.outcome.value}",
            expected="the end of the run that the directory is named after",
        )
    check_cheaply(path, manifest)
    return sealed_verdict(path, sums)


def _verdict(path: Path) -> bytes | None:
    """The verdict of a partial run, which lists no other file."""
    if not (path / CHECKSUMS_FILE).exists():
        return None
    return sealed_verdict(path, read_checksums(path))
