"""Stop files: who may write in a folder can end what runs there, without a socket or a signal.

A file named `stop` in `<run>.partial/` is the request, whatever made it (`headroom stop`,
`touch`, a script of the operator); its text is the reason. The run takes it within a tenth
of a second, removes it, and ends in order: no further request, then a complete archive that
says why.

A file of that name in the results folder itself is the kill switch of everything that began
before it was written: runs, runs that are still being prepared and have no folder yet, nights.
It stays where it is, and means nothing to whatever begins later.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from loadtests.clock import NS_PER_S
from loadtests.record.files import replace_file, writing

STOP_FILE: Final = "stop"
_MOST_BYTES: Final = 500
_UNDER_WAY: Final = ".under-way"


def ask_to_stop(folder: Path, reason: str) -> None:
    """Ask the run, or all of a results folder, to end; HarnessError when the folder refuses it."""
    replace_file(folder / STOP_FILE, f"{reason}\n".encode()[:_MOST_BYTES])


def take_stop_request(run: Path) -> str | None:
    """The reason of a request, "" without one, and the file is gone; None when there is none."""
    path = run / STOP_FILE
    reason = _reason_in(path)
    if reason is not None:
        with suppress(OSError):
            path.unlink()
    return reason


def _reason_in(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:  # a folder, or unreadable: somebody meant it all the same
        return str(error.strerror)
    return " ".join(text.decode(errors="replace").split())


def _began_unix_ns() -> int:
    """When this process began, by the clock that files are dated with (proc(5), field 22)."""
    fields = Path("/proc/self/stat").read_text(encoding="ascii", errors="replace")
    ticks = int(fields.rpartition(")")[2].split()[19])
    began_ns = ticks * NS_PER_S // os.sysconf("SC_CLK_TCK")
    return time.time_ns() - (time.clock_gettime_ns(time.CLOCK_BOOTTIME) - began_ns)


class KillSwitch:
    """The stop file of a results folder, for what this process does there.

    The whole process counts: a command that is asked while it reads its scenario has heard it.
    """

    def __init__(self, results: Path, began_unix_ns: int | None = None) -> None:
        self._path = results / STOP_FILE
        self._began_unix_ns = _began_unix_ns() if began_unix_ns is None else began_unix_ns

    def asked(self) -> str | None:
        """Its words, "" without any; None where nobody asked since this process began."""
        try:
            written_unix_ns = self._path.stat().st_mtime_ns
        except OSError:
            return None
        return _reason_in(self._path) if written_unix_ns >= self._began_unix_ns else None


@contextmanager
def under_way(results: Path) -> Iterator[None]:
    """Let `headroom stop` know of a run that has no folder yet; a dead process lets go of it."""
    with writing(results):
        results.mkdir(parents=True, exist_ok=True)
        file = (results / _UNDER_WAY).open("ab")
    with file:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_SH)
        yield


def is_under_way(results: Path) -> bool:
    """Tell whether some process is `under_way`."""
    try:
        with (results / _UNDER_WAY).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # nothing ever was, or a file system without locks
        return False
    return False
