"""The web UI of a real run, open to others: TLS, login, live page in a browser, emergency stop.

One run for all of it, in this order; the last test stops it. Screenshots are kept in
`tests/artefacts/web/` to be looked at.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import ssl
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from chromium import Page, opened
from swarm_rig import (
    Job,
    children_of,
    complete_runs,
    free_port,
    is_under_load,
    job,
    only_run,
    wait_until,
    write_scenario,
)
from synthetic_run import good_plan
from test_core_live import lag_window, status_of, view_of
from test_engine_tls import Authority
from test_io_view import T0_S

from loadtests.cluster.launch import Cluster
from loadtests.record.event import Event
from loadtests.record.manifest import Outcome
from loadtests.swarm.live import Judged, LiveRun
from loadtests.swarm.metrics import RunSums

pytestmark = pytest.mark.system

ARTEFACTS = Path(__file__).parents[1] / "artefacts" / "web"
TOKEN = "a-token-that-nobody-guesses"
HOSTILE = "<img src=x onerror=window.owned=1><script>window.owned=1</script>{{7*7}}\u202e"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A run under load whose web UI listens on all addresses."""

    started: Job
    folder: Path
    port: int
    trust: ssl.SSLContext

    @property
    def url(self) -> str:
        """Of the UI."""
        return f"https://127.0.0.1:{self.port}"

    def status(self, path: str, *, method: str = "GET", **headers: str) -> int:
        """Of one request; header names with underscores."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(f"{self.url}{path}", headers=named, method=method)
        try:
            answer = urllib.request.urlopen(request, context=self.trust, timeout=20)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            assert "Access-Control-Allow-Origin" not in answer.headers
            return int(answer.status)

    def shown(self, request: str = "") -> dict[str, Any]:
        """What the page is told."""
        asked = urllib.request.Request(
            f"{self.url}/headroom/live.json{request}", headers={"Authorization": f"Bearer {TOKEN}"}
        )
        with urllib.request.urlopen(asked, context=self.trust, timeout=20) as answer:
            document: dict[str, Any] = json.load(answer)
            return document


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """`headroom run` of ten minutes, with TLS and a login; somebody has to stop it."""
    folder, port = tmp_path_factory.mktemp("web"), free_port()
    authority = Authority(folder, "good")
    certificate, key = authority.issue("localhost", "127.0.0.1")
    scenario = write_scenario(folder, seconds=600)
    text = scenario.read_text(encoding="utf-8")
    limits = 'objectives = ["p95 < 30 s", "max < 1 us", "p95 < 30 s on submit"]'
    text = text.replace('objectives = ["error_ratio < 1 %"]', limits)
    scenario.write_text(text, encoding="utf-8")
    with Cluster.start(nodes=2) as cluster, pytest.MonkeyPatch.context() as environment:
        cluster.wait_ready(30)
        environment.setenv("HEADROOM_WEB_TOKEN", TOKEN)
        words = [
            "headroom", "run", str(scenario), "--results", str(folder / "results"), "--force",
            "--engines", "1", "--web", "--web-port", str(port), "--web-host", "0.0.0.0",
            "--web-login", "--tls-cert", certificate, "--tls-key", key,
            *(word for node in cluster.nodes for word in ("--target", node.url)),
        ]  # fmt: skip
        with job(folder, *words) as started:
            wait_until(
                lambda: is_under_load(folder / "results") or started.process.poll() is not None,
                "load",
            )
            assert started.process.poll() is None, started.text()
            started.remember()
            trust = ssl.create_default_context(cadata=authority.pem)
            yield Opened(started=started, folder=folder, port=port, trust=trust)


def test_strangers_get_nothing(run: Opened) -> None:
    """Without the token, from another origin, by another name, or without TLS."""
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    for path in ("/", "/headroom", "/headroom/live.json", "/stats/requests", "/logs"):
        assert run.status(path) == 401
        assert run.status(path, **bearer) == 200
        assert run.status(path, **bearer, Host="evil.example") == 403
        assert run.status(path, **bearer, Origin="https://evil.example") == 403
        assert run.status(path, **bearer, Sec_Fetch_Site="cross-site") == 403
    for path in ("/stop", "/swarm", "/user", "/stats/reset", "/headroom/stop"):
        assert run.status(path, method="POST", Origin=run.url) == 401
        assert run.status(path, method="POST", **bearer, Origin="https://evil.example") == 403
        assert run.status(path) in {401, 405}
    for path in ("/swarm", "/user", "/stats/reset"):
        assert run.status(path, method="POST", **bearer) == 403
    assert run.status("/headroom", method="OPTIONS", **bearer) == 405
    plain = http.client.HTTPConnection("127.0.0.1", run.port, timeout=10)
    with suppress(OSError, http.client.HTTPException):
        plain.request("GET", "/headroom")
        assert plain.getresponse().status >= 400
    assert run.shown()["stop_reason"] is None
    assert "Traceback" not in run.started.text()


def test_the_token_is_nowhere(run: Opened) -> None:
    """No command line, no environment of a process that the run started, no file, no output."""
    children = psutil.Process(run.started.pid).children(recursive=True)
    assert len(children) >= 3
    for process in (psutil.Process(run.started.pid), *children):
        assert TOKEN not in " ".join(process.cmdline())
    for process in children:
        assert TOKEN not in process.environ().values()
    for file in (run.folder / "results").rglob("*"):
        assert not file.is_file() or TOKEN.encode() not in file.read_bytes(), file
    assert TOKEN not in run.started.text()


def test_the_page_is_told_of_the_run(run: Opened) -> None:
    """Rates, percentiles, the agent's health, and the verdict so far of the real judge."""
    (judge,) = children_of(run.started.pid, "loadtests.commands.provisional")
    with suppress(OSError):  # it would wait for ever on a machine that others keep busy
        os.sched_setscheduler(judge.pid, os.SCHED_OTHER, os.sched_param(0))
    wait_until(lambda: run.shown()["verdict"] is not None, "a verdict so far")
    shown = run.shown()
    stands = {one["text"]: one["standing"] for one in shown["verdict"]["objectives"]}
    assert stands["max < 1 us"] in {"violated", "open"}  # open: a busy machine's send lag
    assert stands["p95 < 30 s"] != "violated"
    assert shown["verdict"]["state"] in {"FAIL", "INCONCLUSIVE"}
    assert [one["text"] for one in shown["limits"]] == ["p95 < 30 s"]
    series = shown["series"]
    assert 90 <= max(series["planned"]) <= 110
    assert max(series["done"]) > 0
    assert all(value is None or value > 0 for value in series["p95_us"])
    (agent,) = shown["agents"]
    assert agent["is_alive"]
    assert agent["send_lag_p99_us"] > 0
    assert agent["cpu_ratio"] > 0
    assert shown["newest"]["start_s"] == [series["start_s"][-1]] * 3
    one = run.shown("?request=0")
    assert (one["shown_request"], max(one["series"]["done"]) <= max(series["done"])) == (0, True)
    assert [event["text"] for event in shown["events"] if "t0_chosen" in event["text"]]


