"""Callbacks at exact times on the event loop: a heap of deadlines behind one timerfd.

Loop timers tick in whole milliseconds. A timerfd fires on the nanosecond that it was set to,
but an idle virtual CPU wakes up late (here: median 0.13 ms, 90th percentile 0.23 ms). So the
timer is set `LEAD_NS` early and the loop then polls, serving its sockets, until the deadline
is there: callbacks run some microseconds late, never early, for some CPU at each deadline.
Source: timerfd_create(2); Python has it in `os` only from 3.13 on, hence ctypes.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import heapq
import itertools
import os
from collections.abc import Callable
from time import monotonic_ns
from typing import Final

from loadtests.clock import NS_PER_S
from loadtests.errors import HarnessError

LEAD_NS: Final = 250_000
_CLOCK_MONOTONIC: Final = 1
_TFD_NONBLOCK: Final = os.O_NONBLOCK
_TFD_CLOEXEC: Final = os.O_CLOEXEC
_TFD_TIMER_ABSTIME: Final = 1


class _TimerSpec(ctypes.Structure):
    """`struct itimerspec`: interval (unused, 0) and absolute expiry."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("expiry_s", ctypes.c_long),
        ("expiry_ns", ctypes.c_long),
    )


class Deadlines:
    """Runs callbacks at monotonic times; `close()` forgets what has not run."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK | _TFD_CLOEXEC)
        if self._fd < 0:
            seen = os.strerror(ctypes.get_errno())
            raise HarnessError(where="timerfd_create", seen=seen, expected="a timer of the kernel")
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._armed_ns = 0
        self._polling = False
        self._spec = _TimerSpec()
        loop.add_reader(self._fd, self._wake)

    def at(self, due_ns: int, callback: Callable[[], None]) -> None:
        """Run `callback` on the loop once CLOCK_MONOTONIC has reached `due_ns`."""
        heapq.heappush(self._heap, (due_ns, next(self._order), callback))
        self._next()

    def close(self) -> None:
        """Free the timer."""
        self._heap.clear()  # a poll that is under way finds nothing
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    def _next(self) -> None:
        """Poll if the next deadline is near, else set the timer to shortly before it."""
        if self._polling or not self._heap:
            return
        wake_ns = self._heap[0][0] - LEAD_NS
        if wake_ns <= monotonic_ns():
            self._polling = True
            self._loop.call_soon(self._poll)
        elif not self._armed_ns or wake_ns < self._armed_ns:
            self._armed_ns = wake_ns
            self._spec.expiry_s, self._spec.expiry_ns = divmod(wake_ns, NS_PER_S)
            self._libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, ctypes.byref(self._spec), None)

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # set anew between expiry and this read
            os.read(self._fd, 8)
            self._armed_ns = 0
        self._next()

    def _poll(self) -> None:
        heap = self._heap
        while heap and heap[0][0] <= monotonic_ns():
            heapq.heappop(heap)[2]()
        self._polling = False
        self._next()
