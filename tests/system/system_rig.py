"""The rig of the truth tests: a counting target, Headroom's processes, their evidence.

Every process of a fleet carries one mark in its environment, which children inherit; so
`survivors` finds in /proc whatever a run has left behind, orphans too. Law: when a fleet or
a target is closed, nothing that it started is alive, whatever the test did.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pandas as pd
import psutil
from counting_target import ABANDONED

from loadtests.clock import NS_PER_S
from loadtests.record.archive import Run, load_run

PATIENCE_S: Final = 60.0
ENGINE: Final = "loadtests.engine.process"
_MARK: Final = "HEADROOM_TRUTH_TEST"
_BIN: Final = Path(sys.executable).parent
_TARGET: Final = Path(__file__).with_name("counting_target.py")

SCENARIO: Final = """
version = 1
name = "truth"
[target]
nodes = ["{url}"]
{target}
[load]
connections = {connections}
backlog = {backlog}
seed = 1
grace = "{grace}"
loss_policy = "{policy}"
[[requests]]
name = "counted"
path = "/counted?n=${{seq}}"
timeout = "{timeout}"
[[stages]]
name = "steady"
duration = "{seconds} s"
rate = "{rate} rps"
{more}
[criteria]
objectives = [{objectives}]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One stage of constant arrivals; `objectives` are quoted texts.

    `target` is further TOML of that section, `more` follows the stage.
    """

    seconds: int
    rate: int = 100
    policy: str = "abort"
    connections: int = 32
    backlog: int = 1000
    grace: str = "2 s"
    timeout: str = "5 s"
    objectives: tuple[str, ...] = ("error_ratio < 1 %",)
    target: str = ""
    more: str = ""

    @property
    def arrivals(self) -> int:
        """All that the plan holds."""
        return self.seconds * self.rate

    def write(self, folder: Path, url: str) -> Path:
        """The scenario as a file."""
        path = folder / "truth.toml"
        objectives = ", ".join(f'"{text}"' for text in self.objectives)
        fields = {name: getattr(self, name) for name in self.__slots__}
        path.write_text(SCENARIO.format(url=url, **{**fields, "objectives": objectives}))
        return path


class Target:
    """A running `counting_target.py` and its log."""

    def __init__(
        self, folder: Path, *options: str, host: str = "127.0.0.1", before: tuple[str, ...] = ()
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / "target.csv"
        self.process = subprocess.Popen(
            [*before, sys.executable, str(_TARGET), str(self._log), "--host", host, *options],
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.url = f"http://{host}:{int(self.process.stdout.readline())}"

    def rows(self) -> pd.DataFrame:
        """Requests that have ended so far: received_ns, replied_ns (-1: never), number."""
        return pd.read_csv(self._log, dtype="int64")

    def answers(self) -> int:
        """Requests answered so far."""
        return int((self.rows()["replied_ns"] != ABANDONED).sum())

    def end(self) -> pd.DataFrame:
        """Stop it and return every request that it has read."""
        self.process.terminate()
        self.process.wait(timeout=10)
        return self.rows()

    def close(self) -> None:
        """Kill it if it lives."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def target(
    folder: Path, *options: str, host: str = "127.0.0.1", before: tuple[str, ...] = ()
) -> Iterator[Target]:
    """A counting target that is gone afterwards; `before` is a command that starts it."""
    started = Target(folder, *options, host=host, before=before)
    try:
        yield started
    finally:
        started.close()