def wait_for(page: Page, expression: str) -> None:
    """Until it is true in the page."""
    wait_until(lambda: page.evaluate(f"Boolean({expression})"), expression)


@pytest.fixture(scope="module")
def page(run: Opened) -> Iterator[Page]:
    """A tab that has logged in as a user does."""
    if shutil.which("chromium") is None:
        pytest.skip("chromium is not installed")
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    # Chromium's helpers may still write while its folder is removed.
    folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    with folder as profile, opened(Path(profile)) as tab:
        tab.call("Security.setIgnoreCertificateErrors", ignore=True)
        tab.visit(f"{run.url}/headroom", width=1280, scheme="light")
        assert tab.evaluate("location.pathname") == "/headroom/login"
        seen = tab.seen()
        assert seen.complaints == ()
        tab.screenshot(seen, ARTEFACTS / "login-1280-light.png")
        tab.evaluate(f"document.getElementById('token').value = '{TOKEN}'")
        tab.evaluate("document.forms[0].requestSubmit()")
        wait_for(tab, "location.pathname === '/headroom' && document.readyState === 'complete'")
        yield tab


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_a_browser_shows_it(run: Opened, page: Page, width: int, scheme: str) -> None:
    """Everything is filled, nothing is wider than the screen, no complaint, no foreign address."""
    page.visit(f"{run.url}/headroom", width=width, scheme=scheme)
    wait_for(page, "document.querySelectorAll('#times path').length > 4")
    wait_for(page, "document.querySelectorAll('#objectives tbody tr').length === 3")
    text = str(page.evaluate("document.body.innerText"))
    for word in ("rig", "provisional", "submit", "health", "agent-1", "t0_chosen", "p95 < 30 s"):
        assert word in text, text
    assert page.evaluate("document.querySelectorAll('#times path.limit').length") == 1
    seen = page.seen()
    assert seen.complaints == ()
    assert all(url.startswith(f"{run.url}/") for url in seen.requests), seen.requests
    assert (seen.width, seen.scroll_width) == (width, width)
    page.screenshot(seen, ARTEFACTS / f"headroom-{width}-{scheme}.png")


