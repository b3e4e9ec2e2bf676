"""The log of what a node truly did, against which a measurement can be judged.

One CSV row per request: monotonic nanoseconds when its last byte had been read and when the
answer had been handed to the kernel (-1: the client had gone), status, method, path. A gRPC
call has the method GRPC, the code of its gRPC status, and the times of grpcio's hand-over; a
stream is one row. Rows are appended in batches; those of the last fifth of a second are lost
with a killed node.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

HEADER: Final = "received_ns,replied_ns,status,method,path\n"
ABANDONED: Final = -1
_MAX_ROWS: Final = 4_096
_MAX_PATH: Final = 256


class GroundTruth:
    """Appends to one file; an existing file is replaced."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8", newline="\n")
        self._file.write(HEADER)
        self._rows: list[str] = []

    def note(
        self, received_ns: int, replied_ns: int, status: int, method: bytes, path: bytes
    ) -> None:
        """Add a row."""
        shown = path[:_MAX_PATH].decode("latin-1").replace('"', '""')
        self._rows.append(
            f'{received_ns},{replied_ns},{status},{method.decode("latin-1")},"{shown}"\n'
        )
        if len(self._rows) >= _MAX_ROWS:
            self.flush()

    def flush(self) -> None:
        """Hand all rows to the kernel."""
        self._file.write("".join(self._rows))
        self._rows.clear()
        self._file.flush()

    def close(self) -> None:
        """Flush and close."""
        self.flush()
        self._file.close()
