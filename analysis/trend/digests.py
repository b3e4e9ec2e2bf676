"""What a history needs of an archive, remembered beside the archives.

Judging an archive of an hour takes seconds, reading a digest a fraction of a millisecond.
A digest lies in `results/.digests/<run id>.json` and is the figures of the judged
stages with the sentence that says why they count for nothing, where they do not. It is made
when a run is judged, or when it is first asked for, and holds only for the very `run.json`
whose SHA-256 it names. When the rules of judging have changed since it is made anew. The
folder may be deleted at any time.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Final

import msgspec

from analysis.baseline_types import Baseline
from analysis.baselines import refusal_of, summarise
from analysis.verdict import Verdict, judge
from loadtests.errors import HarnessError
from loadtests.record.archive import Run, load_run
from loadtests.record.directory import MANIFEST_FILE, RUNS
from loadtests.record.files import read_file, replace_file

FOLDER: Final = ".digests"
RULES: Final = 2  # raised when judging changes what a digest says


class Digest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One run: `refusal` is "" where its figures may be used."""

    rules: str
    manifest_sha256: str
    refusal: str
    figures: Baseline


@cache
def _rules() -> str:
    """Reading a package's version takes longer than reading a digest."""
    return f"{version('headroom')}/{RULES}"


def _path_of(run_dir: Path) -> Path | None:
    """None for a run that does not lie in a results folder: nothing is written beside it."""
    runs = run_dir.resolve().parent
    return runs.parent / FOLDER / f"{run_dir.name}.json" if runs.name == RUNS else None


def _manifest_sha256(run_dir: Path) -> str:
    return hashlib.sha256(read_file(run_dir / MANIFEST_FILE)).hexdigest()


def store_digest(run: Run, verdict: Verdict) -> Digest:
    """Make the digest of a judged run; it is written if the folder lets itself be written."""
    refusal = refusal_of(run, verdict)
    digest = Digest(
        rules=_rules(),
        manifest_sha256=_manifest_sha256(run.path),
        refusal="" if refusal is None else refusal.seen,
        figures=summarise(run, verdict),
    )
    path = _path_of(run.path)
    if path is None:
        return digest
    with suppress(OSError, HarnessError):  # a folder that is read-only costs time, not truth
        path.parent.mkdir(exist_ok=True)
        replace_file(path, msgspec.json.encode(digest))
    return digest


def read_digest(run_dir: Path) -> Digest | None:
    """The remembered digest of a complete run, by whatever rules; None where there is none."""
    path = _path_of(run_dir)
    if path is None:
        return None
    try:
        digest = msgspec.json.decode(read_file(path), type=Digest)
    except (HarnessError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return digest if digest.manifest_sha256 == _manifest_sha256(run_dir) else None


def load_digest(run_dir: Path) -> Digest:
    """The digest of a complete run, from memory or from its archive; HarnessError on damage.

    Of an archive that this program cannot judge any more, what an earlier one made of it
    stays its figures.
    """
    kept = read_digest(run_dir)
    if kept is not None and kept.rules == _rules():
        return kept
    try:
        run = load_run(run_dir)
        return store_digest(run, judge(run))
    except HarnessError:
        if kept is None:
            raise
        return kept
