"""A connection with several requests in flight: HTTP/1.1 pipelining (RFC 9112, 9.3.2).

Off unless a scenario asks for it. Answers come in the order of requests, so the oldest
request in flight stands in the slots that `Connection` has for its only one, and is judged
there; the others wait in a queue. All bytes go through the careful reader, which knows how
many responses are due. The pool holds the connection among its free ones, once, while it
has room for one more request, behind those that have more room.

The law of `Connection` holds for each: begun once, ended once. What ends the oldest before
its answer is complete ends the connection, and with it those behind: they count as
`closed_before_response` and are not sent again.
"""

from __future__ import annotations

from collections import deque
from time import monotonic_ns
from typing import TYPE_CHECKING

from loadtests.engine.connection import Connection
from loadtests.engine.http1 import Finished, ResponseFault, ResponseReader
from loadtests.record.error_kinds import CLOSED_BEFORE_RESPONSE

if TYPE_CHECKING:
    import socket

    from loadtests.engine.catalogue import Task
    from loadtests.engine.pool import Pool
    from loadtests.engine.traffic import Traffic


class PipelinedConnection(Connection):
    """A connection of a pool that takes up to `depth` (>= 2) requests at a time."""

    __slots__ = ("_behind", "_depth", "_is_leaving", "_is_parked", "_responses")

    def __init__(
        self, pool: Pool, traffic: Traffic, own: socket.socket | None, *, depth: int
    ) -> None:
        super().__init__(pool, traffic, own)
        self._depth = depth
        self._behind: deque[tuple[int, int, int, Task]] = deque()  # due, sent, code, task
        self._responses = ResponseReader(traffic.limit_bytes)
        self._is_parked = False  # among the pool's free ones
        self._is_leaving = False  # no longer wanted: closes when nothing is in flight

    @property
    def in_flight(self) -> int:
        """Requests begun and not ended."""
        return len(self._behind) + (self.task is not None)

    def begin(self, due_ns: int, sent_ns: int, code: int, task: Task, payload: bytes) -> None:
        """Send one more request; the pool has just taken this connection from its free ones."""
        if self.task is None:
            self._due_ns, self.sent_ns, self._code, self.task = due_ns, sent_ns, code, task
        else:
            self._behind.append((due_ns, sent_ns, code, task))
        self._traffic.sent += 1
        self._traffic.sent_at_ns += sent_ns
        self._log_sent(code)
        self._log_lag(sent_ns - due_ns)
        self._responses.expect(task.expected)
        self._is_parked = self.in_flight < self._depth
        if self._is_parked:
            self._pool.free.append(self)
        try:
            taken = self._send(payload)
        except OSError as error:
            self._send_failed(error, payload)
            return
        if taken != len(payload):
            self._send_rest(payload[taken:])

    def data_received(self, data: bytes) -> None:
        """Take bytes of any number of responses."""
        if self.task is None:
            if data.strip(b"\r\n"):
                self._fault_while_idle()
            return
        self._received_bytes += len(data)
        fault: ResponseFault | None = None
        try:
            self._responses.feed(data)
        except ResponseFault as caught:
            fault = caught
        self._take(fault)

    def _take(self, fault: ResponseFault | None) -> None:
        """End the requests whose responses are complete, then act on a fault."""
        done_ns = self._look_at_clock()
        finished, self._responses.finished = self._responses.finished, []
        is_reusable = True
        for response in finished:
            self._end_oldest(response, done_ns)
            is_reusable = response.is_keep_alive
        if fault is not None and self.task is not None:
            self.fail(fault.kind, fault.text, done_ns)
        elif fault is not None or not is_reusable:
            if fault is not None:  # every request has its outcome: only the connection goes
                self._pool.fault(fault.kind, fault.text)
            self._drop_behind("the server closed after an earlier response", done_ns)
            self._retire(was_idle=self._is_parked)
        elif finished:
            self._rejoin(done_ns)
        if done_ns >= self._traffic.due_ns:
            self._traffic.on_due(done_ns)

    def _end_oldest(self, response: Finished, done_ns: int) -> None:
        """Judge the oldest request; a read's bytes count for the first response it ends."""
        task = self.task
        if task is not None:
            self._judge(task, response.status, response.body, done_ns, self._received_bytes)
        self._received_bytes = 0
        self._next()

    def _next(self) -> None:
        """Let the oldest of those behind take the slots."""
        if self._behind:
            self._due_ns, self.sent_ns, self._code, self.task = self._behind.popleft()

    def _rejoin(self, now_ns: int) -> None:
        """There is room again: tell the pool, or leave if it has too many."""
        if self._is_leaving and self.task is None:
            self._retire(was_idle=self._is_parked)
        elif self._is_parked:
            self._pool.serve(now_ns)
        elif not self._is_leaving:
            self._is_parked = True  # `release` puts it there, or closes
            self._pool.release(self, now_ns)

    # Ending

    def close(self) -> None:
        """Close as soon as nothing is in flight; nothing more is begun on it."""
        self._is_leaving = True
        self._is_parked = False
        if self.task is None:
            self._retire()

    def fail(self, kind: str, message: str, now_ns: int) -> None:
        """End the oldest request as failed, those behind it as unanswered, and close."""
        if self.task is not None:
            self._fail_request(kind, message, now_ns)
            self._next()
        self._drop_behind(f"the request before it ended the connection ({kind})", now_ns)
        self._retire(was_idle=self._is_parked)

    def _drop_behind(self, message: str, now_ns: int) -> None:
        self._received_bytes = 0
        while self.task is not None:
            self._fail_request(CLOSED_BEFORE_RESPONSE, message, now_ns)
            self._next()

    def _look_at_clock(self) -> int:
        now_ns = monotonic_ns()
        if now_ns >= self._traffic.alarm_ns:
            self._traffic.on_alarm(now_ns)
        return now_ns

    def connection_lost(self, exc: Exception | None) -> None:
        """The other side has closed: perhaps that ends a response without length."""
        if not self.is_open:
            return
        if exc is not None or self.task is None:
            self._lose(exc)
            return
        try:
            self._responses.end()
        except ResponseFault as fault:
            self._take(fault)
        else:
            self._take(None)
