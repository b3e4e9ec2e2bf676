"""One HTTP/1.1 connection: the hot path of the engine.

Between two responses of a connection there is no task, no future and no object of its
own for a request: the connection's slots are the request in flight. Requests leave by the
socket's own `send` at the moment that is noted as *sent* (uvloop's `write` would wait for
the end of the loop's turn); only what the socket does not take goes to the transport.

Ordinary responses, complete in the one read that brings them, are only counted: by the
memo of heads where theirs has been met before, else by a bare llhttp parser. Anything else
about them (a second read, a 1xx, garbage behind it, an answer to HEAD) is read from its
first byte by `http1.ResponseReader`. That spares two thirds of the parser's cost per
request and leaves the judgement to one place.

The law: each request begun ends exactly once, in an outcome or in flight at stop.
"""

from __future__ import annotations

import asyncio
from time import monotonic_ns
from typing import TYPE_CHECKING, Final, cast

import httptools

from loadtests.engine.checks import failed_check
from loadtests.engine.farewell import discard_unsent
from loadtests.engine.http1 import (
    FIRST_FINAL_STATUS,
    HEAD_END,
    Framing,
    ResponseFault,
    ResponseReader,
)
from loadtests.engine.listener import Listener
from loadtests.engine.outcome import count_of_status, kind_of_loss, kind_of_status
from loadtests.engine.recorder import SLOT_MASK
from loadtests.record.error_kinds import CHECK, PROTOCOL, TIMEOUT
from loadtests.record.window import Count

if TYPE_CHECKING:  # the pool makes connections; they only know its face
    import socket
    from collections.abc import Callable

    from loadtests.engine.pool import Pool
    from loadtests.engine.task import Task
    from loadtests.engine.traffic import Traffic

# A connection that ends unused within that was turned away. Servers that close idle
# connections wait longer: 5 s are usual (Apache, Node.js).
_LASTING_NS: Final = 1_000_000_000
_OPEN: Final = 1  # verdict of the bare parser: complete, keep-alive
_LAST: Final = 2  # verdict of the bare parser: complete, the connection must not be reused


def _unknown(_head: bytes) -> None:
    """Find no head: every byte belongs to the careful reader."""


