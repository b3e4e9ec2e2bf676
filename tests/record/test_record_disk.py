"""A disk that fills up or fails: a clear error, no half archive, a readable partial run."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from record_builders import PLAN, RUN_ID, T0_S, finished, good_manifest, replaced, window_of

from loadtests.errors import ExitCode, HarnessError
from loadtests.record.archive import Event, create_archive, list_runs, load_run, new_run_id, verify
from loadtests.record.window import Count, Window, merge_windows

SECONDS = 16  # more than the writer holds back, so that rows are written before the end


def windows() -> list[Window]:
    """Small windows of one slot."""
    rng = np.random.default_rng(8)
    slots = good_manifest().slots
    return [window_of(T0_S + s, slots, rng, wanted=[6], samples=10) for s in range(SECONDS)]


WINDOWS = windows()


def write_run(results: Path, journalled: list[int]) -> Path:
    """Write a whole run as a master does: on an error abandon it and let the error out."""
    writer = create_archive(results, good_manifest(), PLAN)
    try:
        for number, window in enumerate(WINDOWS):
            writer.journal_windows("a1", [window])
            journalled.append(number)
            writer.append_window(window)
            writer.append_event(
                Event(at_unix_ns=number, kind="tick", who="master", text="still here", fields={})
            )
        return writer.finish(finished(good_manifest()))
    except HarnessError as error:
        writer.abandon(str(error))
        raise


class Disk:
    """`os.write` of a disk with so many bytes left; the last write comes short, as real ones do."""

    def __init__(self, left_bytes: int, number: int) -> None:
        self.left_bytes = left_bytes
        self.number = number
        self.written_bytes = 0
        self._write: Callable[[int, bytes], int] = os.write

    def write(self, descriptor: int, data: bytes) -> int:
        """Write what fits."""
        fitting = bytes(data)[: self.left_bytes]
        if not fitting:
            raise OSError(self.number, os.strerror(self.number))
        self.left_bytes -= len(fitting)
        self.written_bytes += len(fitting)
        return self._write(descriptor, fitting)


def needed_bytes(folder: Path) -> int:
    """Bytes that the run writes on a disk with room."""
    disk = Disk(10**9, errno.ENOSPC)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", disk.write)
        write_run(folder / "roomy", [])
    return disk.written_bytes


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_disk_that_fills_up_anywhere_leaves_a_readable_run(tmp_path: Path, number: int) -> None:
    """Full after any count of bytes: the error names file and errno, what was whole is read."""
    needed = needed_bytes(tmp_path)
    for step in range(25):
        room = needed * step // 25
        results = tmp_path / f"{number}-{step}"
        journalled: list[int] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "write", Disk(room, number).write)
            with pytest.raises(HarnessError, match=errno.errorcode[number]) as caught:
                write_run(results, journalled)
        assert str(results) in caught.value.where
        assert caught.value.exit_code is ExitCode.HARNESS
        assert not (results / "runs" / RUN_ID).exists()
        partial = results / "runs" / f"{RUN_ID}.partial"
        if not (partial / "run.json").exists():
            assert not journalled  # full before the draft was on disk: there is nothing to read
            continue
        run = load_run(partial)
        whole = merge_windows(T0_S, [WINDOWS[index] for index in journalled])
        assert run.merged(judged=False).total(Count.SENT) == whole.total(Count.SENT)
        assert not run.is_complete
        assert run.findings


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_disk_that_fails_at_the_end_leaves_a_partial_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Without the last sync or the rename there is no complete archive, and all data is read."""
    real_fsync = os.fsync
    armed: list[bool] = []

    def failing(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def fsync(descriptor: int) -> None:
        if armed:
            failing()
        real_fsync(descriptor)

    writer = create_archive(tmp_path, good_manifest(), PLAN)
    for window in WINDOWS:
        writer.journal_windows("a1", [window])
        writer.append_window(window)
    armed.append(True)
    if call == "fsync":
        monkeypatch.setattr(os, "fsync", fsync)
    else:
        monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(HarnessError, match="EIO"):
        writer.finish(finished(good_manifest()))
    monkeypatch.undo()
    run = load_run(writer.abandon("EIO at the end"))
    assert run.merged(judged=False).total(Count.SENT) == SECONDS * 10
    assert not run.is_complete
    assert [p.name for p in (tmp_path / "runs").iterdir()] == [f"{RUN_ID}.partial"]


@pytest.mark.parametrize("place", ["results", "results/runs"])
def test_a_results_folder_that_cannot_be_used_is_named(tmp_path: Path, place: str) -> None:
    """A file where a folder should be ends the run before it starts, with the path and errno."""
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text("in the way")
    with pytest.raises(HarnessError, match=r"ENOTDIR|EEXIST") as caught:
        create_archive(tmp_path / "results", good_manifest(), PLAN)
    assert caught.value.where.startswith(str(tmp_path / "results"))


WRITER_PROGRAM = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from loadtests.errors import HarnessError
import test_record_disk
# Not before: Python would keep the compiled modules as far as they may be written.
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    test_record_disk.write_run(Path(sys.argv[1]), [])
except HarnessError as error:
    print(error)
    sys.exit(error.exit_code)
"""


@pytest.mark.system
def test_the_kernel_refusing_to_write_is_reported(tmp_path: Path) -> None:
    """With a real file size limit the writer ends with our exit code and a readable run."""
    done = subprocess.run(
        [sys.executable, "-c", WRITER_PROGRAM, str(tmp_path), "6000", str(Path(__file__).parent)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == ExitCode.HARNESS, done.stderr
    assert "EFBIG" in done.stdout
    assert done.stderr == ""
    (summary,) = list_runs(tmp_path)
    assert load_run(summary.path).merged(judged=False).total(Count.SENT) > 0


KILLED_PROGRAM = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import test_record_disk as t
writer = t.create_archive(Path(sys.argv[1]), t.good_manifest(), t.PLAN)
for window in t.WINDOWS:
    writer.journal_windows("a1", [window])
    writer.append_window(window)
print("written", flush=True)
time.sleep(60)
"""


@pytest.mark.system
def test_a_killed_writer_leaves_all_that_was_acknowledged(tmp_path: Path) -> None:
    """After SIGKILL every journalled window is read back, and the run says that it died."""
    with subprocess.Popen(
        [sys.executable, "-c", KILLED_PROGRAM, str(tmp_path), str(Path(__file__).parent)],
        stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "written\n"
        finally:
            process.kill()
    (summary,) = list_runs(tmp_path)
    run = load_run(summary.path)
    assert run.findings == ("the run died without recording an end",)
    assert run.merged(judged=False).total(Count.SENT) == SECONDS * 10


def test_twenty_runs_at_once_do_not_meet(tmp_path: Path) -> None:
    """Runs interleaved on one results folder, all with names of their own, are all sound."""
    drafts = [
        replaced(good_manifest(), run_id=new_run_id("smoke", T0_S * 10**9)) for _ in range(20)
    ]
    writers = [create_archive(tmp_path, draft, PLAN) for draft in drafts]
    for window in WINDOWS[:3]:
        for writer in writers:
            writer.append_window(window)
    for writer, draft in zip(writers, drafts, strict=True):
        assert verify(writer.finish(finished(draft))) == ()
    assert len(list_runs(tmp_path)) == 20
