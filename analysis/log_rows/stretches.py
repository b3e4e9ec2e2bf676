"""Reads a long log with several processes, each a stretch of the file.

A stretch ends behind an interval, never between the comment on its overflow and itself, so
that what the stretches hold adds up to what the file holds. The log of a day is some
gigabytes, nearly all of whose cost is decoding; a short one is read where it is asked for.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

from analysis.log_rows.memory import keep_freed_memory
from loadtests.errors import HarnessError
from loadtests.record.files import open_file, reading

_SHORT_BYTES: Final = 256 << 20  # below, a second core saves less than its memory costs
_MOST_PROCESSES: Final = 4  # each has rows of its own in memory
_INTERVAL: Final = b"Tag="

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """The lines of a file that begin in `[first, end)`, in bytes."""

    path: Path
    first: int
    end: int

    def lines(self) -> Iterator[bytes]:
        """All of them, in order."""
        with reading(self.path), open_file(self.path) as file:
            file.seek(self.first)
            at = self.first
            while at < self.end:
                line = file.readline()
                at += len(line)
                yield line


def stretches_of(path: Path, number: int) -> tuple[Stretch, ...]:
    """At most so many stretches of about the same length, that make up the file."""
    with reading(path), open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        cuts = [_behind_interval(file, size * part // number) for part in range(1, number)]
    edges = sorted({0, *(min(cut, size) for cut in cuts), size})
    return tuple(Stretch(path=path, first=first, end=end) for first, end in pairwise(edges))


def _behind_interval(file: BinaryIO, at: int) -> int:
    """Where the first interval that begins behind `at` has ended."""
    file.seek(at)
    file.readline()
    while (line := file.readline()) and not line.startswith(_INTERVAL):
        pass
    return file.tell()


@contextmanager
def over_stretches(
    path: Path, work: Callable[[Stretch], Found], short_bytes: int | None = None
) -> Iterator[Callable[[], list[Found]]]:
    """`work` on every stretch, begun at once; what is yielded waits for the results, in order.

    `work` must be picklable. A file shorter than `short_bytes` (None: 256 MiB) is worked on
    here, when the results are asked for. They come as HarnessError when a process is killed
    meanwhile, as for want of memory.
    """
    with reading(path), open_file(path) as file:
        size_bytes = os.fstat(file.fileno()).st_size
    is_short = size_bytes < (_SHORT_BYTES if short_bytes is None else short_bytes)
    number = 1 if is_short else min(_MOST_PROCESSES, len(os.sched_getaffinity(0)))
    stretches = stretches_of(path, number)
    if number == 1:
        yield lambda: [work(stretch) for stretch in stretches]
        return
    # Not forked: Arrow's threads may hold locks that no child would ever see released.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(number, mp_context=context, initializer=_begin_process)
    try:
        begun = [pool.submit(work, stretch) for stretch in stretches]
        yield lambda: [_result(future, path, number) for future in begun]
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_process() -> None:
    """Set up a process that only reads."""
    # Ctrl-C goes to all processes of a terminal: these end at once, without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    keep_freed_memory()


def _result(future: Future[Found], path: Path, number: int) -> Found:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise HarnessError(
            where=str(path),
            seen=f"one of {number} processes that read it was killed",
            expected="a gigabyte of memory for each, and nobody who ends them",
        ) from error
