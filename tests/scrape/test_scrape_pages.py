"""Scrapes of nodes over real sockets: what a page says, and what a hostile one cannot do."""

from __future__ import annotations

import time
from collections.abc import Mapping

import pytest
from metrics_server import TEXT, Pieces, answer, metrics_server
from scrape_builders import PAGE, TO_UNIX_NS, node_scraping, scraped, values

from loadtests.clock import NS_PER_MS, NS_PER_S
from loadtests.plan.call import Endpoint
from loadtests.plan.server_metrics import MetricsEndpoint
from loadtests.record.server import SCRAPE, ScrapeFailure
from loadtests.scrape.exposition import MOST_SAMPLES, check_content_type, parse_samples

LIMIT = 1 << 20


def test_a_page_becomes_the_figures_of_its_node() -> None:
    """Sums over pools, the fuller data source, the used part of a disk; what is not there is."""
    with metrics_server({"/q/metrics": answer(PAGE)}) as server:
        began_ns = time.monotonic_ns()
        rows = scraped(node_scraping(server.port, "/q/metrics"))
        ended_ns = time.monotonic_ns()
    assert values(rows, "n0") == {
        SCRAPE: 1.0,
        "cpu": 0.25,
        "host_cpu": 0.5,
        "memory": 4.2e8,
        "disk": pytest.approx(0.7),
        "pool_in_use": 61.0,
        "pool_waiting": None,
        "requests": 120.0,
        "request_seconds": 2.0,
    }
    by_measure = {row.measure: row for row in rows}
    assert by_measure["pool_in_use"].series == "max(agroal_active_count)"
    assert by_measure["pool_waiting"].failure is ScrapeFailure.MISSING
    for row in rows:
        assert began_ns + TO_UNIX_NS <= row.at_unix_ns <= ended_ns + TO_UNIX_NS
        assert 0 < row.duration_ns <= ended_ns - began_ns
    (request,) = server.requests
    assert request.startswith("GET /q/metrics HTTP/1.1\r\n")
    assert "Accept: text/plain;version=0.0.4" in request


def test_the_first_series_that_a_node_has_counts() -> None:
    """Hikari's pool where there is no Agroal."""
    page = b'hikaricp_connections_active{pool="p"} 9\nhikaricp_connections_pending 2\n'
    with metrics_server({"/m": answer(page)}) as server:
        rows = {row.measure: row for row in scraped(node_scraping(server.port, "/m"))}
    assert (rows["pool_in_use"].value, rows["pool_waiting"].value) == (9.0, 2.0)
    assert rows["pool_in_use"].series == "max(hikaricp_connections_active)"


@pytest.mark.parametrize(
    ("line", "value", "failure"),
    [
        ("process_cpu_usage NaN", None, ScrapeFailure.NOT_A_NUMBER),
        ("process_cpu_usage +Inf", None, ScrapeFailure.NOT_A_NUMBER),
        ("process_cpu_usage -1.0", None, ScrapeFailure.NOT_A_NUMBER),
        ('process_cpu_usage{a="1"} 0.5\nprocess_cpu_usage{a="2"} NaN', None,
         ScrapeFailure.NOT_A_NUMBER),
        ("process_cpu_usage 1e400", None, ScrapeFailure.NOT_A_NUMBER),
        ("process_cpu_usage 0.5 1700000000000", 0.5, None),
        ('process_cpu_usage 0.5 # {trace="x"} 1', 0.5, None),
        ("process_cpu_usages 0.5", None, ScrapeFailure.MISSING),
        ("# process_cpu_usage 0.5", None, ScrapeFailure.MISSING),
        ("", None, ScrapeFailure.MISSING),
    ],
)  # fmt: skip
def test_a_value_is_a_finite_number_or_none(
    line: str, value: float | None, failure: ScrapeFailure | None
) -> None:
    """NaN, infinities and a JVM's -1 are no level: the row says so."""
    with metrics_server({"/m": answer(line.encode() + b"\n")}) as server:
        rows = {row.measure: row for row in scraped(node_scraping(server.port, "/m"))}
    assert rows[SCRAPE].value == 1.0
    assert (rows["cpu"].value, rows["cpu"].failure) == (value, failure)


