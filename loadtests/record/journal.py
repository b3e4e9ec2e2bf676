"""The journal: what survives a crash of the master.

A file of frames, appended as batches are acknowledged: length (4 bytes, big endian),
CRC-32 of kind and body (4 bytes), kind (1 byte), body (zlib, level 1). Kind WINDOWS holds
[source, [pack_window bytes, ...]] in msgpack; kind OPAQUE holds bytes of somebody else.

Law: a reader takes every whole frame before the first damage and says how many bytes it
left. A torn tail is what a crash does; damage with whole frames behind it is not, and is
said too. Nothing is synced while load runs (see `AppendFile`).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final

import msgspec

from loadtests.errors import HarnessError
from loadtests.record.files import AppendFile, read_file
from loadtests.record.window import SlotSpace, Window, check_slots, pack_window, unpack_window

MAX_BODY_BYTES: Final = 256 * 1024 * 1024  # inflated; a longer claim is damage, not data
_HEAD: Final = struct.Struct(">IIB")
_CHECKED_HEAD: Final = struct.Struct(">IB")


class FrameKind(IntEnum):
    """What a frame's body is."""

    OPAQUE = 0
    WINDOWS = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Windows of one source, as acknowledged together."""

    source: str
    windows: tuple[Window, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalContent:
    """What was read: `cut_bytes` at the end could not be; `opaque` frames are kept as they are."""

    batches: tuple[Batch, ...]
    opaque: tuple[bytes, ...]
    cut_bytes: int


class _Body(msgspec.Struct, array_like=True):
    source: str
    windows: list[bytes]


_DECODER: Final = msgspec.msgpack.Decoder(_Body)


class Journal:
    """Appends frames to a new file."""

    def __init__(self, path: Path) -> None:
        self.file = AppendFile(path)

    def append_opaque(self, body: bytes) -> None:
        """Append bytes that this module does not understand."""
        self._append(FrameKind.OPAQUE, body)

    def append_windows(self, source: str, windows: Sequence[Window]) -> None:
        """Append the windows of one acknowledged batch."""
        packed = _Body(source, [pack_window(window) for window in windows])
        self._append(FrameKind.WINDOWS, msgspec.msgpack.encode(packed))

    def _append(self, kind: FrameKind, body: bytes) -> None:
        packed = zlib.compress(body, 1)
        checksum = zlib.crc32(packed, zlib.crc32(_CHECKED_HEAD.pack(len(packed), kind)))
        self.file.append(_HEAD.pack(len(packed), checksum, kind) + packed)


def read_journal(path: Path, slots: SlotSpace) -> JournalContent:
    """Read what is whole; HarnessError when the file cannot be opened or a frame lies.

    `slots` are the run's: a window must keep within them.
    A frame that passes its checksum and still does not decode was written wrong, which no
    crash does.
    """
    data = read_file(path)
    batches: list[Batch] = []
    opaque: list[bytes] = []
    end = 0
    for end, kind, body in _frames(data):
        if kind == FrameKind.OPAQUE:
            opaque.append(body)
            continue
        try:
            frame = _DECODER.decode(body)
            windows = tuple(unpack_window(packed) for packed in frame.windows)
            for window in windows:
                check_slots(window, slots)
        except (msgspec.MsgspecError, ValueError) as error:
            raise HarnessError(
                where=f"{path}, frame ending at byte {end}",
                seen=str(error),
                expected="windows as this program packs them",
            ) from error
        batches.append(Batch(source=frame.source, windows=windows))
    return JournalContent(batches=tuple(batches), opaque=tuple(opaque), cut_bytes=len(data) - end)


def _frames(data: bytes) -> Iterator[tuple[int, FrameKind, bytes]]:
    """Whole frames from the start: (end offset, kind, inflated body)."""
    offset = 0
    while len(data) - offset >= _HEAD.size:
        length, checksum, kind = _HEAD.unpack_from(data, offset)
        end = offset + _HEAD.size + length
        packed = data[offset + _HEAD.size : end]
        head = zlib.crc32(_CHECKED_HEAD.pack(length, kind))
        if len(packed) != length or zlib.crc32(packed, head) != checksum:
            return
        if kind not in FrameKind.__members__.values():
            return
        inflater = zlib.decompressobj()
        body = inflater.decompress(packed, MAX_BODY_BYTES)
        if not inflater.eof:
            return
        yield end, FrameKind(kind), body
        offset = end
