"""One HTTP/2 connection with many requests in flight: the hot path of HTTP/2 and gRPC.

`Http2` knows the protocol, `StreamOutcomes` what an end counts as; this is their I/O, their
clock and their place in the pool. Requests that one turn hands over are collected and leave
together, in one `send`: *sent* is taken right before that call and holds for all of them. A
read's answers are *done* when the read came. Both are the moments at which the bytes crossed
to the kernel and from it.

The pool holds the connection among its free ones, once, while it has room for a stream.
GOAWAY, or the end of stream ids, takes it out: it finishes what is under way and closes.

The law: each request begun ends exactly once, in an outcome or in flight at stop. What is
done for every request stands here in few functions: a call more on its way costs 2 % of it.
"""

from __future__ import annotations

import asyncio
from time import monotonic_ns
from typing import TYPE_CHECKING, Final, cast

from loadtests.engine.exchange import Unsent
from loadtests.engine.frames import MOST_STREAM_ID
from loadtests.engine.greeting import Greeting
from loadtests.engine.grpc import Failure
from loadtests.engine.http2 import Http2
from loadtests.engine.listener import Listener
from loadtests.engine.outlet import Outlet
from loadtests.engine.stream_outcomes import StreamOutcomes
from loadtests.engine.talks import Talks
from loadtests.record.error_kinds import PROTOCOL, TIMEOUT, TLS
from loadtests.record.window import Count

if TYPE_CHECKING:  # the pool makes connections; they only know its face
    import socket

    from loadtests.engine.multiplexed_pool import MultiplexedPool
    from loadtests.engine.task import Parcel, Task
    from loadtests.engine.traffic import Traffic

_PING_PATIENCE_NS: Final = 20_000_000_000  # gRPC's default keepalive timeout
_FEW_IDS: Final = MOST_STREAM_ID - (1 << 20)  # from here on their number bounds the room


