"""A timer of the kernel's own resolution: a loop timer rounds to 1 ms, a timerfd does not.

`os.timerfd_*` exists from Python 3.13 on; before, the same system calls are made through
ctypes. Arming again clears what has expired, so a wake-up that arms needs no read.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from array import array
from typing import Final

from loadtests.clock import NS_PER_S

_CLOCK_MONOTONIC: Final = 1
_ABSOLUTE: Final = 1  # TFD_TIMER_ABSTIME
_FLAGS: Final = os.O_NONBLOCK | os.O_CLOEXEC  # TFD_NONBLOCK | TFD_CLOEXEC


class Timer:
    """One timerfd; `fd` becomes readable when the armed time has come."""

    __slots__ = ("_arguments", "_set", "_spec", "fd")

    def __init__(self) -> None:
        if sys.version_info >= (3, 13):
            self.fd = os.timerfd_create(_CLOCK_MONOTONIC, flags=_FLAGS)
            return
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.timerfd_create(_CLOCK_MONOTONIC, _FLAGS)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        # Arguments converted once, and no release of the GIL that nobody else wants:
        # 1.3 instead of 2.5 us, on every wake-up.
        self._set = ctypes.PyDLL(None).timerfd_settime
        self._spec = array("l", [0, 0, 0, 0])  # an itimerspec: interval s, ns; value s, ns
        address, _ = self._spec.buffer_info()
        self._arguments = (
            ctypes.c_int(self.fd),
            ctypes.c_int(_ABSOLUTE),
            ctypes.c_void_p(address),
            None,
        )

    def arm(self, at_ns: int) -> None:
        """Expire at a CLOCK_MONOTONIC time; at once if it has passed."""
        if sys.version_info >= (3, 13):
            os.timerfd_settime_ns(self.fd, flags=_ABSOLUTE, initial=max(at_ns, 1))
            return
        at_ns, spec = max(at_ns, 1), self._spec
        spec[2], spec[3] = at_ns // NS_PER_S, at_ns % NS_PER_S
        self._set(*self._arguments)

    def clear(self) -> None:
        """Stay silent until armed again."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 8)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.fd)
