"""A log read in stretches, by several processes, is the log."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
from synthetic_run import S, good_plan, good_traces, write_run

from analysis.blocks import load_blocks
from analysis.log_rows import stretches
from analysis.log_rows.stretches import stretches_of
from loadtests.errors import HarnessError
from loadtests.record.archive import Run
from loadtests.record.directory import LATENCY_FILE
from loadtests.record.window import Kind


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with answers beyond the histogram's hour: comments between the intervals."""
    plan = good_plan()
    traces = good_traces(plan)
    for trace in traces:
        late = trace.done_ns % 97 == 0
        trace.intended_ns[late] -= 2 * 3600 * S
    return write_run(tmp_path_factory.mktemp("results"), plan, traces)


@pytest.mark.parametrize("number", [1, 2, 3, 7, 50])
def test_stretches_are_the_file(run: Run, number: int) -> None:
    """Together they are every byte of it, and none ends between a comment and its interval."""
    path = run.path / LATENCY_FILE
    parts = [b"".join(one.lines()) for one in stretches_of(path, number)]
    assert b"".join(parts) == path.read_bytes()
    assert b"\n#[Overflow" in path.read_bytes()
    assert 1 <= len(parts) <= number
    for part in parts:
        assert part.splitlines()[-1].startswith(b"Tag=")


@pytest.mark.system
def test_several_processes_read_the_same(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows, buckets and counts are those of one process, also where a second was cut in two."""
    alone = load_blocks(run, kind=Kind.RESPONSE, judged=False, step_s=3)
    monkeypatch.setattr(stretches, "_SHORT_BYTES", 0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1, 2})
    several = load_blocks(run, kind=Kind.RESPONSE, judged=False, step_s=3)
    assert several.keys() == alone.keys()
    for key, blocks in alone.items():
        other = several[key]
        for name in ("window_s", "starts", "buckets", "counts"):
            assert np.array_equal(getattr(blocks, name), getattr(other, name)), (key, name)


def _killed(_stretch: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.system
def test_a_killed_process_is_a_sentence(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs out of memory reads what happened, and no traceback."""
    monkeypatch.setattr(stretches, "_SHORT_BYTES", 0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1})
    with (
        pytest.raises(HarnessError, match="was killed"),
        stretches.over_stretches(run.path / LATENCY_FILE, _killed) as results,
    ):
        results()
