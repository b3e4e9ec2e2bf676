"""Taking up the run of a master that died: what it left, whether it can go on, its books.

The journal has every window that was acknowledged, and what the dead master wrote down of
itself (`recollection.py`). While agents may still hold leases, a new master goes on with them
(`master.py`); when they are gone the books are closed here: a complete archive of everything
that was received, which says that its run did not come to its end. A crash on the way leaves
the partial archive as it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from loadtests.clock import NS_PER_S
from loadtests.errors import HarnessError, Mistake, ScenarioError
from loadtests.plan.codec import decode_plan
from loadtests.plan.model import Plan
from loadtests.plan.schedule import Schedule
from loadtests.record.archive import ArchiveWriter, reopen_archive
from loadtests.record.directory import (
    EVENTS_FILE,
    JOURNAL_FILE,
    MANIFEST_FILE,
    PLAN_FILE,
    check_run_directory,
    is_being_written,
    is_partial,
)
from loadtests.record.facts import package_versions
from loadtests.record.files import read_file
from loadtests.record.journal import Batch, JournalReader
from loadtests.record.manifest import Manifest, Outcome, decode_manifest
from loadtests.swarm import actions
from loadtests.swarm.actions import Finished, MasterAction
from loadtests.swarm.agent_shell import boot_id
from loadtests.swarm.books import finished_manifest
from loadtests.swarm.coordinator import Coordinator
from loadtests.swarm.merge import LedgerError
from loadtests.swarm.recollection import Anchor, Checkpoint, decode_frame, decode_note
from loadtests.swarm.run_state import EndCause, RunSetup
from loadtests.swarm.timing import Timing

_DIED: Final = "the master died, and its agents are gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """How a run ended; `path` is the archive, `.partial` when it was stopped at once."""

    path: Path
    outcome: Outcome
    cause: EndCause
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a dead master left. Without a checkpoint nobody had got a lease."""

    path: Path
    manifest: Manifest
    plan: Plan
    plan_bytes: bytes
    anchor: Anchor
    checkpoint: Checkpoint | None
    died_unix_ns: int  # its last sign of life

    @property
    def died_ns(self) -> int:
        """The same on the dead master's monotonic clock."""
        return self.died_unix_ns - self.anchor.unix_minus_monotonic_ns

    def coordinator(self) -> Coordinator:
        """One for the same run."""
        return Coordinator(
            setup=RunSetup(
                run_id=self.manifest.run_id,
                plan=self.plan,
                plan_bytes=self.plan_bytes,
                agents=self.anchor.agents,
                version=package_versions()["headroom"],
                code={},  # membership is frozen: nobody's is looked at
                is_named_by_key=False,
                boot_id=self.anchor.boot_id,
                unix_minus_monotonic_ns=self.anchor.unix_minus_monotonic_ns,
                join_wait_ns=0,
            ),
            timing=Timing(),
            planned=Schedule(self.plan).planned,
        )


def find(path: Path) -> Found:
    """Read what is left of a partial run.

    ScenarioError for a run that nobody has to take up, HarnessError for what cannot be read.
    """
    check_run_directory(path)
    if not is_partial(path) or is_being_written(path):
        seen = "a run that goes on" if is_partial(path) else "a complete run"
        mistake = Mistake(where="RUN", seen=seen, expected="a partial run: its master died")
        raise ScenarioError(str(path), (mistake,))
    manifest = decode_manifest(read_file(path / MANIFEST_FILE), str(path / MANIFEST_FILE))
    plan_bytes = read_file(path / PLAN_FILE)
    anchor, checkpoint = _frames(path, manifest)
    try:
        plan = decode_plan(plan_bytes)
    except ValueError as error:
        where = str(path / PLAN_FILE)
        raise HarnessError(where=where, seen=str(error), expected="the run's plan") from error
    signs = [(path / name).stat().st_mtime_ns for name in (JOURNAL_FILE, EVENTS_FILE)]
    return Found(
        path=path,
        manifest=manifest,
        plan=plan,
        plan_bytes=plan_bytes,
        anchor=anchor,
        checkpoint=checkpoint,
        died_unix_ns=max(signs),
    )


