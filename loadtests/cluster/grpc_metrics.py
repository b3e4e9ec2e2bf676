"""What a node measured of its gRPC calls, with the names of Micrometer's server interceptor.

Source: micrometer-core, `binder/grpc/MetricCollectingServerInterceptor` (which Quarkus
installs): counters of messages by service, method and type, and a timer that also has the
status code. A call is received once and ends once, so that calls under way are the difference;
one whose client had gone ends as CANCELLED.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Final

from google.protobuf.descriptor import MethodDescriptor
from grpc import StatusCode
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from loadtests.cluster.binning import Binned

_LABELS: Final = ("service", "method", "methodType")
_TYPES: Final = {  # by what streams: the client, the server
    (False, False): "UNARY",
    (True, False): "CLIENT_STREAMING",
    (False, True): "SERVER_STREAMING",
    (True, True): "BIDI_STREAMING",
}


class MethodCounts:
    """Counts of one method; `received` and `sent` are messages, `labels` name the method."""

    __slots__ = ("_ended", "labels", "received", "sent")

    def __init__(self, labels: tuple[str, str, str]) -> None:
        self.labels = labels
        self.received = 0
        self.sent = 0
        self._ended: dict[StatusCode, Binned] = {}

    def end(self, code: StatusCode, duration_ns: int) -> None:
        """A call of this method has ended."""
        binned = self._ended.get(code)
        if binned is None:
            binned = self._ended[code] = Binned(array("q"))
        binned.durations_ns.append(duration_ns)

    def by_code(self) -> Iterator[tuple[StatusCode, Binned]]:
        """The ended calls of each status code."""
        yield from self._ended.items()


class GrpcMetrics:
    """The counts of all methods that a node serves."""

    def __init__(self) -> None:
        self._methods: list[MethodCounts] = []

    def method(self, descriptor: MethodDescriptor) -> MethodCounts:
        """Counts for a method; called once for each."""
        kind = _TYPES[descriptor.client_streaming, descriptor.server_streaming]
        return self._add((descriptor.containing_service.full_name, descriptor.name, kind))

    def unknown(self) -> MethodCounts:
        """Counts for calls of methods that the node does not have."""
        return self._add(("UNKNOWN", "UNKNOWN", "UNKNOWN"))

    def fold(self, *, new_slice: bool) -> None:
        """Bin what waits."""
        for counts in self._methods:
            for _, binned in counts.by_code():
                binned.fold(new_slice=new_slice)

    def ended(self) -> int:
        """Calls that have ended since the node's start."""
        return sum(binned.count() for counts in self._methods for _, binned in counts.by_code())

    def collect(self) -> Iterator[Metric]:
        """The families of a scrape, none if no gRPC is served; folded before."""
        if not self._methods:
            return
        received = CounterMetricFamily(
            "grpc_server_requests_received_messages", "Messages of clients", labels=_LABELS
        )
        sent = CounterMetricFamily(
            "grpc_server_responses_sent_messages", "Messages to clients", labels=_LABELS
        )
        name, labels = "grpc_server_processing_duration_seconds", (*_LABELS, "statusCode")
        seconds = HistogramMetricFamily(name, "Time from call to status", labels=labels)
        longest = GaugeMetricFamily(f"{name}_max", "Longest of the last 2 minutes", labels=labels)
        for counts in self._methods:
            received.add_metric(counts.labels, counts.received)
            sent.add_metric(counts.labels, counts.sent)
            for code, binned in counts.by_code():
                values = (*counts.labels, code.name)
                seconds.add_metric(values, binned.buckets(), sum_value=binned.sum_s())
                longest.add_metric(values, binned.max_s())
        yield from (received, sent, seconds, longest)

    def _add(self, labels: tuple[str, str, str]) -> MethodCounts:
        counts = MethodCounts(labels)
        self._methods.append(counts)
        return counts
