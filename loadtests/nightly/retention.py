"""Which archives may go: those of old nights, never a baseline, a failure or what is not ours.

Only runs that a night's record names are looked at: what people ran themselves is theirs. A
failure is one whatever found it: the run's own verdict, how the night's child ended, or a step
that looked at the runs of the night. Of the last nobody can tell from the record which of them
it was, so all of that night stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from loadtests.nightly.records import NightRecord, NightState
from loadtests.nightly.spec import StepKind

_FAILURES: Final = frozenset({NightState.FAIL, NightState.HARNESS, NightState.ABORTED})


class Kept(Enum):
    """Why an archive stays."""

    NEW = "of the newest nights"
    BASELINE = "a baseline"
    FAILURE = "a failure"
    RUNNING = "still being written"
    DAMAGED = "damaged: nobody knows what it says"
    UNJUDGED = "without a verdict"


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """A run on disk, as far as keeping it goes."""

    run_id: str
    path: Path
    is_running: bool
    is_damaged: bool
    is_baseline: bool
    verdict: str  # PASS, FAIL, INCONCLUSIVE; "?" without one
    is_complete: bool  # it came to its end: aborted and crashed runs did not


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """What stays, with the reason, and what goes; both in the order of the runs."""

    kept: tuple[tuple[Archive, Kept], ...]
    gone: tuple[Archive, ...]


def decide_retention(
    records: Sequence[NightRecord], archives: Mapping[str, Archive], nights: int
) -> Retention:
    """Keep the archives of the newest `nights` nights (1 or more) and whatever must stay."""
    if nights < 1:
        raise ValueError(f"{nights} nights, expected 1 or more")
    newest = {record.night for record in sorted(records, key=lambda r: r.night)[-nights:]}
    kept, gone = [], []
    for record in sorted(records, key=lambda r: r.night):
        failed = _failed_runs(record)
        for run_id in record.run_ids:
            if run_id not in archives:
                continue
            archive = archives[run_id]
            reason = Kept.NEW if record.night in newest else _must_stay(archive)
            if reason is None and run_id in failed:
                reason = Kept.FAILURE
            if reason is None:
                gone.append(archive)
            else:
                kept.append((archive, reason))
    return Retention(kept=tuple(kept), gone=tuple(gone))


def _failed_runs(record: NightRecord) -> frozenset[str]:
    """What a night says of its own runs, whatever their archives say."""
    if any(one.does != StepKind.RUN.value and one.state in _FAILURES for one in record.steps):
        return frozenset(record.run_ids)
    tries = (one for step in record.steps for one in step.attempts)
    return frozenset(one.run_id for one in tries if one.run_id and one.state in _FAILURES)


def _must_stay(archive: Archive) -> Kept | None:
    if archive.is_running:
        return Kept.RUNNING
    if archive.is_damaged:
        return Kept.DAMAGED
    if archive.is_baseline:
        return Kept.BASELINE
    if archive.verdict == "FAIL" or not archive.is_complete:
        return Kept.FAILURE
    return Kept.UNJUDGED if archive.verdict not in {"PASS", "INCONCLUSIVE"} else None
