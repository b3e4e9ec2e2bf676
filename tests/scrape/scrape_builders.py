"""Scrapings and scrapers that a test mutates one thing of."""

from __future__ import annotations

import asyncio
import dataclasses
import time

from loadtests.clock import NS_PER_S
from loadtests.plan.call import Endpoint
from loadtests.plan.server_metrics import (
    DEFAULT_MEASURES,
    MetricsEndpoint,
    PrometheusSource,
    Scraping,
)
from loadtests.record.server import ServerRow
from loadtests.scrape.order import ScrapeOrder
from loadtests.scrape.process import build_scraper

TO_UNIX_NS = time.time_ns() - time.monotonic_ns()
PAGE = b"""# HELP process_cpu_usage The "recent cpu usage"
# TYPE process_cpu_usage gauge
process_cpu_usage 0.25
# TYPE system_cpu_usage gauge
system_cpu_usage 0.5
# TYPE jvm_memory_used_bytes gauge
jvm_memory_used_bytes{area="heap",id="G1 Eden Space",} 1.0E8
jvm_memory_used_bytes{area="heap",id="G1 Old Gen",} 2.5E8
jvm_memory_used_bytes{area="nonheap",id="Metaspace",} 7.0E7
jvm_memory_max_bytes{area="heap",id="G1 Eden Space",} -1.0
disk_free_bytes{path="/data"} 3.0E11
disk_total_bytes{path="/data"} 1.0E12
agroal_active_count{datasource="default",} 7.0
agroal_active_count{datasource="reports",} 61.0
http_server_requests_seconds_count{method="GET",outcome="SUCCESS",status="200",uri="/a",} 100.0
http_server_requests_seconds_count{method="POST",outcome="SUCCESS",status="201",uri="/b",} 20.0
http_server_requests_seconds_sum{method="GET",outcome="SUCCESS",status="200",uri="/a",} 1.5
http_server_requests_seconds_sum{method="POST",outcome="SUCCESS",status="201",uri="/b",} 0.5
http_server_requests_seconds_max{method="GET",outcome="SUCCESS",status="200",uri="/a",} 0.2
"""


def node_scraping(port: int, *paths: str, **changes: object) -> Scraping:
    """Nodes n0, n1, .. at these paths of one port, asked every second."""
    scraping = Scraping(
        every_ns=NS_PER_S,
        timeout_ns=10 * NS_PER_S,
        response_limit_bytes=1 << 20,
        headers=(),
        endpoints=tuple(
            MetricsEndpoint(
                node=f"n{index}",
                at=Endpoint(scheme="http", host="127.0.0.1", port=port),
                path=path,
            )
            for index, path in enumerate(paths)
        ),
        prometheus=None,
        measures=tuple(DEFAULT_MEASURES.values()),
    )
    return dataclasses.replace(scraping, **changes)  # type: ignore[arg-type]  # fields by name


def prometheus_scraping(port: int, **changes: object) -> Scraping:
    """A Prometheus server on this port."""
    source = PrometheusSource(
        at=Endpoint(scheme="http", host="127.0.0.1", port=port),
        base_path="",
        node_label="instance",
    )
    return node_scraping(port, prometheus=source, **changes)


def scraped(scraping: Scraping, authorised: tuple[str, ...] = ()) -> list[ServerRow]:
    """The rows of one scrape of every source."""
    order = ScrapeOrder(scraping=scraping, tls=None, authorised_hosts=authorised)
    scraper = build_scraper(order, TO_UNIX_NS)

    async def all_sources() -> list[tuple[ServerRow, ...]]:
        return await asyncio.gather(*(scraper.scrape(source) for source in scraper.sources))

    return [row for rows in asyncio.run(all_sources()) for row in rows]


def values(rows: list[ServerRow], node: str) -> dict[str, float | None]:
    """Values of a node by measure."""
    return {row.measure: row.value for row in rows if row.node == node}
