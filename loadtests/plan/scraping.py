"""`[server]` of a scenario into the plan's `Scraping`, with every mistake in it.

Also who is told of it: `check` prints what will be asked, the guard which hosts are asked.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Final

from loadtests.plan.call import Endpoint
from loadtests.plan.model import Node
from loadtests.plan.server_metrics import (
    DEFAULT_MEASURES,
    DEFAULT_PATH,
    MetricsEndpoint,
    PrometheusSource,
    Scraping,
    ServerMeasure,
    parse_series,
)
from loadtests.plan.spec import SECOND, ServerMeasureSpec, ServerSpec
from loadtests.plan.targets import parse_node
from loadtests.plan.template import mistakes_of
from loadtests.plan.units import format_duration
from loadtests.plan.values import Mistakes, shown

NODE_EVERY_NS: Final = 5 * SECOND
PROMETHEUS_EVERY_NS: Final = 15 * SECOND  # Prometheus' own files scrape as often
SHORTEST_NS: Final = SECOND  # the length of a window
LONGEST_NS: Final = 60 * SECOND  # a minute is what a level is averaged over
_SCRAPES_A_STAGE: Final = 10
_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token, RFC 9110 section 5.6.2
_LABEL: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_HIGHEST_PORT: Final = 65_535
_LONGEST_QUERY: Final = 4096
_RESERVED: Final = "scrape"  # the name of a scrape's own row in the archive


def build_scraping(
    spec: ServerSpec | None, nodes: Sequence[Node], mistakes: Mistakes
) -> Scraping | None:
    """The scraping of a run; None where the scenario asks for none."""
    if spec is None:
        return None
    source = None if spec.prometheus is None else _source(spec, mistakes)
    default_ns = NODE_EVERY_NS if spec.prometheus is None else PROMETHEUS_EVERY_NS
    every_ns = default_ns if spec.every is None else int(spec.every)
    if not SHORTEST_NS <= every_ns <= LONGEST_NS:
        mistakes.add("server.every", format_duration(every_ns), "1 s to 1 min")
    timeout_ns = default_timeout_ns(every_ns) if spec.timeout is None else int(spec.timeout)
    if timeout_ns > every_ns:
        seen, expected = format_duration(timeout_ns), f"at most {format_duration(every_ns)}"
        mistakes.add("server.timeout", seen, f"{expected}, the time to the next scrape")
    _check_keys(spec, mistakes)
    return Scraping(
        every_ns=every_ns,
        timeout_ns=timeout_ns,
        response_limit_bytes=spec.response_limit,
        headers=_headers(spec.headers, mistakes),
        endpoints=() if spec.prometheus is not None else tuple(_endpoints(spec, nodes)),
        prometheus=source,
        measures=_measures(spec, mistakes),
    )


def default_timeout_ns(every_ns: int) -> int:
    """Long, because a target that is overloaded is to be seen; over before the next scrape."""
    return every_ns * 4 // 5


def hastened(scraping: Scraping | None, stage_ns: int) -> Scraping | None:
    """So often, down to once a second, that a stage cut to this length has enough scrapes.

    A Prometheus server says nothing new between two scrapes of its own: it is asked as before.
    """
    if scraping is None or scraping.prometheus is not None:
        return scraping
    every_ns = max(SHORTEST_NS, min(scraping.every_ns, stage_ns // _SCRAPES_A_STAGE))
    timeout_ns = min(scraping.timeout_ns, default_timeout_ns(every_ns))
    return dataclasses.replace(scraping, every_ns=every_ns, timeout_ns=timeout_ns)


def _check_keys(spec: ServerSpec, mistakes: Mistakes) -> None:
    """Keys that have a meaning for one of the two sources alone."""
    if spec.prometheus is not None:
        for key, value in (("path", spec.path), ("port", spec.port)):
            if value is not None:
                expected = "nothing beside prometheus: the nodes are not asked"
                mistakes.add(f"server.{key}", shown(value), expected)
    elif spec.node_label is not None:
        mistakes.add("server.node_label", shown(spec.node_label), "nothing without prometheus")
    if spec.port is not None and spec.port > _HIGHEST_PORT:
        mistakes.add("server.port", shown(spec.port), "a port from 1 to 65535")


def _source(spec: ServerSpec, mistakes: Mistakes) -> PrometheusSource | None:
    url, label = spec.prometheus or "", spec.node_label or "instance"
    node = mistakes.attempt(
        "server.prometheus", url, lambda: parse_node(url, name=None, weight=1.0)
    )
    if _LABEL.fullmatch(label) is None:
        mistakes.add("server.node_label", shown(label), "the name of a label")
    if node is None:
        return None
    at = Endpoint(scheme=node.scheme, host=node.host, port=node.port)
    return PrometheusSource(at=at, base_path=node.base_path, node_label=label)


def _endpoints(spec: ServerSpec, nodes: Sequence[Node]) -> Iterator[MetricsEndpoint]:
    for node in nodes:
        port = node.port if spec.port is None else int(spec.port)
        path = node.base_path + (spec.path or DEFAULT_PATH)
        at = Endpoint(scheme=node.scheme, host=node.host, port=port)
        yield MetricsEndpoint(node=node.name, at=at, path=path)


def _headers(headers: Mapping[str, str], mistakes: Mistakes) -> tuple[tuple[str, str], ...]:
    for name, value in headers.items():
        where = f"server.headers.{shown(name)[1:-1]}"
        is_ours = name.lower() in {"host", "connection", "accept", "accept-encoding"}
        if _HEADER.fullmatch(name) is None or is_ours:
            mistakes.add(where, "this name", "a header name, none that a scrape has itself")
        if not value.isprintable() or not value.isascii():
            mistakes.add(where, "a value", "printable ASCII")
        for mistake in mistakes_of(value.encode(), where, ()):
            mistakes.add(mistake.where, mistake.seen, mistake.expected)
    return tuple(headers.items())


def _measures(spec: ServerSpec, mistakes: Mistakes) -> tuple[ServerMeasure, ...]:
    """Micrometer's, and the scenario's own instead of or beside them."""
    measures: dict[str, ServerMeasure] = {
        **DEFAULT_MEASURES,
        **{name: _measure(name, one, spec, mistakes) for name, one in spec.measures.items()},
    }
    return tuple(measures.values())


def _measure(
    name: str, spec: ServerMeasureSpec, server: ServerSpec, mistakes: Mistakes
) -> ServerMeasure:
    where = f"server.measures.{name}"
    if name == _RESERVED:
        mistakes.add(where, shown(name), "another name: this is the scrape itself")
    if not spec.series and spec.query is None:
        mistakes.add(where, "neither series nor query", "one of them")
    if spec.query is not None and server.prometheus is None:
        mistakes.add(f"{where}.query", "PromQL", "nothing without server.prometheus: use series")
    if spec.query is not None and not 0 < len(spec.query) <= _LONGEST_QUERY:
        seen = f"{len(spec.query)} characters"
        mistakes.add(f"{where}.query", seen, f"1 to {_LONGEST_QUERY} characters of PromQL")
    series = (
        mistakes.attempt(f"{where}.series[{index}]", text, partial(parse_series, text))
        for index, text in enumerate(spec.series)
    )
    return ServerMeasure(
        name=name,
        unit=spec.unit,
        series=tuple(one for one in series if one is not None),
        query=spec.query,
    )


def describe_scraping(scraping: Scraping) -> tuple[str, ...]:
    """What will be asked, one line each: sources, then measures."""
    every = format_duration(scraping.every_ns)
    if scraping.prometheus is not None:
        at = scraping.prometheus.at
        where = f"{at.scheme}://{at.authority}{scraping.prometheus.base_path}/api/v1/query"
        sources = [f"{where}, every {every}, by {scraping.prometheus.node_label}"]
    else:
        sources = [
            f"{one.at.scheme}://{one.at.authority}{one.path}, every {every}"
            for one in scraping.endpoints
        ]
    return (*sources, *(f"server.{one.name}: {asked(one)}" for one in scraping.measures))


def asked(measure: ServerMeasure) -> str:
    """What a measure is read from, as its author or Micrometer writes it."""
    return measure.query or ", else ".join(map(str, measure.series))
