"""A bare ticker: how late this host wakes a process that does nothing else.

Runs as its own tiny process (`python -m loadtests.engine.ticker`), one a host, and sleeps
to absolute deadlines one millisecond apart. Once a window it writes how late it woke, so
that a stolen virtual CPU can be told apart from a slow engine (the idea of jHiccup).
A deadline that passed while the process was held up is still counted with its lateness:
a stall of 50 ms shows as 50 late ticks, not as one.

It imports nothing but the standard library, holds no sockets, and ends when its standard
output closes or its parent dies. Standard output: one `REPORT` struct per window, labels
as engines make them, `floor((t0_unix_ns + (t - t0_ns)) / 1 s)`.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import struct
import sys
import time
from collections.abc import Sequence
from typing import Final

TICK_NS: Final = 1_000_000
REPORT: Final = struct.Struct("<qIqqq")  # start_s, ticks, p50_ns, p99_ns, max_ns

_NS_PER_S: Final = 1_000_000_000
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_TIMERSLACK: Final = 29  # the kernel may delay a timer by 50 us unless told otherwise


def summarise(start_s: int, lateness_ns: Sequence[int]) -> bytes:
    """Pack one window's report; rank of quantile q is ceil(q * n)."""
    ordered = sorted(lateness_ns)
    n = len(ordered)

    def rank(percent: int) -> int:
        return ordered[-(-percent * n // 100) - 1]

    return REPORT.pack(start_s, n, rank(50), rank(99), ordered[-1])


def _prepare(parent_pid: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is the master's to act on
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    libc.prctl(_PR_SET_TIMERSLACK, 1)
    if os.getppid() != parent_pid:  # died before prctl: no signal will come
        sys.exit(0)


def run(t0_ns: int, t0_unix_ns: int, write_fd: int) -> None:
    """Tick until nobody reads any more."""
    to_unix_ns = t0_unix_ns - t0_ns
    deadline_ns = time.monotonic_ns()
    window_s = (deadline_ns + to_unix_ns) // _NS_PER_S
    lateness_ns: list[int] = []
    while True:
        deadline_ns += TICK_NS
        ahead_ns = deadline_ns - time.monotonic_ns()
        if ahead_ns > 0:
            time.sleep(ahead_ns / _NS_PER_S)
        label_s = (deadline_ns + to_unix_ns) // _NS_PER_S
        if label_s != window_s and lateness_ns:
            try:
                os.write(write_fd, summarise(window_s, lateness_ns))
            except OSError:
                return
            lateness_ns.clear()
        window_s = label_s
        lateness_ns.append(max(0, time.monotonic_ns() - deadline_ns))


def main() -> None:
    """Parse the anchor of the windows and tick."""
    parser = argparse.ArgumentParser(prog="loadtests.engine.ticker")
    parser.add_argument("--t0-ns", type=int, required=True)
    parser.add_argument("--t0-unix-ns", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    options = parser.parse_args()
    _prepare(options.parent)
    run(options.t0_ns, options.t0_unix_ns, sys.stdout.fileno())


if __name__ == "__main__":
    main()
