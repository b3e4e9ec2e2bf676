"""Stands before Locust's Flask app and ours: asks the rules, and says so in every answer.

A WSGI layer, because it then covers every route there is or will be, Locust's own and those
of a user's locustfile. Locust allows every origin to read every answer (flask-cors); that
is taken back here. What a form sends is dropped, whatever it is: Locust's start form sets
its host, its users and any option of its command line by name.
"""

from __future__ import annotations

import io
import secrets
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from loadtests.swarm.web_door import WebDoor
from loadtests.swarm.web_rules import (
    LOCUST_START,
    LOGIN,
    Asked,
    Refusal,
    Rules,
    Status,
)

Environ = dict[str, Any]
Start = Callable[..., Any]
App = Callable[[Environ, Start], Iterable[bytes]]

MAX_FORM_BYTES: Final = 4096
SESSION_S: Final = 12 * 3600.0
MOST_SESSIONS: Final = 100
_START_FORM: Final = b"user_count=1&spawn_rate=1"  # what Locust wants to see; nobody reads it
_OWN: Final = "/headroom"
_STRICT: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
# Locust's page has a script and styles within it.
_LOCUST: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; object-src 'none'; form-action 'self'; frame-ancestors 'none'; "
    "base-uri 'none'"
)
_ALWAYS: Final = (
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "same-origin"),  # `no-referrer` would make the Origin of forms "null"
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
)


class Sessions:
    """Logins that are open: random names, each for half a day; the oldest give way."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._until_s: dict[str, float] = {}

    def open(self) -> str:
        """A new one."""
        while len(self._until_s) >= MOST_SESSIONS:
            self._until_s.pop(next(iter(self._until_s)))
        name = secrets.token_urlsafe(32)
        self._until_s[name] = self._now_s() + SESSION_S
        return name

    def close(self) -> None:
        """Log everybody out: it is one token, so it is one user."""
        self._until_s.clear()

    def is_open(self, name: str) -> bool:
        """Whether it was given out and has not run out."""
        return self._until_s.get(name, 0.0) > self._now_s()


class Guard:
    """The app behind its rules."""

    def __init__(self, app: App, door: WebDoor, rules: Rules) -> None:
        self._app, self._door, self._rules = app, door, rules

    def __call__(self, environ: Environ, start: Start) -> Iterable[bytes]:
        """WSGI (PEP 3333)."""
        asked = asked_of(environ, self._door.base_path)
        answer = _hardened(start, asked.path)
        refusal = self._rules.refusal(asked)
        if refusal is not None:
            return self._refuse(refusal, answer)
        if asked.method == "POST":
            _replace_form(environ, asked.path)
        return self._app(environ, answer)

    def _refuse(self, refusal: Refusal, start: Start) -> list[bytes]:
        headers = [("Content-Type", "text/plain; charset=utf-8")]
        if refusal.status is Status.LOG_IN:
            headers.append(("Location", f"{self._door.base_path}{LOGIN}"))
        elif refusal.status is Status.METHOD:
            headers.append(("Allow", "GET, HEAD, POST"))
        body = f"{refusal.text}\n".encode()
        start(refusal.status.value, [*headers, ("Content-Length", str(len(body)))])
        return [body]


def asked_of(environ: Environ, base_path: str) -> Asked:
    """What a request says of itself."""

    def header(name: str) -> str:
        return str(environ.get(f"HTTP_{name}", ""))

    path = str(environ.get("PATH_INFO", ""))
    return Asked(
        method=str(environ.get("REQUEST_METHOD", "")),
        path=path.removeprefix(base_path) if base_path else path,
        host=header("HOST"),
        origin=header("ORIGIN"),
        site=header("SEC_FETCH_SITE"),
        mode=header("SEC_FETCH_MODE"),
        destination=header("SEC_FETCH_DEST"),
        authorisation=header("AUTHORIZATION"),
        cookie=header("COOKIE"),
    )


def _replace_form(environ: Environ, path: str) -> None:
    """Only a login's form is read, and no more of it than a token is long."""
    form = _START_FORM if path == LOCUST_START else b""
    if path == LOGIN:
        # Chunked or not, the server's stream ends where the request does.
        form = environ["wsgi.input"].read(MAX_FORM_BYTES)
    environ["wsgi.input"] = io.BytesIO(form)
    environ["CONTENT_LENGTH"] = str(len(form))
    environ["CONTENT_TYPE"] = "application/x-www-form-urlencoded"
    environ["QUERY_STRING"] = ""
    environ.pop("HTTP_TRANSFER_ENCODING", None)


def _hardened(start: Start, path: str) -> Start:
    is_own = path == _OWN or path.startswith(f"{_OWN}/")
    policy = ("Content-Security-Policy", _STRICT if is_own else _LOCUST)

    def answer(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
        kept = [(n, v) for n, v in headers if not n.lower().startswith("access-control-")]
        has_age = any(name.lower() == "cache-control" for name, _ in kept)
        age = [] if has_age else [("Cache-Control", "no-store")]
        return start(status, [*kept, *age, policy, *_ALWAYS], *rest)

    return answer
