"""Little's law on every judged stage: mean in flight = throughput x mean service time.

    L  mean requests in flight: sum over engines of (integral of requests in flight, ns) /
       (time of its windows, ns), over the judged time; counted by the engines
    S  sum of the service times of the stage's requests, failed ones too, in seconds; from
       the histograms
    T  judged time, in seconds

The law is kept when |L - S/T| <= 5 % of L + edges + clock, all three printed:

    edges  (n0 + n1) * r / T: n0 and n1 requests are in flight when the judged time begins
           and ends, and part of their service lies outside; r = E[s^2] / (2 E[s]) is the
           mean rest of a service time seen at a random moment
    clock  throughput * 10 us: two countings of one request cannot agree more closely than
           the time between their clock readings; it decides only where the service time is
           below 0.2 ms, and in_flight a few requests or fewer
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from analysis.figures import StageFigures
from analysis.findings import Finding, Law, invalid
from loadtests.record.archive import Run
from loadtests.record.histogram import (
    BUCKETS,
    HIGHEST_EQUIVALENT_US,
    LOWEST_EQUIVALENT_US,
    Histogram,
)

TOLERANCE_RATIO: Final = 0.05
CLOCK_S: Final = 10e-6
_MIDDLE_S: Final = (LOWEST_EQUIVALENT_US + HIGHEST_EQUIVALENT_US + 1) / 2e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Little:
    """Both sides of the law in requests, and how far they may be apart."""

    in_flight: float
    from_service: float
    tolerance: float
    edges: float
    clock: float

    @property
    def difference(self) -> float:
        """Distance of the two sides, in requests."""
        return abs(self.in_flight - self.from_service)

    @property
    def is_kept(self) -> bool:
        """Whether both countings agree."""
        return self.difference <= self.tolerance + self.edges + self.clock


def _moments_s(histogram: Histogram) -> tuple[float, float]:
    """Sums of service times and of their squares, in s and s^2; overflow left out."""
    counts = histogram.counts[:BUCKETS]
    return float((counts * _MIDDLE_S).sum()), float((counts * _MIDDLE_S**2).sum())


def little_of(run: Run, stage: StageFigures) -> Little | None:
    """Both sides for one stage; None where engines or requests are missing."""
    span, tally = stage.span, stage.overall.tally
    window_s = run.engines["window_s"].to_numpy(dtype=np.int64)
    rows = run.engines[(window_s >= span.first_s) & (window_s <= span.last_s)]
    if not len(rows) or not tally.done:
        return None
    sums = rows.groupby("engine", observed=True)[["in_flight_ns", "wall_ns"]].sum()
    in_flight = float((sums["in_flight_ns"] / sums["wall_ns"]).sum())
    service_s, squares_s2 = _moments_s(tally.service + tally.failed_service)
    at_edges = sum(
        int(run.engines["in_flight"][window_s == second].sum())
        for second in (span.first_s - 1, span.last_s)
    )
    rest_s = squares_s2 / (2 * service_s) if service_s else 0.0
    return Little(
        in_flight=in_flight,
        from_service=service_s / span.seconds,
        tolerance=TOLERANCE_RATIO * in_flight,
        edges=at_edges * rest_s / span.seconds,
        clock=tally.done / span.seconds * CLOCK_S,
    )


def little_findings(run: Run, stages: Sequence[StageFigures]) -> Iterator[Finding]:
    """The law on every judged stage that ran to its end."""
    for stage in stages:
        if not stage.facts.is_judged or stage.is_cut or not stage.span.seconds:
            continue
        name, law = stage.facts.name, little_of(run, stage)
        if law is None:
            yield invalid(Law.LITTLE, name, "it cannot be checked: no requests in flight recorded")
        elif not law.is_kept:
            text = (
                f"{law.in_flight:.3f} in flight, throughput x service time {law.from_service:.3f}; "
                f"may differ by {law.tolerance:.3f} (5 %) + {law.edges:.3f} (edges) "
                f"+ {law.clock:.3f} (clock)"
            )
            yield invalid(Law.LITTLE, name, text)
