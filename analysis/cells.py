"""Cells and columns as the tables of a run need them: text for people, value for machines.

The value of a latency is in us, of a rate per second, of a ratio 0-1. Where there is no
number that may be relied on the value is None and the text says why.
"""

from __future__ import annotations

from analysis.tables import Cell, Column
from analysis.text import TOO_SMALL, UNKNOWN, count, latency, rate, ratio
from loadtests.plan.objectives import required_samples
from loadtests.record.histogram import Histogram


def text_column(key: str, header: str | None = None) -> Column:
    """A column of words; its header is its key unless given."""
    return Column(key=key, header=header or key.replace("_", " "), is_number=False)


def whole_column(key: str, header: str | None = None) -> Column:
    """A column of words that are of use only whole: ids, states."""
    return Column(key=key, header=header or key.replace("_", " "), is_number=False, is_whole=True)


def number_column(key: str, header: str | None = None) -> Column:
    """A column of numbers, aligned to the right."""
    return Column(key=key, header=header or key.replace("_", " "), is_number=True)


def count_cell(value: int) -> Cell:
    """A whole number."""
    return Cell(text=count(value), value=value)


def rate_cell(value: float | None) -> Cell:
    """A rate per second; None: not known."""
    return Cell(text=rate(value), value=value)


def ratio_cell(part: int, whole: int) -> Cell:
    """A part of a whole as a ratio (0-1); unknown without a whole."""
    value = part / whole if whole else None
    return Cell(text=ratio(value), value=value)


def latency_cell(value_us: float | None) -> Cell:
    """A latency given in us; None: not known, infinite: no value."""
    if value_us is None:
        return Cell(text=UNKNOWN, value=None)
    text = latency(value_us * 1000)
    return Cell(text=text, value=None if value_us == float("inf") else value_us)


def percentile_cell(value_us: float | None) -> Cell:
    """A percentile as it was kept, in us; None: its sample was too small."""
    return Cell(text=TOO_SMALL, value=None) if value_us is None else latency_cell(value_us)


def quantile_cell(histogram: Histogram, quantile: float | None) -> Cell:
    """A percentile (None: the maximum) in us; no number where the sample is too small."""
    if histogram.n == 0:
        return latency_cell(None)
    if quantile is None:
        return latency_cell(histogram.max_us())
    if histogram.n < required_samples(quantile):
        return Cell(text=TOO_SMALL, value=None)
    return latency_cell(histogram.quantile_us(quantile))


def total_cell(value_ns: int) -> Cell:
    """A total of time that may be nothing at all, in us for machines."""
    return Cell(text=latency(value_ns) if value_ns else "none", value=value_ns / 1000)
