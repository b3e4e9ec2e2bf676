"""REST over HTTP/2 against nghttpd (nghttp2) and nginx: bodies, heads, windows, tables, TLS."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conformance_plans import MEGABYTE, counts_of, kinds_of, over_tls
from driver import RunResult, run_plan
from engine_plans import request
from grpc_plans import grpc_plan, http2, run_many
from proxies import STATIC_NGINX
from servers import listening, need
from test_engine_tls import Authority

from loadtests.clock import NS_PER_S
from loadtests.plan.model import BodyContains, Plan, Request
from loadtests.record.window import Count, Kind

pytestmark = pytest.mark.interop

_REQUEST = re.compile(rb"recv \(stream_id=\d+\) :method:")


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    """A folder with a small and a large file to serve."""
    folder = tmp_path / "pages"
    folder.mkdir()
    (folder / "small").write_text("a small page")
    (folder / "large").write_text("x" * MEGABYTE)
    (folder / "empty").write_text("")
    return folder


@contextmanager
def nghttpd(pages: Path, *options: str, log: Path | None = None) -> Iterator[int]:
    """Serve the pages over h2c, or over TLS where key and certificate end the options."""
    program = need("nghttpd")
    files = [option for option in options if option.endswith((".key", ".crt"))]
    others = [option for option in options if option not in files]
    common = ["-a", "127.0.0.1", "-d", str(pages), "--echo-upload"]
    shown, plain = (["-v"] if log else []), ([] if files else ["--no-tls"])

    def command_of(port: int) -> list[str]:
        return [program, *common, *shown, *plain, *others, str(port), *files]

    with listening(command_of, log or Path("/dev/null")) as (port, _):
        yield port


def _requests() -> list[Request]:
    """Everything that a client of REST asks for, checked where there is a body."""
    uploaded = "u" * MEGABYTE
    return [
        http2(request("/small", checks=(BodyContains(text="a small page"),))),
        http2(request("/small", name="again", weight=4.0)),
        http2(request("/large", checks=(BodyContains(text="x" * MEGABYTE),))),
        http2(request("/empty")),
        http2(request("/small", name="head", method="HEAD")),
        http2(request("/missing")),
        http2(
            request(
                "/up",
                method="POST",
                body=uploaded.encode(),
                checks=(BodyContains(text=uploaded),),
                timeout_ns=20 * NS_PER_S,
                weight=0.5,
            )
        ),
    ]


def _plan(port: int, requests: list[Request], **changes: object) -> Plan:
    usual: dict[str, object] = {"response_limit_bytes": 2 * MEGABYTE, "grace_ns": 20 * NS_PER_S}
    return grpc_plan(port, requests, **(usual | changes))  # type: ignore[arg-type]  # by name


def _check(result: RunResult) -> dict[str, int]:
    """All is ok but what is missing; what was sent, by request."""
    result.check_conservation()
    sent = counts_of(result, Count.SENT)
    assert kinds_of(result) == {"missing": {"status_404": sent["missing"]}}
    assert result.final.client_error == sent["missing"] > 0
    received = counts_of(result, Count.BYTES_RECEIVED)
    for name in ("large", "up"):
        assert sent[name] * MEGABYTE <= received[name] <= sent[name] * MEGABYTE * 1.1
    assert received["head"] <= sent["head"] * 500
    return sent


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--padding=255",),
        ("--header-table-size=0", "--encoder-header-table-size=0"),
        ("--window-bits=10", "--connection-window-bits=12"),
        ("--trailer=x-end: 1", "--no-content-length"),
        ("--max-concurrent-streams=2",),
    ],
    ids=["plain", "padded", "no tables", "narrow windows", "trailers", "two streams"],
)
def test_rest_against_nghttpd(options: tuple[str, ...], pages: Path, tmp_path: Path) -> None:
    """Each way in which nghttp2 can speak: the same outcomes, and it has seen every request."""
    log = tmp_path / "nghttpd.log"
    with nghttpd(pages, *options, log=log) as port:
        result = run_plan(_plan(port, _requests(), level=100, backlog_limit=1000), timeout_s=60)
    sent = _check(result)
    assert sum(sent.values()) == 100 == len(_REQUEST.findall(log.read_bytes()))
    if "--max-concurrent-streams=2" in options:
        assert max(window.health[0].streams for window in result.windows) == 4


def test_rest_over_tls(pages: Path, tmp_path: Path) -> None:
    """OpenSSL's server chooses h2 by ALPN."""
    authority = Authority(tmp_path, "good")
    certificate, key = authority.issue("127.0.0.1")
    with nghttpd(pages, key, certificate) as port:
        plan = over_tls(_plan(port, _requests(), level=100), authority)
        result = run_plan(plan, timeout_s=60)
    _check(result)


def test_an_answer_before_the_end_of_the_upload(pages: Path) -> None:
    """What is left of the body is given up, and the connection goes on."""
    early = http2(request("/small", method="PUT", body=b"u" * MEGABYTE, name="early"))
    with nghttpd(pages, "--early-response") as port:
        plan = _plan(port, [early, http2(request("/small", name="beside"))], level=100)
        result = run_plan(plan, timeout_s=60)
    result.check_conservation()
    assert (result.kinds(), result.final.ok) == ({}, 100)
    assert result.histogram(Kind.CONNECT).n == 2


def test_a_hundred_thousand_requests_to_nghttpd(pages: Path) -> None:
    """All answered, on the connections that were planned."""
    with nghttpd(pages) as port:
        run_many(port, [http2(request("/small"))], least=100_000)


def test_a_hundred_thousand_requests_to_nginx(pages: Path, tmp_path: Path) -> None:
    """All answered, and as many lines in nginx's log."""
    program, log = need("nginx"), tmp_path / "access.log"

    def command_of(port: int) -> list[str]:
        path = tmp_path / f"nginx-{port}.conf"
        path.write_text(STATIC_NGINX.format(folder=tmp_path, port=port, pages=pages, log=log))
        return [program, "-e", "stderr", "-c", str(path)]

    with listening(command_of) as (port, _):
        result = run_many(port, [http2(request("/small"))], least=100_000)
    assert log.read_bytes().count(b"\n") == result.final.sent