@dataclass(slots=True)
class Started:
    """One command of a fleet, its output in a file."""

    process: subprocess.Popen[bytes]
    out: Path

    def text(self) -> str:
        """All that it has printed."""
        return self.out.read_text(encoding="utf-8", errors="replace")

    def wait(self, seconds: float = PATIENCE_S) -> int:
        """Its exit code; fails with its output when it does not end."""
        try:
            return self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"still running after {seconds} s:\n{self.text()}") from error

    def engines(self) -> list[psutil.Process]:
        """Its living engines."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in children if ENGINE in child.cmdline()]

    def engine(self) -> psutil.Process:
        """Its one living engine."""
        (found,) = self.engines()
        return found


@dataclass(slots=True)
class Fleet:
    """The Headroom processes of one test, in one folder."""

    folder: Path
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    started: list[Started] = field(default_factory=list)

    @property
    def results(self) -> Path:
        """Where its archives are."""
        return self.folder / "results"

    def start(
        self,
        *words: str,
        before: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
        program: tuple[str, ...] = (str(_BIN / "headroom"),),
    ) -> Started:
        """Run `headroom words...`, or another program, in the fleet's folder."""
        out = self.folder / f"out-{len(self.started)}.txt"
        inherited = {k: v for k, v in os.environ.items() if k != "LOCUST_SKIP_MONKEY_PATCH"}
        with out.open("wb") as stream:
            process = subprocess.Popen(
                [*before, *program, *words],
                stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, cwd=self.folder,
                env={**inherited, **(environment or {}), _MARK: self.mark}, start_new_session=True,
            )  # fmt: skip
        self.started.append(Started(process, out))
        return self.started[-1]

    def run(
        self,
        scenario: Path,
        *words: str,
        before: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
    ) -> Started:
        """`headroom run`, forced: feasibility is another test's subject."""
        results = ("--results", str(self.results))
        words = ("run", str(scenario), *results, "--force", *words)
        return self.start(*words, before=before, environment=environment)

    def survivors(self) -> list[psutil.Process]:
        """Living processes that carry the fleet's mark, its own ended children left out."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                environment = Path(f"/proc/{process.pid}/environ").read_bytes()
                is_ours = f"{_MARK}={self.mark}".encode() in environment
                if is_ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def close(self) -> None:
        """Kill what is left."""
        deadline = time.monotonic() + 5
        while (left := self.survivors()) and time.monotonic() < deadline:
            for process in left:
                with suppress(psutil.Error):
                    process.kill()
            time.sleep(0.02)
        for one in self.started:
            one.process.wait()


@contextmanager
def fleet(folder: Path) -> Iterator[Fleet]:
    """Processes that are gone afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Fleet(folder)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def small_disk(results: Path, room_bytes: int) -> Iterator[tuple[str, ...]]:
    """A results folder with little room; yields the words before a command that limit it.

    A tmpfs where this process may mount one; else a limit on the size of each file.
    """
    results.mkdir(parents=True)
    size = f"size={room_bytes},mode=755"
    mounted = os.geteuid() == 0 and (
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", size, "headroom-truth", str(results)],
            capture_output=True,
            check=False,
        ).returncode
        == 0
    )
    try:
        yield () if mounted else ("prlimit", f"--fsize={room_bytes // 4}")
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(results)], check=True)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


def wait_until(condition: Callable[[], object], what: str, seconds: float = PATIENCE_S) -> None:
    """Poll until a condition holds; fails naming what was waited for."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.02)


def wait_for_answers(counted: Target, at_least: int, started: Started) -> None:
    """Until the target has answered so many, by its own count; fails when the run ends first."""

    def is_there() -> bool:
        assert started.process.poll() is None, started.text()
        return counted.answers() >= at_least

    wait_until(is_there, f"{at_least} answers of the target")


def runs(results: Path, *, complete: bool) -> list[Run]:
    """The complete, or the partial, runs of a folder."""
    paths = sorted((results / "runs").glob("*Z_*"))
    return [load_run(path) for path in paths if path.name.endswith(".partial") is not complete]


def only_run(results: Path, *, complete: bool = True) -> Run:
    """The one run of a folder, which is complete or partial as asked."""
    (found,) = runs(results, complete=complete)
    assert not runs(results, complete=not complete)
    return found


def unix_minus_monotonic_ns() -> int:
    """To compare the target's clock with labels of the archive."""
    return time.time_ns() - time.monotonic_ns()


def seconds_since(start_ns: int, times_ns: pd.Series[int]) -> pd.Series[float]:
    """Times as seconds from a start."""
    return (times_ns - start_ns) / NS_PER_S


def send_signal(process: psutil.Process | subprocess.Popen[bytes], number: signal.Signals) -> int:
    """Signal a process; returns the unix time in ns just before."""
    at_unix_ns = time.time_ns()
    process.send_signal(number)
    return at_unix_ns
