"""The clock of windows and bins: which is open, when it ends, and a second's health record.

Labels are `floor(unix time)` computed from T0 on the monotonic clock, so a stepping wall
clock moves nothing. Every second from T0 to the end gives one window, also an empty one,
also after a stall, in order. Windows set aside are read out in small steps. The last bin of a
second ends with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from loadtests.clock import NS_PER_S
from loadtests.engine.bins import BinBook
from loadtests.engine.recorder import Closing, Recorder
from loadtests.engine.traffic import NEVER_NS, Traffic
from loadtests.record.bins import BIN_NS, TICK_NS, TICKS_PER_BIN
from loadtests.record.window import EngineHealth, Window

_ROUNDS_PER_LOOK: Final = 5  # streams in use are counted every 50 ms: it costs 1 us a connection


class WindowClock:
    """Closes windows of one engine; `emit` gets each finished one in order."""

    __slots__ = (
        "_begun_ns",
        "_bins",
        "_closing",
        "_cpu_ns",
        "_emit",
        "_engine",
        "_integral_ns",
        "_label",
        "_looks",
        "_recorder",
        "_rounds",
        "_streams",
        "_streams_in_use",
        "_tick",
        "_traffic",
        "bin_ends_ns",
        "connections",
        "ends_ns",
        "last_round_ns",
        "longest_gap_ns",
    )

    def __init__(
        self,
        engine: str,
        recorder: Recorder,
        traffic: Traffic,
        *,
        connections: Callable[[], int],
        streams: Callable[[], tuple[int, int]],
        emit: Callable[[Window], None],
        bins: BinBook | None = None,
    ) -> None:
        self._bins = bins
        self._tick = 0  # at which the open bin began
        self._engine, self._recorder, self._traffic = engine, recorder, traffic
        self._emit = emit
        self.connections = connections
        self._streams = streams
        self._streams_in_use = self._looks = self._rounds = 0  # sum of what was seen, how often
        self._closing: Closing | None = None
        self._label = 0
        self.ends_ns = self.bin_ends_ns = NEVER_NS
        self._begun_ns = self._cpu_ns = self._integral_ns = 0
        self.last_round_ns = self.longest_gap_ns = 0

    def begin(self, t0_ns: int, t0_unix_ns: int) -> None:
        """Open the window that holds T0."""
        self._label = t0_unix_ns // NS_PER_S
        self._begun_ns = t0_ns
        self.ends_ns = t0_ns + NS_PER_S - t0_unix_ns % NS_PER_S
        if self._bins is not None:
            self._bins.begin(t0_unix_ns - t0_ns)
            self.bin_ends_ns = t0_ns + BIN_NS - t0_unix_ns % BIN_NS
            self._tick = (t0_unix_ns - t0_unix_ns % BIN_NS) // TICK_NS
        self._cpu_ns = time.process_time_ns()
        self._integral_ns = self._traffic.in_flight_integral_ns(t0_ns)
        self.last_round_ns = time.monotonic_ns()
        self.longest_gap_ns = 0

    def came_round(self, now_ns: int, nominal_ns: int) -> None:
        """Note that the loop has come round; `nominal_ns` after the last time was expected."""
        gap_ns = now_ns - self.last_round_ns - nominal_ns
        self.longest_gap_ns = max(self.longest_gap_ns, gap_ns)
        self.last_round_ns = now_ns
        self._rounds += 1
        if self._rounds % _ROUNDS_PER_LOOK == 1:
            self._streams_in_use += self._streams()[0]
            self._looks += 1

    @property
    def edge_ns(self) -> int:
        """When the open bin ends, or the open window where there are no bins."""
        return min(self.bin_ends_ns, self.ends_ns)

    def cut(self) -> None:
        """End the open bin."""
        if self._bins is not None:
            self._recorder.cut(self._tick)
            self._tick += TICKS_PER_BIN
            self.bin_ends_ns += BIN_NS

    def close(self, end_ns: int) -> None:
        """Close the open window at `end_ns` and open the next one."""
        self.cut()
        self.finish_pending()
        health = self._health(end_ns)
        self._closing = self._recorder.close(self._label, health)
        self._begun_ns = end_ns
        self._label += 1
        self.ends_ns += NS_PER_S

    def _health(self, end_ns: int) -> EngineHealth:
        traffic = self._traffic
        cpu_ns, integral_ns = time.process_time_ns(), traffic.in_flight_integral_ns(end_ns)
        health = EngineHealth(
            engine=self._engine,
            wall_ns=end_ns - self._begun_ns,
            cpu_ns=cpu_ns - self._cpu_ns,
            in_flight=traffic.in_flight,
            in_flight_ns=integral_ns - self._integral_ns,
            backlog=traffic.backlog_size,
            connections=self.connections(),
            stalled_ns=max(0, self.longest_gap_ns),
            streams=self._streams()[1],
            streams_in_use=-(-self._streams_in_use // max(1, self._looks)),
        )
        self._streams_in_use = self._looks = self._rounds = 0
        self._cpu_ns, self._integral_ns = cpu_ns, integral_ns
        self.longest_gap_ns = 0
        return health

    def step(self) -> None:
        """Read out a part of the window set aside, if there is one."""
        if self._closing is not None:
            self._done(self._closing.step())

    def finish_pending(self) -> None:
        """Read out all of the window set aside."""
        if self._closing is not None:
            self._done(self._closing.finish())

    def _done(self, window: Window | None) -> None:
        if window is not None:
            self._closing = None
            self._emit(window)
