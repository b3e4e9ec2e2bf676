"""`GET /metrics` at the master: the run's page for Prometheus, read-only, on an address of its own.

There is nothing to change and nothing secret behind it, so it has no login; it listens on
loopback unless told otherwise, and there it answers to no other Host than an address or
localhost: a page of a stranger whose name resolves to this host reads nothing. It is there
as long as the run is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from gevent.pywsgi import WSGIServer

from loadtests.plan.model import is_loopback
from loadtests.swarm.metrics_page import MetricsPage
from loadtests.swarm.web_door import WebAddress
from loadtests.swarm.web_rules import names_no_stranger

_STOP_S: Final = 0.5
_TEXT: Final = [("Content-Type", "text/plain; charset=utf-8")]


@contextmanager
def metrics_door(host: str, port: int, page: Callable[[], MetricsPage | None]) -> Iterator[int]:
    """Listen while a run is on; gives the port.

    HarnessError where the port is taken, ScenarioError where the address is not this host's.

    `page` gives the run's page, None before there is one: then the answer is 503.
    """
    is_private = is_loopback(host)

    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        if is_private and not names_no_stranger(environ.get("HTTP_HOST", "")):
            start("403 Forbidden", _TEXT)
            return [b"Host: expected an address or localhost\n"]
        if environ["PATH_INFO"] != "/metrics":
            start("404 Not Found", _TEXT)
            return [b"the metrics are at /metrics\n"]
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            start("405 Method Not Allowed", [*_TEXT, ("Allow", "GET, HEAD")])
            return [b"read-only\n"]
        current = page()
        if current is None:
            start("503 Service Unavailable", _TEXT)
            return [b"the run has not begun\n"]
        body, content_type = current.render(environ.get("HTTP_ACCEPT", ""))
        start("200 OK", [("Content-Type", content_type), ("Content-Length", str(len(body)))])
        return [body]

    server = WSGIServer((host, port), answer, log=None, error_log=None)
    try:
        server.start()
    except OSError as error:
        raise WebAddress(host=host, port=port).refused("metrics", error) from error
    try:
        yield int(server.server_port)
    finally:
        server.stop(timeout=_STOP_S)
