"""What Ctrl-C means before, while and after something runs.

Before: it ends the process at once, because half an import cannot be unwound in order.
While a run goes on it is the run's (`swarm/run.py`). After: it is ignored, so that what
was measured is judged and printed. Loads nothing, so that the entry can use it.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from loadtests.errors import ExitCode


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    os.write(2, b"error: interrupted\n")
    os._exit(ExitCode.ABORTED)


def _may_handle() -> bool:
    """Signals can be handled in the main thread; an ignored one (nohup, `&`) stays ignored."""
    is_main = threading.current_thread() is threading.main_thread()
    return is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler


@contextmanager
def ending_at_once() -> Iterator[None]:
    """For loading modules while nothing runs: Ctrl-C ends the process with a word."""
    if not _may_handle():
        yield
        return
    signal.signal(signal.SIGINT, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def ignoring_after_start(
    on_ignored: Callable[[], None] = lambda: None,
) -> Iterator[Callable[[], None]]:
    """Yields what to call once a run has begun: from then on Ctrl-C only calls `on_ignored`.

    The run handles it while it lasts. Before it began Ctrl-C is a KeyboardInterrupt.
    """
    has_begun = threading.Event()

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        if not has_begun.is_set():
            signal.default_int_handler(number, frame)
        on_ignored()

    if not _may_handle():
        yield has_begun.set
        return
    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield has_begun.set
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
