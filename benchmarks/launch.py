"""Becomes another program, pinned to one core and tied to the life of its parent.

`python -m benchmarks.launch CORE COMMAND...`: sets the affinity, asks the kernel for
SIGKILL when the parent dies, then replaces itself, so the process id stays the same.
A wrapper instead of a `preexec_fn`, which is unsafe as soon as the parent has threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # prctl(2)


def main(argv: list[str]) -> None:
    """Never returns: exec or an OSError that ends the process."""
    core, parent, command = int(argv[0]), int(argv[1]), argv[2:]
    os.sched_setaffinity(0, {core})
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # the parent died before the request was in place
        sys.exit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
