"""A run as Prometheus sees it: families of metrics, in either text format.

Names are Prometheus' own way: `headroom_` first, base units (seconds, bytes, ratios),
counters that only rise. Which format is sent is the scraper's choice (Accept), as
prometheus_client reads it. Rendering takes milliseconds of the master's time, once a scrape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Final

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from loadtests.clock import NS_PER_S
from loadtests.plan.model import Plan
from loadtests.record.window import CONNECTION, Count, Kind
from loadtests.swarm.metrics import RunSums
from loadtests.swarm.run_state import RunPhase, RunView

_OUTCOMES: Final = {
    "ok": Count.OK,
    "client_error": Count.CLIENT_ERROR,
    "failed": Count.FAILED,
}
_BEFORE: Final = {
    "planned": (Count.PLANNED, "Arrivals of the plan that were due"),
    "sent": (Count.SENT, "Requests that left"),
    "dropped": (Count.DROPPED, "Arrivals that never left: in-flight or backlog cap full"),
}
_OF_NODES: Final = {
    "sent_bytes": (Count.BYTES_SENT, "Bytes sent"),
    "received_bytes": (Count.BYTES_RECEIVED, "Bytes received"),
    "connects": (Count.CONNECTS, "Connections opened"),
    "connect_failures": (Count.CONNECT_FAILURES, "Connections that could not be opened"),
}
_ENDED: Final = {
    "response_time": (
        (Kind.RESPONSE, Kind.FAILED_RESPONSE),
        "Answer's end since the intended start",
    ),
    "service_time": ((Kind.SERVICE, Kind.FAILED_SERVICE), "Answer's end since the sending"),
}
_TIMES: Final = {
    "send_lag": (Kind.SEND_LAG, "Sending since the intended start"),
    "connect_time": (Kind.CONNECT, "Establishment of connections, ok or not"),
    "stream_setup": (Kind.STREAM_SETUP, "Head of a stream's answer since the sending"),
    "first_message": (Kind.FIRST_MESSAGE, "First message of a stream since the sending"),
    "message_time": (Kind.MESSAGE, "Later messages of a stream"),
}


class MetricsPage(Collector):
    """The page of one run; `look` is called once a scrape."""

    def __init__(self, plan: Plan, run_id: str, sums: RunSums, look: Callable[[], RunView]) -> None:
        self._plan, self._run_id, self._sums, self._look = plan, run_id, sums, look
        self._edges = (*(f"{edge:.10g}" for edge in sums.edges_s), "+Inf")
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def render(self, accept: str) -> tuple[bytes, str]:
        """The page and its content type for an Accept header."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def describe(self) -> Iterator[Metric]:
        """Nothing: asking for names must not look at the run."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """`prometheus_client`'s collector protocol."""
        view = self._look()
        yield self._info()
        yield from self._counters()
        yield from self._latencies()
        yield from _states(view, [stage.name for stage in self._plan.stages])
        yield from _fleet(view)
        yield from self._engines()

    def _info(self) -> Metric:
        info = InfoMetricFamily("headroom_run", "The run that this master drives")
        facts = {"run_id": self._run_id, "scenario": self._plan.scenario_name}
        facts |= {"scale": f"{self._plan.scale:g}", "seed": str(self._plan.seed)}
        info.add_metric((), facts)
        return info

    def _counters(self) -> Iterator[Metric]:
        sums, labels = self._sums, ("request", "node")
        ended = CounterMetricFamily(
            "headroom_requests", "Requests that ended, by outcome", labels=(*labels, "outcome")
        )
        for outcome, count in _OUTCOMES.items():
            for names, value in self._by_request_and_node(count):
                ended.add_metric((*names, outcome), value)
        yield ended
        for name, (count, text) in _BEFORE.items():
            family = CounterMetricFamily(f"headroom_{name}_requests", text, labels=labels)
            for names, value in self._by_request_and_node(count):
                family.add_metric(names, value)
            yield family
        for name, (count, text) in _OF_NODES.items():
            family = CounterMetricFamily(f"headroom_{name}", text, labels=("node",))
            totals = sums.counters[:, :, count].sum(axis=0)
            for node, total in zip(sums.slots.nodes, totals.tolist(), strict=True):
                family.add_metric((node,), total)
            yield family
        errors = CounterMetricFamily(
            "headroom_errors",
            "Requests and connections by kind of error",
            labels=("request", "kind"),
        )
        for names, value in sorted(sums.errors.items()):
            errors.add_metric(names, value)
        yield errors

    def _by_request_and_node(self, count: Count) -> Iterator[tuple[tuple[str, str], int]]:
        slots = self._sums.slots
        for row, request in enumerate(slots.requests):
            if request != CONNECTION:
                for column, node in enumerate(slots.nodes):
                    yield (request, node), int(self._sums.counters[row, column, count])

    def _latencies(self) -> Iterator[Metric]:
        for name, ((ok, not_ok), text) in _ENDED.items():
            family = HistogramMetricFamily(
                f"headroom_{name}_seconds", f"{text}, of requests", labels=("request", "outcome")
            )
            for request in self._sums.slots.requests[:-1]:
                self._add_histogram(family, (request, "ok"), ok, request)
                self._add_histogram(family, (request, "not_ok"), not_ok, request)
            yield family
        for name, (kind, text) in _TIMES.items():
            family = HistogramMetricFamily(f"headroom_{name}_seconds", text, labels=("request",))
            for request in self._sums.slots.requests:
                if self._sums.buckets[kind, self._row(request)].any():
                    self._add_histogram(family, (request,), kind, request)
            yield family

    def _add_histogram(
        self, family: HistogramMetricFamily, labels: tuple[str, ...], kind: Kind, request: str
    ) -> None:
        row = self._row(request)
        counts: NDArray[np.int64] = self._sums.buckets[kind, row]
        buckets = list(zip(self._edges, accumulate(counts.tolist()), strict=True))
        family.add_metric(labels, buckets, sum_value=float(self._sums.sums_s[kind, row]))

    def _row(self, request: str) -> int:
        return self._sums.slots.requests.index(request)

    def _engines(self) -> Iterator[Metric]:
        cpu = GaugeMetricFamily(
            "headroom_engine_cpu_ratio", "CPU of an engine, of one core", labels=("engine",)
        )
        stalled = GaugeMetricFamily(
            "headroom_engine_stalled_seconds",
            "Longest time that an engine's loop did not come round",
            labels=("engine",),
        )
        health = self._sums.health
        for one in health:
            cpu.add_metric((one.engine,), one.cpu_ns / max(1, one.wall_ns))
            stalled.add_metric((one.engine,), one.stalled_ns / NS_PER_S)
        yield cpu
        yield stalled
        for name, text, value in (
            ("in_flight_requests", "Requests sent and unanswered", [h.in_flight for h in health]),
            ("backlog_requests", "Arrivals that wait to be sent", [h.backlog for h in health]),
            ("open_connections", "Open connections", [h.connections for h in health]),
            ("http2_streams", "Streams that the pool can carry", [h.streams for h in health]),
            ("http2_streams_in_use", "Streams in use, mean", [h.streams_in_use for h in health]),
        ):
            yield GaugeMetricFamily(f"headroom_{name}", text, value=sum(value))
        if self._sums.newest_s is not None:
            yield GaugeMetricFamily(
                "headroom_newest_window_timestamp_seconds",
                "Start of the newest whole second that is counted here",
                value=self._sums.newest_s,
            )


