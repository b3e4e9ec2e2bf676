"""What master and injector say to each other: one line of JSON each.

The swarm imports this module of the room and no other: it starts the injector's process and
speaks with it.
"""

from __future__ import annotations

from typing import Final

import msgspec

from loadtests.plan.failover import Failover
from loadtests.record.event import Event

MODULE: Final = "loadtests.failover.process"


class InjectOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What to do; `folder` is the ledger's, "" the user's own."""

    failover: Failover
    seed: int
    folder: str


class Began(msgspec.Struct, frozen=True, kw_only=True, tag="began"):
    """Master: T0 on this host's monotonic clock, and as a label."""

    t0_ns: int
    t0_unix_ns: int


class Second(msgspec.Struct, frozen=True, kw_only=True, tag="second"):
    """Master: what a second of the run was like; `until_ns` from T0.

    `conditions`: the faults whose condition was true in it.
    """

    until_ns: int
    holds: bool
    reason: str
    conditions: tuple[str, ...] = ()


ToInjector = Began | Second


class Ready(msgspec.Struct, frozen=True, kw_only=True, tag="ready"):
    """Injector: the lock is held, nothing is left of an earlier failover."""


class Happened(msgspec.Struct, frozen=True, kw_only=True, tag="happened"):
    """Injector: an event for the archive."""

    event: Event


class Halt(msgspec.Struct, frozen=True, kw_only=True, tag="halt"):
    """Injector: end the run."""

    reason: str


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag="refused"):
    """Injector: it will do nothing; `is_guard`: a guard's doing and not a fault of ours."""

    where: str
    seen: str
    expected: str
    is_guard: bool


class Ended(msgspec.Struct, frozen=True, kw_only=True, tag="ended"):
    """Injector: the last line; what could not be undone, "" when all was."""

    wrong: str


ToMaster = Ready | Happened | Halt | Refused | Ended

_TO_INJECTOR: Final[msgspec.json.Decoder[ToInjector]] = msgspec.json.Decoder(ToInjector)
_TO_MASTER: Final[msgspec.json.Decoder[ToMaster]] = msgspec.json.Decoder(ToMaster)


def encode_line(message: ToInjector | ToMaster) -> bytes:
    """One line with its newline."""
    return msgspec.json.encode(message) + b"\n"


def decode_to_injector(line: bytes) -> ToInjector:
    """Inverse of `encode_line`; MsgspecError otherwise."""
    return _TO_INJECTOR.decode(line)


def decode_to_master(line: bytes) -> ToMaster:
    """Inverse of `encode_line`; MsgspecError otherwise."""
    return _TO_MASTER.decode(line)


def encode_order(order: InjectOrder) -> bytes:
    """MessagePack of all fields."""
    return msgspec.msgpack.encode(order)


def decode_order(data: bytes) -> InjectOrder:
    """Inverse of `encode_order`."""
    return msgspec.msgpack.decode(data, type=InjectOrder)
