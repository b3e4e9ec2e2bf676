"""What the target says of itself during a run: where it is asked, and what for.

    measure     = series, or alternatives of which the first that the node has counts
    series      = aggregate "(" [ "1 -" ] selector [ "/" selector ] ")"
    aggregate   = "sum" | "max" | "min" | "avg"
    selector    = name [ "{" label "=" text { "," label "=" text } "}" ]

Each series means what it means in PromQL, over the series of one node: a quotient pairs
series of the same labels. So the same text is asked of a Prometheus server, grouped by
node. A measure of the unit "per_s" is a counter: what is stored is its sum, and its rate is
taken between two scrapes.

Default names are Micrometer's in Prometheus' spelling: `ProcessorMetrics`,
`JvmMemoryMetrics` and `DiskSpaceMetrics` of micrometer-core, Quarkus' `AgroalMetricsRecorder`,
HikariCP's `MicrometerMetricsTracker`, and the timer `http.server.requests`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final

from loadtests.clock import NS_PER_S
from loadtests.plan.call import Endpoint
from loadtests.plan.units import UnitError

SERIES_EXPECTED: Final = (
    'a series such as "max(process_cpu_usage)", "sum(jvm_memory_used_bytes{area="heap"})" or '
    '"max(1 - disk_free_bytes / disk_total_bytes)"'
)
_SELECTOR: Final = r"[a-zA-Z_:][a-zA-Z0-9_:]*\s*(?:\{[^{}]*\})?"
_SERIES: Final = re.compile(
    rf"\s*(?P<aggregate>sum|max|min|avg)\s*\(\s*(?P<complement>1\s*-\s*)?(?P<numerator>{_SELECTOR})"
    rf"\s*(?:/\s*(?P<denominator>{_SELECTOR}))?\s*\)\s*"
)
_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL: Final = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"([^"\\\n,]*)"\s*')
DEFAULT_PATH: Final = "/q/metrics"
CPU: Final = "cpu"
HOST_CPU: Final = "host_cpu"
DISK: Final = "disk"
REQUESTS: Final = "requests"
REQUEST_SECONDS: Final = "request_seconds"


# A level is judged by its highest mean over so long; a stage that has fewer samples than
# these, or a smaller part of those that it should have, is too little to judge it.
MEAN_S: Final = 60
FEWEST_SCRAPES: Final = 5
KNOWN_RATIO: Final = 0.8


class ServerUnit(Enum):
    """What a measure of the target is in; the words of its limits follow from it."""

    RATIO = "ratio"  # "80 %"
    BYTES = "bytes"  # "512 MB"
    COUNT = "count"  # "80"
    PER_SECOND = "per_s"  # "500 rps"


class Aggregate(Enum):
    """How the series of one node become one value."""

    SUM = "sum"
    MAX = "max"
    MIN = "min"
    AVG = "avg"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """Series of a name with these labels, and any others."""

    name: str
    labels: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        labels = ",".join(f'{label}="{value}"' for label, value in self.labels)
        return f"{self.name}{{{labels}}}" if labels else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One way to read a measure from what a node serves."""

    aggregate: Aggregate
    is_complement: bool  # 1 - ...
    numerator: Selector
    denominator: Selector | None

    @property
    def inner(self) -> str:
        """What is aggregated."""
        quotient = "" if self.denominator is None else f" / {self.denominator}"
        return f"{'1 - ' if self.is_complement else ''}{self.numerator}{quotient}"

    def __str__(self) -> str:
        return f"{self.aggregate.value}({self.inner})"

    def by(self, label: str) -> str:
        """The same in PromQL, one value for each value of a label."""
        return f"{self.aggregate.value} by ({label}) ({self.inner})"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerMeasure:
    """One figure of a node: `server.<name>` of objectives.

    `query` is PromQL for a Prometheus server; None: the series, grouped by node.
    """

    name: str
    unit: ServerUnit
    series: tuple[Series, ...]
    query: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsEndpoint:
    """Where one node serves its metrics."""

    node: str
    at: Endpoint
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PrometheusSource:
    """A Prometheus server that is asked instead of the nodes.

    `node_label` names the node in its answers; series without it count as one node, "all".
    """

    at: Endpoint
    base_path: str
    node_label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scraping:
    """How the target's own metrics are read during a run: every `every_ns`, from T0's barrier.

    Exactly one of `endpoints` (of every node) and `prometheus` is there. Values of headers
    may hold `${env:NAME}`, filled on the master's host.
    """

    every_ns: int
    timeout_ns: int  # of one scrape, from connecting to its last byte
    response_limit_bytes: int
    headers: tuple[tuple[str, str], ...]
    endpoints: tuple[MetricsEndpoint, ...]
    prometheus: PrometheusSource | None
    measures: tuple[ServerMeasure, ...]

    @property
    def hosts(self) -> tuple[str, ...]:
        """Every host that is asked."""
        asked = [endpoint.at.host for endpoint in self.endpoints]
        asked += [self.prometheus.at.host] if self.prometheus is not None else []
        return tuple(dict.fromkeys(asked))

    def expected_scrapes(self, seconds: float) -> int:
        """Scrapes of a node that begin in so many seconds."""
        return int(seconds * NS_PER_S // self.every_ns)

    def required_scrapes(self, seconds: float) -> int:
        """Samples without which a level over so many seconds is not judged."""
        return max(FEWEST_SCRAPES, math.ceil(KNOWN_RATIO * self.expected_scrapes(seconds)))

    def measure(self, name: str) -> ServerMeasure:
        """The measure of this name, which must be there."""
        return next(measure for measure in self.measures if measure.name == name)


def _parse_selector(text: str) -> Selector:
    name, brace, rest = text.strip().partition("{")
    labels = []
    for label in rest.rstrip("}").split(",") if brace and rest.rstrip("}").strip() else ():
        match = _LABEL.fullmatch(label)
        if match is None:
            raise UnitError(SERIES_EXPECTED)
        labels.append((match[1], match[2]))
    if _NAME.fullmatch(name.strip()) is None:
        raise UnitError(SERIES_EXPECTED)
    return Selector(name=name.strip(), labels=tuple(labels))


def parse_series(text: str) -> Series:
    """One series of the grammar above; UnitError otherwise."""
    match = _SERIES.fullmatch(text)
    if match is None:
        raise UnitError(SERIES_EXPECTED)
    denominator = match["denominator"]
    return Series(
        aggregate=Aggregate(match["aggregate"]),
        is_complement=match["complement"] is not None,
        numerator=_parse_selector(match["numerator"]),
        denominator=None if denominator is None else _parse_selector(denominator),
    )


def _measure(name: str, unit: ServerUnit, *series: str) -> ServerMeasure:
    return ServerMeasure(name=name, unit=unit, series=tuple(map(parse_series, series)), query=None)


_DEFAULTS: Final = (
    # Of the node's process, as a part of all cores that it may use; beside other processes
    # on one machine it says nothing of them, which `host_cpu` does.
    _measure(CPU, ServerUnit.RATIO, "max(process_cpu_usage)"),
    _measure(HOST_CPU, ServerUnit.RATIO, "max(system_cpu_usage)"),
    _measure("memory", ServerUnit.BYTES, "sum(jvm_memory_used_bytes)"),
    _measure(DISK, ServerUnit.RATIO, "max(1 - disk_free_bytes / disk_total_bytes)"),
    _measure(
        "pool_in_use",
        ServerUnit.COUNT,
        "max(agroal_active_count)",
        "max(hikaricp_connections_active)",
    ),
    _measure(
        "pool_waiting",
        ServerUnit.COUNT,
        "max(agroal_awaiting_count)",
        "max(hikaricp_connections_pending)",
    ),
    _measure(REQUESTS, ServerUnit.PER_SECOND, "sum(http_server_requests_seconds_count)"),
    # Its rate is the number of requests inside the node at a time (Little's law).
    _measure(REQUEST_SECONDS, ServerUnit.PER_SECOND, "sum(http_server_requests_seconds_sum)"),
)
DEFAULT_MEASURES: Final[Mapping[str, ServerMeasure]] = MappingProxyType(
    {measure.name: measure for measure in _DEFAULTS}
)
