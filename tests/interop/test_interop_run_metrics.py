"""A real Prometheus scrapes a run; what it stores is what the archive holds."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
from prometheus_server import prometheus
from swarm_rig import job, only_run, wait_until, write_scenario

from loadtests.cluster.launch import Cluster
from loadtests.record.archive import Run

pytestmark = pytest.mark.interop


def get(url: str, method: str = "GET") -> tuple[int, str]:
    """Status and body."""
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, method=method), timeout=10
        ) as answer:
            return int(answer.status), answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


Series = list[tuple[dict[str, str], list[tuple[float, float]]]]


def ask(port: int, query: str) -> Series:
    """What Prometheus answers: of each series its labels and (time, value) pairs."""
    url = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": query})
    status, text = get(url)
    assert status == 200, text
    found = json.loads(text)["data"]["result"]
    return [(row["metric"], [(float(t), float(v)) for t, v in row["values"]]) for row in found]


def is_scraped(port: int, requests: int) -> bool:
    """True once Prometheus has counted so many."""
    try:
        if get(f"http://127.0.0.1:{port}/-/ready")[0] != 200:
            return False
    except OSError:
        return False  # it starts
    rows = ask(port, "headroom_requests_total[1m]")
    return sum(values[-1][1] for _, values in rows) > requests


def ended_through(run: Run, second: float) -> dict[str, int]:
    """The archive's own sums through a second, by outcome."""
    rows = run.windows[run.windows["window_s"] <= second]
    return {outcome: int(rows[outcome].sum()) for outcome in ("ok", "client_error", "failed")}


def test_prometheus_stores_what_the_archive_holds(tmp_path: Path) -> None:
    """At every scrape the counters are the archive's sums through the newest second told."""
    with Cluster.start(nodes=1) as cluster:
        cluster.wait_ready(30)
        scenario = write_scenario(tmp_path, seconds=20, rate=200)
        words = ["headroom", "run", str(scenario), "--target", cluster.nodes[0].url, "--force"]
        words += ["--results", str(tmp_path / "results"), "--engines", "1", "--metrics-port", "0"]
        with job(tmp_path, *words) as started:
            wait_until(lambda: "metrics: http://" in started.text(), "the address")
            found = re.search(r"metrics: http://(127\.0\.0\.1:\d+)/metrics", started.text())
            assert found is not None
            assert get(f"http://{found[1]}/")[0] == 404
            assert get(f"http://{found[1]}/metrics", "POST")[0] == 405
            with prometheus(tmp_path, found[1], path="/metrics") as port:
                wait_until(lambda: is_scraped(port, 600), "requests")
                page = get(f"http://{found[1]}/metrics")[1]
                ((_, seconds),) = ask(port, "headroom_newest_window_timestamp_seconds[1m]")
                requests = ask(port, "headroom_requests_total[1m]")
                buckets = ask(port, 'headroom_response_time_seconds_bucket{le="+Inf"}[1m]')
            started.wait()  # whatever the verdict on this machine is
    run = only_run(tmp_path / "results")
    assert len(seconds) >= 2
    for at, second in seconds:
        archived = ended_through(run, second)
        told = {outcome: _sum_at(requests, at, outcome=outcome) for outcome in archived}
        assert told == archived
        assert _sum_at(buckets, at, outcome="ok") == archived["ok"]
    _check_with_promtool(page)


def _sum_at(series: Series, at: float, **labels: str) -> float:
    wanted = labels.items()
    return sum(dict(values)[at] for have, values in series if wanted <= have.items())


def _check_with_promtool(page: str) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=page, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