def test_a_disk_of_no_size_has_no_use() -> None:
    """A division by zero is no number, and no crash."""
    page = b'disk_free_bytes{path="/"} 0\ndisk_total_bytes{path="/"} 0\n'
    with metrics_server({"/m": answer(page)}) as server:
        assert values(scraped(node_scraping(server.port, "/m")), "n0")["disk"] is None


BIG = b"process_cpu_usage 0.5\n" + b"# " + b"x" * (2 * LIMIT)
BOMB = b"".join(b'process_cpu_usage{id="%d"} 0.5\n' % n for n in range(MOST_SAMPLES + 1))
LONG_LABEL = b'process_cpu_usage{id="' + b"x" * 20_000 + b'"} 0.5\n'
CHUNKS = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
MORE = b"fff\r\n" + b"#" * 0xFFF + b"\r\n"
STATUS_LINE = b"HTTP/1.1 200 OK\r\n"
HEADER = b"X-A: " + b"y" * 1_000 + b"\r\n"
CUT = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\nprocess_cpu"

HOSTILE: Mapping[str, tuple[Pieces, ScrapeFailure]] = {
    "too big": (answer(BIG), ScrapeFailure.TOO_LARGE),
    "endless chunks": ([CHUNKS, *[MORE] * 600], ScrapeFailure.TOO_LARGE),
    "bytes of extensions": (
        [CHUNKS, *[b"1;" + b"x" * 8_000 + b"\r\n\n\r\n"] * 1_000],
        ScrapeFailure.TOO_LARGE,
    ),
    "endless head": ([STATUS_LINE, *[HEADER] * 1_000], ScrapeFailure.TOO_LARGE),
    "label bomb": (answer(BOMB), ScrapeFailure.TOO_LARGE),
    "long label": (answer(LONG_LABEL), ScrapeFailure.TOO_LARGE),
    "silence": ([30.0], ScrapeFailure.TIMEOUT),
    "a slow head": ([b"HTTP/1.1 2", 30.0], ScrapeFailure.TIMEOUT),
    "a byte at a time": (
        [b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 99\r\n\r\n"]
        + [part for _ in range(99) for part in (b"#", 0.1)],
        ScrapeFailure.TIMEOUT,
    ),
    "broken off": ([CUT], ScrapeFailure.PROTOCOL),
    "not HTTP": ([b"SSH-2.0-OpenSSH_9.2\r\n"], ScrapeFailure.PROTOCOL),
    "garbage lines": (answer(b"process_cpu_usage }{ \xff"), ScrapeFailure.FORMAT),
    "no number": (answer(b"process_cpu_usage five\n"), ScrapeFailure.FORMAT),
    "no value": (answer(b"process_cpu_usage \n"), ScrapeFailure.FORMAT),
    "open labels": (answer(b'process_cpu_usage{a="1 0.5\n'), ScrapeFailure.FORMAT),
    "bytes": (answer(bytes(range(256)) * 10), ScrapeFailure.FORMAT),
    "a redirect": (
        answer(b"", status="302 Found", more="Location: http://192.0.2.1/secret\r\n"),
        ScrapeFailure.REDIRECT,
    ),
    "an error": (answer(b"process_cpu_usage 0.1\n", status="503 Down"), ScrapeFailure.STATUS),
    "a login page": (answer(b"<html>", content_type="text/html"), ScrapeFailure.CONTENT_TYPE),
    "no type": (answer(b"process_cpu_usage 0.1\n", content_type=None), ScrapeFailure.CONTENT_TYPE),
    "compressed": (
        answer(b"\x1f\x8b", more="Content-Encoding: gzip\r\n"),
        ScrapeFailure.CONTENT_TYPE,
    ),
}  # fmt: skip


@pytest.mark.parametrize("other_bytes", [100, 40_000, 70_000, 900_000])
def test_a_large_page_is_read_to_its_end(other_bytes: int) -> None:
    """What is wanted stands behind thousands of other series, in the first read or a later one."""
    line = b'http_server_requests_seconds_bucket{uri="/",le="0.1"} 1\n'
    page = line * (other_bytes // len(line)) + PAGE
    with metrics_server({"/m": answer(page)}) as server:
        assert values(scraped(node_scraping(server.port, "/m")), "n0")["cpu"] == 0.25


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_page_is_a_failed_scrape_and_no_more(name: str) -> None:
    """One row that says why; the sound node beside it is read in the same moment."""
    pieces, failure = HOSTILE[name]
    with metrics_server({"/bad": pieces, "/good": answer(PAGE)}) as server:
        timeout_ns = 400 * NS_PER_MS if failure is ScrapeFailure.TIMEOUT else 10 * NS_PER_S
        rows = scraped(node_scraping(server.port, "/bad", "/good", timeout_ns=timeout_ns))
    (bad,) = [row for row in rows if row.node == "n0"]
    assert (bad.measure, bad.value, bad.failure) == (SCRAPE, 0.0, failure), bad.message
    assert bad.message
    assert len(bad.message) <= 300
    assert values(rows, "n1")["cpu"] == 0.25


def test_a_redirect_is_not_followed() -> None:
    """Nobody is asked but who was named."""
    with metrics_server({}) as other:
        more = f"Location: {other.url}/q/metrics\r\n"
        pages = {"/m": answer(b"", status="307 Temporary", more=more)}
        with metrics_server(pages) as server:
            (row,) = scraped(node_scraping(server.port, "/m"))
        assert row.failure is ScrapeFailure.REDIRECT
        assert other.url in (row.message or "")
        assert other.requests == []


def test_nobody_listens() -> None:
    """A refused connection is a row."""
    with metrics_server({}) as server:
        port = server.port
    (row,) = scraped(node_scraping(port, "/m"))
    assert row.failure is ScrapeFailure.CONNECT


def test_a_name_of_two_addresses_is_asked_at_the_one_that_listens() -> None:
    """`localhost` may be ::1 first, and the page be served on 127.0.0.1 alone."""
    with metrics_server({"/m": answer(PAGE)}) as server:
        at = Endpoint(scheme="http", host="localhost", port=server.port)
        node = MetricsEndpoint(node="n0", at=at, path="/m")
        rows = scraped(node_scraping(server.port, endpoints=(node,)))
    assert values(rows, "n0")["cpu"] == 0.25


def test_an_address_that_nobody_authorised_is_not_asked() -> None:
    """The guard of load is the guard of scrapes, on the resolved address."""
    at = Endpoint(scheme="http", host="192.0.2.9", port=9003)
    elsewhere = MetricsEndpoint(node="far", at=at, path="/q/metrics")
    (row,) = scraped(node_scraping(1, endpoints=(elsewhere,)))
    assert row.failure is ScrapeFailure.REFUSED
    assert "not listed under [authorised_targets]" in (row.message or "")


def test_headers_are_filled_on_this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret comes from the environment, goes to the target, and into no row."""
    monkeypatch.setenv("METRICS_TOKEN", "s3cr3t-token")
    headers = (("Authorization", "Bearer ${env:METRICS_TOKEN}"),)
    with metrics_server({"/m": answer(PAGE)}) as server:
        rows = scraped(node_scraping(server.port, "/m", headers=headers))
    assert "Authorization: Bearer s3cr3t-token\r\n" in server.requests[0]
    assert "s3cr3t" not in repr(rows)


def test_parsing_ends_when_its_time_does() -> None:
    """A page that is not parsed in time is a timeout, not a late value."""
    with pytest.raises(Exception, match="while the page was parsed") as caught:
        parse_samples(BOMB, {"process_cpu_usage"}, time.monotonic() - 1)
    assert getattr(caught.value, "kind", None) is ScrapeFailure.TIMEOUT


def test_a_page_of_other_series_costs_next_to_nothing() -> None:
    """Only lines of wanted names are parsed: the rest may be anything."""
    other = b"".join(b'other{id="%d"} }{\n' % n for n in range(50_000))
    samples = parse_samples(other + b"a 1\n", {"a"}, time.monotonic() + 60)
    assert [(sample.name, sample.value) for sample in samples] == [("a", 1.0)]


def test_openmetrics_is_read_as_well() -> None:
    """A server that answers in the newer format, though the older was asked for."""
    check_content_type({"content-type": "application/openmetrics-text; version=1.0.0"})
    check_content_type({"content-type": TEXT})
    page = b"process_cpu_usage 0.25\n# EOF\n"
    assert parse_samples(page, {"process_cpu_usage"}, time.monotonic() + NS_PER_S)[0].value == 0.25
