"""Files of an archive on a disk that may fill up, fail or refuse.

Every error of the operating system becomes a HarnessError that names the file and the
errno. An append is whole or absent: after a short write the file is cut back to the
last good byte, so a full disk leaves a readable archive. Links are never followed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import Final

from loadtests.errors import HarnessError

_KEPT_FILE: Final = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE: Final = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_MODE: Final = 0o644


def error_of(error: OSError, path: Path, expected: str) -> HarnessError:
    """Map an OSError to ours: `where` is the file, `seen` the errno's name and text."""
    name = errno.errorcode.get(error.errno or 0, "unknown errno")
    text = os.strerror(error.errno) if error.errno else str(error)
    return HarnessError(where=str(path), seen=f"{name}: {text}", expected=expected)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Errors of the operating system in this block concern writing `path`."""
    try:
        yield
    except OSError as error:
        raise error_of(error, path, "a results folder that is writable and has space") from error


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Errors of the operating system in this block concern reading `path`."""
    try:
        yield
    except OSError as error:
        raise error_of(error, path, "a readable file of a run archive") from error


class AppendFile:
    """A file that only grows; `size_bytes` is its length of whole appends.

    It is a new one, unless `keep_bytes` are to be kept of one that is there; what lies behind
    them, such as the torn end that a crash leaves, is `cut` before anything is appended. One
    that `is_spool` lies beside `path`, has no name, and is gone when it is closed.

    Every append goes to the kernel at once: it survives the death of this process. It is
    synced to the disk by `sync` alone, because an fsync can stall the event loop that
    renews leases for hundreds of milliseconds; a power cut may cost the last seconds.
    """

    def __init__(
        self, path: Path, keep_bytes: int | None = None, *, is_spool: bool = False
    ) -> None:
        self.path = path
        self.size_bytes = keep_bytes or 0
        flags = _NEW_FILE | os.O_WRONLY | os.O_APPEND if keep_bytes is None else _KEPT_FILE
        with writing(path):
            if is_spool:
                with tempfile.TemporaryFile(dir=path.parent, buffering=0) as file:
                    self.descriptor = os.dup(file.fileno())
            else:
                self.descriptor = os.open(path, flags, _FILE_MODE)

    def cut(self) -> None:
        """Cut off what is not kept."""
        with writing(self.path):
            os.ftruncate(self.descriptor, self.size_bytes)

    def append(self, data: bytes) -> None:
        """Write all of `data` or, with a HarnessError, nothing of it."""
        with writing(self.path):
            left = memoryview(data)
            try:
                while left:
                    left = left[os.write(self.descriptor, left) :]
            except OSError:
                # Cutting back needs no space; without it the next append would follow a torn one.
                with suppress(OSError):
                    os.ftruncate(self.descriptor, self.size_bytes)
                raise
        self.size_bytes += len(data)

    @contextmanager
    def read_again(self) -> Iterator[BufferedReader]:
        """Read a spool from its beginning; nothing more can be appended."""
        with reading(self.path), os.fdopen(os.dup(self.descriptor), "rb") as file:
            file.seek(0)
            yield file

    def sync(self) -> None:
        """Wait until the disk has it."""
        with writing(self.path):
            os.fsync(self.descriptor)

    def close(self) -> None:
        """Close; a second time is harmless."""
        if self.descriptor >= 0:
            descriptor, self.descriptor = self.descriptor, -1
            with writing(self.path):
                os.close(descriptor)


def replace_file(path: Path, data: bytes) -> None:
    """Put `data` in place of `path` at once: readers see the old or the new, never a part."""
    fresh = path.with_name(f".{path.name}.new")
    with suppress(FileNotFoundError):
        fresh.unlink()
    file = AppendFile(fresh)
    try:
        file.append(data)
        file.sync()
    except HarnessError:
        with suppress(OSError):
            fresh.unlink()
        raise
    finally:
        file.close()
    with writing(path):
        fresh.replace(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make renames and new names in a directory durable."""
    with writing(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def open_file(path: Path) -> BufferedReader:
    """Open a regular file to read; a link is refused. Raises OSError: use within `reading`."""
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")


def read_file(path: Path) -> bytes:
    """All bytes of a regular file; a link is refused."""
    with reading(path), open_file(path) as file:
        return file.read()


def size_of(path: Path) -> int:
    """Length of a file in bytes; a link is refused."""
    with reading(path), open_file(path) as file:
        return os.fstat(file.fileno()).st_size


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal; a link is refused."""
    with reading(path), open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
