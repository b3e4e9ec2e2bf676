"""The use of the HTTP/2 connections of a run: streams in use / streams there are, by second.

    use = sum of in use / sum of size        over all engines, of one window

In use is a mean over the second; the size is what the open connections carried when it
ended. Connections that a server's age limit closes are replaced within milliseconds, and
the end of a second may fall into them: the size counts as the larger of those at both ends
of the second, so that only a loss that lasts is one. Live abort conditions and the verdict
both read the use here, so they cannot be defined differently.
"""

from __future__ import annotations


class StreamPool:
    """Takes the windows of a run in order, as sums over the engines."""

    __slots__ = ("_last_s", "_last_size")

    def __init__(self) -> None:
        self._last_s: int | None = None
        self._last_size = 0

    def use(self, start_s: int, in_use: int, size: int) -> float | None:
        """Use in this second, 0 or more; None where no connection was open at its ends.

        Above 1 where a server has lowered what it allows, and while connections that take
        nothing more finish what they carry: these are in use and of no size.
        """
        is_next = self._last_s is not None and start_s == self._last_s + 1
        larger = max(size, self._last_size if is_next else 0)
        self._last_s, self._last_size = start_s, size
        return in_use / larger if larger else None
