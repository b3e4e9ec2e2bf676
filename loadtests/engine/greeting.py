"""Waiting for the first SETTINGS of a server: before them a connection is of no use.

Only they tell how many streams it takes (RFC 9113, 6.5.2), and a server that sends none
does not speak HTTP/2, or turns the client away.
"""

from __future__ import annotations

import asyncio

from loadtests.record.error_kinds import CLOSED


class NoGreeting(Exception):  # noqa: N818 - a verdict on the peer, not an error of ours
    """The other side does not speak HTTP/2: `kind` groups it, `text` says why."""

    def __init__(self, kind: str, text: str) -> None:
        self.kind, self.text = kind, text
        super().__init__(f"{kind}: {text}")


class Greeting:
    """Whether a connection has been greeted; one may wait for it."""

    __slots__ = ("_refusal", "_waiter", "is_done")

    def __init__(self) -> None:
        self.is_done = False
        self._refusal: NoGreeting | None = None
        self._waiter: asyncio.Future[None] | None = None

    def come(self) -> None:
        """The SETTINGS have come."""
        self.is_done = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def fail(
        self, kind: str = CLOSED, text: str = "closed before the server's SETTINGS came"
    ) -> None:
        """None will come any more; the first reason given stands."""
        if self._refusal is None:
            self._refusal = NoGreeting(kind, text)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(self._refusal)

    async def wait(self) -> None:
        """Wait for the SETTINGS; NoGreeting when the connection ends without."""
        if self.is_done:
            return
        if self._refusal is not None:
            raise self._refusal
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
