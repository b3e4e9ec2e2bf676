"""A real Prometheus server as the source of the target's metrics, where one is installed."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from prometheus_server import prometheus
from scrape_builders import node_scraping, prometheus_scraping, scraped, values

from loadtests.cluster.launch import Cluster
from loadtests.record.server import SCRAPE, ScrapeFailure, ServerRow

pytestmark = pytest.mark.interop

PATIENCE_S = 40.0


def wait_for(port: int, node: str, *, has_values: bool) -> list[ServerRow]:
    """The first scrape in which a node has a CPU, or has none any more."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        rows = scraped(prometheus_scraping(port))
        is_up = values(rows, "all").get(SCRAPE) == 1.0
        if is_up and (values(rows, node).get("cpu") is not None) is has_values:
            return rows
        assert time.monotonic() < deadline, rows
        time.sleep(0.5)


def test_a_prometheus_server_says_what_the_nodes_say(tmp_path: Path) -> None:
    """Each default measure of each node, as the node itself has it; gone when the node is."""
    with Cluster.start(nodes=2) as cluster:
        cluster.wait_ready(30)
        targets = [node.url.removeprefix("http://") for node in cluster.nodes]
        with prometheus(tmp_path, *targets) as port:
            for target in targets:
                rows = wait_for(port, target, has_values=True)
            for target in targets:
                seen = values(rows, target)
                own = values(
                    scraped(node_scraping(int(target.rpartition(":")[2]), "/q/metrics")), "n0"
                )
                assert set(seen) == {name for name, value in own.items() if value is not None} - {
                    SCRAPE
                }
                for name in ("memory", "disk"):
                    assert seen[name] == pytest.approx(own[name], rel=0.1)
            missing = [row for row in rows if row.failure is ScrapeFailure.MISSING]
            assert {row.measure for row in missing} == {"pool_in_use", "pool_waiting"}
            os.kill(cluster.nodes[0].pid, signal.SIGKILL)
            rows = wait_for(port, targets[0], has_values=False)
            assert values(rows, targets[1])["cpu"] is not None
