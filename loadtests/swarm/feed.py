"""What the master tells who judges a run as it goes: frames on a pipe, pure encoding.

A frame is its length (4 bytes, big endian), one byte that says what it is, and its body.
Imports nothing of the swarm: its reader is a process without Locust.
"""

from __future__ import annotations

from enum import Enum

from loadtests.record.manifest import Manifest, decode_manifest, encode_manifest
from loadtests.record.server import ServerRow, decode_rows, encode_rows
from loadtests.record.window import Window, pack_window, unpack_window

_LENGTH = 4


class _Kind(Enum):
    PLAN = b"P"
    MANIFEST = b"M"
    WINDOW = b"W"
    SCRAPED = b"S"


Fed = bytes | Manifest | Window | tuple[ServerRow, ...]


def encode_fed(fed: Fed) -> bytes:
    """One frame: a plan's bytes, a draft manifest, a merged window, rows of scrapes."""
    match fed:
        case bytes():
            kind, body = _Kind.PLAN, fed
        case Manifest():
            kind, body = _Kind.MANIFEST, encode_manifest(fed)
        case Window():
            kind, body = _Kind.WINDOW, pack_window(fed)
        case _:
            kind, body = _Kind.SCRAPED, encode_rows(fed)
    return (len(body) + 1).to_bytes(_LENGTH, "big") + kind.value + body


class FedReader:
    """Takes pieces of the pipe, gives what they hold."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def take(self, piece: bytes) -> list[Fed]:
        """What is complete with this piece."""
        self._buffer += piece
        found: list[Fed] = []
        while len(self._buffer) >= _LENGTH:
            end = _LENGTH + int.from_bytes(self._buffer[:_LENGTH], "big")
            if len(self._buffer) < end:
                break
            found.append(_decode(bytes(self._buffer[_LENGTH:end])))
            del self._buffer[:end]
        return found


def _decode(frame: bytes) -> Fed:
    kind, body = _Kind(frame[:1]), frame[1:]
    match kind:
        case _Kind.PLAN:
            return body
        case _Kind.MANIFEST:
            return decode_manifest(body, "the master's manifest")
        case _Kind.WINDOW:
            return unpack_window(body)
        case _Kind.SCRAPED:
            return decode_rows(body)
