"""What an agent looks at before load, against real sockets on loopback."""

from __future__ import annotations

import dataclasses
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import gevent.socket
import pytest

from loadtests.plan.authorisation import AuthorisedTarget, Configuration
from loadtests.plan.model import Node, Plan
from loadtests.plan.scenario import load_scenario, resolve
from loadtests.swarm.preflight import check_host
from loadtests.swarm.target import MAX_BYTES, PROOF_PATH, fetch_version

pytestmark = pytest.mark.system

SMOKE = Path(__file__).parents[2] / "scenarios" / "smoke.toml"
TOKEN = "hr-9f1c5c0e2b7d4a86"
LOOPBACK_ONLY = Configuration(path=None, targets=())


class Answers(BaseHTTPRequestHandler):
    """Says a version on /version, much too much on /long, and nothing else."""

    def do_GET(self) -> None:
        """Answer by path."""
        body = {
            "/version": b' {"version":"11.4.3"} \n',
            "/long": b"x" * 100_000,
            PROOF_PATH: TOKEN.encode() + b"\n",
        }.get(self.path)
        self.send_response(200 if body else 404)
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The port of a small HTTP server."""
    server = HTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def closed_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


def a_plan(*ports: int, host: str = "127.0.0.1", version_path: str | None = None) -> Plan:
    """The smoke plan against these ports."""
    nodes = tuple(
        Node(name=f"n{i}", scheme="http", host=host, port=port, base_path="", weight=1.0, grpc=None)
        for i, port in enumerate(ports)
    )
    plan = resolve(load_scenario(SMOKE))
    return dataclasses.replace(plan, nodes=nodes, version_path=version_path)


def test_a_reachable_target_has_no_findings(port: int) -> None:
    """Nothing to warn of, nothing that keeps the run from starting."""
    findings = check_host(a_plan(port), LOOPBACK_ONLY)
    assert findings.failure is None
    assert findings.warnings == ()


def test_one_silent_node_is_a_warning(port: int) -> None:
    """A degraded cluster may be what is measured, so one dead node does not refuse the run."""
    findings = check_host(a_plan(port, closed_port()), LOOPBACK_ONLY)
    assert findings.failure is None
    assert [w for w in findings.warnings if "n1" in w and "refused" in w.lower()]


def test_a_target_of_silent_nodes_is_a_failure_of_the_target() -> None:
    """When nobody answers, the run does not start, and the target is named."""
    failure = check_host(a_plan(closed_port(), closed_port()), LOOPBACK_ONLY).failure
    assert failure is not None
    assert failure[0] == "target"
    assert "n0" in failure[1]
    assert "n1" in failure[1]


def test_this_hosts_own_configuration_decides() -> None:
    """A master cannot make an agent send where the agent's own user allowed nothing."""
    failure = check_host(a_plan(80, host="192.0.2.1"), LOOPBACK_ONLY).failure
    assert failure is not None
    assert failure[0] == "target"
    assert "192.0.2.1" in failure[1]


def agreed(proof: str | None) -> Configuration:
    """A configuration that lists a foreign name, with the owner's token or without."""
    entry = AuthorisedTarget(
        host="target.example", owner="them", max_rate_per_s=1e9, expires=None, proof=proof
    )
    return Configuration(path=None, targets=(entry,))


@pytest.fixture
def _named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A foreign name that leads to loopback, as a test's load goes nowhere else."""
    for module in (socket, gevent.socket):
        real = module.getaddrinfo

        def getaddrinfo(host: str, *rest: Any, real: Any = real, **named: Any) -> Any:
            return real("127.0.0.1" if host == "target.example" else host, *rest, **named)

        monkeypatch.setattr(module, "getaddrinfo", getaddrinfo)


@pytest.mark.usefixtures("_named")
@pytest.mark.parametrize(
    ("proof", "is_agreed"), [(None, True), (TOKEN, True), ("another-token-of-theirs", False)]
)
def test_the_owners_token_is_asked_for(port: int, proof: str | None, *, is_agreed: bool) -> None:
    """Served by the target: go on. Another one: the run does not start, and the owner is named."""
    failure = check_host(a_plan(port, host="target.example"), agreed(proof)).failure
    assert (failure is None) is is_agreed
    if failure is not None:
        assert failure[0] == "target"
        assert "saw another text at /.well-known/headroom-load-test" in failure[1]
        assert "them" in failure[1]


@pytest.mark.usefixtures("_named")
def test_a_target_that_serves_no_token_has_not_agreed() -> None:
    """404 is no proof."""

    class Nothing(Answers):
        def do_GET(self) -> None:
            self.send_error(404)

    with HTTPServer(("127.0.0.1", 0), Nothing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        plan = a_plan(server.server_port, host="target.example")
        failure = check_host(plan, agreed(TOKEN)).failure
        server.shutdown()
    assert failure is not None
    assert "saw status 404" in failure[1]


def test_more_connections_than_ports_is_a_warning(port: int) -> None:
    """A plan that may exhaust ports says so before it does."""
    plan = dataclasses.replace(a_plan(port), connections=10_000_000)
    warnings = check_host(plan, LOOPBACK_ONLY).warnings
    assert [w for w in warnings if "ephemeral ports" in w]
    assert [w for w in warnings if "descriptors" in w]


def test_the_version_is_asked_once(port: int) -> None:
    """The version that the first answer states goes to the manifest."""
    assert fetch_version(a_plan(port, version_path="/version"), ()) == ("11.4.3", ())


def test_the_next_node_is_asked_when_one_is_silent(port: int) -> None:
    """A dead node is worth a warning; another one's answer counts."""
    version, warnings = fetch_version(a_plan(closed_port(), port, version_path="/version"), ())
    assert version == "11.4.3"
    assert len(warnings) == 1


def test_a_version_nobody_tells_is_none(port: int) -> None:
    """A refusal is no version, and is no reason not to run."""
    version, (warning,) = fetch_version(a_plan(port, version_path="/nowhere"), ())
    assert version is None
    assert "404" in warning


def test_a_long_answer_is_cut(port: int) -> None:
    """A target cannot fill the manifest."""
    version, _ = fetch_version(a_plan(port, version_path="/long"), ())
    assert version == "x" * MAX_BYTES
