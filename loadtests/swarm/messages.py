"""What master and agents say to each other: immutable, numbered, checksummed values.

Every message is one bytes value on Locust's bus: CRC-32 and the msgpack of a tagged type.
Nothing is a delta and nothing is an event that could be missed: an agent repeats its whole
state (`Snapshot`) and every window the master has not acknowledged, the master repeats
what is not yet confirmed. A lost, repeated or reordered message therefore changes nothing.

Decoding is strict and total: whatever comes in, the answer is a message or a
`MessageError`, which the listener counts and drops.

Times named `_ns` are CLOCK_MONOTONIC of the *agent's* host in messages to an agent and of
the sender's host otherwise, unless a field says more; `offset_ns` counts from T0.
"""

from __future__ import annotations

import zlib
from enum import IntEnum
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from loadtests.record.manifest import HostFacts

PROTOCOL: Final = 4  # agents and masters of different numbers refuse each other
MAX_TO_MASTER_BYTES: Final = 64 * 1024 * 1024
MAX_TO_AGENT_BYTES: Final = 256 * 1024 * 1024  # a plan carries its feeds
MAX_ENGINES: Final = 1024  # of one agent
_CRC_BYTES: Final = 4

Count = Annotated[int, Meta(ge=0, le=2**62)]
Instant = Annotated[int, Meta(ge=-(2**62), le=2**62)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")]
Text = Annotated[str, Meta(max_length=2000)]
Texts = Annotated[tuple[Text, ...], Meta(max_length=64)]


class MessageError(ValueError):
    """Bytes that are no message: wrong checksum, size, type, field or value."""


class AgentPhase(IntEnum):
    """How far an agent has come; it never goes back."""

    JOINING = 0
    CHECKING = 1  # has the plan, runs its preflight
    CHECKED = 2
    SPAWNING = 3  # has its shares, starts engines
    READY = 4  # every engine holds its connections
    ARMED = 5  # has T0, waits for its first lease
    RUNNING = 6
    DRAINING = 7
    FINAL = 8  # every engine has reported its FINAL or is lost; nothing more will come


class EnginePhase(IntEnum):
    """How far an engine has come."""

    STARTING = 0
    READY = 1
    RUNNING = 2
    FINAL = 3
    LOST = 4


class Totals(msgspec.Struct, frozen=True, array_like=True):
    """An engine's counters since T0; cumulative, so they never decrease."""

    planned: Count
    sent: Count
    dropped: Count
    ok: Count
    client_error: Count
    failed: Count

    @property
    def done(self) -> int:
        """Requests with an outcome."""
        return self.ok + self.client_error + self.failed


NO_TOTALS: Final = Totals(0, 0, 0, 0, 0, 0)


class Progress(msgspec.Struct, frozen=True, array_like=True):
    """What engine `index` (over the run) had handed over when a batch was closed.

    `windows` is the sequence of its last window in the batch, `through_s` that window's
    label: everything up to and including this second is in this batch or an earlier one.
    """

    index: Count
    windows: Count
    through_s: Count
    totals: Totals


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """One label's windows of an agent's engines, merged; immutable once numbered.

    Numbers run from 1 without gaps per incarnation. `window` is `record.pack_window`'s
    bytes; `progress` names each engine that contributed, so that the window's sums can be
    checked against the growth of the cumulative totals.
    """

    number: Annotated[int, Meta(ge=1, le=2**62)]
    start_s: Count
    window: bytes
    progress: Annotated[tuple[Progress, ...], Meta(max_length=MAX_ENGINES)]


class EngineState(msgspec.Struct, frozen=True, array_like=True):
    """An engine as its agent sees it.

    `final` and `in_flight_at_stop` are the engine's own totals, counted apart from its
    windows, and None without a FINAL. `ended_offset_ns` is when it ended or died.
    """

    engine: str  # "<agent>/<k>"
    index: Count  # over the run
    phase: EnginePhase
    final: Totals | None
    in_flight_at_stop: Count | None
    ended_offset_ns: Instant | None
    reason: Text
    warnings: Texts


class Hello(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="hello"):
    """An agent offers itself; repeated until the master answers."""

    protocol: Count
    agent: Name
    incarnation: Name  # of this process: a restarted agent is another one
    host: HostFacts
    boot_id: Text  # of the kernel: same text, same CLOCK_MONOTONIC
    engines: Annotated[int, Meta(ge=1, le=MAX_ENGINES)]
    version: Text  # of the package
    versions: Annotated[dict[Text, Text], Meta(max_length=64)]
    # Digests of the code by room; none came before protocol 4, which is then what is told.
    code: Annotated[dict[Text, Text], Meta(max_length=64)] = {}


class Pong(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="pong"):
    """The answer to `Ping` and `Lease`; the master's `sent_ns` comes back unchanged."""

    run_id: Text
    agent: Name
    incarnation: Name
    sent_ns: Instant  # the master's clock
    received_ns: Instant  # the agent's clock
    replied_ns: Instant  # the agent's clock
    unix_ns: Instant  # the agent's wall clock at `replied_ns`


class Snapshot(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="snapshot"
):
    """All that the master must know of an agent; sent when it changes and as heartbeat.

    `batches` are those not acknowledged, oldest first (as many as fit); `last_batch` is
    the newest there is. `complete_through_s` (valid once the master has `last_batch`) is
    the last second of which every living engine's window is batched. `failure` is a reason
    why this agent cannot take part, or go on.
    """

    run_id: Text
    agent: Name
    incarnation: Name
    sequence: Count
    plan_sha256: Text
    phase: AgentPhase
    attempt: Count  # of the newest `Begin` it has; 0: none
    takeovers: Count  # how many parts of `TakeOver` it has applied
    last_batch: Count
    complete_through_s: Count | None
    engines: Annotated[tuple[EngineState, ...], Meta(max_length=MAX_ENGINES)]
    batches: Annotated[tuple[Batch, ...], Meta(max_length=4096)]
    dropped_messages: Count  # malformed or foreign ones, from the master or engines
    warnings: Texts
    failure_family: Text | None  # "target", "harness" or "scenario"
    failure: Text | None


class Prepare(msgspec.Struct, frozen=True, kw_only=True, tag="prepare"):
    """To an accepted agent: the plan (`encode_plan`'s bytes). It runs its preflight."""

    run_id: Text
    incarnation: Name
    protocol: Count
    plan: bytes
    plan_sha256: Text
    lease_ns: Count


class Ping(msgspec.Struct, frozen=True, kw_only=True, tag="ping"):
    """Asks for a `Pong`; also tells the agent that the master lives."""

    run_id: Text
    incarnation: Name
    sent_ns: Instant  # the master's clock


class Assign(msgspec.Struct, frozen=True, kw_only=True, tag="assign"):
    """The barrier has been passed: the agent's engines are `first_index` and following."""

    run_id: Text
    incarnation: Name
    first_index: Count
    of_engines: Annotated[int, Meta(ge=1, le=2**31)]


class Begin(msgspec.Struct, frozen=True, kw_only=True, tag="begin"):
    """T0. Load begins only with a lease of the same attempt; a newer attempt replaces it."""

    run_id: Text
    incarnation: Name
    attempt: Count
    t0_ns: Instant
    t0_unix_ns: Count


class Lease(msgspec.Struct, frozen=True, kw_only=True, tag="lease"):
    """The agent's engines may send until `until_ns`. Also a ping."""

    run_id: Text
    incarnation: Name
    attempt: Count
    sent_ns: Instant  # the master's clock
    until_ns: Instant


class Ack(msgspec.Struct, frozen=True, kw_only=True, tag="ack"):
    """Every batch up to `batch` is in the master's journal.

    While load runs it also brings the next lease, which is no ping then: a message less a
    second to each agent.
    """

    run_id: Text
    incarnation: Name
    batch: Count
    lease: Lease | None


class SharePart(msgspec.Struct, frozen=True, array_like=True):
    """Engine `index` (over the run) sends this share as well."""

    index: Count
    residue: Count
    modulus: Annotated[int, Meta(ge=1, le=2**62)]
    from_offset_ns: Count


class TakeOver(msgspec.Struct, frozen=True, kw_only=True, tag="take_over"):
    """All parts of lost shares that this agent has been given so far, oldest first."""

    run_id: Text
    incarnation: Name
    parts: Annotated[tuple[SharePart, ...], Meta(max_length=100_000)]


class Stop(msgspec.Struct, frozen=True, kw_only=True, tag="stop"):
    """Send nothing more, drain up to `grace_ns`, report FINAL."""

    run_id: Text
    incarnation: Name
    grace_ns: Count
    reason: Text


class Quit(msgspec.Struct, frozen=True, kw_only=True, tag="quit"):
    """FINAL is in the journal (or no longer wanted): end."""

    run_id: Text
    incarnation: Name
    reason: Text


class Refuse(msgspec.Struct, frozen=True, kw_only=True, tag="refuse"):
    """An agent has no part in the run: late, too many, wrong version, a zombie."""

    run_id: Text
    incarnation: Name
    reason: Text


ToMaster = Hello | Pong | Snapshot
ToAgent = Prepare | Ping | Assign | Begin | Lease | Ack | TakeOver | Stop | Quit | Refuse

_TO_MASTER: Final[msgspec.msgpack.Decoder[ToMaster]] = msgspec.msgpack.Decoder(ToMaster)
_TO_AGENT: Final[msgspec.msgpack.Decoder[ToAgent]] = msgspec.msgpack.Decoder(ToAgent)
_ENCODER: Final = msgspec.msgpack.Encoder()


def encode_message(message: ToMaster | ToAgent) -> bytes:
    """CRC-32 (4 bytes, big endian) and body."""
    body = _ENCODER.encode(message)
    return zlib.crc32(body).to_bytes(_CRC_BYTES, "big") + body


def decode_to_master(data: object) -> ToMaster:
    """Decode what an agent sent; `MessageError` for anything else, of any type."""
    try:
        return _TO_MASTER.decode(_body(data, MAX_TO_MASTER_BYTES))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MessageError(f"not a message to a master: {error}") from error


def decode_to_agent(data: object) -> ToAgent:
    """Decode what a master sent; `MessageError` for anything else, of any type."""
    try:
        return _TO_AGENT.decode(_body(data, MAX_TO_AGENT_BYTES))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MessageError(f"not a message to an agent: {error}") from error


def _body(data: object, limit_bytes: int) -> memoryview:
    if not isinstance(data, bytes):
        raise MessageError(f"{type(data).__name__}, expected bytes")
    if not _CRC_BYTES < len(data) <= limit_bytes:
        raise MessageError(f"{len(data)} bytes, expected 5 to {limit_bytes}")
    body = memoryview(data)[_CRC_BYTES:]
    if zlib.crc32(body).to_bytes(_CRC_BYTES, "big") != data[:_CRC_BYTES]:
        raise MessageError("checksum differs")
    return body
