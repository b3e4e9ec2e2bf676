"""Kills a writer of an archive at chosen calls to the kernel.

    python kill_points.py FOLDER SEED COUNT

Each time a forked child writes a whole run, has it judged, judged again and reported, and is
killed with SIGKILL before, after or (writes) half-way through one of its calls that change
the disk. Prints one line a time: folder and how many windows had been acknowledged.
"""

from __future__ import annotations

import os
import random
import signal
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from record_builders import PLAN, finished, good_manifest
from test_record_disk import WINDOWS

from loadtests.record.archive import Event, create_archive
from loadtests.record.checksums import add_file

CALLS = ("open", "write", "fsync", "ftruncate", "close", "rename", "replace", "unlink", "mkdir")
VERDICTS = (b'{"state":"FAIL"}', b'{"state":"PASS"}')


class Killer:
    """Counts calls that change the disk; at call `number` it kills its process."""

    def __init__(self, number: int, when: str) -> None:
        self._left, self._when = number, when
        self.seen = 0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Every call of this block is counted."""
        own: dict[str, Callable[..., Any]] = {name: getattr(os, name) for name in CALLS}
        for name in CALLS:
            setattr(os, name, self._wrapped(name, own[name]))
        try:
            yield
        finally:
            for name in CALLS:
                setattr(os, name, own[name])

    def _wrapped(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **rest: Any) -> Any:
            self.seen += 1
            is_last = self.seen == self._left
            if is_last and self._when == "before":
                self._die()
            if is_last and self._when == "torn" and name == "write":
                descriptor, data = arguments
                call(descriptor, bytes(data)[: len(data) // 2])
                self._die()
            result = call(*arguments, **rest)
            if is_last:
                self._die()
            return result

        return counted

    @staticmethod
    def _die() -> NoReturn:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("it is dead")


def write_all(results: Path, acknowledge: Callable[[int], None]) -> None:
    """A run from its first file to its report."""
    writer = create_archive(results, good_manifest(), PLAN)
    for number, window in enumerate(WINDOWS, start=1):
        writer.journal_windows("a1", [window])
        acknowledge(number)
        writer.append_window(window)
        writer.append_event(
            Event(at_unix_ns=number, kind="tick", who="master", text="still here", fields={})
        )
    path = writer.finish(finished(good_manifest()))
    for verdict in VERDICTS:
        add_file(path, "verdict.json", verdict)
        add_file(path, "report.md", b"# report of " + verdict)


def play(results: Path, number: int, when: str) -> tuple[int, int]:
    """Fork, write, die; acknowledged windows and calls seen (0 when it died)."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        killer, tell = Killer(number, when), os.write

        def acknowledge(count: int) -> None:
            tell(writing, struct.pack("I", count))

        with killer.watching():
            write_all(results, acknowledge)
        tell(writing, struct.pack("II", 0, killer.seen))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    counts = [count for (count,) in struct.iter_unpack("I", data)]
    if 0 in counts:
        return len(WINDOWS), counts[-1]
    return max(counts, default=0), 0


def main() -> None:
    """Play all of them."""
    folder, seed, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    draw = random.Random(seed)
    _, calls = play(folder / "whole", 0, "never")
    sys.stdout.write(f"whole {len(WINDOWS)} {calls}\n")
    for number in range(count):
        at, when = draw.randint(1, calls), draw.choice(("before", "torn", "after"))
        acknowledged, _ = play(folder / f"{number}", at, when)
        sys.stdout.write(f"{number} {acknowledged} {at} {when}\n")


if __name__ == "__main__":
    main()