@pytest.mark.browser
def test_locusts_page_has_a_tab_of_ours(run: Opened, page: Page) -> None:
    """Locust's UI works behind the guard's policy, says where ours is and how objectives stand."""
    page.visit(f"{run.url}/?tab=headroom", width=1280, scheme="light")
    wait_for(page, "document.body.innerText.includes('p95 < 30 s on submit')")
    assert "/headroom" in str(page.evaluate("document.body.innerText"))
    seen = page.seen()
    assert seen.complaints == ()
    assert all(url.startswith((run.url, "data:")) for url in seen.requests), seen.requests
    page.screenshot(seen, ARTEFACTS / "locust-1280-light.png")


def hostile_document() -> str:
    """Every text that a scenario, target or agent has a say in."""
    plan = good_plan(scenario_name=HOSTILE)
    sums = RunSums(plan)
    sums.errors[HOSTILE, HOSTILE] = 7
    live = LiveRun(plan, HOSTILE, sums)
    live.received(f"{HOSTILE}@1", lag_window(T0_S, 40, f"{HOSTILE}/0", 0.2))
    live.told(Event(at_unix_ns=0, kind=HOSTILE, who=HOSTILE, text=HOSTILE, fields={}))
    one = {"stage": HOSTILE, "text": HOSTILE, "value": HOSTILE, "samples": 1, "required": 2,
           "standing": HOSTILE, "reason": HOSTILE}  # fmt: skip
    verdict = {"through_s": 1, "state": HOSTILE, "objectives": [one], "findings": [HOSTILE],
               "later": [HOSTILE], "left_out": 0}  # fmt: skip
    judged = Judged(verdict=json.dumps(verdict).encode(), note=HOSTILE)
    document = live.document(
        view_of([status_of(HOSTILE)]), judged, request=None, is_read_only=False
    )
    return json.dumps(msgspec.json.encode(document).decode())


@pytest.mark.browser
def test_hostile_names_are_text(run: Opened, page: Page) -> None:
    """A document of nothing but hostile texts: shown, not acted on, and still not too wide."""
    answer = f"window.fetch = async () => new Response({hostile_document()})"
    added = page.call("Page.addScriptToEvaluateOnNewDocument", source=answer)
    try:
        page.visit(f"{run.url}/headroom", width=390, scheme="light")
        wait_for(page, "document.querySelectorAll('#findings li').length === 1")
        assert page.evaluate("window.owned") is None
        assert page.evaluate("document.querySelectorAll('img, body script').length") == 0
        assert "<img src=x" in str(page.evaluate("document.body.innerText"))
        seen = page.seen()
        assert seen.complaints == ()
        assert seen.scroll_width == 390
    finally:
        page.call("Page.removeScriptToEvaluateOnNewDocument", identifier=added["identifier"])


@pytest.mark.browser
def test_the_emergency_stop_ends_the_run_in_order(run: Opened, page: Page) -> None:
    """Pressed and confirmed in the browser: complete archive, exit 4, the reason in it."""
    page.visit(f"{run.url}/headroom", width=1280, scheme="light")
    wait_for(page, "!document.getElementById('stop').hidden")
    page.evaluate("document.getElementById('stop').click()")
    wait_for(page, "document.getElementById('confirm').open")
    page.screenshot(page.seen(), ARTEFACTS / "stop-1280-light.png")
    page.evaluate("document.querySelector('#confirm button[value=no]').click()")
    wait_for(page, "!document.getElementById('confirm').open")
    assert run.shown()["stop_reason"] is None
    page.evaluate("document.getElementById('stop').click()")
    wait_for(page, "document.getElementById('confirm').open")
    page.evaluate("document.getElementById('yes').click()")
    assert run.started.wait(60) == 4, run.started.text()
    assert run.started.survivors() == []
    assert len(complete_runs(run.folder / "results")) == 1
    ended = only_run(run.folder / "results").manifest
    assert (ended.outcome, ended.outcome_reason) == (Outcome.ABORTED, "stopped in the web UI")
    assert [agent.has_final for agent in ended.agents] == [True]
