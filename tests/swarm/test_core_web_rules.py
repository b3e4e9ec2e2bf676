"""Who may open the web UI and what it answers: the terms, the rules, and Locust's real routes."""

from __future__ import annotations

import io
import json
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import gevent.socket
import pytest
from locust import argument_parser
from locust.env import Environment
from test_engine_tls import Authority

from loadtests.errors import ScenarioError
from loadtests.swarm.live import Judged, LiveDocument
from loadtests.swarm.metrics_door import metrics_door
from loadtests.swarm.placeholder import EngineUser
from loadtests.swarm.web import _try_address
from loadtests.swarm.web_door import TlsFiles, WebAddress, WebDoor, WebWish, build_door
from loadtests.swarm.web_guard import MOST_SESSIONS, SESSION_S, Guard, Sessions
from loadtests.swarm.web_page import open_page
from loadtests.swarm.web_rules import Asked, Rules, Status

TOKEN = "0123456789abcdef"
OWN = "http://127.0.0.1:8089"


def wish(**changes: Any) -> WebWish:
    """The wish of `--web` alone."""
    plain: dict[str, Any] = {
        "address": WebAddress(), "has_login": False, "certificate": "", "key": "",
        "is_clear_text_allowed": False, "is_read_only": False, "names": (),
    }  # fmt: skip
    return WebWish(**(plain | changes))


def refused(environment: dict[str, str] | None = None, **changes: Any) -> str:
    """Why a wish is refused."""
    with pytest.raises(ScenarioError) as caught:
        build_door(wish(**changes), {} if environment is None else environment)
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_needs_nothing(host: str) -> None:
    """Nobody else reaches it."""
    assert build_door(wish(address=WebAddress(host=host)), {}).token is None


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "10.0.0.7", "master.example"])
def test_other_addresses_need_a_login_and_tls(host: str, tmp_path: Path) -> None:
    """Both are named at once; with both, or the word that says what it means, it opens."""
    address, known = WebAddress(host=host), {"HEADROOM_WEB_TOKEN": TOKEN}
    text = refused(address=address)
    assert "--web-login" in text
    assert "--tls-cert" in text
    assert "2 mistakes" in text
    assert "--web-login" in refused(address=address, is_clear_text_allowed=True)
    assert "--tls-cert" in refused(dict(known), address=address, has_login=True)
    open_terms = {"address": address, "has_login": True}
    door = build_door(wish(**open_terms, is_clear_text_allowed=True), dict(known))
    assert (door.token, door.scheme) == (TOKEN, "http")
    certificate, key = Authority(tmp_path, "good").issue("localhost")
    door = build_door(wish(**open_terms, certificate=certificate, key=key), dict(known))
    assert door.scheme == "https"


def test_a_token_is_long_and_leaves_the_environment() -> None:
    """No process started later inherits it, and no text of ours shows it."""
    assert "no token" in refused(has_login=True)
    assert "16 characters" in refused({"HEADROOM_WEB_TOKEN": "short"}, has_login=True)
    environment = {"HEADROOM_WEB_TOKEN": TOKEN, "PATH": "/bin"}
    door = build_door(wish(has_login=True), environment)
    assert environment == {"PATH": "/bin"}
    assert TOKEN not in repr(door)


def test_certificate_and_key_belong_together(tmp_path: Path) -> None:
    """One without the other, files that are none, and another's key are refused before a start."""
    authority = Authority(tmp_path, "good")
    certificate, _ = authority.issue("localhost")
    _, other_key = authority.issue("other")
    assert "both, or neither" in refused(certificate=certificate)
    assert "missing.pem" in refused(certificate="missing.pem", key="missing.pem")
    assert "its unencrypted key" in refused(certificate=certificate, key=other_key)


def asked(**changes: str) -> Asked:
    """A GET of our page by curl; changed by name."""
    plain = {
        "method": "GET", "path": "/headroom", "host": "127.0.0.1:8089", "origin": "", "site": "",
        "mode": "", "destination": "", "authorisation": "", "cookie": "",
    }  # fmt: skip
    return Asked(**(plain | changes))


def status(door: WebDoor, request: Asked, *, may_start: bool = False) -> Status | None:
    """What the rules say; the session `good` is open."""
    rules = Rules(door, may_start=may_start, is_session=lambda name: name == "good")
    refusal = rules.refusal(request)
    return None if refusal is None else refusal.status


