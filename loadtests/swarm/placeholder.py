"""The one Locust user that an agent runs, so that Locust's UI shows it as running.

It sends nothing: load comes from engines (`architecture.md`, "Shares, not users").
"""

from __future__ import annotations

from typing import Final

import gevent
from locust import User, task

_NAP_S: Final = 3600.0


class EngineUser(User):
    """Stands for the engines of one agent."""

    @task
    def wait_for_the_end(self) -> None:
        """Sleep until Locust stops the user."""
        gevent.sleep(_NAP_S)
