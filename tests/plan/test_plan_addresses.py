"""Which addresses may be reached, decided on what a name resolved to."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator

import pytest

from loadtests.plan.addresses import RefusedAddressError, refusal
from loadtests.plan.call import Endpoint
from loadtests.plan.connecting import connect, http_connection


@pytest.mark.parametrize(
    ("host", "address", "authorised", "is_refused"),
    [
        ("localhost", "127.0.0.1", (), False),
        ("::1", "::1", (), False),
        ("x", "::ffff:127.0.0.1", (), False),
        ("example.test", "192.0.2.7", (), True),
        ("example.test", "192.0.2.7", ("example.test",), False),
        ("Example.Test.", "192.0.2.7", ("example.test",), False),
        ("example.test", "192.0.2.7", ("192.0.2.0/24",), False),
        ("example.test", "192.0.2.7", ("192.0.2.7",), False),
        ("example.test", "192.0.3.7", ("192.0.2.0/24",), True),
        ("localhost", "192.0.2.7", (), True),
        ("meta", "169.254.169.254", ("meta", "169.254.0.0/16"), True),
        ("meta", "fe80::1%eth0", ("meta",), True),
        ("meta", "fd00:ec2::254", ("meta",), True),
        ("any", "0.0.0.0", ("any",), True),
        ("any", "224.0.0.1", ("any",), True),
        ("any", "255.255.255.255", ("any",), True),
        ("mapped", "::ffff:127.0.0.1", (), False),
        ("mapped", "::ffff:192.0.2.7", (), True),
        ("mapped", "::ffff:192.0.2.7", ("192.0.2.0/24",), False),
        ("mapped", "192.0.2.7", ("::ffff:192.0.2.0/120",), False),
        ("mapped", "::ffff:169.254.169.254", ("mapped", "::/0"), True),
        ("nat64", "64:ff9b::a9fe:a9fe", ("nat64", "64:ff9b::/96"), True),
        ("6to4", "2002:a9fe:a9fe::1", ("6to4", "2002::/16"), True),
        ("all", "10.0.0.1", ("::/0",), True),
        ("alibaba", "100.100.100.200", ("alibaba", "100.64.0.0/10"), True),
        ("azure", "168.63.129.16", ("azure",), True),
        ("google", "fd20:ce::254", ("google",), True),
        ("oracle", "192.0.0.192", ("oracle",), True),
        ("nonsense", "no address", ("nonsense",), True),
    ],
)
def test_only_authorised_addresses_may_be_loaded(
    host: str, address: str, authorised: tuple[str, ...], *, is_refused: bool
) -> None:
    """Loopback always, listed hosts and networks, link-local and group addresses never."""
    assert (refusal(host, address, authorised) is not None) == is_refused


@pytest.fixture
def server() -> Iterator[int]:
    """An HTTP server on loopback that sends everybody to a metadata service; its port."""

    class Redirecting(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", "http://169.254.169.254/latest/meta-data/")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Redirecting) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running.server_port
        running.shutdown()


def resolving(monkeypatch: pytest.MonkeyPatch, *answers: str) -> list[str]:
    """Make every name resolve to the next of these addresses; returns the names asked for."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, *rest: int, **named: int) -> object:
        if not host[:1].isalpha():
            return real(host, port, *rest, **named)
        asked.append(host)
        address = answers[min(len(asked), len(answers)) - 1]
        return real(address, port, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def test_what_was_checked_is_what_is_connected_to(
    server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that resolves elsewhere a moment later (rebinding) is connected as checked."""
    asked = resolving(monkeypatch, "127.0.0.1", "192.0.2.1")
    with connect("target.example", server, (), 5.0) as connection:
        assert connection.getpeername() == ("127.0.0.1", server)
    assert asked == ["target.example"]


@pytest.mark.parametrize("address", ["192.0.2.1", "169.254.169.254", "::ffff:169.254.169.254"])
def test_a_name_that_leads_elsewhere_is_refused(
    server: int, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """Unlisted, or never to be reached: nothing is sent to it, by HTTP either."""
    resolving(monkeypatch, address)
    at = Endpoint(scheme="http", host="localhost.example", port=server)
    connection = http_connection(at, ("10.0.0.0/8",), timeout_s=1.0, context=None)
    with pytest.raises(RefusedAddressError, match=r"not listed|link-local"):
        connection.request("GET", "/")


def test_a_redirect_is_an_answer_and_not_followed(server: int) -> None:
    """302 to a metadata service is what the target said, and all that comes of it."""
    at = Endpoint(scheme="http", host="127.0.0.1", port=server)
    connection = http_connection(at, (), timeout_s=5.0, context=None)
    connection.request("GET", "/")
    assert connection.getresponse().status == 302
    connection.close()
