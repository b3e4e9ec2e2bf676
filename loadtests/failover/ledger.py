"""The undo ledger: what may be in force, on disk before it is.

One file of JSON lines in the user's state folder: a strike when it is about to be applied,
its key when it was seen to be gone. Each line is written and synced (fsync) before anything
else happens, so whatever kills the harness leaves the way back. A torn last line was never
acted on and is dropped; other damage is an error, because it could hide a fault.

The lock file beside it (flock) is held by whoever injects or undoes: a second failover is
refused, and the kernel frees it when its holder dies.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final, Self

import msgspec

from loadtests.errors import HarnessError, TargetError
from loadtests.failover.strike import Strike
from loadtests.plan.host import state_folder

LEDGER_NAME: Final = "undo.jsonl"
LOCK_NAME: Final = "lock"


class Began(msgspec.Struct, frozen=True, kw_only=True, tag="began", forbid_unknown_fields=True):
    """It is about to be applied."""

    strike: Strike


class Gone(msgspec.Struct, frozen=True, kw_only=True, tag="gone", forbid_unknown_fields=True):
    """It was seen to be gone."""

    key: str


_DECODER: Final = msgspec.json.Decoder(Began | Gone)


def ledger_folder() -> Path:
    """`$XDG_STATE_HOME/headroom/failover`: one for a user and a host."""
    return state_folder() / "failover"


def _read_ledger(path: Path) -> tuple[dict[str, Strike], int, bool]:
    """Strikes that may be in force, the oldest first; bytes of whole lines, and if more follow.

    HarnessError for a file that is damaged or cannot be read.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return {}, 0, False
    except OSError as error:
        raise HarnessError(
            where=str(path), seen=str(error), expected="a ledger that can be read"
        ) from error
    *lines, torn = data.split(b"\n")
    found: dict[str, Strike] = {}
    for number, line in enumerate(lines, start=1):
        try:
            entry = _DECODER.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise HarnessError(
                where=f"{path}, line {number}",
                seen=str(error),
                expected="an undo ledger: look into it, undo by hand, then remove it",
            ) from error
        if isinstance(entry, Began):
            found[entry.strike.key] = entry.strike
        else:
            found.pop(entry.key, None)
    return found, len(data) - len(torn), bool(torn)


def strikes_in(folder: Path) -> tuple[Strike, ...]:
    """What may be in force, the newest first: a look that needs no lock and changes nothing."""
    return tuple(reversed(_read_ledger(folder / LEDGER_NAME)[0].values()))


class Ledger:
    """The ledger of a folder, locked from construction until `close`.

    TargetError while another process holds it; HarnessError for a damaged file or a folder
    that cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LEDGER_NAME
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise HarnessError(
                where=str(folder), seen=str(error), expected="a folder that can be written"
            ) from error
        try:
            self._take_lock(folder)
            self._open = self._read()
            self._file = os.open(
                self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
            )
            self._sync_folder()
        except BaseException:
            os.close(self._lock)
            raise

    def _take_lock(self, folder: Path) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._lock, 32, 0).decode(errors="replace").strip()
            raise TargetError(
                where=str(folder / LOCK_NAME),
                seen=f"another failover that is under way (pid {holder or 'unknown'})",
                expected="one failover at a time: wait for its end",
            ) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def _read(self) -> dict[str, Strike]:
        """Strikes that may be in force, the oldest first; a torn last line is cut off."""
        found, whole_bytes, has_torn = _read_ledger(self.path)
        if has_torn:
            os.truncate(self.path, whole_bytes)
        return found

    @property
    def left(self) -> tuple[Strike, ...]:
        """Strikes that may be in force, the newest first: the order of undoing."""
        return tuple(reversed(self._open.values()))

    def began(self, strike: Strike) -> None:
        """Write a strike down; it may be applied when this has returned."""
        self._append(Began(strike=strike))
        self._open[strike.key] = strike

    def gone(self, strike: Strike) -> None:
        """Strike it off; the file is emptied with its last entry."""
        self._append(Gone(key=strike.key))
        self._open.pop(strike.key, None)
        if not self._open:
            os.ftruncate(self._file, 0)
            os.fsync(self._file)

    def _append(self, entry: Began | Gone) -> None:
        line = msgspec.json.encode(entry) + b"\n"
        try:
            if os.write(self._file, line) != len(line):
                raise OSError("written in part")  # noqa: TRY301 - one way out for both
            os.fsync(self._file)
        except OSError as error:
            raise HarnessError(
                where=str(self.path), seen=str(error), expected="a ledger that can be written"
            ) from error

    def _sync_folder(self) -> None:
        descriptor = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Free the lock."""
        os.close(self._file)
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
