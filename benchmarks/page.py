"""How long `headroom report` takes, and how much memory, on archives of an hour and of a day.

The archives are those of `show`, written by the real archive writer. Measured is the whole
command, start of Python and loading of Matplotlib included, and the largest resident memory of
its process. A day takes an hour to write, so it is only measured when asked for (--soak).
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.process import ROOT
from benchmarks.show import write_archive
from loadtests.errors import ExitCode, HarnessError

_START = "from loadtests.cli import console; console()"


@dataclass(frozen=True, slots=True, kw_only=True)
class PageSample:
    """Reporting one archive several times."""

    windows: int
    archive_bytes: int
    report_s: tuple[float, ...]
    resident_bytes: int  # the largest of all rounds
    page_bytes: int


def _report(archive: Path, output: Path) -> tuple[float, int]:
    """Seconds that one report took, and the most memory that its process had."""
    command = [sys.executable, "-c", _START, "report", str(archive), "--output", str(output)]
    begin = time.monotonic()
    child = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != ExitCode.PASS:
        raise HarnessError(
            where="headroom report", seen=f"exit code {child.returncode}", expected="a report"
        )
    return time.monotonic() - begin, usage.ru_maxrss * 1024


def page_sample(*, seconds: int, rounds: int, scratch: Path) -> PageSample:
    """Write the archive, then report it so many times."""
    archive = write_archive(scratch / f"report-{seconds}", seconds)
    measured = []
    for _ in range(rounds):
        measured.append(_report(archive, scratch / "report"))
        took_s, resident = measured[-1]
        print(f"  headroom report: {took_s:.2f} s, {resident / 1e6:.0f} MB", flush=True)
    return PageSample(
        windows=seconds,
        archive_bytes=sum(f.stat().st_size for f in archive.rglob("*") if f.is_file()),
        report_s=tuple(took_s for took_s, _ in measured),
        resident_bytes=max(resident for _, resident in measured),
        page_bytes=(scratch / "report" / "report.html").stat().st_size,
    )