PLAIN = WebDoor(address=WebAddress(), names=("master.example",))
READ_ONLY = WebDoor(address=WebAddress(), is_read_only=True)
LOGIN = WebDoor(address=WebAddress(), token=TOKEN)


@pytest.mark.parametrize(
    ("host", "is_answered"),
    [
        ("127.0.0.1:8089", True),
        ("localhost:9000", True),  # a forwarded port
        ("[::1]:8089", True),
        ("10.0.0.7", True),
        ("master.example:8089", True),
        ("MASTER.example", True),
        ("evil.example:8089", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("", False),
        ("[::1", False),
        ("user@evil.example", False),
    ],
)
def test_a_stranger_names_himself_in_host(host: str, *, is_answered: bool) -> None:
    """DNS rebinding: the browser believes the page to be evil.example's, and says so."""
    assert (status(PLAIN, asked(host=host)) is None) is is_answered


@pytest.mark.parametrize(
    ("headers", "is_answered"),
    [
        ({}, True),
        ({"site": "same-origin", "mode": "cors"}, True),
        ({"site": "none", "mode": "navigate", "destination": "document"}, True),
        ({"origin": OWN}, True),
        ({"origin": "https://127.0.0.1:8089"}, True),  # a proxy before us ends TLS
        ({"origin": "http://evil.example"}, False),
        ({"origin": "http://127.0.0.1:3000"}, False),
        ({"origin": "http://127.0.0.1:8089.evil.example"}, False),
        ({"origin": "null"}, False),
        ({"origin": "ftp://127.0.0.1:8089"}, False),
        ({"origin": "http://[::1"}, False),
        ({"site": "cross-site", "mode": "no-cors", "destination": "image"}, False),
        ({"site": "same-site", "mode": "cors"}, False),
        ({"site": "cross-site", "mode": "navigate", "destination": "iframe"}, False),
        ({"site": "cross-site", "mode": "navigate", "destination": "document"}, True),  # a link
    ],
)
def test_other_origins_are_refused(headers: dict[str, str], *, is_answered: bool) -> None:
    """Reading by scripts, images and frames of others; only a link may lead here."""
    assert (status(PLAIN, asked(**headers)) is None) is is_answered


def test_with_tls_an_origin_is_https() -> None:
    """A page of the same name without TLS is anybody's on the way."""
    files = TlsFiles(certificate="c", key="k")  # not read by the rules
    door = WebDoor(address=WebAddress(), tls=files)
    assert status(door, asked(origin="http://127.0.0.1:8089")) is Status.FORBIDDEN
    assert status(door, asked(origin="https://127.0.0.1:8089")) is None


@pytest.mark.parametrize("path", ["/stop", "/headroom/stop", "/headroom/stop-at-once"])
def test_a_stop_says_where_it_comes_from(path: str) -> None:
    """A form of another page is refused, our own and the token's holder are not."""
    post = {"method": "POST", "path": path}
    assert status(PLAIN, asked(**post)) is Status.FORBIDDEN
    assert status(PLAIN, asked(**post, origin=OWN)) is None
    assert status(PLAIN, asked(**post, site="same-origin")) is None
    assert status(PLAIN, asked(**post, origin="http://evil.example")) is Status.FORBIDDEN
    link = {"site": "cross-site", "mode": "navigate", "destination": "document"}
    assert status(PLAIN, asked(**post, **link)) is Status.FORBIDDEN
    assert status(LOGIN, asked(**post, authorisation=f"Bearer {TOKEN}")) is None
    assert status(READ_ONLY, asked(**post, origin=OWN)) is Status.FORBIDDEN


def test_nothing_else_is_posted_and_nothing_else_is_a_method() -> None:
    """Start only where Locust's start button is the run's; preflights get no answer."""
    start = asked(method="POST", path="/swarm", origin=OWN)
    assert status(PLAIN, start) is Status.FORBIDDEN
    assert status(PLAIN, start, may_start=True) is None
    assert status(READ_ONLY, start, may_start=True) is Status.FORBIDDEN
    for path in ("/user", "/stats/reset", "//stop", "/stop/", "/headroom/live.json"):
        assert status(PLAIN, asked(method="POST", path=path, origin=OWN)) is Status.FORBIDDEN
    for method in ("OPTIONS", "PUT", "DELETE", "TRACE", "PATCH"):
        assert status(PLAIN, asked(method=method, origin=OWN)) is Status.METHOD


@pytest.mark.parametrize("path", ["/", "/headroom", "/headroom/live.json", "/stats/requests",
                                  "/assets/a.js", "/logs", "/login", "/nowhere"])  # fmt: skip
def test_a_login_covers_every_path(path: str) -> None:
    """Also Locust's own unprotected ones; a browser is led to the form."""
    assert status(LOGIN, asked(path=path)) is Status.UNAUTHORISED
    assert status(LOGIN, asked(path=path, mode="navigate")) is Status.LOG_IN
    assert status(LOGIN, asked(path=path, cookie="headroom_8089=good; a=b")) is None
    assert status(LOGIN, asked(path=path, cookie="headroom_8089=bad")) is Status.UNAUTHORISED
    assert status(LOGIN, asked(path=path, cookie="headroom_1=good")) is Status.UNAUTHORISED
    assert status(LOGIN, asked(path=path, authorisation=f"bearer {TOKEN}")) is None
    assert status(LOGIN, asked(path=path, authorisation=f"Basic {TOKEN}")) is Status.UNAUTHORISED
    assert status(LOGIN, asked(path=path, authorisation="Bearer ")) is Status.UNAUTHORISED


def test_a_login_form_of_another_page_is_refused() -> None:
    """Login CSRF: nobody is logged in by a stranger."""
    post = {"method": "POST", "path": "/headroom/login"}
    assert status(LOGIN, asked(**post)) is Status.FORBIDDEN
    assert status(LOGIN, asked(**post, origin="http://evil.example")) is Status.FORBIDDEN
    assert status(LOGIN, asked(**post, origin=OWN)) is None


def test_sessions_end() -> None:
    """After half a day, at a logout, and the oldest when there are too many."""
    now_s = 0.0
    sessions = Sessions(lambda: now_s)
    first = sessions.open()
    assert sessions.is_open(first)
    assert not sessions.is_open("")
    rest = [sessions.open() for _ in range(MOST_SESSIONS)]
    assert not sessions.is_open(first)
    now_s = SESSION_S
    assert not any(map(sessions.is_open, rest))
    now_s = 0.0
    sessions.close()
    assert not any(map(sessions.is_open, rest))


class Run:
    """A run that notes what is asked of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    @property
    def is_stopping(self) -> bool:
        """After the first stop."""
        return bool(self.asked)

    def live_document(self, *, request: int | None, is_read_only: bool) -> LiveDocument | None:
        """Nothing to show."""
        del request, is_read_only
        return None

    def live_verdict(self) -> Judged:
        """One objective."""
        one = {"text": "p95 < 1 s", "stage": "s", "standing": "holds", "value": "9 ms",
               "reason": "met"}  # fmt: skip
        return Judged(verdict=json.dumps({"objectives": [one]}).encode(), note="")

    def request_stop(self, reason: str) -> None:
        """Note it."""
        self.asked.append(reason)

    def stop_at_once(self, reason: str) -> None:
        """Note it."""
        self.asked.append(f"at once: {reason}")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[Environment]:
    """Locust's, with a master on a free port."""
    monkeypatch.setattr(argument_parser, "ui_extra_args_dict", dict)  # it parses our command line
    made = Environment(user_classes=[EngineUser], host="http://set-by-the-scenario")
    runner: Any = made.create_master_runner("127.0.0.1", 0)
    runner.start = lambda *_, **__: None  # as the front door does
    yield made
    runner.greenlet.kill(block=True)
    runner.server.close()


def app_of(environment: Environment, door: WebDoor, run: Run) -> Any:
    """Locust's real app behind the guard, and a client that is its own page."""
    ui: Any = environment.create_web_ui("127.0.0.1", 0, delayed_start=True)
    open_page(ui, door, lambda: run, may_start=True)
    return ui


def client_of(ui: Any) -> Any:
    """Same-origin, as a browser is."""
    client = ui.app.test_client()
    client.environ_base["HTTP_ORIGIN"] = "http://localhost"  # the host that it names
    return client


def posts_of(ui: Any) -> list[str]:
    """Every route of the app that takes another method than GET."""
    rules = ui.app.url_map.iter_rules()
    return sorted(str(r) for r in rules if r.methods - {"GET", "HEAD", "OPTIONS"})


def test_read_only_is_said_by_every_route_that_changes_anything(environment: Environment) -> None:
    """Locust's own and ours, all that the real app has: 403, and the run is asked for nothing."""
    run = Run()
    ui = app_of(environment, READ_ONLY, run)
    paths = posts_of(ui)
    assert {"/swarm", "/stop", "/user", "/stats/reset", "/headroom/stop"} <= set(paths)
    for path in set(paths) - {"/headroom/login", "/headroom/logout"}:
        for method in ("POST", "PUT", "DELETE"):
            answer = client_of(ui).open(path, method=method)
            assert answer.status_code in {403, 405}, (path, method)
        assert client_of(ui).post(path).status_code == 403
    assert run.asked == []


def test_what_get_answers_changes_nothing(environment: Environment) -> None:
    """Every GET route of the real app is fetched: the run is asked for nothing, the host stays."""
    run = Run()
    ui = app_of(environment, PLAIN, run)
    total = environment.stats.total
    before = (environment.host, dict(vars(total)))
    client, statuses = client_of(ui), {}
    for rule in ui.app.url_map.iter_rules():
        if "GET" in rule.methods and not rule.arguments:
            answer = client.get(f"{rule}?host=http://evil.example&user_count=1000")
            statuses[str(rule)] = answer.status_code
    assert {statuses[path] for path in ("/", "/stats/requests", "/headroom", "/tasks")} == {200}
    assert run.asked == []
    assert (environment.host, dict(vars(total))) == before


def test_the_start_form_changes_neither_target_nor_rate(environment: Environment) -> None:
    """Host, users, time limit and options by name arrive nowhere."""
    options = Namespace(num_users=1, spawn_rate=1, host=None, results="results", target=["x"],
                        run_time=None, stats_history_enabled=False)  # fmt: skip
    environment.parsed_options = options
    ui = app_of(environment, PLAIN, Run())
    form = {
        "user_count": "1000000", "spawn_rate": "1000", "host": "http://evil.example",
        "run_time": "1s", "results": "/tmp/evil", "target": "http://evil.example", "profile": "x",
    }  # fmt: skip
    answer = client_of(ui).post("/swarm", data=form)
    assert answer.status_code == 200
    assert answer.get_json()["success"] is True
    assert environment.host == "http://set-by-the-scenario"
    assert vars(options) == {
        "num_users": 1, "spawn_rate": 1.0, "host": None, "results": "results", "target": ["x"],
        "run_time": None, "stats_history_enabled": False,
    }  # fmt: skip
    assert ui._run_time_greenlet is None


def test_stops_come_one_after_the_other(environment: Environment) -> None:
    """At once only after in order."""
    run = Run()
    client = client_of(app_of(environment, PLAIN, run))
    assert client.post("/headroom/stop-at-once").status_code == 409
    assert client.post("/headroom/stop").status_code == 202
    assert client.post("/headroom/stop-at-once").status_code == 202
    assert run.asked == ["stopped in the web UI", "at once: stopped at once in the web UI"]


def test_locusts_page_has_a_tab_with_the_objectives(environment: Environment) -> None:
    """Its rows come with Locust's figures, the first says where our page is."""
    client = client_of(app_of(environment, PLAIN, Run()))
    assert "extended_tabs" in client.get("/").get_data(as_text=True)
    (table,) = client.get("/stats/requests").get_json()["extended_stats"]
    rows = [(row["what"], row["stands"], row["value"]) for row in table["data"]]
    assert rows == [("/headroom", "", ""), ("p95 < 1 s (stage s)", "holds", "9 ms")]


def test_every_answer_is_hardened(environment: Environment) -> None:
    """No origin may read them, frames and sniffing are off, ours has no inline anything."""
    client = client_of(app_of(environment, PLAIN, Run()))
    for path in ("/", "/headroom", "/headroom/live.json", "/stats/requests", "/nowhere"):
        headers = client.get(path).headers
        assert not [name for name in dict(headers) if name.lower().startswith("access-control")]
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"]
        policy = headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in policy
        assert ("unsafe-inline" in policy) is not path.startswith("/headroom")
    assert "<script>" not in client.get("/headroom").get_data(as_text=True)


def test_a_login_gives_a_cookie_that_scripts_and_others_do_not_get(
    environment: Environment,
) -> None:
    """The form, the cookie's terms, the page, and the logout."""
    ui = app_of(environment, LOGIN, Run())
    client = client_of(ui)
    assert client.get("/headroom").status_code == 401
    assert client.get("/headroom", headers={"Sec-Fetch-Mode": "navigate"}).status_code == 303
    assert client.post("/headroom/login", data={"token": "x" * 16}).status_code == 403
    answer = client.post("/headroom/login", data={"token": TOKEN})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/headroom")
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert TOKEN not in cookie
    assert client.get("/headroom").status_code == 200
    assert client.get("/stats/requests").status_code == 200
    assert client.post("/headroom/logout").status_code == 303
    assert client.get("/headroom").status_code == 401


def test_a_base_path_is_no_way_around(environment: Environment) -> None:
    """Locust's --web-base-path: the same rules below it."""
    door = WebDoor(address=WebAddress(), token=TOKEN, base_path="/load")
    ui: Any = environment.create_web_ui("127.0.0.1", 0, web_base_path="/load", delayed_start=True)
    open_page(ui, door, lambda: None, may_start=True)
    client = client_of(ui)
    for path in ("/load/", "/load/headroom", "/load/stats/requests"):
        assert client.get(path).status_code == 401
    answer = client.post("/load/headroom/login", data={"token": TOKEN})
    assert answer.headers["Location"] == "/load/headroom"
    assert client.get("/load/headroom").status_code == 200
    assert client.post("/load/stats/reset").status_code == 403


def test_a_form_is_read_no_further_than_a_token_is_long() -> None:
    """A gigabyte that is sent to the login is not taken in."""

    class Endless(io.RawIOBase):
        read_bytes = 0

        def read(self, size: int = -1) -> bytes:
            assert size >= 0, "unbounded"
            self.read_bytes += size
            return b"x" * size

    body, seen = Endless(), []

    def app(environ: dict[str, Any], start: Any) -> list[bytes]:
        seen.append(environ["wsgi.input"].read())
        start("200 OK", [])
        return []

    guard = Guard(app, LOGIN, Rules(LOGIN, may_start=False, is_session=lambda _: False))
    environ = {"REQUEST_METHOD": "POST", "PATH_INFO": "/headroom/login", "wsgi.input": body,
               "HTTP_HOST": "127.0.0.1:8089", "HTTP_ORIGIN": OWN}  # fmt: skip
    guard(environ, lambda *_: None)
    assert 0 < len(seen[0]) == body.read_bytes < 100_000


def test_an_address_of_another_host_is_the_users_mistake() -> None:
    """Named with what the system says, for the web UI and for the metrics alike."""
    with (
        pytest.raises(ScenarioError, match=r"metrics.*\n.*192\.0\.2\.1:9.*address of this host"),
        metrics_door("192.0.2.1", 9, lambda: None),
    ):
        pass
    with pytest.raises(ScenarioError, match=r"web UI.*\n.*192\.0\.2\.1:9.*address of this host"):
        _try_address(WebAddress(host="192.0.2.1", port=9))


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:9646", 503),  # let in: there is no page yet
        ("localhost", 503),
        ("[::1]:9646", 503),
        ("rebound.example:9646", 403),
        ("", 403),
    ],
)
def test_metrics_on_loopback_answer_to_no_name_of_a_stranger(host: str, status: int) -> None:
    """A name that resolves to this host opens its private pages to a page of a stranger."""
    with metrics_door("127.0.0.1", 0, lambda: None) as port:
        found = gevent.spawn(_status_for, port, host).get(timeout=10)
    assert found == status


def _status_for(port: int, host: str) -> int:
    with gevent.socket.create_connection(("127.0.0.1", port)) as own:
        own.sendall(b"GET /metrics HTTP/1.1\r\nHost: %b\r\n\r\n" % host.encode())
        return int(own.recv(100).split()[1])
