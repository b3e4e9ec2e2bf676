"""A Prometheus server's HTTP API as source, against a server that answers as documented."""

from __future__ import annotations

import dataclasses
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from metrics_server import Pieces, answer, metrics_server
from scrape_builders import prometheus_scraping, scraped, values

from loadtests.clock import NS_PER_S
from loadtests.plan.server_metrics import ServerMeasure, ServerUnit
from loadtests.record.server import SCRAPE, ScrapeFailure

CPU = ServerMeasure(name="cpu", unit=ServerUnit.RATIO, series=(), query="avg by (instance) (x)")


def said(result: object, *, kind: str = "vector", **rest: object) -> Pieces:
    """A successful answer, as the HTTP API's page has it."""
    document = {"status": "success", "data": {"resultType": kind, "result": result}, **rest}
    return answer(msgspec.json.encode(document), content_type="application/json")


def vector(**by_node: str) -> list[dict[str, object]]:
    """One value a node."""
    return [
        {"metric": {"__name__": "x", "instance": node}, "value": [1435781451.781, value]}
        for node, value in by_node.items()
    ]


def test_every_node_of_the_answer_is_a_node() -> None:
    """Values by the node label, of a query at the server's own now."""
    pages = {"/api/v1/query": said(vector(n1="0.25", n2="0.5"))}
    with metrics_server(pages) as server:
        rows = scraped(prometheus_scraping(server.port, measures=(CPU,)))
    assert values(rows, "n1") == {"cpu": 0.25}
    assert values(rows, "n2") == {"cpu": 0.5}
    assert values(rows, "all") == {SCRAPE: 1.0}
    (request,) = server.requests
    asked = parse_qs(urlsplit(request.split(" ")[1]).query)
    assert asked == {"query": ["avg by (instance) (x)"]}


def test_defaults_are_asked_by_node() -> None:
    """Micrometer's names as PromQL, the next alternative where the first has no series."""
    with metrics_server({"/api/v1/query": said([])}) as server:
        rows = scraped(prometheus_scraping(server.port))
    asked = {
        parse_qs(urlsplit(request.split(" ")[1]).query)["query"][0] for request in server.requests
    }
    assert "max by (instance) (1 - disk_free_bytes / disk_total_bytes)" in asked
    assert "max by (instance) (hikaricp_connections_active)" in asked
    assert all(row.failure is ScrapeFailure.MISSING for row in rows if row.measure != SCRAPE)
    assert values(rows, "all")[SCRAPE] == 1.0


def test_a_scalar_is_one_value_for_all() -> None:
    """A query that aggregates everything names no node."""
    with metrics_server({"/api/v1/query": said([1.5, "0.75"], kind="scalar")}) as server:
        rows = scraped(prometheus_scraping(server.port, measures=(CPU,)))
    assert values(rows, "all") == {SCRAPE: 1.0, "cpu": 0.75}


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-1"])
def test_no_number_is_no_value(value: str) -> None:
    """Prometheus writes them as texts; they are rows without a value."""
    with metrics_server({"/api/v1/query": said(vector(n1=value))}) as server:
        (_, row) = scraped(prometheus_scraping(server.port, measures=(CPU,)))
    assert (row.value, row.failure) == (None, ScrapeFailure.NOT_A_NUMBER)


ERROR = b'{"status":"error","errorType":"bad_data","error":"parse error"}'


@pytest.mark.parametrize(
    ("pieces", "failure", "text"),
    [
        (answer(ERROR, status="400 Bad Request", content_type="application/json"),
         ScrapeFailure.STATUS, "status 400"),
        (answer(ERROR, content_type="application/json"), ScrapeFailure.FORMAT, "parse error"),
        (said([], warnings=["some store did not answer"]), ScrapeFailure.FORMAT, "some store"),
        (said([], kind="matrix"), ScrapeFailure.FORMAT, "a matrix"),
        (said([{"metric": {"instance": "n1"}}]), ScrapeFailure.FORMAT, "value"),
        (said(vector(n1="zero")), ScrapeFailure.FORMAT, "zero"),
        (said([*vector(n1="1"), *vector(n1="2")]), ScrapeFailure.FORMAT, "several values for n1"),
        (said(vector(**{f"n{i}": "1" for i in range(1_001)})), ScrapeFailure.TOO_LARGE, "1001"),
        (answer(b"<html>"), ScrapeFailure.FORMAT, "JSON"),
        (answer(b"[" * 100_000), ScrapeFailure.FORMAT, ""),
        ([20.0], ScrapeFailure.TIMEOUT, "in time"),
    ],
)  # fmt: skip
def test_an_answer_that_is_none_is_a_failed_scrape(
    pieces: Pieces, failure: ScrapeFailure, text: str
) -> None:
    """Errors, warnings, other types, doubled nodes and nonsense: a row says which."""
    timeout_ns = NS_PER_S // 2 if failure is ScrapeFailure.TIMEOUT else 10 * NS_PER_S
    with metrics_server({"/api/v1/query": pieces}) as server:
        (row,) = scraped(prometheus_scraping(server.port, measures=(CPU,), timeout_ns=timeout_ns))
    assert (row.measure, row.value, row.failure) == (SCRAPE, 0.0, failure), row.message
    assert text in (row.message or "")


def test_one_wrong_query_does_not_hide_the_others() -> None:
    """Only the measure whose query is no such answer is missing, with the reason."""
    doubled = dataclasses.replace(CPU, name="doubled", query="x", unit=ServerUnit.COUNT)
    twice = said([*vector(n1="1"), *vector(n1="2")])
    with metrics_server({"/api/v1/query": said(vector(n1="1")), "x": twice}) as server:
        rows = scraped(prometheus_scraping(server.port, measures=(CPU, doubled)))
    assert values(rows, "n1") == {"cpu": 1.0}
    (row,) = [row for row in rows if row.measure == "doubled"]
    assert (row.node, row.value, row.failure) == ("all", None, ScrapeFailure.FORMAT)
    assert "several values for n1" in (row.message or "")
