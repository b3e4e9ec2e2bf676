"""Processes that do not outlive their parent: prctl(2), PR_SET_PDEATHSIG.

The signal comes when the parent's *thread* that started the process ends, and again when each
thread ends that the kernel made the parent after it: when a process of several threads is killed,
any number of times. A child that ends in order is therefore sent SIGHUP, which may be repeated
(`swarm/interrupt.py`). It does not come at all when the parent was dead before the request: so
whoever must know asks who its parent is afterwards.
"""

from __future__ import annotations

import ctypes
import os
import signal
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None)  # loaded here: a child between fork and exec must not load


def follow_parent(number: signal.Signals = signal.SIGKILL) -> None:
    """Have this process sent a signal when its parent dies.

    One that it was told to ignore, as `nohup` does for all below it, would change nothing: it
    acts by default again.
    """
    if number != signal.SIGKILL and signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)
    _LIBC.prctl(_PR_SET_PDEATHSIG, number)


def lives_with(parent_pid: int, number: signal.Signals = signal.SIGKILL) -> bool:
    """The same; False when that parent is dead already, and no signal will come."""
    follow_parent(number)
    return os.getppid() == parent_pid
