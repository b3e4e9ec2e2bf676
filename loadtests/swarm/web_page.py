"""Our page in Locust's web UI: `/headroom`, its data, its stop buttons and its login.

Routes are a Flask blueprint and a table of Locust's UI, the ways that Locust offers for
extensions. The page is files of this package: no inline script or style, no address but
its own. Nothing here checks who asks: that is done before (`web_guard.py`).
"""

from __future__ import annotations

import html
import json
import ssl
from collections.abc import Callable
from http.client import OK
from pathlib import Path
from typing import Any, Final, Protocol

import gevent
import msgspec
from flask import Blueprint, Response, request

from loadtests.swarm.live import Judged, LiveDocument
from loadtests.swarm.web_door import WebDoor
from loadtests.swarm.web_guard import Guard, Sessions
from loadtests.swarm.web_rules import LOGIN, LOGOUT, STOP, STOP_AT_ONCE, STYLE, Rules

_FILES: Final = Path(__file__).parent / "pages"
_JSON: Final = "application/json"
_TAB: Final = "headroom"
_WHERE: Final = "the live page: percentiles, agents, faults and the emergency stop"
_STOPPED: Final = "stopped in the web UI"
_AT_ONCE: Final = "stopped at once in the web UI"


class Watched(Protocol):
    """The run behind the page."""

    def live_document(self, *, request: int | None, is_read_only: bool) -> LiveDocument | None:
        """What the page shows; None before there is a run."""

    def live_verdict(self) -> Judged:
        """The newest provisional verdict."""

    def request_stop(self, reason: str) -> None:
        """Begin to stop in order, and return."""

    def stop_at_once(self, reason: str) -> None:
        """Give up what is under way."""

    @property
    def is_stopping(self) -> bool:
        """Whether it has begun to stop."""


def open_page(
    ui: Any, door: WebDoor, watched: Callable[[], Watched | None], *, may_start: bool
) -> None:
    """Add our page to Locust's UI and put everything behind the guard; before it listens.

    `may_start`: Locust's start button starts the run.
    """
    sessions = Sessions()
    rules = Rules(door, may_start=may_start, is_session=sessions.is_open)
    ui.web_login = False  # ours covers every route, Locust's own only those marked for it
    ui.app.debug = False
    ui.app.register_blueprint(_Page(door, watched, rules, sessions).blueprint())
    ui.app.wsgi_app = Guard(ui.app.wsgi_app, door, rules)
    if door.tls is not None:
        # Whoever knocks without TLS would have a traceback printed on the user's terminal.
        hub: Any = gevent.get_hub()
        hub.NOT_ERROR += (ssl.SSLError,)
    _add_tab(ui, door, watched)


def _add_tab(ui: Any, door: WebDoor, watched: Callable[[], Watched | None]) -> None:
    """A tab in Locust's UI: where our page is, and how each objective stands.

    Tabs of extensions are tables of plain text, whose rows come with Locust's figures.
    """
    address = f"{door.base_path}/headroom"
    columns = {
        "what": "Objective",
        "stands": "So far (provisional)",
        "value": "Value",
        "why": "Why",
    }
    structure = [{"key": key, "title": title} for key, title in columns.items()]
    ui.template_args |= {
        "extended_tabs": [{"title": "Headroom", "key": _TAB}],
        "extended_tables": [{"key": _TAB, "title": "Headroom", "structure": structure}],
        "extended_csv_files": [{"href": address, "title": "Headroom: live page"}],
    }

    def add_rows(response: Response) -> Response:
        if request.path == f"{door.base_path}/stats/requests" and response.status_code == OK:
            rows = [{"what": address, "stands": "", "value": "", "why": _WHERE}]
            rows += _objective_rows(watched())
            figures = json.loads(response.get_data())
            figures["extended_stats"] = [{"key": _TAB, "data": rows}]
            response.set_data(json.dumps(figures))
        return response

    ui.app.after_request(add_rows)


def _objective_rows(run: Watched | None) -> list[dict[str, str]]:
    verdict = None if run is None else json.loads(run.live_verdict().verdict)
    if verdict is None:
        return []
    return [
        {
            "what": f"{one['text']} (stage {one['stage']})",
            "stands": one["standing"],
            "value": one["value"],
            "why": one["reason"],
        }
        for one in verdict["objectives"]
    ]


class _Page:
    """What our routes answer."""

    def __init__(
        self,
        door: WebDoor,
        watched: Callable[[], Watched | None],
        rules: Rules,
        sessions: Sessions,
    ) -> None:
        self._door, self._watched, self._rules, self._sessions = door, watched, rules, sessions

    def blueprint(self) -> Blueprint:
        """All of them, below the base path."""
        routes = Blueprint("headroom", __name__, url_prefix=self._door.base_path or None)
        for path, name, view, methods in (
            ("/headroom", "page", _file("page.html", "text/html"), ["GET"]),
            (STYLE, "style", _file("page.css", "text/css"), ["GET"]),
            ("/headroom/page.js", "script", _file("page.js", "text/javascript"), ["GET"]),
            ("/headroom/live.json", "live", self._live, ["GET"]),
            (STOP, "stop", self._stop, ["POST"]),
            (STOP_AT_ONCE, "stop_at_once", self._stop_at_once, ["POST"]),
            (LOGIN, "login", self._login, ["GET", "POST"]),
            (LOGOUT, "logout", self._logout, ["POST"]),
        ):
            routes.add_url_rule(path, name, view, methods=methods)
        return routes

    def _live(self) -> Response:
        run = self._watched()
        document = None
        if run is not None:
            number = request.args.get("request", type=int)
            document = run.live_document(request=number, is_read_only=self._door.is_read_only)
        return Response(msgspec.json.encode(document), content_type=_JSON)

    def _stop(self) -> Response:
        run = self._watched()
        if run is None:
            return _answer(409, "there is no run to stop")
        run.request_stop(_STOPPED)
        return _answer(202, "the run is being stopped in order")

    def _stop_at_once(self) -> Response:
        run = self._watched()
        if run is None or not run.is_stopping:
            return _answer(409, "stop it in order first")
        run.stop_at_once(_AT_ONCE)
        return _answer(202, "the run is being stopped at once")

    def _login(self) -> Response:
        if request.method != "POST":
            return _login_page(200, "")
        if not self._rules.is_token(request.form.get("token", "")):
            return _login_page(403, "That is not the token.")
        answer = _see(f"{self._door.base_path}/headroom")
        answer.set_cookie(
            self._rules.cookie_name,
            self._sessions.open(),
            path=self._door.base_path or "/",
            httponly=True,
            samesite="Strict",
            secure=self._door.tls is not None,
        )
        return answer

    def _logout(self) -> Response:
        self._sessions.close()
        return _see(f"{self._door.base_path}{LOGIN}")


def _file(name: str, kind: str) -> Callable[[], Response]:
    body = (_FILES / name).read_bytes()
    return lambda: Response(body, content_type=f"{kind}; charset=utf-8")


def _see(address: str) -> Response:
    return Response(status=303, headers={"Location": address})


def _answer(status: int, text: str) -> Response:
    return Response(msgspec.json.encode({"text": text}), status=status, content_type=_JSON)


def _login_page(status: int, note: str) -> Response:
    page = (_FILES / "login.html").read_text(encoding="utf-8")
    return Response(
        page.replace("{note}", html.escape(note)),
        status=status,
        content_type="text/html; charset=utf-8",
    )
