"""Calls that are streams, on one connection: what we say at its pace, what we hear and when.

Unary requests never come here. A loop timer's millisecond is enough for a pace.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from time import monotonic_ns

from loadtests.engine.http2 import Http2
from loadtests.engine.recorder import Recorder


class Talks:
    """The streams of a connection with more to say; `write` sends what that makes."""

    __slots__ = ("_due", "_http2", "_recorder", "_waker", "_write", "is_over")

    def __init__(self, http2: Http2, recorder: Recorder, write: Callable[[], None]) -> None:
        self._http2, self._recorder, self._write = http2, recorder, write
        self._due: list[tuple[int, int]] = []  # a heap: when which stream says more
        self._waker: asyncio.TimerHandle | None = None
        self.is_over = False

    def open(self, sent_ns: int) -> None:
        """Note that streams have begun, and when they have more to say."""
        opened = self._http2.sender.opened
        for exchange in opened:
            talk = exchange.talk
            if talk is not None:
                talk.begin(sent_ns)
                if talk.left:
                    heapq.heappush(self._due, (talk.due_ns, exchange.stream_id))
        opened.clear()
        self._arm()

    def _arm(self) -> None:
        if self._due and self._waker is None and not self.is_over:
            delay_ns = max(0, self._due[0][0] - monotonic_ns())
            loop = asyncio.get_running_loop()
            self._waker = loop.call_later(delay_ns / 1_000_000_000, self._speak)

    def _speak(self) -> None:
        """Send the messages that are due."""
        self._waker = None
        now_ns, http2 = monotonic_ns(), self._http2
        while self._due and self._due[0][0] <= now_ns:
            _, stream_id = heapq.heappop(self._due)
            exchange = http2.streams.exchanges.get(stream_id)
            if exchange is None or exchange.talk is None:
                continue  # it has ended meanwhile
            is_last = exchange.talk.say(now_ns)
            http2.sender.add(exchange, exchange.message, is_last=is_last)
            http2.bring_forward()
            if not is_last:
                heapq.heappush(self._due, (exchange.talk.due_ns, stream_id))
        self._write()
        self._arm()

    def hear(self, done_ns: int) -> None:
        """Log the latencies of what has come on streams."""
        heard = self._http2.ended.heard
        log = self._recorder.log_stream
        for exchange, count in heard:
            if exchange.talk is not None:
                for kind, took_ns in exchange.talk.hear(count, done_ns):
                    log(exchange.record[1], kind, took_ns)
        heard.clear()

    def stop(self) -> None:
        """Say nothing more: the connection has ended."""
        self.is_over = True
        if self._waker is not None:
            self._waker.cancel()
            self._waker = None
