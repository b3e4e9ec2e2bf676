"""What is said on a stream of a gRPC call: our messages and their pace, theirs and their times.

Pure: times are handed in. A call without pace hands over all its messages at once, and flow
control decides when they leave. Latencies inside of a stream are kept apart from the call's
own (`record.window.Kind`): until the head, until the first message, and of each message.
Where both sides are streams, a message is measured from ours with the same number, if we
have sent so many; all others from the message before. So an echo is measured as a round trip,
and a feed by its gaps.
"""

from __future__ import annotations

from collections import deque

from loadtests.engine.task import Messages
from loadtests.plan.call import CallShape
from loadtests.record.window import Kind

Latency = tuple[Kind, int]  # ns


class Talk:
    """One stream; `left` messages of ours are still to be handed over, the next at `due_ns`."""

    __slots__ = ("_began_ns", "_heard", "_last_ns", "_messages", "_said_ns", "due_ns", "left")

    def __init__(self, messages: Messages) -> None:
        self._messages = messages
        self.left = messages.count - 1 if messages.pace_ns else 0
        self.due_ns = self._began_ns = self._last_ns = 0
        self._heard = 0
        self._said_ns: deque[int] = deque()  # of those that no answer has met yet

    def begin(self, now_ns: int) -> None:
        """Note that the stream, and its first message, has left."""
        self._began_ns = self._last_ns = now_ns
        self.due_ns = now_ns + self._messages.pace_ns
        if self._messages.shape is CallShape.BIDIRECTIONAL:
            self._said_ns.extend([now_ns] * (self._messages.count - self.left))

    def say(self, now_ns: int) -> bool:
        """Note that one more message leaves; True when it is the last."""
        self.left -= 1
        # From the due time, not from now: a late message does not shift those behind it.
        self.due_ns += self._messages.pace_ns
        if self._messages.shape is CallShape.BIDIRECTIONAL:
            self._said_ns.append(now_ns)
        return self.left == 0

    def hear(self, count: int, now_ns: int) -> list[Latency]:
        """Take so many messages that have come; 0 means the head of the answer."""
        if not count:
            return [(Kind.STREAM_SETUP, now_ns - self._began_ns)]
        found: list[Latency] = []
        for _ in range(count):
            if not self._heard:
                found.append((Kind.FIRST_MESSAGE, now_ns - self._began_ns))
            self._heard += 1
            if self._said_ns:
                found.append((Kind.MESSAGE, now_ns - self._said_ns.popleft()))
            elif self._heard > 1:
                found.append((Kind.MESSAGE, now_ns - self._last_ns))
            self._last_ns = now_ns
        return found
