"""Prometheus' text format: the samples of wanted names, and nothing else of a node's page.

Only lines that begin with a wanted name are parsed (by prometheus_client): a page of
thousands of other series then costs the splitting of its lines. What is parsed is bounded in
lines, in the length of a line and in time, because a page is whatever a target sends.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from loadtests.plan.server_metrics import Aggregate, Selector, Series, ServerMeasure
from loadtests.record.server import ScrapeFailure
from loadtests.scrape.failure import ScrapeError

ACCEPT: Final = "text/plain;version=0.0.4;q=1,*/*;q=0.1"
CONTENT_TYPES: Final = ("text/plain", "application/openmetrics-text")
MOST_SAMPLES: Final = 10_000
LONGEST_LINE: Final = 8_192
_LONGEST_SHOWN: Final = 80

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One series of a node at one time."""

    name: str
    labels: Labels
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A measure of one node; `failure` says why there is no value."""

    series: str
    value: float | None
    failure: ScrapeFailure | None
    message: str | None = None


def names_of(measures: Collection[ServerMeasure]) -> frozenset[str]:
    """The names of all series that measures are made of."""
    selectors = [
        selector
        for measure in measures
        for series in measure.series
        for selector in (series.numerator, series.denominator)
        if selector is not None
    ]
    return frozenset(selector.name for selector in selectors)


def check_content_type(headers: Mapping[str, str]) -> None:
    """ScrapeError unless the answer says that it is metrics."""
    seen = headers.get("content-type", "none")
    if seen.partition(";")[0].strip().lower() not in CONTENT_TYPES:
        text = f"{seen[:_LONGEST_SHOWN]}, expected {CONTENT_TYPES[0]}"
        raise ScrapeError(ScrapeFailure.CONTENT_TYPE, text)


def parse_samples(body: bytes, names: Collection[str], until_s: float) -> tuple[Sample, ...]:
    """Samples of these names; ScrapeError when the page is none or parsing takes too long.

    `until_s`: by the monotonic clock.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ScrapeError(ScrapeFailure.FORMAT, f"no UTF-8: {error.reason}") from error
    samples: list[Sample] = []
    for line in _lines_of(text, names):
        if len(samples) >= MOST_SAMPLES:
            raise ScrapeError(ScrapeFailure.TOO_LARGE, f"more than {MOST_SAMPLES} series")
        if monotonic() > until_s:
            raise ScrapeError(ScrapeFailure.TIMEOUT, "while the page was parsed")
        samples.append(_parse_line(line))
    return tuple(samples)


def _lines_of(text: str, names: Collection[str]) -> Iterator[str]:
    """Lines of a page that begin with a wanted name."""
    wanted = re.compile(r"(?:" + "|".join(map(re.escape, sorted(names))) + r")[{ \t]")
    for line in text.split("\n"):
        if wanted.match(line) is None:
            continue
        if len(line) > LONGEST_LINE:
            raise ScrapeError(ScrapeFailure.TOO_LARGE, f"a line of {len(line)} characters")
        yield line


def _parse_line(line: str) -> Sample:
    try:
        (family,) = text_string_to_metric_families(line + "\n")
        (sample,) = family.samples
        return Sample(
            name=sample.name, labels=frozenset(sample.labels.items()), value=float(sample.value)
        )
    except (ValueError, IndexError, OverflowError) as error:
        shown = line[:_LONGEST_SHOWN]
        raise ScrapeError(ScrapeFailure.FORMAT, f"no sample: {shown}") from error


def figure_of(measure: ServerMeasure, samples: Sequence[Sample]) -> Figure:
    """The measure by the first of its series that the node has."""
    for series in measure.series:
        values = _values(series, samples)
        if values:
            return figure(str(series), _aggregate(series.aggregate, values))
    asked = str(measure.series[0]) if measure.series else measure.name
    return Figure(series=asked, value=None, failure=ScrapeFailure.MISSING)


def figure(series: str, value: float) -> Figure:
    """A value that is finite and not below 0, as every measure is; a JVM says -1 for "none"."""
    if not math.isfinite(value) or value < 0:
        return Figure(series=series, value=None, failure=ScrapeFailure.NOT_A_NUMBER)
    return Figure(series=series, value=value, failure=None)


def _aggregate(how: Aggregate, values: Sequence[float]) -> float:
    """NaN where one value is no number: nobody knows what hides behind it."""
    if not all(map(math.isfinite, values)):
        return math.nan
    match how:
        case Aggregate.SUM:
            return math.fsum(values)
        case Aggregate.MAX:
            return max(values)
        case Aggregate.MIN:
            return min(values)
        case Aggregate.AVG:
            return math.fsum(values) / len(values)


def _selected(selector: Selector, samples: Sequence[Sample]) -> dict[Labels, float]:
    wanted = frozenset(selector.labels)
    return {
        sample.labels: sample.value
        for sample in samples
        if sample.name == selector.name and wanted <= sample.labels
    }


def _values(series: Series, samples: Sequence[Sample]) -> list[float]:
    """What is aggregated; a quotient pairs series of the same labels, as in PromQL."""
    found = _selected(series.numerator, samples)
    if series.denominator is not None:
        divisors = _selected(series.denominator, samples)
        found = {
            labels: value / divisors[labels] if divisors[labels] else math.nan
            for labels, value in found.items()
            if labels in divisors
        }
    return [1 - value if series.is_complement else value for value in found.values()]