def _frames(path: Path, manifest: Manifest) -> tuple[Anchor, Checkpoint | None]:
    anchor: Anchor | None = None
    checkpoint: Checkpoint | None = None
    where = path / JOURNAL_FILE
    frames = JournalReader(where, manifest.slots).opaque() if where.exists() else iter(())
    try:
        for data in frames:
            frame = decode_frame(data)
            if isinstance(frame, Anchor):
                anchor = frame
            else:
                checkpoint = frame
    except ValueError as error:
        raise HarnessError(
            where=str(where), seen=str(error), expected="a journal of this version"
        ) from error
    if anchor is None or not (path / EVENTS_FILE).exists():
        raise HarnessError(
            where=str(path), seen="a run that died before it began", expected="one that had begun"
        )
    return anchor, checkpoint


def why_it_cannot_go_on(found: Found) -> str | None:
    """Why no agent can be there any more; None when a new master may find them."""
    timing, away_ns = Timing(), time.time_ns() - found.died_unix_ns
    drained_ns = timing.lease_ns + found.plan.grace_ns + timing.kill_margin_ns
    is_late = away_ns > max(timing.orphan_ns, drained_ns)
    reasons = {
        f"it had ended: {found.manifest.outcome_reason}": (
            found.manifest.outcome is not Outcome.RUNNING
        ),
        "its load had not begun": found.checkpoint is None,
        "its workers were children of its master": not found.anchor.port,
        "its master ran on another host, or before this one was started again": (
            found.anchor.boot_id != boot_id()
        ),
        "its faults ended with its master": found.plan.failover is not None,
        f"its master died {away_ns / NS_PER_S:.0f} s ago": is_late,
    }
    return next((reason for reason, applies in reasons.items() if applies), None)


def recall(
    found: Found,
    archive: ArchiveWriter,
    coordinator: Coordinator,
    carry_out: Callable[[list[MasterAction]], None],
) -> None:
    """Hand everything in the journal to a resumed coordinator and a reopened archive."""
    where = found.path / JOURNAL_FILE
    for frame in JournalReader(where, found.manifest.slots):
        if isinstance(frame, bytes):
            continue
        archive.recall(frame)
        if not isinstance(frame, Batch):
            continue
        try:
            note = decode_note(frame.note)
            for window in frame.windows:
                carry_out(coordinator.recall(frame.source, window, note))
        except (LedgerError, ValueError) as error:
            raise HarnessError(
                where=str(where), seen=str(error), expected="batches as they were acknowledged"
            ) from error


def close(found: Found, reason: str) -> RunOutcome:
    """Make a complete archive of a run whose agents are gone; `reason`: why it cannot go on.

    HarnessError when it cannot be written: then it is as partial as before.
    """
    archive, ended = reopen_archive(found.path)
    try:
        return _closed(found, archive, ended, reason)
    except HarnessError as error:
        has_ended = ended.outcome is not Outcome.RUNNING
        archive.abandon(
            ended.outcome_reason if has_ended else str(error),
            ended.outcome if has_ended else Outcome.CRASHED,
        )
        raise


def _closed(found: Found, archive: ArchiveWriter, ended: Manifest, reason: str) -> RunOutcome:
    draft = msgspec.structs.replace(archive.manifest, warnings=found.anchor.warnings)
    coordinator, timing = found.coordinator(), Timing()
    finished: list[Finished] = []

    def carry_out(todo: list[MasterAction]) -> None:
        for action in todo:
            match action:
                case actions.Release(window=window):
                    archive.append_window(window)
                case actions.Record(event=event):
                    archive.append_event(event)
                case actions.Finished():
                    finished.append(action)
                case _:
                    pass  # nobody is there to be told anything

    if found.checkpoint is not None:
        # Leases are renewed while agents are heard, also when no window comes: so long after
        # the last sign of life one may have been granted.
        granted_ns = found.died_ns + 2 * timing.silence_ns + timing.lease_ns
        coordinator.resume(found.checkpoint, now_ns=found.died_ns, granted_until_ns=granted_ns)
        recall(found, archive, coordinator, carry_out)
    text = f"{_DIED}: {reason}"
    now_ns = time.time_ns() - found.anchor.unix_minus_monotonic_ns
    carry_out(coordinator.tell_outage(f"the archive is closed: {text}", now_ns))
    carry_out(coordinator.close_books(EndCause.HARNESS, text, found.died_ns))
    (end,) = finished
    has_ended = ended.outcome is not Outcome.RUNNING  # and said so, before it was closed
    outcome = ended.outcome if has_ended else end.outcome
    reason = ended.outcome_reason if has_ended else end.reason
    manifest = finished_manifest(draft, coordinator.account(), outcome=outcome, reason=reason)
    return RunOutcome(
        path=archive.finish(manifest), outcome=outcome, cause=end.cause, reason=reason
    )