def _states(view: RunView, stages: list[str]) -> Iterator[Metric]:
    phase = GaugeMetricFamily("headroom_run_phase", "1 for the phase it is in", labels=("phase",))
    for one in RunPhase:
        phase.add_metric((one.name.lower(),), int(one is view.status.phase))
    yield phase
    stage = GaugeMetricFamily("headroom_stage", "1 for the stage it is in", labels=("stage",))
    for name in stages:
        stage.add_metric((name,), int(name == view.stage))
    yield stage
    if view.status.elapsed_ns is not None:
        text = "Time since T0; below 0 before it"
        elapsed_s = view.status.elapsed_ns / NS_PER_S
        yield GaugeMetricFamily("headroom_elapsed_seconds", text, value=elapsed_s)
    yield CounterMetricFamily("headroom_events", "Events of the run", value=view.status.events)


def _fleet(view: RunView) -> Iterator[Metric]:
    status = view.status
    yield GaugeMetricFamily("headroom_agents", "Agents that joined", value=status.agents_joined)
    yield GaugeMetricFamily("headroom_agents_up", "Agents alive", value=status.agents_alive)
    yield GaugeMetricFamily("headroom_engines", "Engines of all agents", value=status.engines)
    yield GaugeMetricFamily("headroom_engines_up", "Engines alive", value=status.engines_alive)
    up = GaugeMetricFamily("headroom_agent_up", "1 unless given up", labels=("agent",))
    silence = GaugeMetricFamily(
        "headroom_agent_silence_seconds", "Time since an agent was heard", labels=("agent",)
    )
    lease = GaugeMetricFamily(
        "headroom_lease_age_seconds", "Time since an agent's lease was granted", labels=("agent",)
    )
    for agent in view.agents:
        up.add_metric((agent.agent,), int(agent.is_alive))
        silence.add_metric((agent.agent,), agent.silence_ns / NS_PER_S)
        if agent.lease_age_ns is not None:
            lease.add_metric((agent.agent,), agent.lease_age_ns / NS_PER_S)
    yield up
    yield silence
    yield lease
    refused = CounterMetricFamily(
        "headroom_refused_messages", "Messages of agents not acted on", labels=("reason",)
    )
    for reason, count in sorted(view.refused.items()):
        refused.add_metric((reason,), count)
    yield refused
