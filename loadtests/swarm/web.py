"""Locust's web UI on an address of our choice: loopback unless the user says otherwise.

Waits until it listens, so that a port in use is an error before the run and not a line in
a log. Its stop button calls the runner's `stop`, which is the run's graceful stop.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Final

import gevent
from locust import argument_parser, stats
from locust.env import Environment

from loadtests.errors import HarnessError
from loadtests.swarm.web_door import WebAddress, WebDoor
from loadtests.swarm.web_page import Watched, open_page

_START_S: Final = 10.0


class Web:
    """A running web UI, with our page in it and its guard before it."""

    def __init__(
        self, environment: Environment, door: WebDoor, watched: Callable[[], Watched | None]
    ) -> None:
        address = door.address
        _try_address(address)
        # Locust's page asks for options that locustfiles added, and to find them parses
        # sys.argv as Locust's command line, which it is not.
        parsing: Any = argument_parser
        parsing.ui_extra_args_dict = dict
        create: Any = environment.create_web_ui  # through Any: its result is half typed
        self._ui = create(
            host=address.host,
            port=address.port,
            tls_cert=None if door.tls is None else door.tls.certificate,
            tls_key=None if door.tls is None else door.tls.key,
            delayed_start=True,
        )
        open_page(self._ui, door, watched, may_start=False)
        self._ui.start()
        self._history = gevent.spawn(stats.stats_history, environment.runner)
        with gevent.Timeout(_START_S, exception=False):
            while not self._ui.greenlet.ready() and not self._is_listening():
                gevent.sleep(0.01)
        if not self._is_listening():
            self.stop()
            raise HarnessError(
                where="web UI",
                seen=str(self._ui.greenlet.exception or "no listening socket"),
                expected=f"{address.host}:{address.port} to be free",
            )

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._ui.server.server_port)

    def stop(self) -> None:
        """Close it."""
        self._history.kill(block=False)
        if self._ui.server is not None:
            self._ui.server.stop(timeout=0.5)
        self._ui.greenlet.kill(block=False)

    def _is_listening(self) -> bool:
        return self._ui.server is not None and self._ui.server.started


def _try_address(address: WebAddress) -> None:
    """Bind and let go: the server itself would fail in a greenlet, with a traceback."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host, address.port))
        except OSError as error:
            raise address.refused("web UI", error) from error
