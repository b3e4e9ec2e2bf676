"""Has the C library use the memory of freed arrays again.

glibc gives each larger array's pages back to the kernel, which clears them anew for the next
one: a quarter of the time of reading a log. See mallopt(3).
"""

from __future__ import annotations

import ctypes
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_KEPT_BYTES: Final = 128 << 20


def keep_freed_memory() -> None:
    """For the rest of this process; without glibc, nothing."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    # Older ones take no threshold as high: the other alone would make it slower.
    if mallopt is not None and mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES):
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
