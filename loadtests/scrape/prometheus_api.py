"""A Prometheus server's HTTP API as source: one instant query for each measure.

`GET /api/v1/query?query=..` (prometheus.io, "HTTP API"), evaluated at the server's own now:
with a time of the master's, a server whose clock is behind would answer of another moment.
Its answer is a vector of one value for each node, by the node label; a scalar is one value
for "all". A query that failed, an answer with warnings (part of the data is missing) and any
other result type are failures. Prometheus repeats a series' last sample until its own next
scrape, so nothing is gained by asking more often than it scrapes; after a scrape of its own
that failed the series is gone, and so is its value here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from loadtests.plan.server_metrics import PrometheusSource, ServerMeasure
from loadtests.record.server import ScrapeFailure
from loadtests.scrape.exposition import Figure, figure
from loadtests.scrape.failure import ScrapeError

ACCEPT: Final = "application/json"
ALL: Final = "all"  # the node of values without a node label
MOST_NODES: Final = 1000
_LONGEST_NODE: Final = 255


class _Data(msgspec.Struct):
    result_type: str = msgspec.field(name="resultType")
    result: Any


class _Answer(msgspec.Struct):
    status: str
    data: _Data | None = None
    error: str = ""
    warnings: list[str] = []


class _Value(msgspec.Struct):
    metric: dict[str, str]
    value: tuple[float, str]


_ANSWER: Final = msgspec.json.Decoder(_Answer)


def queries_of(measure: ServerMeasure, node_label: str) -> tuple[str, ...]:
    """PromQL of a measure: its own, else its series by node, of which the first counts."""
    if measure.query is not None:
        return (measure.query,)
    return tuple(series.by(node_label) for series in measure.series)


def target_of(source: PrometheusSource, query: str) -> str:
    """Path and query of the request."""
    return f"{source.base_path}/api/v1/query?{urlencode({'query': query})}"


def parse_answer(body: bytes, source: PrometheusSource, query: str) -> dict[str, Figure]:
    """Figures by node, none for an empty result; ScrapeError for anything but an answer."""
    try:
        answer = _ANSWER.decode(body)
        if answer.status != "success" or answer.data is None:
            raise ScrapeError(ScrapeFailure.FORMAT, f"status {answer.status}: {answer.error}")
        if answer.warnings:
            raise ScrapeError(ScrapeFailure.FORMAT, f"warnings: {answer.warnings[0]}")
        return dict(_figures(answer.data, source, query))
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
        raise ScrapeError(ScrapeFailure.FORMAT, str(error)) from error


def _figures(data: _Data, source: PrometheusSource, query: str) -> Iterator[tuple[str, Figure]]:
    match data.result_type:
        case "vector":
            values = msgspec.convert(data.result, list[_Value])
        case "scalar":
            value = msgspec.convert(data.result, tuple[float, str])
            values = [_Value(metric={}, value=value)]
        case _:
            raise ScrapeError(ScrapeFailure.FORMAT, f"a {data.result_type}, expected a vector")
    if len(values) > MOST_NODES:
        raise ScrapeError(ScrapeFailure.TOO_LARGE, f"{len(values)} nodes, at most {MOST_NODES}")
    nodes = [one.metric.get(source.node_label, ALL)[:_LONGEST_NODE] for one in values]
    _refuse_repeated(nodes, source)
    for node, one in zip(nodes, values, strict=True):
        yield node, figure(query, float(one.value[1]))


def _refuse_repeated(nodes: Sequence[str], source: PrometheusSource) -> None:
    """Two values of one node cannot both be its level."""
    if len(set(nodes)) < len(nodes):
        node = next(node for node in nodes if nodes.count(node) > 1)
        text = f"several values for {node}: aggregate by ({source.node_label})"
        raise ScrapeError(ScrapeFailure.FORMAT, text)
