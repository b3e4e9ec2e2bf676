"""Which runs are recorded in bins of 100 ms, and what answers are counted as late in them.

A quantile below its limit is a statement about how many answers were later than the limit.
So a bin need not hold histograms to tell when an objective holds again: it holds, for each
limit of latency among the objectives, how many answers came later.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from loadtests.plan.model import Binning, LateMark, LoadModel, MeasureKind, Objective
from loadtests.plan.objectives import OUTAGE_KINDS
from loadtests.plan.spec import Document
from loadtests.plan.values import Mistakes
from loadtests.record.bins import MOST_MARKS
from loadtests.record.window import Kind

# `done_pN` and `max` are of bad answers, too: bins hold these against them in any case.
MARKED: Final = {
    MeasureKind.RESPONSE_QUANTILE: Kind.RESPONSE,
    MeasureKind.DONE_RESPONSE_QUANTILE: Kind.RESPONSE,
    MeasureKind.RESPONSE_MAX: Kind.RESPONSE,
    MeasureKind.SERVICE_QUANTILE: Kind.SERVICE,
}


def mark_of(objective: Objective) -> LateMark | None:
    """What an objective on latency needs counted; None for the others."""
    kind = MARKED.get(objective.measure.kind)
    return None if kind is None else LateMark(kind=kind, limit_ns=int(objective.limit))


def build_binning(
    document: Document, objectives: Sequence[Objective], mistakes: Mistakes
) -> Binning | None:
    """None where nobody asks for bins: `load.bins`, an objective on outages, or a failover."""
    load = document.load
    needs_bins = any(one.measure.kind in OUTAGE_KINDS for one in objectives)
    is_open = load.model is not LoadModel.CLOSED
    if not load.bins and not needs_bins and not (document.failover is not None and is_open):
        return None
    if load.model is LoadModel.CLOSED:
        # Closed load stops with the target, so an outage is hardly seen by it.
        expected = "open load: bins, and objectives on failovers, are of arrivals on schedule"
        mistakes.add("load.model", "closed load", expected)
    found = dict.fromkeys(mark for mark in map(mark_of, objectives) if mark is not None)
    if len(found) > MOST_MARKS:
        expected = f"at most {MOST_MARKS} different limits of latency with bins"
        mistakes.add("criteria.objectives", str(len(found)), expected)
    return Binning(marks=tuple(found)[:MOST_MARKS])
