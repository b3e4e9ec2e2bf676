"""Plays runs of real processes side by side: most of their time is waiting."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

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
