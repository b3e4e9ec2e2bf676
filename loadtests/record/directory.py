"""Names and places of an archive: run ids, directories, file names.

A run lives in `results/runs/<id>.partial/` while it is written and in `results/runs/<id>/`
once it is complete; there is never both. The id is safe as a directory name whatever the
scenario is called, and a directory is taken by creating it, so that two runs cannot share
one. Links in place of a run are refused.
"""

from __future__ import annotations

import fcntl
import re
import secrets
import unicodedata
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from loadtests.clock import NS_PER_S
from loadtests.errors import HarnessError
from loadtests.record.files import sync_directory, writing
from loadtests.record.manifest import RUN_ID

RUNS: Final = "runs"
PARTIAL: Final = ".partial"
MANIFEST_FILE: Final = "run.json"
PLAN_FILE: Final = "plan.msgpack"
EVENTS_FILE: Final = "events.jsonl"
LATENCY_FILE: Final = "latency.hlog"
TOTALS_FILE: Final = "totals.hlog"
JOURNAL_FILE: Final = "journal.bin"  # removed when the archive is complete
VERDICT_FILE: Final = "verdict.json"  # written by whoever judges the run
READ_BACK_FILE: Final = "read_back.parquet"  # written by whoever audits the writes of a run
REPORT_FILES: Final = ("report.html", "report.md")  # made of the other files, at any time
CHECKSUMS_FILE: Final = "SHA256SUMS"  # `sha256sum --check` reads it
_LONGEST_NAME: Final = 48


def new_run_id(scenario_name: str, start_unix_ns: int) -> str:
    """`<UTC start>_<scenario>_<short id>`: unique, and safe as a directory name.

    The name is folded to ASCII letters, digits, "." and "-" and cut to 48 characters;
    a name of nothing else is called "run".
    """
    start = datetime.fromtimestamp(start_unix_ns // NS_PER_S, UTC).strftime("%Y%m%dT%H%M%SZ")
    folded = unicodedata.normalize("NFKD", scenario_name).encode("ascii", "ignore").decode("ascii")
    name = re.sub(r"[^A-Za-z0-9.]+", "-", folded)[:_LONGEST_NAME].strip(".-") or "run"
    return f"{start}_{name}_{secrets.token_hex(4)}"


def create_run_directory(results: Path, run_id: str) -> Path:
    """Take `results/runs/<run_id>.partial/`; HarnessError when it or the complete run is there."""
    if not RUN_ID.fullmatch(run_id):
        raise ValueError(f"{run_id!r} is not a run id, see new_run_id")
    runs = results / RUNS
    partial = runs / (run_id + PARTIAL)
    with writing(partial):
        runs.mkdir(parents=True, exist_ok=True)
        is_taken = False
        try:
            partial.mkdir()
        except FileExistsError:
            is_taken = True
        if not is_taken and ((runs / run_id).is_symlink() or (runs / run_id).exists()):
            partial.rmdir()
            is_taken = True
    if is_taken:
        raise HarnessError(
            where=str(partial), seen="a run with this id", expected="an id that is not taken"
        )
    sync_directory(runs)
    return partial


def check_run_directory(path: Path) -> None:
    """HarnessError unless `path` is the real directory of a run, reached by no link at its end."""
    if path.is_symlink():
        raise HarnessError(where=str(path), seen="a symbolic link", expected="a run directory")
    if not path.is_dir():
        seen = "no such directory" if not path.exists() else "a file"
        raise HarnessError(where=str(path), seen=seen, expected="a run directory")


def is_partial(path: Path) -> bool:
    """Tell a run directory that was not completed by its name."""
    return path.name.endswith(PARTIAL)


def is_being_written(path: Path) -> bool:
    """Tell whether the writer of a partial run is alive: it holds a lock on the journal."""
    try:
        with (path / JOURNAL_FILE).open("rb") as journal:
            fcntl.flock(journal, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no journal (yet), or a file system without locks
        return False
    return False
