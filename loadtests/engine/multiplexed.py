"""One HTTP/2 connection with many requests in flight: the hot path of HTTP/2 and gRPC.

`Http2` knows the protocol; this is its I/O, its clock and its accounts. Requests that one
turn hands over are collected and leave together, in one `send`: *sent* is taken right
before that call and holds for all of them. A read's answers are *done* when the read came.
Both are the moments at which the bytes crossed to the kernel and from it.

The pool holds the connection among its free ones, once, while it has room for a stream.
GOAWAY, or the end of stream ids, takes it out: it finishes what is under way and closes.

The law: each request begun ends exactly once, in an outcome or in flight at stop. One class,
because all of it shares the state of one connection, and a call more on the way of each
request costs 2 % of it.
"""

from __future__ import annotations

import asyncio
import heapq
from time import monotonic_ns
from typing import TYPE_CHECKING, Final, cast

from loadtests.engine.exchange import Failed, Flight, Record, Unsent
from loadtests.engine.frames import MOST_STREAM_ID
from loadtests.engine.grpc import Failure, count_of_code, kind_of_code
from loadtests.engine.http2 import Http2
from loadtests.engine.outcome import count_of_status, kind_of_loss, kind_of_status
from loadtests.engine.response_heads import Head
from loadtests.record.error_kinds import (
    CANCELLED_BY_PEER,
    CHECK,
    CLOSED,
    PROTOCOL,
    TIMEOUT,
    TLS,
)
from loadtests.record.window import Count

if TYPE_CHECKING:  # the pool makes connections; they only know its face
    import socket
    from collections.abc import Callable

    from loadtests.engine.multiplexed_pool import MultiplexedPool
    from loadtests.engine.task import Parcel, Task
    from loadtests.engine.traffic import Traffic

_PING_PATIENCE_NS: Final = 20_000_000_000  # gRPC's default keepalive timeout
_FEW_IDS: Final = MOST_STREAM_ID - (1 << 20)  # from here on their number bounds the room
_MOST_WAITING_BYTES: Final = 1 << 28  # unread by the peer: it has stopped reading


class NoGreeting(Exception):  # noqa: N818 - a verdict on the peer, not an error of ours
    """The other side does not speak HTTP/2: `kind` groups it, `text` says why."""

    def __init__(self, kind: str, text: str) -> None:
        self.kind, self.text = kind, text
        super().__init__(f"{kind}: {text}")


