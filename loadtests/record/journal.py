"""The journal: what survives a crash of the master.

A file of frames, appended as batches are acknowledged: length (4 bytes, big endian),
CRC-32 of the rest (4 bytes), kind (1 byte), body. Kind WINDOWS holds [source, [pack_window
bytes, ...], note] in msgpack, the note being somebody else's; kind SERVER holds rows of
`server.py`, kind OPAQUE bytes of somebody else. Windows are written as agents packed them:
to pack them again and compress them took a master of 1,000 agents more time than to write
them, and they come smaller (`packing.py`) than LZ4 had made them.

Law: a reader takes every whole frame before the first damage and says how many bytes it
left. A torn tail is what a crash does; damage with whole frames behind it is not, and is
said too. Nothing is synced while load runs (see `AppendFile`).
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from loadtests.errors import HarnessError
from loadtests.record.files import AppendFile, open_file, reading
from loadtests.record.server import ServerRow, decode_rows, encode_rows
from loadtests.record.window import SlotSpace, Window, check_slots, unpack_window

MAX_BODY_BYTES: Final = 256 * 1024 * 1024  # a longer claim is damage, not data
_HEAD: Final = struct.Struct(">IIB")
_CHECKED_HEAD: Final = struct.Struct(">IB")


class FrameKind(IntEnum):
    """What a frame's body is."""

    OPAQUE = 0
    WINDOWS = 1
    SERVER = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Windows of one source, as acknowledged together, and what was noted with them."""

    source: str
    windows: tuple[Window, ...]
    note: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerBatch:
    """What the target said of itself, as one or more scrapes brought it."""

    rows: tuple[ServerRow, ...]


class _Body(msgspec.Struct, array_like=True):
    source: str
    windows: list[bytes]
    note: bytes = b""  # none in journals from before there were any


_DECODER: Final = msgspec.msgpack.Decoder(_Body)


def _framed(kind: FrameKind, body: bytes) -> bytes:
    checksum = zlib.crc32(body, zlib.crc32(_CHECKED_HEAD.pack(len(body), kind)))
    return _HEAD.pack(len(body), checksum, kind) + body


class Journal:
    """Appends frames to a new file, or behind the `keep_bytes` of a journal that is there."""

    def __init__(self, path: Path, keep_bytes: int | None = None) -> None:
        self.file = AppendFile(path, keep_bytes)

    def append_opaque(self, body: bytes) -> None:
        """Append bytes that this module does not understand."""
        self.file.append(_framed(FrameKind.OPAQUE, body))

    def append_windows(self, batches: Sequence[tuple[str, Sequence[bytes], bytes]]) -> None:
        """Append batches of (source, windows as `pack_window` made them, note): all or none."""
        bodies = [
            msgspec.msgpack.encode(_Body(source, list(windows), note))
            for source, windows, note in batches
        ]
        self.file.append(b"".join(_framed(FrameKind.WINDOWS, body) for body in bodies))

    def append_server(self, rows: Sequence[ServerRow]) -> None:
        """Append rows of scrapes."""
        self.file.append(_framed(FrameKind.SERVER, encode_rows(rows)))


class JournalReader:
    """Reads frame after frame, so that a journal of any length needs little memory.

    `slots` are the run's: a window must keep within them. `cut_bytes` is what lies behind
    the last frame read: at the end of the iteration, what could not be read.
    """

    def __init__(self, path: Path, slots: SlotSpace) -> None:
        self._path = path
        self._slots = slots
        self._end = 0
        self._size = 0

    @property
    def whole_bytes(self) -> int:
        """Where the last whole frame that was read ends."""
        return self._end

    @property
    def cut_bytes(self) -> int:
        """Bytes after the last whole frame that was read."""
        return self._size - self._end

    def __iter__(self) -> Iterator[Batch | ServerBatch | bytes]:
        """Batches, and the bytes of opaque frames, in order.

        HarnessError when the file cannot be read or a frame lies: one that passes its
        checksum and still does not decode was written wrong, which no crash does.
        """
        for kind, body in self._frames():
            yield body if kind is FrameKind.OPAQUE else self._batch(kind, body)

    def opaque(self) -> Iterator[bytes]:
        """The opaque frames alone: the others are checked, but not decoded."""
        return (body for kind, body in self._frames() if kind is FrameKind.OPAQUE)

    def _frames(self) -> Iterator[tuple[FrameKind, bytes]]:
        with reading(self._path), open_file(self._path) as file:
            self._end, self._size = 0, os.fstat(file.fileno()).st_size
            while (frame := self._next_frame(file)) is not None:
                yield frame

    def _batch(self, kind: FrameKind, body: bytes) -> Batch | ServerBatch:
        try:
            if kind is FrameKind.SERVER:
                return ServerBatch(rows=decode_rows(body))
            frame = _DECODER.decode(body)
            windows = tuple(unpack_window(packed) for packed in frame.windows)
            for window in windows:
                check_slots(window, self._slots)
        except (msgspec.MsgspecError, ValueError) as error:
            raise HarnessError(
                where=f"{self._path}, frame ending at byte {self._end}",
                seen=str(error),
                expected="windows or scrapes as this program packs them",
            ) from error
        return Batch(source=frame.source, windows=windows, note=frame.note)

    def _next_frame(self, file: BinaryIO) -> tuple[FrameKind, bytes] | None:
        """Kind and body of the next frame; None at the end and at damage."""
        head = file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            return None
        length, checksum, kind = _HEAD.unpack(head)
        # Before reading: a damaged length may be huge.
        if length > min(MAX_BODY_BYTES, self.cut_bytes - _HEAD.size):
            return None
        body = file.read(length)
        if zlib.crc32(body, zlib.crc32(_CHECKED_HEAD.pack(length, kind))) != checksum:
            return None
        if kind not in FrameKind.__members__.values():
            return None
        self._end += _HEAD.size + length
        return FrameKind(kind), body
