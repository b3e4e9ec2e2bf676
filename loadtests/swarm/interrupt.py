"""SIGINT, SIGTERM and SIGHUP in a gevent process: once in order, again at once.

SIGHUP says that whoever started the process has gone (a terminal, a night that was killed). It may
come more than once for one death, so again it says nothing new; ignored (nohup), it stays so.

Never a KeyboardInterrupt wherever the process just is, which is in the hub for the most
part: it would print a traceback and leave an archive unclosed. Before there is anything to
stop it is raised in the main greenlet, where the caller stands.
"""

from __future__ import annotations

import signal
from typing import Any, Final, Protocol, Self

import gevent

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stoppable(Protocol):
    """What a signal stops."""

    def request_stop(self, reason: str) -> None:
        """Begin to stop in order, and return."""

    def stop_at_once(self, reason: str) -> None:
        """Give up what is under way."""


class Stops:
    """Turns signals into stops of `shell`, from `listen` on; as a context manager until its end.

    Reasons are `once` or `again` and the signal's name. `before`: the signals that are a
    KeyboardInterrupt as long as there is no shell; others are left to other listeners.
    SIGHUP always is one: nobody else listens to it.
    """

    def __init__(
        self,
        *,
        once: str,
        again: str,
        shell: Stoppable | None = None,
        before: tuple[signal.Signals, ...] = _SIGNALS,
    ) -> None:
        self.shell = shell
        self._once, self._again, self._raising = once, again, {*before, signal.SIGHUP}
        self._is_stopping = False
        self._previous: dict[signal.Signals, Any] = {}
        self._handlers: list[Any] = []

    def listen(self) -> Self:
        """Take the signals over."""
        for number in _SIGNALS:
            before = signal.getsignal(number)
            if number == signal.SIGHUP and before is signal.SIG_IGN:
                continue
            self._previous[number] = before
            self._handlers.append(gevent.signal_handler(number, self._on_signal, number))
        return self

    def __enter__(self) -> Self:
        return self.listen()

    def __exit__(self, *_: object) -> None:
        for handler in self._handlers:
            handler.cancel()
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _on_signal(self, number: signal.Signals) -> None:
        if self.shell is None:
            if number in self._raising:
                _raise_in_main()
        elif self._is_stopping and number == signal.SIGHUP:
            pass
        elif self._is_stopping:
            self.shell.stop_at_once(f"{self._again} {number.name}")
        else:
            self._is_stopping = True
            self.shell.request_stop(f"{self._once} {number.name}")


def _raise_in_main() -> None:
    """Raise KeyboardInterrupt in the main greenlet."""
    hub: Any = gevent.get_hub()
    hub.handle_system_error(KeyboardInterrupt, None)
