"""A node's own metrics: names, buckets and the server's count of requests."""

from __future__ import annotations

import os
import time
from pathlib import Path

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from loadtests.clock import NS_PER_MS
from loadtests.cluster.binning import BOUNDS_S
from loadtests.cluster.ground_truth import ABANDONED, HEADER, GroundTruth
from loadtests.cluster.host_metrics import CpuReadings
from loadtests.cluster.metrics import Metrics

LABELS = {"method": "GET", "outcome": "SUCCESS", "status": "200", "uri": "/x"}


def samples(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample of a scrape, by name and labels."""
    text = metrics.exposition().decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_scrape_has_micrometers_names_and_exact_counts() -> None:
    """Buckets, count, sum and max are those of the durations, each in Micrometer's name."""
    metrics = Metrics(Path())
    series = metrics.series("GET", "/x", 200)
    durations_ms = [0.5, 0.6, 5, 150, 150, 199, 200, 201, 40_000]
    for one in durations_ms:
        series.durations_ns.append(round(one * NS_PER_MS))
    found = samples(metrics)
    name = "http_server_requests_seconds"
    for bound in BOUNDS_S:
        key = (f"{name}_bucket", frozenset({**LABELS, "le": str(bound)}.items()))
        assert found[key] == sum(one <= bound * 1000 for one in durations_ms), bound
    labels = frozenset(LABELS.items())
    assert found[f"{name}_bucket", frozenset({**LABELS, "le": "+Inf"}.items())] == 9
    assert found[f"{name}_count", labels] == 9
    assert found[f"{name}_sum", labels] == pytest.approx(sum(durations_ms) / 1000)
    assert found[f"{name}_max", labels] == 40.0


def test_cpu_memory_and_disk_are_this_process_and_its_host(tmp_path: Path) -> None:
    """Micrometer's names, with what the operating system says of the same things."""
    found = samples(Metrics(tmp_path))

    def one(name: str) -> float:
        (value,) = [value for (own, _), value in found.items() if own == name]
        return value

    usage = psutil.disk_usage(str(tmp_path))
    assert one("disk_total_bytes") == usage.total
    assert one("disk_free_bytes") == pytest.approx(usage.free, rel=0.2)
    assert one("jvm_memory_used_bytes") == pytest.approx(
        psutil.Process().memory_info().rss, rel=0.2
    )
    assert one("jvm_memory_max_bytes") == psutil.virtual_memory().total
    assert one("system_cpu_count") == os.cpu_count()
    for name in ("process_cpu_usage", "system_cpu_usage"):
        assert 0 <= one(name) <= 1


def test_cpu_is_that_of_the_time_since_the_last_reading() -> None:
    """A busy loop is a core of all cores; a reading too soon after another repeats it."""
    readings = CpuReadings()
    began_s, cpu_s = time.monotonic(), time.process_time()
    while time.monotonic() - began_s < 0.6:
        pass
    own, host = readings.read()
    passed_s, used_s = time.monotonic() - began_s, time.process_time() - cpu_s
    expected = used_s / passed_s / (os.cpu_count() or 1)
    assert own == pytest.approx(expected, rel=0.1)
    assert host >= 0.8 * own
    assert readings.read() == (own, host)


def test_folding_loses_nothing_and_keeps_nothing_waiting() -> None:
    """Counts are the same whenever the durations are binned; arrays are empty afterwards."""
    metrics = Metrics(Path())
    series = metrics.series("GET", "/x", 200)
    for number in range(1_000):
        series.durations_ns.append(number)
        if number % 7 == 0:
            metrics.fold()
    assert metrics.answered() == 1_000
    metrics.fold()
    assert metrics.answered() == 1_000
    assert len(series.durations_ns) == 0


def test_received_is_answered_and_abandoned_and_open() -> None:
    """The server's count holds each request once, whatever became of it."""
    metrics = Metrics(Path())
    for _ in range(5):
        metrics.opened("/x")
    metrics.closed("/x", abandoned=True)
    metrics.closed("/x", abandoned=False)
    metrics.series("GET", "/x", 200).durations_ns.append(1)  # the one that was answered
    metrics.series("GET", "/x", 503).durations_ns.append(1)  # one from the fast path
    (traffic,) = metrics.traffic()
    assert (traffic.received, traffic.abandoned) == (6, 1)
    assert samples(metrics)["stand_in_requests_received_total", frozenset({("uri", "/x")})] == 6


def test_ground_truth_is_one_row_per_request(tmp_path: Path) -> None:
    """Each note is a CSV row; a path with quotes or odd bytes stays inside its cell."""
    truth = GroundTruth(tmp_path / "truth.csv")
    truth.note(1, 2, 200, b"GET", b"/x")
    truth.note(3, ABANDONED, 0, b"POST", b'/"\xff,')
    truth.close()
    text = (tmp_path / "truth.csv").read_text(encoding="utf-8")
    assert text == HEADER + '1,2,200,GET,"/x"\n3,-1,0,POST,"/""\u00ff,"\n'
