"""What Ctrl-C, SIGTERM and SIGHUP mean before, while and after something runs.

Before: Ctrl-C ends the process at once, because half an import cannot be unwound in order.
While a run goes on they are the run's (`swarm/run.py`). After: they are ignored, so that what
was measured is judged and printed, and the exit code is the verdict. Loads nothing, so that
the entry can use it.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final, NoReturn

from loadtests.errors import ExitCode

_ENDING: Final = (signal.SIGTERM, signal.SIGHUP)


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
    """Yields what to call once a run has begun: from then on signals only call `on_ignored`.

    The run handles them while it lasts. Before it began Ctrl-C is a KeyboardInterrupt, and the
    others end the process, as they do anywhere.
    """
    has_begun = threading.Event()

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        if not has_begun.is_set():
            _as_ever(number, frame)
        on_ignored()

    before = dict.fromkeys(_own_signals(), on_interrupt)
    with _handled(before):
        yield has_begun.set


def ignore_from_now_on() -> None:
    """After a command's end its exit code is said, and nothing changes it."""
    for number in (signal.SIGINT, *_ENDING):
        signal.signal(number, signal.SIG_IGN)


def _own_signals() -> list[signal.Signals]:
    """Those that nobody handles or ignores already."""
    if threading.current_thread() is not threading.main_thread():
        return []
    ending = [number for number in _ENDING if signal.getsignal(number) is signal.SIG_DFL]
    return [signal.SIGINT, *ending] if _may_handle() else ending


def _as_ever(number: int, frame: FrameType | None) -> None:
    if number == signal.SIGINT:
        signal.default_int_handler(number, frame)
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)


@contextmanager
def _handled(handlers: dict[signal.Signals, Any]) -> Iterator[None]:
    before = {number: signal.signal(number, one) for number, one in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
