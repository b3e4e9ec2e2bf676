"""Plays runs of real processes side by side: most of their time is waiting.

And what all that play them ask: which of them the selected tests want, what an archive counted.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, Protocol, TypeVar

import pytest

from loadtests.record.archive import Run

KeyT = TypeVar("KeyT", bound=Hashable)
EvidenceT = TypeVar("EvidenceT")


class SideBySide(Generic[KeyT, EvidenceT]):
    """Plays every key, `at_a_time` at once, in their order, and keeps the evidence."""

    def __init__(
        self, keys: Iterable[KeyT], play: Callable[[KeyT], EvidenceT], at_a_time: int
    ) -> None:
        self._pool = ThreadPoolExecutor(at_a_time)
        self._futures: dict[KeyT, Future[EvidenceT]] = {
            key: self._pool.submit(play, key) for key in keys
        }

    def evidence(self, key: KeyT) -> EvidenceT:
        """What a key's play left, when it is over; raises what went wrong in it."""
        return self._futures[key].result()

    def close(self) -> None:
        """Wait for what runs; what has not begun does not."""
        self._pool.shutdown(cancel_futures=True)


class Evidence(Protocol):
    """What a play leaves, its archive among it."""

    @property
    def run(self) -> Run:
        """The archive."""


def asked_for(request: pytest.FixtureRequest, name: str) -> set[Any]:
    """Values of a parameter that the selected tests of a file have."""
    return {
        item.callspec.params[name]
        for item in request.session.items
        if item.path == request.path and isinstance(item, pytest.Function)
    }


def archived(seen: Evidence, column: str) -> int:
    """Sum of a counter over the archive's windows."""
    return int(seen.run.windows[column].sum())


def lost_planned(seen: Evidence) -> int:
    """Arrivals that the archive states as lost."""
    return sum(lost.planned for lost in seen.run.manifest.lost_windows)
