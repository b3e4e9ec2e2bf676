"""Ctrl-C in a gevent process, where nothing of ours runs yet that could be stopped in order."""

from __future__ import annotations

from typing import Any

import gevent


def raise_in_main() -> None:
    """Raise KeyboardInterrupt in the main greenlet.

    Call it from a `gevent.signal_handler`: Python's own handler would raise wherever the
    process just is, in the hub for the most part, which prints a traceback.
    """
    hub: Any = gevent.get_hub()
    hub.handle_system_error(KeyboardInterrupt, None)
