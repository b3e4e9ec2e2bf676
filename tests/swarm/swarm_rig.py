"""Real runs for the tests of this room: a cluster, `headroom run`, its children, its archive."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from loadtests.record.archive import Run, load_run

BIN = Path(sys.executable).parent
PATIENCE_S = 120.0  # machines that run tests may be busy

SCENARIO = """
version = 1
name = "rig"
[target]
nodes = ["http://127.0.0.1:9"]
version_path = "/api/v11/info"
[load]
connections = 8
seed = 1
grace = "2 s"
loss_policy = "{policy}"
[[requests]]
name = "submit"
method = "POST"
path = "/api/v11/blockchain/transactions"
headers = {{ Content-Type = "application/json" }}
body = '{{"transactionId":"${{uuid}}","amount":${{int:1:100000}}}}'
weight = 30
expected_statuses = [201]
[[requests]]
name = "health"
path = "/q/health"
weight = 70
[[stages]]
name = "steady"
duration = "{seconds} s"
rate = "{rate} rps"
[criteria]
objectives = ["error_ratio < 1 %"]
"""


AUDIT = """
[audit]
request = "submit"
id = "w-${run}-${seq}"
[audit.read]
path = "/api/v11/blockchain/transactions/${id}"
"""


def write_scenario(
    folder: Path, *, seconds: int, rate: int = 100, policy: str = "abort", **_: object
) -> Path:
    """A scenario of one stage."""
    path = folder / "rig.toml"
    path.write_text(SCENARIO.format(seconds=seconds, rate=rate, policy=policy), encoding="utf-8")
    return path


def with_audit(scenario: Path) -> Path:
    """The same scenario, its writes read back after the run."""
    text = scenario.read_text(encoding="utf-8").replace("${uuid}", "w-${run}-${seq}")
    scenario.write_text(text + AUDIT, encoding="utf-8")
    return scenario


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


def children_of(pid: int, module: str) -> list[psutil.Process]:
    """Living descendants that run a module of ours."""
    found = []
    with suppress(psutil.NoSuchProcess):
        for process in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if module in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
    return found


@dataclass(slots=True)
class Job:
    """A started command, its output in files, and every descendant seen."""

    process: subprocess.Popen[bytes]
    folder: Path
    seen: dict[int, psutil.Process] = field(default_factory=dict)

    @property
    def pid(self) -> int:
        """Process id."""
        return self.process.pid

    def engines(self) -> list[psutil.Process]:
        """Its living engines."""
        return children_of(self.pid, "loadtests.engine.process")

    def agents(self) -> list[psutil.Process]:
        """Its living local agents."""
        return children_of(self.pid, "loadtests.swarm.agent")

    def remember(self) -> None:
        """Note the descendants that live now, for `survivors`."""
        for process in psutil.Process(self.pid).children(recursive=True):
            self.seen[process.pid] = process

    def survivors(self) -> list[psutil.Process]:
        """Remembered descendants that still run."""
        return [
            process
            for process in self.seen.values()
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        ]

    def text(self) -> str:
        """All that it has printed."""
        return (self.folder / f"out-{id(self)}").read_text(encoding="utf-8", errors="replace")

    def wait(self, seconds: float = PATIENCE_S) -> int:
        """Its exit code; fails with its output when it does not end."""
        try:
            return self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"still running after {seconds} s:\n{self.text()}") from error


@contextmanager
def job(folder: Path, *arguments: str, before: Sequence[str] = ()) -> Iterator[Job]:
    """Run a command of the venv; it and its descendants are gone afterwards, whatever happens."""
    environment = {k: v for k, v in os.environ.items() if k != "LOCUST_SKIP_MONKEY_PATCH"}
    program, *rest = arguments
    started = Job(process=None, folder=folder)  # type: ignore[arg-type]  # set two lines below
    with (folder / f"out-{id(started)}").open("wb") as out:
        started.process = subprocess.Popen(
            [*before, str(BIN / program), *rest],
            stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=folder,
            env=environment, start_new_session=True,
        )  # fmt: skip
    try:
        yield started
    finally:
        with suppress(psutil.NoSuchProcess):
            started.remember()
        for process in started.survivors():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        with suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.process.wait()


def partial_runs(results: Path) -> list[Path]:
    """Directories of runs that are not complete."""
    return sorted(results.glob("runs/*.partial"))


def complete_runs(results: Path) -> list[Path]:
    """Directories of complete runs."""
    return sorted(p for p in results.glob("runs/*") if not p.name.endswith(".partial"))


def only_run(results: Path) -> Run:
    """The one complete run of a folder."""
    (path,) = complete_runs(results)
    return load_run(path)


def is_under_load(results: Path) -> bool:
    """True once a run of the folder has confirmed its T0 and T0 is over by a second."""
    for path in partial_runs(results):
        with suppress(Exception):
            t0_unix_ns = load_run(path).manifest.t0_unix_ns
            if t0_unix_ns is not None and time.time_ns() > t0_unix_ns + 1_000_000_000:
                return True
    return False
