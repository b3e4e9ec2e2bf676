"""The ledger that the nodes share: one SQLite file in WAL mode.

Owns schema and statements. Promise of `append`: when it returns, the transactions survive
kill -9 of every node, and with `Durability.FULL` (the default) also a power cut, because
the write-ahead log has been synced (sqlite.org/pragma.html#pragma_synchronous). One append is
one block. Nodes take turns through a file lock, so that none meets SQLite's busy back-off of up
to 100 ms; the kernel wakes the next writer at once. A node that is stopped (SIGSTOP) while it
holds the lock holds up all writers, as a hung primary database would.

Amounts are kept as the text of the JSON number: what is read back is what was acknowledged.
A transaction may bring a detail (its whole message, where a protocol has more than id and
amount); it is stored with it and read only by who asks for it.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from loadtests.cluster.ledger import (
    LEASE_NS,
    Appended,
    Block,
    Durability,
    Entry,
    Member,
    Membership,
    Record,
    Row,
)
from loadtests.errors import HarnessError

_BUSY_TIMEOUT_MS: Final = 5_000
_CHECKPOINT_PAGES: Final = 8_192  # 32 MiB of log between checkpoints
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS entry (
  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, amount TEXT NOT NULL, height INTEGER NOT NULL,
  detail TEXT NOT NULL DEFAULT '');
CREATE TABLE IF NOT EXISTS block (
  height INTEGER PRIMARY KEY, hash TEXT NOT NULL, parent TEXT NOT NULL, entries INTEGER NOT NULL,
  total INTEGER NOT NULL, proposer TEXT NOT NULL, created_ms INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS member (
  name TEXT PRIMARY KEY, url TEXT NOT NULL, pid INTEGER NOT NULL, seen_ns INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS lease (
  one INTEGER PRIMARY KEY CHECK (one = 1), leader TEXT NOT NULL, term INTEGER NOT NULL,
  until_ns INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS secret (one INTEGER PRIMARY KEY CHECK (one = 1), key BLOB NOT NULL);
INSERT OR IGNORE INTO secret VALUES (1, randomblob(32));
INSERT OR IGNORE INTO lease VALUES (1, '', 0, 0);
INSERT OR IGNORE INTO block VALUES (0, hex(zeroblob(32)), '', 0, 0, 'genesis', 0);
"""
# A ledger of an earlier version has no details.
_ADD_DETAIL: Final = "ALTER TABLE entry ADD COLUMN detail TEXT NOT NULL DEFAULT ''"
_INSERT: Final = (
    "INSERT OR IGNORE INTO entry (id, amount, height, detail) "
    "SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), ?, "
    "json_extract(value, '$[2]') FROM json_each(?)"
)
_LAST_BLOCK: Final = (
    "SELECT height, hash, parent, entries, total, proposer, created_ms "
    "FROM block ORDER BY height DESC LIMIT 1"
)
_BLOCK: Final = (
    "SELECT height, hash, parent, entries, total, proposer, created_ms FROM block WHERE height = ?"
)
_ENTRY: Final = (
    "SELECT id, amount, height, created_ms FROM entry JOIN block USING (height) WHERE id = ?"
)
_PAGE: Final = (
    "SELECT id, amount, height, created_ms FROM entry JOIN block USING (height) "
    "ORDER BY seq DESC LIMIT ? OFFSET ?"
)
_RECORD: Final = (
    "SELECT seq, id, amount, height, created_ms, detail FROM entry JOIN block USING (height) "
)
_LAST_SEQ: Final = "SELECT coalesce(max(seq), 0) FROM entry"


