"""A node's own metrics: names, buckets and the server's count of requests."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from loadtests.clock import NS_PER_MS
from loadtests.cluster.binning import BOUNDS_S
from loadtests.cluster.ground_truth import ABANDONED, HEADER, GroundTruth
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
