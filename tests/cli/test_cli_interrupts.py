"""Ctrl-C at any time: a word, exit code 4 or a judged archive, never a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from loadtests.commands.interrupts import ending_at_once, ignoring_after_start
from loadtests.record.archive import RunState, list_runs
from loadtests.record.manifest import Outcome

pytestmark = pytest.mark.system

SCENARIO = Path(__file__).resolve().parents[2] / "scenarios" / "smoke.toml"
PROGRAM = "from loadtests.cli import console; console()"
# Stands in the way of the first import of the commands and says so.
SLOW_IMPORT = """
import sys, time
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "pandas":
            print("importing", flush=True)
            time.sleep(60)
sys.meta_path.insert(0, Slow())
"""


@contextmanager
def started(program: str, *arguments: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A command with its output in pipes; killed afterwards with all that it started."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for(stream: IO[str] | None, word: str) -> str:
    """Lines up to the first with a word."""
    assert stream is not None
    lines = []
    for line in stream:
        lines.append(line)
        if word in line:
            return "".join(lines)
    raise AssertionError(f"no {word!r} in {lines}")


def test_an_import_is_interrupted_with_a_word(tmp_path: Path) -> None:
    """While modules load there is nothing to unwind: one line, exit code 4."""
    with started(SLOW_IMPORT + PROGRAM, "runs", folder=tmp_path) as process:
        wait_for(process.stdout, "importing")
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
        assert (process.returncode, stderr) == (4, "error: interrupted\n")


def test_impatience_while_gathering_leaves_a_judged_archive(tmp_path: Path) -> None:
    """Many Ctrl-C in a row: stopped once with a word, judged, exit code 4, no traceback."""
    words = ["run", str(SCENARIO), "--expect-workers", "1", "--bind", "127.0.0.1:0"]
    with started(PROGRAM, *words, folder=tmp_path) as process:
        wait_for(process.stderr, "gathering")
        process.send_signal(signal.SIGINT)
        said = wait_for(process.stderr, "Ctrl-C again stops at once")
        for _ in range(5):
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
        assert process.returncode == 4, (stdout, stderr)
        assert "Traceback" not in said + stderr
    (summary,) = list_runs(tmp_path / "results")
    assert summary.verdict is not None
    assert summary.state in {RunState.COMPLETE, RunState.PARTIAL}
    assert summary.manifest is not None
    assert summary.manifest.outcome is Outcome.ABORTED


def test_a_worker_without_a_master_says_so_and_ends_cleanly(tmp_path: Path) -> None:
    """Nobody answers: said again and again; Ctrl-C ends with a word and exit code 4."""
    often = "import loadtests.swarm.agent as agent; agent.TELL_EVERY_S = 0.1;"
    words = ["worker", "--master", "127.0.0.1:1"]
    with started(often + PROGRAM, *words, folder=tmp_path) as process:
        wait_for(process.stderr, "no master answers at 127.0.0.1:1")
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 4
        assert "error: interrupted" in stderr
        assert "Traceback" not in stderr


def test_ctrl_c_is_ignored_once_a_run_has_begun() -> None:
    """Before it is a KeyboardInterrupt, after it nothing: what was measured is judged."""
    with ignoring_after_start() as begun:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        begun()
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_no_signal_changes_the_end_of_a_run() -> None:
    """SIGTERM after it is ignored as Ctrl-C is; the handler is given back."""
    ignored: list[None] = []
    before = signal.getsignal(signal.SIGTERM)
    with ignoring_after_start(lambda: ignored.append(None)) as begun:
        begun()
        signal.raise_signal(signal.SIGTERM)
    assert len(ignored) == 1
    assert signal.getsignal(signal.SIGTERM) == before


# Says when a run, or what follows it, is under way, and waits there.
WAITING = """
import time
import loadtests.commands.run as run

def held(name, of):
    real = getattr(of, name)
    def slow(*arguments, **options):
        print(name, flush=True)
        time.sleep(1)
        return real(*arguments, **options)
    setattr(of, name, slow)

held("conclude", run)
held("load_swarm", run)
"""


@pytest.mark.parametrize(
    ("when", "number"),
    [
        ("conclude", signal.SIGTERM),
        ("conclude", signal.SIGHUP),
        ("load_swarm", signal.SIGTERM),
    ],
)
def test_what_a_signal_does_depends_on_whether_a_run_is_over(
    tmp_path: Path, when: str, number: signal.Signals
) -> None:
    """While it is judged: exit code of the verdict. Before it: the end, as of any process."""
    words = ["run", str(SCENARIO), "--expect-workers", "1", "--bind", "127.0.0.1:0"]
    with started(WAITING + PROGRAM, *words, folder=tmp_path) as process:
        wait_for(process.stdout, "load_swarm")
        if when == "conclude":
            wait_for(process.stderr, "gathering")
            process.send_signal(signal.SIGINT)
            wait_for(process.stdout, "conclude")
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == (4 if when == "conclude" else -number), (stdout, stderr)
    assert len(list_runs(tmp_path / "results")) == (when == "conclude")


def test_the_handler_is_given_back_after_an_import() -> None:
    """Loading modules changes nothing that lasts."""
    with ending_at_once():
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# Ctrl-C while the demo saturates this machine, and again while it takes its cluster down.
TWICE = """
import os, signal, threading, time
import loadtests.commands.demo as demo

def interrupt():
    os.kill(os.getpid(), signal.SIGINT)

def saturate(scenario, targets, terminal):
    interrupt()
    time.sleep(60)

class Cluster(demo.Cluster):
    def wait_ready(self, timeout_s):
        super().wait_ready(timeout_s)
        print(*(node.pid for node in self.nodes), flush=True)

    def stop(self):
        for one in self._started:
            one.process.send_signal(signal.SIGSTOP)  # stays until it is told to go on
        threading.Timer(0.05, interrupt).start()
        super().stop()

demo.saturation_per_s, demo.Cluster = saturate, Cluster
"""


def test_the_demos_cluster_is_taken_down_whatever_is_pressed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No traceback, no node and no file are left when Ctrl-C comes during the take-down."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    with started(TWICE + PROGRAM, "demo", folder=tmp_path) as process:
        stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 4, stderr
    assert "error: interrupted" in stderr
    assert "Traceback" not in stderr
    assert [pid for pid in stdout.split() if Path(f"/proc/{pid}").exists()] == []
    assert list(scratch.glob("headroom-*")) == []
