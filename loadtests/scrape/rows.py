"""One scrape into rows of the archive: of a node's page, or of a Prometheus server's answers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic, monotonic_ns
from typing import Final

from loadtests.clock import NS_PER_S
from loadtests.plan.server_metrics import (
    MetricsEndpoint,
    PrometheusSource,
    Scraping,
    ServerMeasure,
)
from loadtests.record.server import SCRAPE, ScrapeFailure, ServerRow
from loadtests.scrape import exposition, prometheus_api
from loadtests.scrape.exposition import Figure
from loadtests.scrape.failure import ScrapeError
from loadtests.scrape.fetch import Fetcher

_LONGEST_TEXT: Final = 300
_OF_A_MEASURE: Final = frozenset({None, ScrapeFailure.MISSING, ScrapeFailure.NOT_A_NUMBER})
_NO_TIME: Final = ScrapeError(ScrapeFailure.TIMEOUT, "not answered in time")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scraper:
    """Makes the rows of one time; `to_unix_ns` turns this host's monotonic clock into labels."""

    scraping: Scraping
    fetcher: Fetcher
    to_unix_ns: int

    @property
    def sources(self) -> tuple[MetricsEndpoint | PrometheusSource, ...]:
        """Who is asked, all at the same time."""
        source = self.scraping.prometheus
        return self.scraping.endpoints if source is None else (source,)

    async def scrape(self, source: MetricsEndpoint | PrometheusSource) -> tuple[ServerRow, ...]:
        """Ask one source once; a failure is a row."""
        began_ns = monotonic_ns()
        name, series = named(source)
        try:
            async with asyncio.timeout(self.scraping.timeout_ns / NS_PER_S):
                figures = await self._ask(source)
            failure, text = None, None
        except ScrapeError as error:
            figures, failure, text = [], error.kind, error.text[:_LONGEST_TEXT]
        except TimeoutError:
            figures, failure, text = [], _NO_TIME.kind, _NO_TIME.text
        duration_ns = monotonic_ns() - began_ns
        own = ServerRow(
            at_unix_ns=began_ns + self.to_unix_ns,
            node=name,
            measure=SCRAPE,
            series=series,
            value=0.0 if failure else 1.0,
            duration_ns=duration_ns,
            failure=failure,
            message=text,
        )
        return (own, *(self._row(own, *entry) for entry in figures))

    def missed(self, at_ns: int) -> tuple[ServerRow, ...]:
        """Rows of a time that has passed without a scrape."""
        return tuple(
            ServerRow(
                at_unix_ns=at_ns + self.to_unix_ns,
                node=named(source)[0],
                measure=SCRAPE,
                series=named(source)[1],
                value=0.0,
                duration_ns=0,
                failure=ScrapeFailure.MISSED,
                message="this host was held up",
            )
            for source in self.sources
        )

    def _row(self, own: ServerRow, node: str, measure: str, one: Figure) -> ServerRow:
        return ServerRow(
            at_unix_ns=own.at_unix_ns,
            node=node,
            measure=measure,
            series=one.series,
            value=one.value,
            duration_ns=own.duration_ns,
            failure=one.failure,
            message=one.message,
        )

    async def _ask(
        self, source: MetricsEndpoint | PrometheusSource
    ) -> list[tuple[str, str, Figure]]:
        """Node, measure and figure of all that a source says."""
        if isinstance(source, PrometheusSource):
            asked = (self._query(source, measure) for measure in self.scraping.measures)
            found = [entry for entries in await asyncio.gather(*asked) for entry in entries]
            _refuse_nothing(found)
            return found
        return await self._page(source, self.scraping.measures)

    async def _page(
        self, source: MetricsEndpoint, measures: Sequence[ServerMeasure]
    ) -> list[tuple[str, str, Figure]]:
        until_s = monotonic() + self.scraping.timeout_ns / NS_PER_S
        answer = await self.fetcher.get(source.at, source.path, exposition.ACCEPT)
        exposition.check_content_type(answer.headers)
        names = exposition.names_of(measures)
        # In a thread: a page that takes long must not make the other nodes' scrapes late.
        samples = await asyncio.to_thread(exposition.parse_samples, answer.body, names, until_s)
        return [(source.node, m.name, exposition.figure_of(m, samples)) for m in measures]

    async def _query(
        self, source: PrometheusSource, measure: ServerMeasure
    ) -> list[tuple[str, str, Figure]]:
        queries = prometheus_api.queries_of(measure, source.node_label)
        failure, message = ScrapeFailure.MISSING, None
        try:
            for query in queries:
                target = prometheus_api.target_of(source, query)
                answer = await self.fetcher.get(source.at, target, prometheus_api.ACCEPT)
                figures = prometheus_api.parse_answer(answer.body, source, query)
                if figures:
                    return [(node, measure.name, one) for node, one in figures.items()]
        except ScrapeError as error:  # of this query: the others are asked all the same
            failure, message = error.kind, error.text[:_LONGEST_TEXT]
        none = Figure(series=queries[0], value=None, failure=failure, message=message)
        return [(prometheus_api.ALL, measure.name, none)]


def _refuse_nothing(found: Sequence[tuple[str, str, Figure]]) -> None:
    """ScrapeError where every query failed: then it is the server and not a query."""
    fatal = [one for _node, _measure, one in found if one.failure not in _OF_A_MEASURE]
    if found and len(fatal) == len(found) and fatal[0].failure is not None:
        raise ScrapeError(fatal[0].failure, fatal[0].message or "")


def named(source: MetricsEndpoint | PrometheusSource) -> tuple[str, str]:
    """Name of a source in the archive, and where it is asked."""
    if isinstance(source, PrometheusSource):
        where = f"{source.at.scheme}://{source.at.authority}{source.base_path}/api/v1/query"
        return prometheus_api.ALL, where
    return source.node, f"{source.at.scheme}://{source.at.authority}{source.path}"
