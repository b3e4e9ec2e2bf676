"""Streams that we reset, for which late frames are no fault (RFC 9113, 5.1).

Bounded: below the highest stream forgotten all are forgiven.
"""

from __future__ import annotations

from collections import deque
from typing import Final

_MOST: Final = 1 << 16


class GivenUp:
    """The newest ids of streams given up on one connection."""

    __slots__ = ("_forgiven_id", "_ids", "_order")

    def __init__(self) -> None:
        self._ids: set[int] = set()
        self._order: deque[int] = deque()
        self._forgiven_id = 0

    def add(self, stream_id: int) -> None:
        """Remember one more, and forget the oldest of too many."""
        if stream_id not in self._ids:
            self._ids.add(stream_id)
            self._order.append(stream_id)
        if len(self._order) > _MOST:
            forgotten = self._order.popleft()
            self._ids.discard(forgotten)
            self._forgiven_id = max(self._forgiven_id, forgotten)

    def forgives(self, stream_id: int) -> bool:
        """Tell whether a frame for this stream may still come."""
        return stream_id <= self._forgiven_id or stream_id in self._ids