class Store:
    """One connection to the ledger; not shared between threads."""

    def __init__(self, path: Path, durability: Durability) -> None:
        self._path = path
        self._lock_fd = -1
        try:
            self._lock_fd = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._database = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=_BUSY_TIMEOUT_MS / 1000
            )
            with self._turn():
                self._prepare(durability)
        except (OSError, sqlite3.Error) as error:
            self._close_lock()
            raise HarnessError(
                where=f"cluster store {path}", seen=str(error), expected="a writable SQLite file"
            ) from error

    def close(self) -> None:
        """Close; the last one of all connections folds the log into the file."""
        with self._turn():
            self._database.close()
        self._close_lock()

    def append(self, entries: Sequence[Row], *, proposer: str, now_ms: int) -> Appended | None:
        """Commit transactions as one block, durably; known ids are left out.

        None if every id was known: no block is made then. Raises sqlite3.Error with nothing
        committed. One statement inserts all rows, so that the interpreter lock is free meanwhile.
        """
        rows = msgspec.json.encode(entries)  # a detail becomes text in base64
        with self._transaction() as database:
            parent = self.last_block()
            height = parent.height + 1
            before = self.last_seq()
            inserted = database.execute(_INSERT, (height, rows.decode())).rowcount
            if not inserted:
                return None
            block = Block(
                height=height,
                hash=hashlib.sha256(parent.hash.encode() + rows).hexdigest(),
                parent=parent.hash,
                entries=inserted,
                total=inserted + parent.total,
                proposer=proposer,
                created_ms=now_ms,
            )
            database.execute(
                "INSERT INTO block VALUES (?, ?, ?, ?, ?, ?, ?)",
                (height, block.hash, block.parent, inserted, block.total, proposer, now_ms),
            )
            if inserted == len(entries):
                fresh = frozenset(row.id for row in entries)
            else:
                found = database.execute("SELECT id FROM entry WHERE seq > ?", (before,))
                fresh = frozenset(id_ for (id_,) in found.fetchall())
        return Appended(block=block, fresh=fresh)

    def beat(self, member: Member) -> None:
        """Renew this member's row, and the lease if it is its own or nobody's."""
        now_ns = member.seen_ns
        with self._transaction() as database:
            database.execute(
                "INSERT OR REPLACE INTO member VALUES (?, ?, ?, ?)",
                (member.name, member.url, member.pid, now_ns),
            )
            # A lease that ends later than a fresh one could is from before a reboot.
            database.execute(
                "UPDATE lease SET term = term + (leader <> :name), leader = :name, until_ns = :end "
                "WHERE leader = :name OR until_ns <= :now OR until_ns > :end",
                {"name": member.name, "end": now_ns + LEASE_NS, "now": now_ns},
            )

    def leave(self, name: str) -> None:
        """Give up membership, and the lease if held: a follower takes over at its next beat."""
        with self._transaction() as database:
            database.execute("DELETE FROM member WHERE name = ?", (name,))
            database.execute("UPDATE lease SET leader = '', until_ns = 0 WHERE leader = ?", (name,))

    def membership(self, now_ns: int) -> Membership:
        """Members by name, and the lease as it stands at `now_ns`."""
        rows = self._database.execute("SELECT leader, term, until_ns FROM lease").fetchall()
        leader, term, until_ns = rows[0]
        found = self._database.execute("SELECT name, url, pid, seen_ns FROM member ORDER BY name")
        members = tuple(
            Member(name=name, url=url, pid=pid, seen_ns=seen_ns)
            for name, url, pid, seen_ns in found.fetchall()
        )
        alive = now_ns < until_ns <= now_ns + 2 * LEASE_NS
        return Membership(
            leader=leader if alive else "", term=term, until_ns=until_ns, members=members
        )

    def last_block(self) -> Block:
        """The newest block; the genesis block, of height 0, in an empty ledger."""
        newest = self._one_block(_LAST_BLOCK, ())
        assert newest is not None, "the schema begins with the genesis block"
        return newest

    def block(self, height: int) -> Block | None:
        """The block of that height."""
        return self._one_block(_BLOCK, (height,))

    def entry(self, id_: str) -> Entry | None:
        """The transaction of that id."""
        found = self._entries(_ENTRY, (id_,))
        return found[0] if found else None

    def page(self, limit: int, offset: int) -> tuple[Entry, ...]:
        """Transactions, newest first."""
        return self._entries(_PAGE, (limit, offset))

    def last_seq(self) -> int:
        """Place of the newest transaction in the order of acceptance, 0 in an empty ledger."""
        (last,) = self._database.execute(_LAST_SEQ).fetchall()[0]
        return int(last)

    def record(self, id_: str) -> Record | None:
        """The transaction of that id, with its detail."""
        found = self._records("WHERE id = ?", (id_,))
        return found[0] if found else None

    def records_after(self, seq: int, limit: int) -> tuple[Record, ...]:
        """The first transactions accepted after that place, oldest first."""
        return self._records("WHERE seq > ? ORDER BY seq LIMIT ?", (seq, limit))

    def secret(self) -> bytes:
        """32 random bytes, made with the ledger; the same on every node."""
        (key,) = self._database.execute("SELECT key FROM secret").fetchall()[0]
        return bytes(key)

    def _records(self, which: str, values: tuple[object, ...]) -> tuple[Record, ...]:
        return tuple(
            Record(
                seq=seq,
                entry=Entry(id=id_, amount=amount, height=height, created_ms=created_ms),
                detail=base64.b64decode(detail),
            )
            for seq, id_, amount, height, created_ms, detail in self._database.execute(
                _RECORD + which, values
            ).fetchall()
        )

    def _one_block(self, statement: str, values: tuple[int, ...]) -> Block | None:
        # fetchall, here and elsewhere: a statement left open would pin the log's snapshot.
        rows = self._database.execute(statement, values).fetchall()
        if not rows:
            return None
        height, hash_, parent, entries, total, proposer, created_ms = rows[0]
        return Block(
            height=height,
            hash=hash_,
            parent=parent,
            entries=entries,
            total=total,
            proposer=proposer,
            created_ms=created_ms,
        )

    def _entries(self, statement: str, values: tuple[object, ...]) -> tuple[Entry, ...]:
        return tuple(
            Entry(id=id_, amount=amount, height=height, created_ms=created_ms)
            for id_, amount, height, created_ms in self._database.execute(
                statement, values
            ).fetchall()
        )

    def _prepare(self, durability: Durability) -> None:
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute(f"PRAGMA synchronous = {durability.value}")
        self._database.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        self._database.execute(f"PRAGMA mmap_size = {1 << 30}")
        self._database.executescript(_SCHEMA)
        columns = {name for _, name, *_ in self._database.execute("PRAGMA table_info(entry)")}
        if "detail" not in columns:
            self._database.execute(_ADD_DETAIL)

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        fcntl.flock(self._lock_fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._lock_fd, fcntl.LOCK_UN)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._turn():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    def _close_lock(self) -> None:
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1
