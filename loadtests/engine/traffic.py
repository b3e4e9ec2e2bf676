"""What all connections of an engine share: totals, caps, the next alarm.

The totals are plain integers, kept beside the recorder's buffers and never derived from
them: at the end both must agree, to the request. `sent_at_ns` and `done_at_ns` are sums of
the times of the events; requests in flight integrated over time follow from them without
any latency (Little's law can thus catch a latency that was recorded wrongly).
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic_ns
from typing import Protocol

from loadtests.engine.gate import Gate
from loadtests.engine.http1 import HeadMemo
from loadtests.engine.recorder import SLOT_MASK, Recorder
from loadtests.record.error_kinds import kind_of_unsent
from loadtests.record.window import Count

NEVER_NS = 1 << 62


class Flushing(Protocol):
    """A connection that sends several requests at once."""

    def flush(self) -> None:
        """Send what has been begun."""


class Traffic:
    """Shared state of the hot path; every field is read or written per request."""

    __slots__ = (
        "alarm_ns",
        "backlog_limit",
        "backlog_size",
        "client_error",
        "done_at_ns",
        "dropped",
        "due_ns",
        "failed",
        "gate",
        "heads",
        "in_flight_limit",
        "is_closed",
        "is_sending",
        "limit_bytes",
        "ok",
        "on_alarm",
        "on_due",
        "planned",
        "recorder",
        "sent",
        "sent_at_ns",
        "unsent",
    )

    def __init__(
        self,
        recorder: Recorder,
        *,
        gate: Gate | None,
        in_flight_limit: int,
        backlog_limit: int,
        limit_bytes: int,
        is_closed: bool = False,
    ) -> None:
        self.recorder = recorder
        self.gate = gate
        self.heads = HeadMemo()
        self.in_flight_limit, self.backlog_limit = in_flight_limit, backlog_limit
        self.limit_bytes = limit_bytes
        self.is_closed = is_closed  # load model: intended times are those of sending
        self.planned = self.sent = self.dropped = 0
        self.ok = self.client_error = self.failed = 0
        self.sent_at_ns = self.done_at_ns = 0
        self.backlog_size = 0
        self.unsent: list[Flushing] = []  # connections that hold requests back for one send
        self.is_sending = False  # from T0 until stop, plan end or a stale lease
        # Two times that the hot path compares with: a window or lease ends; arrivals are due.
        self.alarm_ns = self.due_ns = NEVER_NS
        self.on_alarm: Callable[[int], None] = _ignore
        self.on_due: Callable[[int], object] = _ignore

    def flush(self) -> None:
        """Send what multiplexed connections have collected: whoever begins requests calls it."""
        unsent = self.unsent
        if unsent:
            # No window may end here: what is begun but has not left has no time of sending yet.
            alarm_ns, self.alarm_ns = self.alarm_ns, NEVER_NS
            while unsent:
                unsent.pop().flush()
            self.alarm_ns = alarm_ns
        gate = self.gate
        if gate is not None:
            gate.wrote(monotonic_ns())

    @property
    def in_flight(self) -> int:
        """Requests sent and unanswered."""
        return self.sent - self.ok - self.client_error - self.failed

    def permitted(self, wanted: int, now_ns: int) -> int:
        """How many of so many requests may be begun now; the rate ceiling counts them."""
        if self.in_flight_limit < NEVER_NS:
            wanted = max(0, min(wanted, self.in_flight_limit - self.in_flight))
        return wanted if self.gate is None else self.gate.take_many(now_ns, wanted)

    def in_flight_integral_ns(self, now_ns: int) -> int:
        """Integral of requests in flight over time from the beginning until now.

        sum over sent (now - sent_i) - sum over done (now - done_i).
        """
        return self.in_flight * now_ns - self.sent_at_ns + self.done_at_ns

    def drop(self, code: int) -> None:
        """Shed one arrival."""
        self.dropped += 1
        self.recorder.dropped(code & SLOT_MASK)

    def end(
        self,
        code: int,
        count: Count,
        *,
        kind: str,
        message: str,
        due_ns: int,
        sent_ns: int,
        done_ns: int,
        received_bytes: int,
    ) -> None:
        """Count a request that ended as client_error or failed."""
        if count is Count.FAILED:
            self.failed += 1
        else:
            self.client_error += 1
        self.done_at_ns += done_ns
        if self.recorder.writes is not None:
            self.recorder.writes.ended_badly(code & SLOT_MASK, due_ns, kind)
        self.recorder.not_ok(
            code,
            count,
            kind=kind,
            message=message,
            due_ns=due_ns,
            response_ns=done_ns - due_ns,
            service_ns=done_ns - sent_ns,
            received_bytes=received_bytes,
        )

    def fail_unsent(self, code: int, *, kind: str, message: str, due_ns: int, now_ns: int) -> None:
        """Count an arrival that could not reach a connection: an attempt that failed now.

        It counts as sent, so that both conservation laws hold, but no byte left: its kind
        is one of those that say so.
        """
        slot = code & SLOT_MASK
        self.sent += 1
        self.sent_at_ns += now_ns
        self.recorder.log_sent(slot)
        self.recorder.log_lag(now_ns - due_ns)
        self.end(
            slot,
            Count.FAILED,
            kind=kind_of_unsent(kind),
            message=message,
            due_ns=due_ns,
            sent_ns=now_ns,
            done_ns=now_ns,
            received_bytes=0,
        )


def _ignore(_now_ns: int) -> None:
    """Nothing is planned yet."""
