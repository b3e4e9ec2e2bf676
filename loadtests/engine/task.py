"""What a connection must know of a request to send it and judge its answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from loadtests.engine.http1 import Expected
from loadtests.plan.call import CallShape, Compression
from loadtests.plan.model import Check


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """A request of the plan; over gRPC the statuses are gRPC codes."""

    index: int
    expected_statuses: frozenset[int]
    unchecked_statuses: frozenset[int]  # of them, those that alone make a response ok
    checks: tuple[Check, ...]
    timeout_ns: int
    expected: Expected


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Messages:
    """The gRPC side of a request: how many messages go and come on its stream."""

    shape: CallShape
    count: int  # messages sent on one stream
    pace_ns: int  # between two of them
    compression: Compression

    @property
    def is_stream(self) -> bool:
        """True where one side at least may say more than one message."""
        return self.shape is not CallShape.UNARY

    @property
    def has_one_answer(self) -> bool:
        """True where the server owes exactly one message."""
        return self.shape in (CallShape.UNARY, CallShape.CLIENT_STREAM)


@dataclass(frozen=True, slots=True, eq=False)
class StreamTask(Task):
    """A request that travels on a stream of an HTTP/2 connection to one node.

    `fields` is its head, where that never changes; else its block comes before the body in
    every payload, behind its length as 4 bytes.
    """

    fields: tuple[tuple[bytes, bytes], ...] | None
    is_grpc: bool
    keeps_body: bool
    examine: Callable[[bytes], str | None] | None  # of a body or message: what does not hold
    messages: Messages | None  # None: no gRPC


# What is sent for one arrival: its intended time (CLOCK_MONOTONIC ns; 0 in closed load, where
# it is the time of sending), its code (size and slot, see recorder), its task, its bytes.
Parcel = tuple[int, int, Task, bytes]
