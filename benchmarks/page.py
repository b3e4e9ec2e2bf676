"""How long `headroom report` takes, and how much memory, on archives of an hour and of a day.

And `headroom compare`, of two archives of the first length. The archives are those of `show`,
written by the real archive writer. Measured is the whole command, start of Python and loading
of Matplotlib included, and the most resident memory that its processes had together. A day
takes an hour to write, so it is only measured when asked for (--soak), and is kept.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.process import ROOT
from benchmarks.show import write_archive
from loadtests.errors import ExitCode, HarnessError
from loadtests.record.directory import MANIFEST_FILE, RUNS, is_partial
from loadtests.record.files import read_file
from loadtests.record.manifest import decode_manifest

_START = "from loadtests.cli import console; console()"
_LOOK_S = 0.02
_S = 1_000_000_000
_DECISIONS = (ExitCode.PASS, ExitCode.FAIL, ExitCode.INCONCLUSIVE)


@dataclass(frozen=True, slots=True, kw_only=True)
class PageSample:
    """Reporting one archive several times, and comparing it with another where that was done."""

    windows: int
    archive_bytes: int
    report_s: tuple[float, ...]
    resident_bytes: int  # the largest of all rounds
    page_bytes: int
    compare_s: tuple[float, ...] = ()
    compare_resident_bytes: int = 0


def _resident_bytes(process: psutil.Process) -> int:
    """Of a process and those that it started; pages that they share count for each."""
    found = 0
    with suppress(psutil.Error):
        for one in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):
                found += one.memory_info().rss
    return found


def _timed(words: tuple[str, ...], codes: tuple[ExitCode, ...]) -> tuple[float, int]:
    """Seconds that a command took, and the most memory that its processes had."""
    begin = time.monotonic()
    child = subprocess.Popen(
        [sys.executable, "-c", _START, *words],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    watched, most = psutil.Process(child.pid), 0
    while True:
        ended, status, usage = os.wait4(child.pid, os.WNOHANG)
        if ended:
            break
        most = max(most, _resident_bytes(watched))
        time.sleep(_LOOK_S)
    took_s = time.monotonic() - begin
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in codes:
        raise HarnessError(
            where=f"headroom {words[0]}", seen=f"exit code {child.returncode}", expected="a result"
        )
    most = max(most, usage.ru_maxrss * 1024)
    print(f"  headroom {words[0]}: {took_s:.2f} s, {most / 1e6:.0f} MB", flush=True)
    return took_s, most


def _archives(results: Path, seconds: int, number: int) -> list[Path]:
    """So many archives of this length; those that are not there are written."""
    runs = sorted((results / RUNS).glob("*_benchmark_*"))
    found = [path for path in runs if not is_partial(path) and _length_ns(path) == seconds * _S]
    return [*found, *(write_archive(results, seconds) for _ in range(number - len(found)))]


def _length_ns(archive: Path) -> int:
    manifest = decode_manifest(read_file(archive / MANIFEST_FILE), str(archive))
    return max(stage.end_ns for stage in manifest.stages)


def page_sample(results: Path, *, seconds: int, rounds: int, scratch: Path) -> PageSample:
    """Report the archive of so many seconds in a results folder, written if it is not there."""
    archive = _archives(results, seconds, 1)[0]
    output = scratch / "report"
    report = ("report", str(archive), "--output", str(output))
    reports = [_timed(report, (ExitCode.PASS,)) for _ in range(rounds)]
    return PageSample(
        windows=seconds,
        archive_bytes=sum(f.stat().st_size for f in archive.rglob("*") if f.is_file()),
        report_s=tuple(took_s for took_s, _ in reports),
        resident_bytes=max(resident for _, resident in reports),
        page_bytes=(output / "report.html").stat().st_size,
    )


def with_compare(sample: PageSample, results: Path, *, rounds: int) -> PageSample:
    """The same, its archive compared with another of its length as well."""
    before, after = _archives(results, sample.windows, 2)[:2]
    compare = ("compare", str(before), str(after))
    compares = [_timed(compare, _DECISIONS) for _ in range(rounds)]
    return dataclasses.replace(
        sample,
        compare_s=tuple(took_s for took_s, _ in compares),
        compare_resident_bytes=max(resident for _, resident in compares),
    )
