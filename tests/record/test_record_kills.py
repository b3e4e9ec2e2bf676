"""A writer that is killed anywhere: readers see the old or the new, never something torn."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from kill_points import VERDICTS
from record_builders import RUN_ID, T0_S
from test_record_disk import WINDOWS

from loadtests.errors import HarnessError
from loadtests.record.archive import RunState, list_runs, load_run, verify
from loadtests.record.window import Count, merge_windows

PROGRAM = Path(__file__).with_name("kill_points.py")
PATHS = [str(Path(__file__).parent), str(Path(__file__).parents[2])]


def sent_of(windows: int) -> int:
    """Requests in so many windows."""
    return merge_windows(T0_S, WINDOWS[:windows]).total(Count.SENT) if windows else 0


def check_complete(path: Path, results: Path) -> None:
    """All of it, sound; the verdict one that was written, or none."""
    assert verify(path) == ()
    assert load_run(path).merged(judged=False).total(Count.SENT) == sent_of(len(WINDOWS))
    (summary,) = list_runs(results)
    assert summary.state is RunState.COMPLETE, summary.problem
    assert summary.verdict in {None, *VERDICTS}


def check_partial(path: Path, results: Path, acknowledged: int) -> None:
    """All that was acknowledged, and at most the window under way."""
    if not (path / "run.json").exists():
        assert acknowledged == 0
        with pytest.raises(HarnessError):
            load_run(path)
        return
    run = load_run(path)
    assert not run.is_complete
    sent = run.merged(judged=False).total(Count.SENT)
    assert sent in {sent_of(acknowledged), sent_of(acknowledged + 1)}
    (summary,) = list_runs(results)
    assert summary.state is RunState.PARTIAL, summary.problem


@pytest.mark.system
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("seed", "count"), [(1, 30), pytest.param(2, 500, marks=pytest.mark.faults)]
)
def test_a_writer_killed_anywhere_leaves_old_or_new(tmp_path: Path, seed: int, count: int) -> None:
    """Before, after and half-way through calls drawn from all that change the disk."""
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(tmp_path), str(seed), str(count)],
        env={"PYTHONPATH": ":".join(PATHS)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    first, *lines = done.stdout.splitlines()
    assert int(first.split()[2]) > 100, "the whole run makes more calls"
    ends = set()
    for line in lines:
        number, acknowledged, *_ = line.split()
        results = tmp_path / number
        complete, partial = results / "runs" / RUN_ID, results / "runs" / f"{RUN_ID}.partial"
        assert not (complete.exists() and partial.exists()), line
        if complete.exists():
            check_complete(complete, results)
            ends.add("complete")
        elif partial.exists():
            check_partial(partial, results, int(acknowledged))
            ends.add("partial")
        else:
            assert int(acknowledged) == 0, line
    assert len(lines) == count
    assert ends == {"complete", "partial"}
