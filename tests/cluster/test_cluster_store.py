"""The ledger: appends, read-back, membership and the lease."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtests.cluster.ledger import LEASE_NS, Durability, Member, Row
from loadtests.cluster.store import Store
from loadtests.errors import HarnessError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    opened = Store(path, Durability.FULL)
    yield opened
    opened.close()


def member(name: str, seen_ns: int) -> Member:
    return Member(name=name, url=f"http://{name}", pid=1, seen_ns=seen_ns)


def append(store: Store, *ids: str) -> frozenset[str]:
    appended = store.append([Row(id_, "1", b"") for id_ in ids], proposer="node-1", now_ms=5)
    return appended.fresh if appended else frozenset()


def test_what_one_connection_appends_another_reads(store: Store, path: Path) -> None:
    """A returned append is visible to every other connection, amount verbatim."""
    amounts = {"a": "12.5", "b": "0.1", "c": "9007199254740992", "d": "1e+17"}
    rows = [Row(id_, amount, b"") for id_, amount in amounts.items()]
    store.append(rows, proposer="node-1", now_ms=77)
    other = Store(path, Durability.NORMAL)
    try:
        for id_, amount in amounts.items():
            found = other.entry(id_)
            assert found is not None
            assert (found.amount, found.height, found.created_ms) == (amount, 1, 77)
        assert other.entry("e") is None
    finally:
        other.close()


def test_known_ids_are_left_out(store: Store) -> None:
    """An id is stored once: repeats within a block and from older blocks are not fresh."""
    assert append(store, "a", "b") == {"a", "b"}
    assert append(store, "b", "c", "c") == {"c"}
    assert append(store, "a", "b", "c") == frozenset()
    last = store.last_block()
    assert last is not None
    assert (last.height, last.entries, last.total) == (2, 1, 3)


def test_details_come_back_in_the_order_of_acceptance(store: Store) -> None:
    """A record is found by its id, or after another one's place; its detail is what was given."""
    rows = [Row("a", "1", b""), Row("b", "2", bytes(range(256))), Row("c", "3", b"x" * 1_000_000)]
    store.append(rows[:1], proposer="node-1", now_ms=5)
    store.append(rows[1:], proposer="node-1", now_ms=6)
    for row in rows:
        found = store.record(row.id)
        assert found is not None
        assert found.entry == store.entry(row.id)
        assert found.detail == row.detail
    assert store.record("d") is None
    everything = store.records_after(0, 10)
    assert [one.entry.id for one in everything] == ["a", "b", "c"]
    assert everything[-1].seq == store.last_seq()
    assert store.records_after(everything[0].seq, 1) == everything[1:2]
    assert store.records_after(store.last_seq(), 10) == ()


def test_all_nodes_share_one_secret(store: Store, path: Path, tmp_path: Path) -> None:
    """Every connection to a ledger reads the same random key; another ledger has another."""
    again, other = Store(path, Durability.FULL), Store(tmp_path / "other.db", Durability.FULL)
    try:
        assert len(store.secret()) == 32
        assert again.secret() == store.secret() != other.secret()
    finally:
        again.close()
        other.close()


def test_a_ledger_from_before_details_is_used_on(tmp_path: Path) -> None:
    """A ledger that an earlier version made keeps its transactions and takes new ones."""
    old = sqlite3.connect(tmp_path / "old.db")
    old.execute(
        "CREATE TABLE entry (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, "
        "amount TEXT NOT NULL, height INTEGER NOT NULL)"
    )
    old.execute("INSERT INTO entry (id, amount, height) VALUES ('a', '1', 0)")
    old.commit()
    old.close()
    store = Store(tmp_path / "old.db", Durability.FULL)
    try:
        store.append([Row("b", "2", b"detail")], proposer="node-1", now_ms=5)
        found = store.records_after(0, 10)
        assert [(one.entry.id, one.detail) for one in found] == [("a", b""), ("b", b"detail")]
    finally:
        store.close()


