"""How the requests of one HTTP/2 connection end, and what each end counts as.

An answer is held against its status and the checks of its task, a failure against its
deadline; what the connection itself ends (time-outs, its loss) is counted here as well.
Times are in ns, handed in.

The law: a stream is counted once, when it is taken out of the connection's streams.
"""

from __future__ import annotations

from loadtests.engine.exchange import Record
from loadtests.engine.grpc import Failure, count_of_code, kind_of_code
from loadtests.engine.http2 import Http2
from loadtests.engine.outcome import count_of_status, kind_of_loss, kind_of_status
from loadtests.engine.recorder import SLOT_MASK
from loadtests.engine.response_heads import Head
from loadtests.engine.traffic import Traffic
from loadtests.record.error_kinds import CANCELLED_BY_PEER, CHECK, TIMEOUT
from loadtests.record.window import Count


class StreamOutcomes:
    """Classifies what ends on a connection and counts it in the traffic of the engine."""

    __slots__ = ("_http2", "_shortest_timeout_ns", "_traffic")

    def __init__(self, http2: Http2, traffic: Traffic, *, shortest_timeout_ns: int) -> None:
        self._http2, self._traffic = http2, traffic
        self._shortest_timeout_ns = shortest_timeout_ns

    # What the peer has ended

    def take_passed(self, done_ns: int) -> None:
        """Count the ordinary answers, which their status alone makes ok."""
        ended, traffic = self._http2.ended, self._traffic
        records = ended.passed
        services = [done_ns - record[3][0] for record in records]
        codes = [record[1] for record in records]
        # In closed load a request is meant for the time at which it leaves.
        responses = services if traffic.is_closed else [done_ns - record[0] for record in records]
        traffic.recorder.log_many_ok(codes, responses, services, ended.passed_bytes)
        traffic.ok += len(records)
        traffic.done_at_ns += done_ns * len(records)
        records.clear()
        ended.passed_bytes.clear()

    def take_news(self, done_ns: int) -> int:
        """Count all other ends; how many they were."""
        ended = self._http2.ended
        count = len(ended.answers) + len(ended.failures)
        for record, head, body, size in ended.answers:
            self._judge(record, head, body, size, done_ns)
        ended.answers.clear()
        for record, failure, size in ended.failures:
            is_late = done_ns - record[3][0] >= record[2].timeout_ns
            if failure.kind == CANCELLED_BY_PEER and is_late:
                # The deadline was sent along: a server that keeps it resets the stream.
                text = "the server gave up at the deadline"
                self._end(record, Failure(Count.FAILED, TIMEOUT, text), done_ns, size)
            else:
                self._end(record, failure, done_ns, size)
        ended.failures.clear()
        return count

    def _judge(self, record: Record, head: Head, body: bytes, size: int, done_ns: int) -> None:
        """Classify an answer of `size` bytes."""
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
            due_ns = flight[0]
        services = [done_ns - flight[0]]
        self._traffic.recorder.log_many_ok([code], [done_ns - due_ns], services, [size])
        self._traffic.ok += 1
        self._traffic.done_at_ns += done_ns
        if self._traffic.recorder.writes is not None:
            self._traffic.recorder.writes.ended_ok(code & SLOT_MASK, due_ns)

    # What we end

    def expire(self, now_ns: int) -> int:
        """Give up the requests that have taken too long; how many they were."""
        streams, overdue = self._http2.streams, []
        for stream_id, (_, _, task, flight) in streams.records.items():
            waited_ns = now_ns - flight[0]
            if waited_ns < self._shortest_timeout_ns:
                break  # all behind it left later
            if waited_ns >= task.timeout_ns:
                overdue.append(stream_id)
        for stream_id in overdue:
            size = streams.received_bytes(stream_id)
            record = self._http2.cancel(stream_id)
            waited_ms = (now_ns - record[3][0]) // 1_000_000
            text = f"no complete response after {waited_ms} ms"
            self._end(record, Failure(Count.FAILED, TIMEOUT, text), now_ns, size)
        return len(overdue)

    def drop_all(self, failure: Failure, now_ns: int) -> None:
        """End every request in flight for a reason of the connection's."""
        for stream_id in list(self._http2.streams.records):
            record, size = self._forget(stream_id)
            self._end(record, failure, now_ns, size)

    def lose_all(self, error: Exception | None, now_ns: int) -> None:
        """The connection has ended, and with it every request in flight."""
        text = str(error) if error is not None else "connection closed by the server"
        for stream_id in list(self._http2.streams.records):
            record, size = self._forget(stream_id)
            kind = kind_of_loss(error, has_response_bytes=size > 0)
            self._end(record, Failure(Count.FAILED, kind, text), now_ns, size)

    def _forget(self, stream_id: int) -> tuple[Record, int]:
        """Take a stream out; its record, and the bytes that came for it."""
        streams = self._http2.streams
        size = streams.received_bytes(stream_id)
        return streams.forget(stream_id), size

    def _end(self, record: Record, failure: Failure, done_ns: int, received_bytes: int) -> None:
        """Count a request that did not end ok."""
        due_ns, code, _, flight = record
        self._traffic.end(
            code,
            failure.counts_as,
            kind=failure.kind,
            message=failure.text,
            due_ns=flight[0] if self._traffic.is_closed else due_ns,
            sent_ns=flight[0],
            done_ns=done_ns,
            received_bytes=received_bytes,
        )


def _unexpected(head: Head, *, is_grpc: bool) -> Failure:
    """What an answer with another status than expected counts as."""
    if is_grpc:
        text = f"gRPC code {head.code}: {head.message}" if head.message else f"gRPC {head.code}"
        return Failure(count_of_code(head.code), kind_of_code(head.code), text)
    text = f"status {head.status}"
    return Failure(count_of_status(head.status), kind_of_status(head.status), text)
