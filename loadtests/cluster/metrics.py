"""What a node measured of itself, in Prometheus text with Micrometer's names.

Owns the series of answered requests. The hot path appends one duration to an array;
`fold` bins the arrays a few times a second and at every scrape, so that a scrape always
shows every answer that has left.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from loadtests.cluster.binning import MAX_MEMORY_S, MAX_SLICES, Binned
from loadtests.cluster.grpc_metrics import GrpcMetrics
from loadtests.cluster.host_metrics import HostMetrics
from loadtests.cluster.wire import Series

MEDIA_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"
_LABELS: Final = ("method", "outcome", "status", "uri")
_OUTCOMES: Final = {2: "SUCCESS", 3: "REDIRECTION", 4: "CLIENT_ERROR", 5: "SERVER_ERROR"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Requests of one uri template: all that came in, and those whose client had gone."""

    uri: str
    received: int
    abandoned: int


class Metrics:
    """All series of a node; `folder` is where its ledger lies."""

    def __init__(self, folder: Path) -> None:
        self._host = HostMetrics(folder)
        self.grpc = GrpcMetrics()
        self._series: dict[tuple[str, str, int], tuple[Series, Binned]] = {}
        self._opened: dict[str, int] = {}
        self._abandoned: dict[str, int] = {}
        self._started_s = self._sliced_s = time.monotonic()
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def series(self, method: str, uri: str, status: int) -> Series:
        """The series of these labels; made at first use."""
        key = (method, uri, status)
        if key not in self._series:
            series = Series(*key)
            self._series[key] = series, Binned(series.durations_ns)
        return self._series[key][0]

    def opened(self, uri: str) -> None:
        """A request has come in that is not answered on the spot."""
        self._opened[uri] = self._opened.get(uri, 0) + 1

    def closed(self, uri: str, *, abandoned: bool) -> None:
        """An opened request has been answered, or its client has gone before."""
        self._opened[uri] -= 1
        if abandoned:
            self._abandoned[uri] = self._abandoned.get(uri, 0) + 1

    def fold(self) -> None:
        """Bin what waits; called several times a second, so that memory stays flat."""
        now_s = time.monotonic()
        new_slice = now_s - self._sliced_s > MAX_MEMORY_S / MAX_SLICES
        if new_slice:
            self._sliced_s = now_s
        for _, binned in self._series.values():
            binned.fold(new_slice=new_slice)
        self.grpc.fold(new_slice=new_slice)

    def answered(self) -> int:
        """Answers that have left since the node's start, of both protocols."""
        return self.grpc.ended() + sum(binned.count() for _, binned in self._series.values())

    def uptime_s(self) -> float:
        """Seconds since the node's start."""
        return time.monotonic() - self._started_s

    def traffic(self) -> tuple[Traffic, ...]:
        """The server's own count of HTTP requests, for each uri template."""
        received: dict[str, int] = dict(self._opened)
        for series, binned in self._series.values():
            received[series.uri] = received.get(series.uri, 0) + binned.count()
        for uri, count in self._abandoned.items():
            received[uri] = received.get(uri, 0) + count
        return tuple(
            Traffic(uri=uri, received=count, abandoned=self._abandoned.get(uri, 0))
            for uri, count in sorted(received.items())
        )

    def exposition(self) -> bytes:
        """The scrape."""
        self.fold()
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """`prometheus_client`'s collector protocol."""
        yield from self._requests()
        received = CounterMetricFamily(
            "stand_in_requests_received", "Requests that came in, answered or not", labels=("uri",)
        )
        abandoned = CounterMetricFamily(
            "stand_in_requests_abandoned", "Requests whose client had gone", labels=("uri",)
        )
        for one in self.traffic():
            received.add_metric((one.uri,), one.received)
            abandoned.add_metric((one.uri,), one.abandoned)
        yield received
        yield abandoned
        yield from self.grpc.collect()
        yield from self._host.collect()
        yield GaugeMetricFamily("process_uptime_seconds", "Uptime", value=self.uptime_s())

    def _requests(self) -> Iterator[Metric]:
        name = "http_server_requests_seconds"
        seconds = HistogramMetricFamily(name, "Time from request to answer", labels=_LABELS)
        longest = GaugeMetricFamily(f"{name}_max", "Longest of the last 2 minutes", labels=_LABELS)
        for one, binned in self._series.values():
            labels = (one.method, _OUTCOMES[one.status // 100], str(one.status), one.uri)
            seconds.add_metric(labels, binned.buckets(), sum_value=binned.sum_s())
            longest.add_metric(labels, binned.max_s())
        yield seconds
        yield longest
