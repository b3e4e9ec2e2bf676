"""A timer of the kernel's own resolution: a loop timer rounds to 1 ms, a timerfd does not.

`os.timerfd_*` exists from Python 3.13 on; before, the same system calls are made through
ctypes. Arming again clears what has expired, so a wake-up that arms needs no read.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from typing import Final

from loadtests.clock import NS_PER_S

_CLOCK_MONOTONIC: Final = 1
_ABSOLUTE: Final = 1  # TFD_TIMER_ABSTIME
_FLAGS: Final = os.O_NONBLOCK | os.O_CLOEXEC  # TFD_NONBLOCK | TFD_CLOEXEC


class _Itimerspec(ctypes.Structure):
    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


class Timer:
    """One timerfd; `fd` becomes readable when the armed time has come."""

    __slots__ = ("_pointer", "_set", "_spec", "fd")

    def __init__(self) -> None:
        if sys.version_info >= (3, 13):
            self.fd = os.timerfd_create(_CLOCK_MONOTONIC, flags=_FLAGS)
            return
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.timerfd_create(_CLOCK_MONOTONIC, _FLAGS)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._spec = _Itimerspec()
        self._pointer = ctypes.byref(self._spec)
        self._set = libc.timerfd_settime
        self._set.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)

    def arm(self, at_ns: int) -> None:
        """Expire at a CLOCK_MONOTONIC time; at once if it has passed."""
        if sys.version_info >= (3, 13):
            os.timerfd_settime_ns(self.fd, flags=_ABSOLUTE, initial=max(at_ns, 1))
            return
        spec = self._spec
        spec.value_s, spec.value_ns = divmod(max(at_ns, 1), NS_PER_S)
        self._set(self.fd, _ABSOLUTE, self._pointer, None)

    def clear(self) -> None:
        """Stay silent until armed again."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 8)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.fd)
