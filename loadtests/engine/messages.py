"""What agent and engine say to each other over their socket pair.

A frame is a 4-byte big-endian length and a msgpack body of one of these tagged types.
All times are CLOCK_MONOTONIC nanoseconds of the host that both live on; windows are
labelled with `t0_unix_ns + (t - t0_ns)`, so a stepping wall clock cannot move them.
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec

from loadtests.clock import NS_PER_MS

MAX_FRAME_BYTES: Final = 64 * 1024 * 1024
# After an ended lease nobody may find a request later than a second: what a dead link has
# kept until then is discarded.
LEASE_DRAIN_NS: Final = 900 * NS_PER_MS
_LENGTH: Final = struct.Struct(">I")


class ShareOf(msgspec.Struct, frozen=True, array_like=True):
    """A `plan.model.Share` on the wire."""

    residue: int
    modulus: int
    from_ns: int


class Configure(msgspec.Struct, frozen=True, tag="configure"):
    """First frame to an engine: everything but the start time. `plan` is `encode_plan`'s bytes.

    `index` of `of_engines` numbers this engine over the whole run; it fixes the engine's
    part of connections, in-flight cap and rate ceiling.
    """

    plan: bytes
    run_id: str
    engine: str
    index: int
    of_engines: int
    share: ShareOf
    lease_ns: int
    authorised_hosts: tuple[str, ...]


class Start(msgspec.Struct, frozen=True, tag="start"):
    """Load begins at `t0_ns`; no request is sent after `lease_until_ns` unless renewed."""

    t0_ns: int
    t0_unix_ns: int
    lease_until_ns: int


class Lease(msgspec.Struct, frozen=True, tag="lease"):
    """The engine may send until this time."""

    until_ns: int


class TakeOver(msgspec.Struct, frozen=True, tag="take_over"):
    """Send this share as well, from its `from_ns` (after T0) on."""

    share: ShareOf


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """Send nothing more, wait up to `grace_ns` for answers, then send FinalReport and exit."""

    grace_ns: int
    reason: str


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The engine is configured and holds its connections; `warnings` go to the archive."""

    pid: int
    connections: int
    warnings: tuple[str, ...]


class WindowReport(msgspec.Struct, frozen=True, tag="window"):
    """One closed window (`record.pack_window` bytes), in order, `sequence` from 1 without gaps."""

    sequence: int
    window: bytes


class FinalReport(msgspec.Struct, frozen=True, tag="final"):
    """The last frame of an engine, after its last window.

    `planned` .. `in_flight_at_stop` are its own totals over the run: they must equal the
    sums of its windows, and obey both conservation laws.
    """

    planned: int
    sent: int
    dropped: int
    ok: int
    client_error: int
    failed: int
    in_flight_at_stop: int
    reason: str
    warnings: tuple[str, ...]


class EngineError(msgspec.Struct, frozen=True, tag="error"):
    """The engine cannot go on: `family` is target, harness or scenario."""

    family: str
    where: str
    seen: str
    expected: str


ToEngine = Configure | Start | Lease | TakeOver | Stop
FromEngine = Ready | WindowReport | FinalReport | EngineError

_TO_ENGINE: Final = msgspec.msgpack.Decoder(ToEngine)
_FROM_ENGINE: Final = msgspec.msgpack.Decoder(FromEngine)


def encode_frame(message: ToEngine | FromEngine) -> bytes:
    """Length prefix and body."""
    body = msgspec.msgpack.encode(message)
    return _LENGTH.pack(len(body)) + body


class FrameReader:
    """Cuts a byte stream into messages; ValueError on an oversized or malformed frame."""

    __slots__ = ("_buffer", "_decoder")

    def __init__(self, decoder: msgspec.msgpack.Decoder[ToEngine | FromEngine]) -> None:
        self._decoder = decoder
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[ToEngine | FromEngine]:
        """Take bytes as they came, return the messages they complete."""
        self._buffer += data
        messages: list[ToEngine | FromEngine] = []
        while len(self._buffer) >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(self._buffer)
            if size > MAX_FRAME_BYTES:
                raise ValueError(f"frame of {size} bytes, at most {MAX_FRAME_BYTES}")
            end = _LENGTH.size + size
            if len(self._buffer) < end:
                break
            try:
                messages.append(self._decoder.decode(bytes(self._buffer[_LENGTH.size : end])))
            except msgspec.MsgspecError as error:
                raise ValueError(f"malformed frame: {error}") from error
            del self._buffer[:end]
        return messages


def engine_side() -> FrameReader:
    """Reader of what agents send."""
    return FrameReader(_TO_ENGINE)


def agent_side() -> FrameReader:
    """Reader of what engines send."""
    return FrameReader(_FROM_ENGINE)