class Connection(Listener):
    """A connection of a pool; `task` is None while it is idle."""

    __slots__ = (
        "_begun",
        "_code",
        "_due_ns",
        "_feed",
        "_find",
        "_is_careful",
        "_is_spoilt",
        "_keeps",
        "_log_lag",
        "_log_ok",
        "_log_received",
        "_log_response",
        "_log_sent",
        "_log_service",
        "_made_ns",
        "_park",
        "_pool",
        "_reader",
        "_received_bytes",
        "_send",
        "_socket",
        "_status",
        "_traffic",
        "_transport",
        "_verdict",
        "is_open",
        "on_message_begin",
        "sent_ns",
        "task",
    )

    def __init__(self, pool: Pool, traffic: Traffic, own: socket.socket | None) -> None:
        self._pool, self._traffic = pool, traffic
        self._socket = own  # None under TLS: the bytes must go through the transport
        self._send: Callable[[bytes], int] = self._send_by_transport
        self._transport: asyncio.Transport | None = None
        self.is_open = False
        self.task: Task | None = None
        self._made_ns = 0
        self._due_ns = self.sent_ns = self._code = 0  # never sent anything: sent_ns is 0
        self._received_bytes = 0
        self._reader: ResponseReader | None = None
        # The bare parser pops one entry when a response begins: a second response, or one
        # that nobody asked for, finds the list empty and is an error without our code.
        self._begun: list[None] = []
        self.on_message_begin = self._begun.pop
        self._is_careful = False
        self._find: Callable[[bytes], Framing | None] = traffic.heads.find
        self._park: Callable[[Connection], None] | None = pool.park
        self._new_parser()
        recorder = traffic.recorder
        self._log_sent, self._log_lag = recorder.log_sent, recorder.log_lag
        self._log_ok, self._log_received = recorder.log_ok, recorder.log_received
        self._log_response, self._log_service = recorder.log_response, recorder.log_service

    def __repr__(self) -> str:
        state = "closed" if not self.is_open else "idle" if self.task is None else "busy"
        return f"<Connection to {self._pool.node.name}: {state}>"

    def _new_parser(self) -> None:
        parser = httptools.HttpResponseParser(self)
        self._feed: Callable[[bytes], object] = parser.feed_data
        self._status, self._keeps = parser.get_status_code, parser.should_keep_alive
        self._verdict = 0
        self._is_spoilt = False

    def on_message_complete(self) -> None:
        """Hear from the bare parser; keep-alive can only be asked now."""
        keeps = self._keeps
        self._verdict = _OPEN if keeps() else _LAST

    # Sending

    def begin(self, due_ns: int, sent_ns: int, code: int, task: Task, payload: bytes) -> None:
        """Send one request on an idle connection; never raises."""
        self.task, self._due_ns, self.sent_ns, self._code = task, due_ns, sent_ns, code
        traffic = self._traffic
        traffic.sent += 1
        traffic.sent_at_ns += sent_ns
        # Bound methods are fetched before they are called: a call straight from a slot is
        # not specialised by CPython 3.11 and costs twice as much.
        log_sent, log_lag, send = self._log_sent, self._log_lag, self._send
        log_sent(code)
        log_lag(sent_ns - due_ns)
        if task.expected.is_head:
            self._read_with_care()
        try:
            taken = send(payload)
        except OSError as error:
            self._send_failed(error, payload)
            return
        if taken != len(payload):
            self._send_rest(payload[taken:])

    def _send_failed(self, error: OSError, payload: bytes) -> None:
        if isinstance(error, BlockingIOError):
            self._send_rest(payload)
        else:
            self._lose(error)

    def _send_rest(self, rest: bytes) -> None:
        """Leave to the transport what the socket does not take now, and all that comes later.

        An answer may come before its request has left: the next must not overtake the rest.
        """
        self._send = self._send_by_transport
        self._send(rest)

    def _send_by_transport(self, payload: bytes) -> int:
        if self._transport is not None:
            self._transport.write(payload)
        return len(payload)

    # Receiving

    def data_received(self, data: bytes) -> None:
        """Take bytes of a response; the common case runs straight through."""
        task, find = self.task, self._find
        end = data.find(HEAD_END)
        framing = find(data[:end])
        # Without a blank line `end` is -1, and the slice all but the last byte.
        if framing is None or task is None or end < 0 or len(data) - end != framing.rest_bytes:
            framing = self._parse(data, end)
            if framing is None or task is None:
                return
        done_ns = monotonic_ns()
        traffic = self._traffic
        if done_ns >= traffic.alarm_ns:
            traffic.on_alarm(done_ns)
        status, is_keep_alive, _ = framing
        if status in task.unchecked_statuses:
            traffic.ok += 1
            traffic.done_at_ns += done_ns
            log_ok, log_response = self._log_ok, self._log_response
            log_service, log_received = self._log_service, self._log_received
            log_ok(self._code)
            log_response(done_ns - self._due_ns)
            log_service(done_ns - self.sent_ns)
            log_received(len(data))
            self.task = None
        else:
            self._judge(task, status, data[end + len(HEAD_END) :], done_ns, len(data))
        park = self._park
        if not is_keep_alive:
            self._retire()
        elif park is None or traffic.backlog_size:
            self._pool.release(self, done_ns)
        else:  # what release would do, without the call
            park(self)
        if done_ns >= traffic.due_ns:
            traffic.on_due(done_ns)

    def _parse(self, data: bytes, end: int) -> Framing | None:
        """Read an unknown head; None when the response is the careful reader's."""
        task = self.task
        if task is None or self._is_careful:
            self._receive_with_care(data)
            return None
        self._begun.append(None)
        feed = self._feed
        try:
            feed(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._verdict = 0
        verdict, status = self._verdict, self._status()
        self._verdict = 0
        # A 1xx alone in its read: the answer is still to come.
        if verdict and status >= FIRST_FINAL_STATUS and len(data) <= self._traffic.limit_bytes:
            framing = Framing(status, verdict == _OPEN, len(data) - end)
            is_known = self._traffic.heads.learn(data[:end], framing, self._traffic.ok)
            if is_known or not task.checks:  # else the body may be in chunks
                return framing
        self._receive_with_care(data)
        return None

    def _read_with_care(self) -> None:
        """From here to the end of this response the careful reader takes all bytes."""
        if self._reader is None:
            self._reader = ResponseReader(self._traffic.limit_bytes)
        if self.task is not None:
            self._reader.expect(self.task.expected)
        self._received_bytes = 0
        self._is_careful, self._find = True, _unknown

    def _receive_with_care(self, data: bytes) -> None:
        if self.task is None:
            if data.strip(b"\r\n"):
                self._fault_while_idle()
            return
        if not self._is_careful:
            self._is_spoilt = True  # the bare parser has seen a part of this response
            self._read_with_care()
        reader = self._reader
        if reader is None:
            return
        self._received_bytes += len(data)
        fault: ResponseFault | None = None
        try:
            reader.feed(data)
        except ResponseFault as caught:
            fault = caught
        self._conclude(reader, fault)

    def _conclude(self, reader: ResponseReader, fault: ResponseFault | None) -> None:
        """Act on what the careful reader found, if it found an end."""
        if not reader.finished and fault is None:
            return
        done_ns = monotonic_ns()
        traffic = self._traffic
        if done_ns >= traffic.alarm_ns:
            traffic.on_alarm(done_ns)
        if not reader.finished:
            if fault is not None:
                self.fail(fault.kind, fault.text, done_ns)
        else:
            was_head = self.task is not None and self.task.expected.is_head
            finished, task = reader.finished.pop(), self.task
            if task is not None:
                received_bytes = self._received_bytes
                self._judge(task, finished.status, finished.body, done_ns, received_bytes)
            if fault is not None:  # the request keeps its outcome, the connection goes
                self._pool.fault(fault.kind, fault.text)
            self._reader = None if was_head else reader
            if fault is not None or not finished.is_keep_alive:
                self._retire()
            else:
                self._begun.clear()
                if self._is_spoilt:
                    self._new_parser()
                self._is_careful, self._find = False, traffic.heads.find
                self._received_bytes = 0
                self._pool.release(self, done_ns)
        if done_ns >= traffic.due_ns:
            traffic.on_due(done_ns)

    def _judge(
        self, task: Task, status: int, body: bytes, done_ns: int, received_bytes: int
    ) -> None:
        """Classify a complete response."""
        if status not in task.expected_statuses:
            self._end_with_status(status, done_ns, received_bytes)
            return
        failure = failed_check(task.checks, body) if task.checks else None
        if failure is not None:
            self._end(Count.FAILED, CHECK, failure, done_ns, received_bytes)
            return
        self._traffic.ok += 1
        self._traffic.done_at_ns += done_ns
        self._log_ok(self._code)
        self._log_response(done_ns - self._due_ns)
        self._log_service(done_ns - self.sent_ns)
        self._log_received(received_bytes)
        if self._traffic.recorder.writes is not None:
            self._traffic.recorder.writes.ended_ok(self._code & SLOT_MASK, self._due_ns)
        self.task = None

    def _end_with_status(self, status: int, done_ns: int, received_bytes: int) -> None:
        kind = kind_of_status(status)
        self._end(count_of_status(status), kind, f"status {status}", done_ns, received_bytes)

    def _end(
        self, count: Count, kind: str, message: str, done_ns: int, received_bytes: int
    ) -> None:
        self.task = None
        self._traffic.end(
            self._code,
            count,
            kind=kind,
            message=message,
            due_ns=self._due_ns,
            sent_ns=self.sent_ns,
            done_ns=done_ns,
            received_bytes=received_bytes,
        )

    # Ending

    def fail(self, kind: str, message: str, now_ns: int) -> None:
        """End the request in flight as failed and close: its response could still come."""
        self._fail_request(kind, message, now_ns)
        self._retire()

    def _fail_request(self, kind: str, message: str, now_ns: int) -> None:
        self._end(Count.FAILED, kind, message, now_ns, self._received_bytes)

    def expire_overdue(self, now_ns: int) -> None:
        """Time out the request in flight if it has taken too long."""
        task = self.task
        if task is not None and now_ns - self.sent_ns >= task.timeout_ns:
            self.expire(now_ns)

    def expire(self, now_ns: int) -> None:
        """Time out the request in flight."""
        waited_ms = (now_ns - self.sent_ns) // 1_000_000
        self.fail(TIMEOUT, f"no complete response after {waited_ms} ms", now_ns)

    def is_meant(self, now_ns: int) -> bool:
        """True once it has served a request, or has lasted."""
        has_served = self.sent_ns > 0 and self.task is None
        return has_served or now_ns - self._made_ns >= _LASTING_NS

    def close(self) -> None:
        """Close an idle connection that is no longer wanted."""
        self._retire()

    def discard_unsent(self) -> None:
        """Let nothing arrive once this process has ended."""
        discard_unsent(self._transport)

    def _retire(self, *, was_idle: bool = False, why: tuple[str, str] | None = None) -> None:
        """Close once, and tell the pool; `why` is what the server did to an idle connection."""
        if not self.is_open:
            return
        self.is_open = False
        if self._transport is not None:
            discard_unsent(self._transport)
            self._transport.abort()
        self._pool.lost(self, was_idle=was_idle, why=why)

    def _fault_while_idle(self) -> None:
        if self.is_open:
            why = (PROTOCOL, "bytes that no request asked for")
            self._pool.fault(*why)
            self._retire(was_idle=True, why=why)

    def _lose(self, error: Exception | None) -> None:
        """The connection has ended: so has the request in flight."""
        text = str(error) if error is not None else "connection closed by the server"
        if self.task is not None:
            now_ns = monotonic_ns()
            if now_ns >= self._traffic.alarm_ns:
                self._traffic.on_alarm(now_ns)
            has_bytes = self._received_bytes > 0
            self.fail(kind_of_loss(error, has_response_bytes=has_bytes), text, now_ns)
        else:
            why = (kind_of_loss(error, has_response_bytes=False), text)
            self._retire(was_idle=True, why=why)

    # asyncio calls these once each

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport and the quickest way to send."""
        self._transport = cast("asyncio.Transport", transport)
        if self._socket is not None:
            self._send = self._socket.send
        self._made_ns = monotonic_ns()
        self.is_open = True

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is closed, by the other side unless we retired it."""
        if not self.is_open:
            return
        reader = self._reader
        is_careful = self.task is not None and self._is_careful
        if exc is None and is_careful and reader is not None:
            fault: ResponseFault | None = None
            try:
                reader.end()
            except ResponseFault as caught:
                fault = caught
            self._conclude(reader, fault)
        else:
            self._lose(exc)
