"""What the shared ledger holds, as values: transactions, blocks, members, who leads.

Owns no connection and no statement; `store.py` does. Monotonic times are of one host.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

LEASE_NS: Final = 2_000_000_000  # a dead leader is replaced within this and one heartbeat
HEARTBEAT_NS: Final = 500_000_000


class Durability(Enum):
    """What an acknowledged write survives."""

    FULL = "full"  # process death and power cut: the log is synced at every commit
    NORMAL = "normal"  # process death: the log is synced at checkpoints


class Row(NamedTuple):
    """One transaction to append; `amount` is the text of a JSON number."""

    id: str
    amount: str
    detail: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One commit; `entries` in it and `total` up to and with it."""

    height: int
    hash: str
    parent: str
    entries: int
    total: int
    proposer: str
    created_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One transaction as stored; `amount` is the text of a JSON number."""

    id: str
    amount: str
    height: int
    created_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """An entry with its place in the order of acceptance and the detail that it came with."""

    seq: int
    entry: Entry
    detail: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    """A commit and the ids that were new in it."""

    block: Block
    fresh: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A node that has joined; `seen_ns` is the monotonic time of its last heartbeat."""

    name: str
    url: str
    pid: int
    seen_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """Who is here and who leads; `leader` is empty while nobody holds the lease."""

    leader: str
    term: int
    until_ns: int
    members: tuple[Member, ...]