class MultiplexedConnection(asyncio.Protocol):
    """A connection of a pool that takes up to `streams` requests at a time, or fewer if told."""

    __slots__ = (
        "_greeting",
        "_http2",
        "_is_joined",
        "_is_parked",
        "_is_unwanted",
        "_is_usual",
        "_keepalive_ns",
        "_log_lag",
        "_log_ok",
        "_log_received",
        "_log_response",
        "_log_sent",
        "_log_service",
        "_pinged_ns",
        "_pool",
        "_received_ns",
        "_send",
        "_shortest_timeout_ns",
        "_socket",
        "_streams",
        "_talks",
        "_traffic",
        "_transport",
        "_unsent",
        "_waker",
        "is_leaving",
        "is_open",
        "room",
    )

    def __init__(
        self,
        pool: MultiplexedPool,
        traffic: Traffic,
        own: socket.socket | None,
        *,
        streams: int,
        keepalive_ns: int,
        shortest_timeout_ns: int,
    ) -> None:
        self._pool, self._traffic = pool, traffic
        self._socket = own  # None under TLS: the bytes must go through the transport
        self._send: Callable[[bytes], int] = self._send_by_transport
        self._transport: asyncio.Transport | None = None
        self._http2 = Http2(traffic.limit_bytes)
        self._streams = streams
        self._keepalive_ns, self._shortest_timeout_ns = keepalive_ns, shortest_timeout_ns
        self._greeting: asyncio.Future[None] | None = None
        self._unsent: list[Unsent] = []
        self._talks: list[tuple[int, int]] = []  # a heap: when which stream says more
        self._waker: asyncio.TimerHandle | None = None
        # Requests that may be begun now; below 0 when the server has lowered what it takes.
        self.room = 0
        self._is_joined = False  # the pool's; before that nothing is begun on it
        self._is_parked = False  # among the pool's free ones
        self._is_usual = False  # joined, not leaving, far from the end of stream ids
        self._is_unwanted = False  # TLS without h2
        recorder = traffic.recorder
        self._log_sent, self._log_lag = recorder.log_sent, recorder.log_lag
        self._log_ok, self._log_received = recorder.log_ok, recorder.log_received
        self._log_response, self._log_service = recorder.log_response, recorder.log_service
        self.is_leaving = False  # takes no more requests, closes when nothing is in flight
        self._received_ns = self._pinged_ns = 0
        self.is_open = False

    def __repr__(self) -> str:
        state = f"{self.in_flight} in flight" if self.is_open else "closed"
        return f"<MultiplexedConnection to {self._pool.node.name}: {state}>"

    @property
    def in_flight(self) -> int:
        """Requests begun and not ended."""
        return len(self._http2.streams.records) + len(self._unsent)

    @property
    def capacity(self) -> int:
        """Requests that may be in flight: never above the server's MAX_CONCURRENT_STREAMS."""
        return min(self._streams, self._http2.sender.most_streams)

    # Sending

    def begin(self, due_ns: int, sent_ns: int, code: int, task: Task, payload: bytes) -> None:
        """Take one request, to leave with the next `flush`; there must be room.

        `sent_ns` is taken again when it leaves, and in closed load is `due_ns`, too.
        """
        del sent_ns
        unsent = self._unsent
        if not unsent:
            self._traffic.unsent.append(self)
        # The catalogue makes stream tasks of the requests of such a pool; a cast is a call.
        unsent.append((due_ns, code, task, payload))  # type: ignore[arg-type]
        self._traffic.sent += 1
        self.room -= 1
        self._is_parked = self.room > 0
        if self._is_parked:
            self._pool.free.append(self)

    def begin_many(self, parcels: list[Parcel]) -> None:
        """Take requests of users whose last answers came here; there must be room for all."""
        if parcels:
            if not self._unsent:
                self._traffic.unsent.append(self)
            unsent = self._unsent
            for code, task, payload in parcels:
                unsent.append((0, code, task, payload))  # type: ignore[arg-type]  # as above
            self._traffic.sent += len(parcels)
            self.room -= len(parcels)
        if self.room > 0:
            self.park()
        elif self._is_parked:
            self._unpark()

    def begin_next(self, code: int, task: Task, payload: bytes) -> None:
        """Take one request of a user whose last answer came here: `begin_many` for one."""
        if not self._unsent:
            self._traffic.unsent.append(self)
        self._unsent.append((0, code, task, payload))  # type: ignore[arg-type]  # as above
        self._traffic.sent += 1
        self.room -= 1

    def flush(self) -> None:
        """Send all that has been begun, and what the protocol has to say, at once."""
        batch, sender, traffic = self._unsent, self._http2.sender, self._traffic
        if not batch:
            self._write()
            return
        self._unsent = []
        flight = Flight()
        begun = sender.send(batch, flight)
        output = sender.output
        data = b"".join(output)
        output.clear()
        flight.sent_ns = sent_ns = monotonic_ns()
        send, error = self._send, None
        try:
            taken = send(data)
        except OSError as caught:
            taken, error = self._untaken(caught)
        if taken != len(data):
            self._send_rest(data[taken:])
        traffic.sent_at_ns += sent_ns * len(begun)
        if len(begun) == 1:  # not worth the lists
            due_ns, code, _, _ = begun[0]
            log_sent, log_lag = self._log_sent, self._log_lag
            log_sent(code)
            log_lag(0 if traffic.is_closed else sent_ns - due_ns)
        else:
            codes = [record[1] for record in begun]
            is_closed = traffic.is_closed
            lags = [0] * len(begun) if is_closed else [sent_ns - record[0] for record in begun]
            traffic.recorder.log_many_sent(codes, lags)
        if sender.opened:
            self._open_talks(sent_ns)
        if sender.next_id > _FEW_IDS:
            self._is_usual = False
        if error is not None:
            self._lose(error)

    def _open_talks(self, sent_ns: int) -> None:
        """Note when streams began, and when they have more to say."""
        opened = self._http2.sender.opened
        for exchange in opened:
            talk = exchange.talk
            if talk is not None:
                talk.begin(sent_ns)
                if talk.left:
                    heapq.heappush(self._talks, (talk.due_ns, exchange.stream_id))
        opened.clear()
        self._arm_talks()

    def _arm_talks(self) -> None:
        """Wake for the next message; a loop timer's millisecond is enough for a pace."""
        if self._talks and self._waker is None:
            delay_ns = max(0, self._talks[0][0] - monotonic_ns())
            loop = asyncio.get_running_loop()
            self._waker = loop.call_later(delay_ns / 1_000_000_000, self._speak)

    def _speak(self) -> None:
        """Send the messages that are due."""
        self._waker = None
        now_ns, http2 = monotonic_ns(), self._http2
        while self._talks and self._talks[0][0] <= now_ns and self.is_open:
            _, stream_id = heapq.heappop(self._talks)
            exchange = http2.streams.exchanges.get(stream_id)
            if exchange is None or exchange.talk is None:
                continue  # it has ended meanwhile
            is_last = exchange.talk.say(now_ns)
            http2.sender.add(exchange, exchange.message, is_last=is_last)
            http2.bring_forward()
            if not is_last:
                heapq.heappush(self._talks, (exchange.talk.due_ns, stream_id))
        self._write()
        if self.is_open:
            self._arm_talks()

    def _hear(self, done_ns: int) -> None:
        """Log the latencies inside of streams."""
        heard, self._http2.heard = self._http2.heard, []
        log = self._traffic.recorder.log_stream
        for exchange, count in heard:
            if exchange.talk is not None:
                for kind, took_ns in exchange.talk.hear(count, done_ns):
                    log(exchange.record[1], kind, took_ns)

    def _write(self) -> None:
        """Send what the protocol has to say."""
        output = self._http2.sender.output
        if output:
            data, error = b"".join(output), None
            output.clear()
            try:
                taken = self._send(data)
            except OSError as caught:
                taken, error = self._untaken(caught)
            if taken != len(data):
                self._send_rest(data[taken:])
            if error is not None:
                self._lose(error)

    def _untaken(self, error: OSError) -> tuple[int, OSError | None]:
        """Tell a full socket, which takes nothing now, from a broken one."""
        return (0, None) if isinstance(error, BlockingIOError) else (0, error)

    def _send_rest(self, rest: bytes) -> None:
        """Leave to the transport what the socket does not take: nothing may overtake it."""
        if self._transport is not None and self.is_open:
            self._send = self._send_by_transport
            self._transport.write(rest)

    def _send_by_transport(self, data: bytes) -> int:
        transport = self._transport
        if not self.is_open:
            raise ConnectionResetError("closed before the request left")
        if transport is not None:
            waiting_bytes = transport.get_write_buffer_size()
            if waiting_bytes > _MOST_WAITING_BYTES:
                raise OSError(f"{waiting_bytes} bytes that the server does not read")
            if not waiting_bytes and self._socket is not None:
                self._send = self._socket.send
                return self._socket.send(data)
            transport.write(data)
        return len(data)

    # Receiving

    def data_received(self, data: bytes) -> None:
        """Take the frames of one read, end what they end, begin what may then begin."""
        done_ns = monotonic_ns()
        traffic, http2 = self._traffic, self._http2
        if done_ns >= traffic.alarm_ns:
            traffic.on_alarm(done_ns)
        self._received_ns = done_ns
        http2.receive(data)
        passed = http2.passed
        ended = len(passed)
        if ended == 1:  # not worth the lists of `_pass`
            due_ns, code, _, flight = passed.pop()
            sent_ns = flight.sent_ns
            log_ok, log_response = self._log_ok, self._log_response
            log_service, log_received = self._log_service, self._log_received
            log_ok(code)
            log_response(done_ns - (sent_ns if traffic.is_closed else due_ns))
            log_service(done_ns - sent_ns)
            log_received(http2.passed_bytes.pop())
            traffic.ok += 1
            traffic.done_at_ns += done_ns
        elif ended:
            self._pass(done_ns)
        if http2.has_news or not self._is_usual:
            self._digest(ended, done_ns)
        elif ended:
            self.room += ended
            self._pool.settled(self, ended, done_ns)
            if traffic.unsent:
                traffic.flush()
        if done_ns >= traffic.due_ns:
            traffic.on_due(done_ns)

    def _digest(self, ended: int, done_ns: int) -> None:
        """Take everything else that a read has brought."""
        http2 = self._http2
        http2.has_news = False
        if http2.heard:
            self._hear(done_ns)
        ended += len(http2.answers) + len(http2.failures)
        if http2.answers:
            answers, http2.answers = http2.answers, []
            for record, head, body, size in answers:
                self._judge(record, head, body, size, done_ns)
        if http2.failures:
            failures, http2.failures = http2.failures, []
            self._end_failures(failures, done_ns)
        self._settle(ended, done_ns)

    def _pass(self, done_ns: int) -> None:
        """Count the ordinary answers, which their status alone makes ok."""
        http2, traffic = self._http2, self._traffic
        records, sizes = http2.passed, http2.passed_bytes
        services = [done_ns - record[3].sent_ns for record in records]
        codes = [record[1] for record in records]
        # In closed load a request is meant for the time at which it leaves.
        responses = services if traffic.is_closed else [done_ns - record[0] for record in records]
        traffic.recorder.log_many_ok(codes, responses, services, sizes)
        traffic.ok += len(records)
        traffic.done_at_ns += done_ns * len(records)
        records.clear()
        sizes.clear()

    def _judge(self, record: Record, head: Head, body: bytes, size: int, done_ns: int) -> None:
        """Classify an answer."""
        task = record[2]
        mark = head.code if task.is_grpc else head.status
        if mark not in task.expected_statuses:
            self._end(record, _unexpected(head, is_grpc=task.is_grpc), done_ns, size)
            return
        has_body = not task.is_grpc or mark == 0
        is_stream = task.messages is not None and task.messages.is_stream  # looked at already
        looks = task.examine is not None and has_body and not is_stream
        found = task.examine(body) if task.examine is not None and looks else None
        if found is not None:
            self._end(record, Failure(Count.FAILED, CHECK, found), done_ns, size)
            return
        due_ns, code, _, flight = record
        if self._traffic.is_closed:
            due_ns = flight.sent_ns
        services = [done_ns - flight.sent_ns]
        self._traffic.recorder.log_many_ok([code], [done_ns - due_ns], services, [size])
        self._traffic.ok += 1
        self._traffic.done_at_ns += done_ns

    def _end_failures(self, failures: list[Failed], done_ns: int) -> None:
        for record, failure, size in failures:
            is_late = done_ns - record[3].sent_ns >= record[2].timeout_ns
            if failure.kind == CANCELLED_BY_PEER and is_late:
                # The deadline was sent along: a server that keeps it resets the stream.
                text = "the server gave up at the deadline"
                self._end(record, Failure(Count.FAILED, TIMEOUT, text), done_ns, size)
            else:
                self._end(record, failure, done_ns, size)

    def _end(self, record: Record, failure: Failure, done_ns: int, received_bytes: int) -> None:
        due_ns, code, _, flight = record
        self._traffic.end(
            code,
            failure.counts_as,
            kind=failure.kind,
            message=failure.text,
            due_ns=flight.sent_ns if self._traffic.is_closed else due_ns,
            sent_ns=flight.sent_ns,
            done_ns=done_ns,
            received_bytes=received_bytes,
        )

    def _settle(self, ended: int, now_ns: int) -> None:
        """After any change: greet, leave, close, or begin what waits; then send."""
        http2, sender = self._http2, self._http2.sender
        if http2.fault is not None:
            self._write()
            self._drop_all(Failure(Count.FAILED, PROTOCOL, http2.fault), now_ns)
            self._retire()
            return
        in_flight = self.in_flight
        self.room = min(self.capacity - in_flight, sender.ids_left)
        if http2.is_leaving or not sender.ids_left:
            self._leave()
        if self.is_leaving:
            self.room = 0
        self._is_usual = self._is_joined and not self.is_leaving and sender.next_id <= _FEW_IDS
        if self._greeting is not None and http2.is_greeted and not self._greeting.done():
            self._greeting.set_result(None)
        if self.is_leaving and not in_flight:
            self._write()
            self._retire()
        elif self._is_joined:
            if self._is_parked and self.room <= 0:
                self._unpark()
            self._pool.settled(self, ended, now_ns)
        traffic = self._traffic
        if traffic.unsent:
            traffic.flush()
        if sender.output:
            self._write()

    def join(self, now_ns: int) -> None:
        """Begin to work for the pool."""
        self._is_joined = True
        self._settle(0, now_ns)

    def park(self) -> None:
        """Join the pool's free ones, if there is room and it is not there already."""
        if not self._is_parked and self.room > 0:
            self._is_parked = True
            self._pool.free.append(self)

    def _unpark(self) -> None:
        if self._is_parked:
            self._is_parked = False
            self._pool.free.remove(self)

    # Ending

    def _leave(self) -> None:
        """Take no more requests; the pool may replace this connection at once."""
        if not self.is_leaving:
            self.is_leaving = True
            self._is_usual = False
            self._unpark()
            if self._is_joined:
                self._pool.leave(self)

    def is_meant(self, now_ns: int) -> bool:
        """Tell by the server's SETTINGS: it sends none to a client that it turns away."""
        del now_ns
        return self._is_joined

    def close(self) -> None:
        """Close as soon as nothing is in flight; nothing more is begun on it."""
        self.is_leaving = True
        self._is_usual = False
        self.room = 0
        self._unpark()
        if not self.in_flight:
            self._retire()

    def expire_overdue(self, now_ns: int) -> None:
        """Give up the requests that have taken too long, and ask a silent server for a sign."""
        overdue = []
        for stream_id, (_, _, task, flight) in self._http2.streams.records.items():
            waited_ns = now_ns - flight.sent_ns
            if waited_ns < self._shortest_timeout_ns:
                break  # all behind it left later
            if waited_ns >= task.timeout_ns:
                overdue.append(stream_id)
        for stream_id in overdue:
            size = self._http2.streams.received_bytes(stream_id)
            record = self._http2.cancel(stream_id)
            waited_ms = (now_ns - record[3].sent_ns) // 1_000_000
            text = f"no complete response after {waited_ms} ms"
            self._end(record, Failure(Count.FAILED, TIMEOUT, text), now_ns, size)
        is_silent = self._keepalive_ns and now_ns - self._received_ns >= self._keepalive_ns
        if is_silent and not self._ask(now_ns):
            return
        if overdue or is_silent:
            self._settle(len(overdue), now_ns)

    def _ask(self, now_ns: int) -> bool:
        """Send a PING, unless one is unanswered; False when that took too long."""
        http2 = self._http2
        if self._pinged_ns > self._received_ns:
            if now_ns - self._pinged_ns >= _PING_PATIENCE_NS:
                text = "no answer to a keepalive PING"
                self._drop_all(Failure(Count.FAILED, TIMEOUT, text), now_ns)
                self._retire()
                return False
        elif now_ns > self._received_ns:
            http2.ping()
            self._pinged_ns = now_ns
        return True

    def _drop_all(self, failure: Failure, now_ns: int) -> None:
        """End every request in flight."""
        for stream_id in list(self._http2.streams.records):
            record, size = self._forget(stream_id)
            self._end(record, failure, now_ns, size)

    def _forget(self, stream_id: int) -> tuple[Record, int]:
        """Take a stream out; its record, and the bytes that came for it."""
        streams = self._http2.streams
        size = streams.received_bytes(stream_id)
        return streams.forget(stream_id), size

    def _lose(self, error: Exception | None) -> None:
        """The connection has ended: so have all its requests."""
        now_ns = monotonic_ns()
        if now_ns >= self._traffic.alarm_ns:
            self._traffic.on_alarm(now_ns)
        text = str(error) if error is not None else "connection closed by the server"
        for stream_id in list(self._http2.streams.records):
            record, size = self._forget(stream_id)
            kind = kind_of_loss(error, has_response_bytes=size > 0)
            self._end(record, Failure(Count.FAILED, kind, text), now_ns, size)
        self._retire()

    def _retire(self) -> None:
        """Close once, and tell the pool."""
        if not self.is_open:
            return
        self.is_open = False
        self.is_leaving = True
        self._is_usual = False
        self.room = 0
        if self._waker is not None:
            self._waker.cancel()
        if self._transport is not None:
            self._transport.abort()
        if self._greeting is not None and not self._greeting.done():
            self._greeting.set_exception(self._no_greeting())
        self._unpark()
        if self._is_joined:
            self._pool.lost(self, was_idle=False)

    # asyncio calls these once each; the dialer waits for the greeting between them

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport and the quickest way to send; greet."""
        self._transport = cast("asyncio.Transport", transport)
        if self._socket is not None:
            self._send = self._socket.send
        self.is_open = True
        self._received_ns = monotonic_ns()
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() != "h2":  # RFC 9113, 3.2
            self._is_unwanted = True
            self._retire()
            return
        self._http2.greet()
        self._write()

    def _no_greeting(self) -> NoGreeting:
        if self._is_unwanted:
            return NoGreeting(TLS, "the server did not choose h2 (ALPN)")
        if self._http2.fault is not None:
            return NoGreeting(PROTOCOL, self._http2.fault)
        return NoGreeting(CLOSED, "closed before the server's SETTINGS came")

    async def wait_greeted(self) -> None:
        """Wait for the server's SETTINGS: only they tell how many streams it takes (6.5.2)."""
        if not self._http2.is_greeted:
            if not self.is_open:
                raise self._no_greeting()
            self._greeting = asyncio.get_running_loop().create_future()
            try:
                await self._greeting
            finally:
                self._greeting = None

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is closed, by the other side unless we retired it."""
        if self.is_open:
            self._lose(exc)


def _unexpected(head: Head, *, is_grpc: bool) -> Failure:
    """What an answer with another status than expected counts as."""
    if is_grpc:
        text = f"gRPC code {head.code}: {head.message}" if head.message else f"gRPC {head.code}"
        return Failure(count_of_code(head.code), kind_of_code(head.code), text)
    text = f"status {head.status}"
    return Failure(count_of_status(head.status), kind_of_status(head.status), text)