class MultiplexedConnection(Listener):
    """A connection of a pool that takes up to `streams` requests at a time, or fewer if told."""

    __slots__ = (
        "_greeting",
        "_http2",
        "_is_joined",
        "_is_parked",
        "_is_usual",
        "_keepalive_ns",
        "_log_lag",
        "_log_ok",
        "_log_received",
        "_log_response",
        "_log_sent",
        "_log_service",
        "_outcomes",
        "_outlet",
        "_passed",
        "_pinged_ns",
        "_pool",
        "_received_ns",
        "_streams",
        "_talks",
        "_traffic",
        "_unsent",
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
        self._outlet = Outlet(own)  # None under TLS: the bytes must go through the transport
        self._http2 = http2 = Http2(traffic.limit_bytes)
        self._outcomes = StreamOutcomes(http2, traffic, shortest_timeout_ns=shortest_timeout_ns)
        self._talks = Talks(http2, traffic.recorder, self._write)
        self._greeting = Greeting()
        self._passed = http2.ended.passed
        self._streams, self._keepalive_ns = streams, keepalive_ns
        self._unsent: list[Unsent] = []
        # Requests that may be begun now; below 0 when the server has lowered what it takes.
        self.room = 0
        self._is_joined = False  # the pool's; before that nothing is begun on it
        self._is_parked = False  # among the pool's free ones
        self._is_usual = False  # joined, not leaving, far from the end of stream ids
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
            if len(unsent) < self._pool.turn:  # the next one comes here, too
                self._pool.free.appendleft(self)
            else:
                self._pool.free.append(self)

    def begin_part(self, parcels: list[Parcel]) -> None:
        """Take requests that are due, to leave with the next `flush`; there must be room for all.

        The pool has taken this connection from the front of its free ones.
        """
        if not self._unsent:
            self._traffic.unsent.append(self)
        self._unsent += parcels  # type: ignore[arg-type]  # as above
        self._traffic.sent += len(parcels)
        self.room -= len(parcels)
        self._is_parked = self.room > 0
        if self._is_parked:
            self._pool.free.append(self)

    def begin_many(self, parcels: list[Parcel]) -> None:
        """Take requests of users whose last answers came here; there must be room for all."""
        if parcels:
            if not self._unsent:
                self._traffic.unsent.append(self)
            self._unsent += parcels  # type: ignore[arg-type]  # as above
            self._traffic.sent += len(parcels)
            self.room -= len(parcels)
        if self.room > 0:
            self.park()
        elif self._is_parked:
            self._unpark()

    def send_next(self, parcels: list[Parcel]) -> None:
        """Send the one request of a user whose last answer came here; there must be room."""
        self._traffic.sent += 1
        self.room -= 1
        self._send(parcels)  # type: ignore[arg-type]  # as above

    def flush(self) -> None:
        """Send all that has been begun, and what the protocol has to say, at once."""
        batch = self._unsent
        if batch:
            self._unsent = []
            pool = self._pool
            if len(batch) < pool.turn and self._is_parked and pool.free[0] is self:
                pool.free.rotate(-1)  # it stayed in front for more of the same moment
            self._send(batch)
        else:
            self._write()

    def _send(self, batch: list[Unsent]) -> None:
        sender, traffic, outlet = self._http2.sender, self._traffic, self._outlet
        flight = [0]
        codes = sender.send(batch, flight)
        output = sender.output
        data = b"".join(output)
        output.clear()
        error = None
        flight[0] = sent_ns = monotonic_ns()
        try:
            taken = outlet.send(data)
        except OSError as caught:
            error = outlet.failed(caught, data)
        else:
            if taken != len(data):
                outlet.leave(data[taken:])
        traffic.sent_at_ns += sent_ns * len(codes)
        if len(codes) == 1:  # not worth the lists
            self._log_sent(codes[0])
            self._log_lag(0 if traffic.is_closed else sent_ns - batch[0][0])
        elif traffic.is_closed:
            traffic.recorder.log_many_sent(codes, [0] * len(codes))
        else:
            lags = [sent_ns - unsent[0] for unsent in batch]
            traffic.recorder.log_many_sent(codes, lags)
        if sender.opened:
            self._talks.open(sent_ns)
        if sender.next_id > _FEW_IDS:
            self._is_usual = False
        if error is not None:
            self._lose(error)

    def _write(self) -> None:
        """Send what the protocol has to say."""
        output = self._http2.sender.output
        if output:
            data = b"".join(output)
            output.clear()
            error = self._outlet.push(data)
            if error is not None:
                self._lose(error)

    # Receiving

    def data_received(self, data: bytes) -> None:
        """Take the frames of one read, end what they end, begin what may then begin."""
        done_ns = monotonic_ns()
        traffic, http2, passed = self._traffic, self._http2, self._passed
        if done_ns >= traffic.alarm_ns:
            traffic.on_alarm(done_ns)
        self._received_ns = done_ns
        http2.receive(data)
        ended = len(passed)
        if ended == 1:  # not worth the lists of `take_passed`
            due_ns, code, _, (sent_ns,) = passed.pop()
            self._log_ok(code)
            self._log_response(done_ns - (sent_ns if traffic.is_closed else due_ns))
            self._log_service(done_ns - sent_ns)
            self._log_received(http2.ended.passed_bytes.pop())
            traffic.ok += 1
            traffic.done_at_ns += done_ns
        elif ended:
            self._outcomes.take_passed(done_ns)
        if http2.has_news or not self._is_usual:
            http2.has_news = False
            if http2.ended.heard:
                self._talks.hear(done_ns)
            self._settle(ended + self._outcomes.take_news(done_ns), done_ns)
        elif ended:
            self.room += ended
            self._pool.settled(self, ended, done_ns)
            if traffic.unsent:
                traffic.flush()
        if http2.sender.output:  # answers to pings and the like that no request took along
            self._write()
        if done_ns >= traffic.due_ns:
            traffic.on_due(done_ns)

    def _settle(self, ended: int, now_ns: int) -> None:
        """After any change: greet, leave, close, or begin what waits; then send."""
        http2, sender = self._http2, self._http2.sender
        if http2.fault is not None:
            self._write()
            self._outcomes.drop_all(Failure(Count.FAILED, PROTOCOL, http2.fault), now_ns)
            self._greeting.fail(PROTOCOL, http2.fault)
            self._retire()
            return
        in_flight = self.in_flight
        self.room = min(self.capacity - in_flight, sender.ids_left)
        if http2.is_leaving or not sender.ids_left:
            self._leave()
        if self.is_leaving:
            self.room = 0
        self._is_usual = self._is_joined and not self.is_leaving and sender.next_id <= _FEW_IDS
        if http2.is_greeted and not self._greeting.is_done:
            self._greeting.come()
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

    # In the pool

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

    # Ending

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
        overdue = self._outcomes.expire(now_ns)
        is_silent = self._keepalive_ns and now_ns - self._received_ns >= self._keepalive_ns
        if is_silent and not self._ask(now_ns):
            return
        if overdue or is_silent:
            self._settle(overdue, now_ns)

    def _ask(self, now_ns: int) -> bool:
        """Send a PING, unless one is unanswered; False when that took too long."""
        if self._pinged_ns > self._received_ns:
            if now_ns - self._pinged_ns >= _PING_PATIENCE_NS:
                text = "no answer to a keepalive PING"
                self._outcomes.drop_all(Failure(Count.FAILED, TIMEOUT, text), now_ns)
                self._retire()
                return False
        elif now_ns > self._received_ns:
            self._http2.ping()
            self._pinged_ns = now_ns
        return True

    def _lose(self, error: Exception | None) -> None:
        """The connection has ended: so have all its requests."""
        now_ns = monotonic_ns()
        if now_ns >= self._traffic.alarm_ns:
            self._traffic.on_alarm(now_ns)
        self._outcomes.lose_all(error, now_ns)
        self._retire()

    def discard_unsent(self) -> None:
        """Let nothing arrive once this process has ended."""
        self._outlet.discard_unsent()

    def _retire(self) -> None:
        """Close once, and tell the pool."""
        if not self.is_open:
            return
        self.is_open = False
        self.is_leaving = True
        self._is_usual = False
        self.room = 0
        self._talks.stop()
        self._outlet.close()
        if not self._greeting.is_done:
            self._greeting.fail()
        self._unpark()
        if self._is_joined:
            self._pool.lost(self, was_idle=False)

    # asyncio calls these once each; the dialer waits for the greeting between them

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport and the quickest way to send; greet."""
        self._outlet.open(cast("asyncio.Transport", transport))
        self.is_open = True
        self._received_ns = monotonic_ns()
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() != "h2":  # RFC 9113, 3.2
            self._greeting.fail(TLS, "the server did not choose h2 (ALPN)")
            self._retire()
            return
        self._http2.greet()
        self._write()

    async def wait_greeted(self) -> None:
        """Wait for the server's SETTINGS; NoGreeting when it does not speak HTTP/2."""
        await self._greeting.wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is closed, by the other side unless we retired it."""
        if self.is_open:
            self._lose(exc)
