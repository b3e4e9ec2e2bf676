"""Group commit and deadlines, on a real loop and a real ledger."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic_ns

import pytest

from loadtests.clock import NS_PER_MS
from loadtests.cluster import committer as committer_module
from loadtests.cluster.committer import Committer, Outcome, Submission
from loadtests.cluster.deadlines import LEAD_NS, Deadlines
from loadtests.cluster.ledger import Durability, Member, Row
from loadtests.cluster.store import Store


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def committer(loop: asyncio.AbstractEventLoop, path: Path) -> Iterator[Committer]:
    def member() -> Member:
        return Member(name="node-1", url="http://x", pid=1, seen_ns=monotonic_ns())

    made = Committer(path, Durability.FULL, member, loop)
    made.start()
    yield made
    assert made.stop(10)


def rows(*ids: str) -> list[Row]:
    return [Row(id_, "1", b"") for id_ in ids]


def commit_all(
    loop: asyncio.AbstractEventLoop, committer: Committer, *requests: list[str]
) -> list[Outcome]:
    """Submit all requests in one turn of the loop; their outcomes, in order."""
    told: dict[int, Outcome] = {}
    everything = loop.create_future()

    def teller(number: int) -> Callable[[Outcome], None]:
        def tell(outcome: Outcome) -> None:
            told[number] = outcome
            if len(told) == len(requests):
                everything.set_result(None)

        return tell

    for number, ids in enumerate(requests):
        assert committer.submit(Submission(entries=rows(*ids), done=teller(number)))
    loop.run_until_complete(asyncio.wait_for(everything, 10))
    return [told[number] for number in range(len(requests))]


def test_what_waits_together_is_one_block(
    loop: asyncio.AbstractEventLoop, committer: Committer, path: Path
) -> None:
    """Requests of one turn share a commit, and are in the ledger when they are told."""
    outcomes = commit_all(loop, committer, *[[f"tx-{number}"] for number in range(300)])
    assert {one.block.height for one in outcomes if one.block} == {1}
    reader = Store(path, Durability.FULL)
    last = reader.last_block()
    reader.close()
    assert last is not None
    assert (last.entries, last.proposer) == (300, "node-1")


def test_one_of_two_equal_ids_wins(loop: asyncio.AbstractEventLoop, committer: Committer) -> None:
    """Of requests with the same id in one commit the first is accepted, the others are told."""
    first, second, both = commit_all(loop, committer, ["a"], ["a"], ["a", "b", "b"])
    assert first.block is not None
    assert (second.block, second.known) == (None, frozenset({0}))
    assert both.block is not None
    assert both.known == {0, 2}
    (again,) = commit_all(loop, committer, ["a", "b"])
    assert (again.block, again.known, again.failure) == (None, frozenset({0, 1}), None)


def test_large_heaps_become_several_blocks(
    loop: asyncio.AbstractEventLoop, committer: Committer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block holds at most MAX_COMMIT transactions, but a larger request is not torn."""
    monkeypatch.setattr(committer_module, "MAX_COMMIT", 10)
    requests = [[f"{number}-{part}" for part in range(4)] for number in range(5)]
    outcomes = commit_all(loop, committer, *requests, [f"big-{part}" for part in range(25)])
    blocks = [one.block for one in outcomes if one.block]
    assert [block.height for block in blocks] == [1, 1, 2, 2, 3, 4]
    assert [block.entries for block in blocks] == [8, 8, 8, 8, 4, 25]


def test_too_much_waiting_is_refused(
    loop: asyncio.AbstractEventLoop, committer: Committer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above MAX_WAITING a submission is not taken; after the commits it is again."""
    monkeypatch.setattr(committer_module, "MAX_WAITING", 3)
    told: list[Outcome] = []
    one = Submission(entries=rows("a", "b"), done=told.append)
    assert committer.submit(one)
    assert not committer.submit(Submission(entries=rows("c", "d"), done=told.append))
    commit_all(loop, committer, ["e"])
    assert len(told) == 1
    assert commit_all(loop, committer, ["c", "d"])[0].block is not None


def test_broken_ledger_is_told_and_healed(
    loop: asyncio.AbstractEventLoop, committer: Committer, path: Path
) -> None:
    """A commit that fails is never reported as done; the check is DOWN until one succeeds."""
    outside = sqlite3.connect(path, isolation_level=None)
    try:
        outside.execute("ALTER TABLE entry RENAME TO hidden")
        (failed,) = commit_all(loop, committer, ["a"])
        assert failed.block is None
        assert failed.failure is not None
        assert "entry" in failed.failure
        outside.execute("ALTER TABLE hidden RENAME TO entry")
    finally:
        outside.close()
    (healed,) = commit_all(loop, committer, ["a"])
    assert healed.block is not None
    assert committer.failure() is None


def test_deadlines_run_in_order_and_never_early(loop: asyncio.AbstractEventLoop) -> None:
    """Callbacks run in the order of their times, none before its own, wherever they were set."""
    deadlines = Deadlines(loop)
    ran: list[tuple[int, int]] = []
    done = loop.create_future()
    now_ns = monotonic_ns()
    dues = [now_ns + offset for offset in (3 * NS_PER_MS, 0, LEAD_NS, 2 * NS_PER_MS, -5, LEAD_NS)]

    def callback(due_ns: int) -> Callable[[], None]:
        def run() -> None:
            ran.append((due_ns, monotonic_ns()))
            if len(ran) == len(dues) + 1:
                done.set_result(None)

        return run

    for due_ns in dues:
        deadlines.at(due_ns, callback(due_ns))
    first_set_in_callback = now_ns + NS_PER_MS
    deadlines.at(
        now_ns, lambda: deadlines.at(first_set_in_callback, callback(first_set_in_callback))
    )
    loop.run_until_complete(asyncio.wait_for(done, 10))
    assert [due for due, _ in ran] == sorted([*dues, first_set_in_callback])
    assert all(at >= due for due, at in ran)
    deadlines.close()
