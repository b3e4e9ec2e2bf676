"""What a dead master leaves becomes a complete archive, whatever happens on the way."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import msgspec
import pytest
from simulation import EPOCH_UNIX_NS, Arithmetic, Master, World, plan_and_bytes
from simulation_faults import CALM

from analysis.judging import State
from analysis.verdict import judge
from loadtests.clock import NS_PER_S
from loadtests.errors import HarnessError, ScenarioError
from loadtests.plan.model import LossPolicy
from loadtests.record.archive import ArchiveWriter, create_archive, list_runs, load_run, verify
from loadtests.record.catalogue import RunState
from loadtests.record.manifest import Outcome
from loadtests.record.window import Count, pack_window
from loadtests.swarm.agent_shell import boot_id
from loadtests.swarm.books import draft_manifest
from loadtests.swarm.recollection import (
    Anchor,
    EndNote,
    cleaned,
    decode_frame,
    encode_frame,
    encode_note,
)
from loadtests.swarm.resumption import close, find, why_it_cannot_go_on
from loadtests.swarm.run_state import EndCause

PLAN, PLAN_BYTES = plan_and_bytes(3 * NS_PER_S, LossPolicy.ABORT)


def dead_master(seconds: float = 3.4) -> Master:
    """The disk of a virtual master that was killed so long after its checkpoint."""
    world = World(3)
    world.setup(agents=2, engines=2, plan=PLAN, plan_bytes=PLAN_BYTES, weather=CALM)
    # As the plan has it, because the books are closed by the plan's own arithmetic.
    world.arithmetic = Arithmetic(period_ns=NS_PER_S // 20, total=60)
    world.master.coordinator._planned = world.arithmetic.planned
    world.run(world.now_ns + 20 * NS_PER_S, lambda: world.master.checkpoint is not None)
    world.run(world.now_ns + round(seconds * NS_PER_S), lambda: False)
    return world.master


def write(results: Path, dead: Master, *, port: int = 5557, is_killed: bool = True) -> Path:
    """The same as a real partial archive; its writer lives on unless it is killed."""
    assert dead.barrier is not None
    draft = draft_manifest(PLAN, PLAN_BYTES, command=(), target_version=None, warnings=("draft",))
    writer = create_archive(results, draft, PLAN_BYTES)
    anchor = Anchor(
        boot_id=boot_id(),
        unix_minus_monotonic_ns=EPOCH_UNIX_NS,
        agents=2,
        host="127.0.0.1",
        port=port,
        warnings=draft.warnings,
    )
    writer.journal(encode_frame(anchor))
    writer.update(msgspec.structs.replace(draft, t0_unix_ns=dead.barrier.t0_unix_ns))
    for event in dead.events:
        writer.append_event(event)
    if dead.checkpoint is not None:
        writer.journal(encode_frame(dead.checkpoint))
    for source, window, note in dead.journal:
        writer.journal_received([(source, window, pack_window(window), encode_note(note))])
        writer.append_window(window)
    if is_killed:
        kill(writer)
    return writer.path


def kill(writer: ArchiveWriter) -> None:
    """What the kernel does at the end of its process: the lock goes with the file."""
    writer._journal.file.close()


def test_everything_received_is_in_a_complete_archive(tmp_path: Path) -> None:
    """Sums of the journal, every byte sound, INCONCLUSIVE, the rest of the plan stated as lost."""
    dead = dead_master()
    partial = write(tmp_path, dead)
    received = load_run(partial).merged(judged=False)
    assert received.total(Count.SENT) > 0
    outcome = close(find(partial), "the test says so")
    run = load_run(outcome.path)
    assert verify(run.path) == ()
    assert not partial.exists()
    for count in Count:
        assert run.merged(judged=False).total(count) == received.total(count), count.name
    manifest = run.manifest
    assert outcome.outcome is manifest.outcome is Outcome.CRASHED
    assert "the test says so" in manifest.outcome_reason
    assert manifest.warnings[0] == "draft"
    assert manifest.lost_windows
    assert not any(engine.has_final for engine in manifest.engine_sums)
    assert judge(run).state is State.INCONCLUSIVE
    assert [event.kind for event in run.events][-1] == "finished"
    assert "master_resumed" in {event.kind for event in run.events}


def test_a_master_killed_after_the_last_final_left_a_whole_run(tmp_path: Path) -> None:
    """All FINALs were in: nobody is needed any more, and the run has come to its end."""
    dead = dead_master(seconds=5.0)
    assert dead.checkpoint is not None
    assert dead.checkpoint.end is not None
    outcome = close(find(write(tmp_path, dead)), "its master died 99 s ago")
    manifest = load_run(outcome.path).manifest
    assert outcome.outcome is Outcome.COMPLETE
    assert all(engine.has_final for engine in manifest.engine_sums)
    assert manifest.lost_windows == ()


def test_a_crash_while_closing_can_be_taken_up_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fails at the last rename: partial as before, and complete the second time."""
    dead = dead_master()
    partial = write(tmp_path, dead)
    sent = load_run(partial).merged(judged=False).total(Count.SENT)

    def failing(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", failing)
        with pytest.raises(HarnessError, match="EIO"):
            close(find(partial), "first")
    (summary,) = list_runs(tmp_path)
    assert summary.state is RunState.PARTIAL
    assert load_run(partial).merged(judged=False).total(Count.SENT) == sent
    run = load_run(close(find(partial), "second").path)
    assert run.merged(judged=False).total(Count.SENT) == sent
    assert verify(run.path) == ()


def test_a_torn_end_is_cut_and_the_rest_is_kept(tmp_path: Path) -> None:
    """Half a frame and half a line, as a kill leaves them."""
    partial = write(tmp_path, dead_master())
    sent = load_run(partial).merged(judged=False).total(Count.SENT)
    for name, torn in (("journal.bin", b"\0\0\1\0torn"), ("events.jsonl", b'{"at_unix')):
        with (partial / name).open("ab") as file:
            file.write(torn)
    run = load_run(close(find(partial), "torn").path)
    assert run.merged(judged=False).total(Count.SENT) == sent
    assert verify(run.path) == ()


def test_a_run_whose_master_lives_is_left_alone(tmp_path: Path) -> None:
    """The journal is locked: nobody takes up what is still being written, or twice."""
    partial = write(tmp_path, dead_master(), is_killed=False)
    with pytest.raises(ScenarioError, match="goes on"):
        find(partial)


def test_a_complete_run_is_left_alone(tmp_path: Path) -> None:
    """There is nothing to take up."""
    path = close(find(write(tmp_path, dead_master())), "done").path
    with pytest.raises(ScenarioError, match="a complete run"):
        find(path)


def test_reasons_why_nobody_can_be_there(tmp_path: Path) -> None:
    """Agents may be there while leases last; not those of another boot, nor children."""
    found = find(write(tmp_path / "a", dead_master()))
    assert why_it_cannot_go_on(found) is None
    children = find(write(tmp_path / "b", dead_master(), port=0))
    assert "children" in str(why_it_cannot_go_on(children))
    os.utime(found.path / "journal.bin", (1, 1))
    os.utime(found.path / "events.jsonl", (1, 1))
    assert "s ago" in str(why_it_cannot_go_on(find(found.path)))
    early = dead_master()
    early.checkpoint, early.journal = None, []
    before = find(write(tmp_path / "c", early))
    assert "had not begun" in str(why_it_cannot_go_on(before))
    assert load_run(close(before, "early").path).manifest.outcome is Outcome.CRASHED


def test_no_secret_is_written_down() -> None:
    """Texts of foreign origin pass the archive's own cleaning first."""
    dead = dead_master()
    assert dead.checkpoint is not None
    end = EndNote(EndCause.LOSS, "lost: token s3cret", 1)
    told = msgspec.structs.replace(dead.checkpoint, end=end)
    data = encode_frame(cleaned(told, lambda text: text.replace("s3cret", "***")))
    assert b"s3cret" not in data
    assert b"***" in data
    assert decode_frame(data) == cleaned(told, lambda text: text.replace("s3cret", "***"))
