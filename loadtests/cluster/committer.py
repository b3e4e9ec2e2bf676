"""Group commit: a thread that turns whatever waits into one block, again and again.

Owns the node's only writing connection to the store, and its heartbeat and lease, so that
a node whose writer hangs loses the leadership. Law: a submission is reported committed only
after the commit that holds it has returned. While one commit is under way the next batch
gathers; nobody waits for a timer.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic_ns, time_ns
from typing import Final

from loadtests.clock import NS_PER_MS, NS_PER_S
from loadtests.cluster.ledger import HEARTBEAT_NS, Block, Durability, Member, Row
from loadtests.cluster.store import Store

MAX_WAITING: Final = 20_000  # transactions; above it a node refuses with 503
MAX_COMMIT: Final = 2_000  # transactions of one block, unless one submission is larger
STUCK_NS: Final = 3 * NS_PER_S  # a commit that takes longer makes the database check DOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one submission: the block it is in and which of its rows were known.

    `block` is None if nothing was new, or if the commit failed, and then `failure` says why.
    `known` are positions in the submission whose id had been taken.
    """

    block: Block | None
    known: frozenset[int]
    failure: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """Transactions of one request, and who is told what became of them."""

    entries: Sequence[Row]
    done: Callable[[Outcome], None]


class Committer:
    """One writer thread; every method is called on the loop."""

    def __init__(
        self,
        path: Path,
        durability: Durability,
        member: Callable[[], Member],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._store = Store(path, durability)
        self._member = member
        self._loop = loop
        self._queue: queue.SimpleQueue[list[Submission] | None] = queue.SimpleQueue()
        self._gathered: list[Submission] = []
        self._waiting = 0
        self._busy_since_ns = 0
        self._failure: str | None = None
        self._next_beat_ns = 0
        self._thread = threading.Thread(target=self._run, name="committer", daemon=True)

    def start(self) -> None:
        """Join the cluster, then begin to commit; raises sqlite3.Error if that fails."""
        self._beat()
        self._thread.start()

    def submit(self, submission: Submission) -> bool:
        """Take a submission; False, and nothing taken, if too much waits already."""
        if self._waiting and self._waiting + len(submission.entries) > MAX_WAITING:
            return False
        self._waiting += len(submission.entries)
        if not self._gathered:
            # One hand-over per turn of the loop: a queue operation for all of its requests.
            self._loop.call_soon(self._hand_over)
        self._gathered.append(submission)
        return True

    def failure(self) -> str | None:
        """Why nothing can be stored at present, or None; what the database check reports."""
        busy_since_ns = self._busy_since_ns
        if busy_since_ns and monotonic_ns() - busy_since_ns > STUCK_NS:
            return f"a commit has been under way for more than {STUCK_NS // NS_PER_S} s"
        return self._failure

    def stop(self, timeout_s: float) -> bool:
        """Commit what was handed over, leave the cluster, end; False if it did not within it."""
        self._hand_over()
        self._queue.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _hand_over(self) -> None:
        if self._gathered:
            self._queue.put(self._gathered)
            self._gathered = []

    # The writer thread from here on.

    def _run(self) -> None:
        going = True
        batch: list[Submission] = []
        while going:
            going = self._gather(batch)
            self._busy_since_ns = monotonic_ns()
            while batch:
                self._commit(batch)
            if monotonic_ns() >= self._next_beat_ns:
                try:
                    self._beat()
                except sqlite3.Error as error:
                    self._failure = str(error)
            self._busy_since_ns = 0
        self._leave()

    def _gather(self, batch: list[Submission]) -> bool:
        """Wait for work or the next heartbeat, then take all there is; False to end."""
        wait_s = max(0, self._next_beat_ns - monotonic_ns()) / NS_PER_S
        try:
            taken = self._queue.get(timeout=wait_s)
            while taken is not None:
                batch.extend(taken)
                taken = self._queue.get_nowait()
        except queue.Empty:
            return True
        return False

    def _commit(self, batch: list[Submission]) -> None:
        """Commit the first submissions of the batch as one block and report them."""
        group: list[Submission] = []
        entries: list[Row] = []
        while len(group) < len(batch):
            submission = batch[len(group)]
            if group and len(entries) + len(submission.entries) > MAX_COMMIT:
                break
            group.append(submission)
            entries.extend(submission.entries)
        del batch[: len(group)]
        name = self._member().name
        try:
            appended = self._store.append(entries, proposer=name, now_ms=time_ns() // NS_PER_MS)
        except sqlite3.Error as error:
            self._failure = str(error)
            outcomes = [Outcome(block=None, known=frozenset(), failure=str(error))] * len(group)
        else:
            self._failure = None
            block = appended.block if appended else None
            fresh = set(appended.fresh) if appended else set()
            outcomes = [_outcome(one, block, fresh) for one in group]
        self._loop.call_soon_threadsafe(self._report, group, outcomes, len(entries))

    def _report(self, group: list[Submission], outcomes: list[Outcome], entries: int) -> None:
        self._waiting -= entries
        for submission, outcome in zip(group, outcomes, strict=True):
            submission.done(outcome)

    def _beat(self) -> None:
        self._next_beat_ns = monotonic_ns() + HEARTBEAT_NS
        self._store.beat(self._member())
        self._failure = None

    def _leave(self) -> None:
        try:
            self._store.leave(self._member().name)
            self._store.close()
        except sqlite3.Error as error:
            self._failure = str(error)


def _outcome(submission: Submission, block: Block | None, fresh: set[str]) -> Outcome:
    """What became of it; takes its ids out of `fresh`, so that a repeated id counts once."""
    known = set()
    for position, row in enumerate(submission.entries):
        if row.id in fresh:
            fresh.remove(row.id)
        else:
            known.add(position)
    made = block if len(known) < len(submission.entries) else None
    return Outcome(block=made, known=frozenset(known), failure=None)
