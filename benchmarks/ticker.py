"""A bare timerfd ticker: how late a program that does nothing else is woken on this core.

`python -m benchmarks.ticker SECONDS` wakes every millisecond and prints a JSON
list with the lateness of each wake-up in ns (wake-up minus the expiry that was asked
for). The send lag of the engine is read against it: what this program cannot do on this
machine, no generator can.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import time
from array import array
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.process import spawn

_CLOCK_MONOTONIC = 1
_TFD_TIMER_ABSTIME = 1
_TFD_CLOEXEC = 0o2000000
INTERVAL_NS = 1_000_000
_TICKS_PER_S = 10**9 // INTERVAL_NS
_END_S = 20.0


class _TimeSpec(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("it_interval", _TimeSpec), ("it_value", _TimeSpec))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lateness:
    """Wake-ups of one ticker, in nanoseconds; numpy's linear quantiles over all of them."""

    ticks: int
    p50_ns: int
    p99_ns: int
    max_ns: int
    p99_slices_ns: tuple[int, ...]  # of each second


def open_timer(first_ns: int, interval_ns: int) -> int:
    """Descriptor of a timerfd that expires at `first_ns` (CLOCK_MONOTONIC) and periodically."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = int(libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_CLOEXEC))
    first, interval = divmod(first_ns, 10**9), divmod(interval_ns, 10**9)
    spec = _TimerSpec(_TimeSpec(*interval), _TimeSpec(*first))
    code = libc.timerfd_settime(descriptor, _TFD_TIMER_ABSTIME, ctypes.byref(spec), None)
    if descriptor < 0 or code != 0:
        raise OSError(ctypes.get_errno(), "timerfd")
    return descriptor


def lateness_of(values_ns: list[int]) -> Lateness:
    """Summarise wake-ups; ValueError when there is none."""
    values = np.asarray(values_ns, dtype=np.int64)
    seconds = np.array_split(values, max(1, values.size // _TICKS_PER_S))
    return Lateness(
        ticks=values.size,
        p50_ns=int(np.quantile(values, 0.5)),
        p99_ns=int(np.quantile(values, 0.99)),
        max_ns=int(values.max()),
        p99_slices_ns=tuple(int(np.quantile(second, 0.99)) for second in seconds),
    )


def run_ticker(seconds: float, *, core: int, scratch: Path) -> list[int]:
    """Run the ticker as a process of its own on `core`; its lateness values in ns."""
    command = [sys.executable, "-m", "benchmarks.ticker", str(seconds)]
    with spawn("ticker", command, core=core, scratch=scratch) as child:
        return msgspec.json.decode(child.wait_success(seconds + _END_S), type=list[int])


def tick(seconds: float) -> list[int]:
    """Wake every `INTERVAL_NS` for so long; a wake-up that covers n expiries counts as n.

    The i-th of them was due i intervals earlier: a stall of 5 ms is five late ticks, as
    five requests due in it would have been five late requests.
    """
    late_ns = array("q")
    due_ns = time.monotonic_ns() + INTERVAL_NS
    end_ns = due_ns + int(seconds * 1e9)
    timer = open_timer(due_ns, INTERVAL_NS)
    gc.disable()
    try:
        while due_ns < end_ns:
            expiries = int.from_bytes(os.read(timer, 8), sys.byteorder)
            now_ns = time.monotonic_ns()
            for _ in range(expiries):
                late_ns.append(now_ns - due_ns)
                due_ns += INTERVAL_NS
    finally:
        os.close(timer)
    return late_ns.tolist()


if __name__ == "__main__":
    print(msgspec.json.encode(tick(float(sys.argv[1]))).decode())