def test_blocks_are_a_chain(store: Store) -> None:
    """Every block names the hash of the one before; heights and totals have no gaps."""
    for number in range(5):
        append(store, f"x{number}", f"y{number}")
    parent = "0" * 64
    for height in range(1, 6):
        block = store.block(height)
        assert block is not None
        assert block.parent == parent
        assert block.total == 2 * height
        parent = block.hash
    assert store.block(6) is None


def test_pages_are_newest_first(store: Store) -> None:
    """Limit and offset walk the ledger from the newest transaction."""
    append(store, *"abcdefg")
    assert [one.id for one in store.page(3, 0)] == ["g", "f", "e"]
    assert [one.id for one in store.page(3, 5)] == ["b", "a"]


def test_hostile_ids_are_only_text(store: Store) -> None:
    """Quotes, SQL, unicode and JSON in an id are stored as they are."""
    hostile = ["' OR 1=1 --", '"', "\\", "ü😀", "[1,2]", "null", "</script>"]
    assert append(store, *hostile) == set(hostile)
    for id_ in hostile:
        found = store.entry(id_)
        assert found is not None
        assert found.id == id_


def test_failed_append_leaves_nothing(store: Store) -> None:
    """An append that fails raises and stores none of its rows."""
    with pytest.raises(sqlite3.Error):
        store.append(
            [Row("b", "1", b"")],
            proposer=None,  # type: ignore[arg-type]  # on purpose
            now_ms=1,
        )
    assert store.last_block().height == 0
    assert store.entry("b") is None
    assert append(store, "b") == {"b"}


def test_one_leader_until_its_lease_ends(store: Store) -> None:
    """The first to beat leads; others take over, with the next term, only after its lease."""
    store.beat(member("node-1", 10))
    store.beat(member("node-2", 20))
    seen = store.membership(30)
    assert (seen.leader, seen.term) == ("node-1", 1)
    store.beat(member("node-2", 9 + LEASE_NS))
    assert store.membership(9 + LEASE_NS).leader == "node-1"
    assert store.membership(10 + LEASE_NS).leader == ""
    store.beat(member("node-2", 10 + LEASE_NS))
    seen = store.membership(11 + LEASE_NS)
    assert (seen.leader, seen.term) == ("node-2", 2)
    store.beat(member("node-1", 12 + LEASE_NS))
    assert store.membership(13 + LEASE_NS).leader == "node-2"


def test_renewal_keeps_the_term(store: Store) -> None:
    """A leader that renews in time stays in its term."""
    for beat in range(5):
        store.beat(member("node-1", beat * LEASE_NS // 2))
    assert store.membership(2 * LEASE_NS).term == 1


def test_leaving_gives_up_the_lease(store: Store) -> None:
    """After a graceful leave the next beat takes over at once."""
    store.beat(member("node-1", 10))
    store.leave("node-1")
    assert store.membership(11).leader == ""
    store.beat(member("node-2", 12))
    seen = store.membership(13)
    assert (seen.leader, seen.term) == ("node-2", 2)
    assert [one.name for one in seen.members] == ["node-2"]


def test_lease_from_before_a_reboot_is_void(store: Store) -> None:
    """A lease that ends later than a fresh one could is nobody's: monotonic clocks restart."""
    store.beat(member("node-1", 10**15))
    assert store.membership(10).leader == ""
    store.beat(member("node-2", 10))
    assert store.membership(11).leader == "node-2"


def test_unusable_file_is_a_clear_error(tmp_path: Path) -> None:
    """A path that cannot be a ledger is named, with what SQLite or the kernel said."""
    (tmp_path / "text.db").write_text("this is no database" * 100)
    with pytest.raises(HarnessError, match=r"text\.db"):
        Store(tmp_path / "text.db", Durability.FULL)
    with pytest.raises(HarnessError, match="missing"):
        Store(tmp_path / "missing" / "ledger.db", Durability.FULL)


def test_an_empty_ledger_has_its_genesis_block(store: Store) -> None:
    """A chain begins with a block, so that asking for the newest one is never an error."""
    genesis = store.last_block()
    assert (genesis.height, genesis.entries, genesis.total) == (0, 0, 0)
    append(store, "a")
    assert store.last_block().parent == genesis.hash
