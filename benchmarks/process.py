"""Processes under measurement: started pinned, read while they run, never left behind.

CPU time is the kernel's own nanosecond clock of the process (clock_getcpuclockid(3):
user + system of all its threads, ended ones included), so a reading in the middle of a
run is exact and start-up costs can be left out. The law kept here: whatever `spawn`
starts is dead when its `with` block is left, and dies with the benchmark if that is killed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from loadtests.errors import HarnessError

ROOT = Path(__file__).resolve().parent.parent
_STOP_S = 5.0
_LIBC = ctypes.CDLL(None, use_errno=True)


def cpu_ns(pid: int) -> int:
    """User + system time that process `pid` has used; ProcessLookupError when it is gone."""
    clock = ctypes.c_int()
    code = _LIBC.clock_getcpuclockid(pid, ctypes.byref(clock))
    if code != 0:
        raise ProcessLookupError(code, f"CPU clock of process {pid}")
    return time.clock_gettime_ns(clock.value)


def resident_bytes(pid: int) -> int:
    """VmRSS of process `pid`."""
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def descendants(pid: int) -> list[int]:
    """Process ids of all living children, their children and so on (proc_pid_children(5))."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *descendants(int(child))]
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A started process; `output_path` holds its standard output, `error_path` the other."""

    name: str
    popen: subprocess.Popen[bytes]
    output_path: Path
    error_path: Path

    @property
    def pid(self) -> int:
        """Process id; the launcher execs, so it is the program's own."""
        return self.popen.pid

    def output(self) -> str:
        """Read all that it has written to standard output so far."""
        return self.output_path.read_text(errors="replace")

    def complaint(self) -> str:
        """Cut the end of its standard error, for a message."""
        return self.error_path.read_text(errors="replace")[-2000:].strip() or "nothing on stderr"

    def wait(self, timeout_s: float) -> int:
        """Exit code; HarnessError when it does not end in time."""
        try:
            return self.popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise HarnessError(
                where=self.name,
                seen=f"still running after {timeout_s:g} s",
                expected="an end by itself",
            ) from None

    def wait_success(self, timeout_s: float) -> str:
        """Wait for its end and return its output; HarnessError unless the exit code is 0."""
        code = self.wait(timeout_s)
        if code != 0:
            raise HarnessError(
                where=self.name, seen=f"exit code {code}: {self.complaint()}", expected="0"
            )
        return self.output()

    def require_alive(self) -> None:
        """HarnessError when it has ended."""
        if self.popen.poll() is not None:
            raise HarnessError(
                where=self.name,
                seen=f"ended early with {self.popen.returncode}: {self.complaint()};"
                f" last output: {self.output()[-500:]}",
                expected="a running process",
            )

    def stop(self) -> None:
        """End its whole process group: SIGTERM, then SIGKILL."""
        for number, patience_s in ((signal.SIGTERM, _STOP_S), (signal.SIGKILL, _STOP_S)):
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:
                break
            try:
                self.popen.wait(patience_s)
            except subprocess.TimeoutExpired:
                continue
        self.popen.poll()


@contextmanager
def spawn(
    name: str,
    command: Sequence[str],
    *,
    core: int,
    scratch: Path,
    environment: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
) -> Iterator[Child]:
    """Run `command` pinned to `core`; on leaving, it and its process group are ended."""
    stamp = f"{name.replace(' ', '-')}-{time.monotonic_ns()}"
    output_path, error_path = scratch / f"{stamp}.out", scratch / f"{stamp}.err"
    with output_path.open("wb") as output, error_path.open("wb") as error:
        popen = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.launch", str(core), str(os.getpid()), *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=error,
            env={**os.environ, **(environment or {})},
            cwd=ROOT,
            start_new_session=True,
            pass_fds=pass_fds,
        )
    child = Child(name=name, popen=popen, output_path=output_path, error_path=error_path)
    try:
        yield child
    finally:
        child.stop()
