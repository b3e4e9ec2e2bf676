"""The clock protocol.

Durations, leases and pacing use the monotonic clock alone; the wall clock only labels
windows and archives. Pure code takes a `Clock`, so that simulations hand in their own.
"""

from __future__ import annotations

import time
from typing import Protocol

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000
NS_PER_US = 1_000


class Clock(Protocol):
    """Two readings in integer nanoseconds."""

    def monotonic_ns(self) -> int:
        """CLOCK_MONOTONIC of this host: never steps, comparable between its processes."""
        ...

    def unix_ns(self) -> int:
        """UTC as a label; may step."""
        ...


class SystemClock:
    """The clocks of this host."""

    def monotonic_ns(self) -> int:
        """Read CLOCK_MONOTONIC."""
        return time.monotonic_ns()

    def unix_ns(self) -> int:
        """Read CLOCK_REALTIME."""
        return time.time_ns()
