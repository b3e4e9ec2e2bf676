"""Little's law on every judged stage: mean in flight = throughput x mean service time.

    L  mean requests in flight: sum over engines of (integral of requests in flight, ns) /
       (time of its windows, ns), over the judged time; counted by the engines
    S  sum of the service times of the stage's requests, failed ones too, in seconds; from
       the histograms, without the part that lies after the judged time, with that of other
       stages' requests that lies inside it
    T  judged time, in seconds

The law is kept when |L - S/T| <= 5 % of L + edges + clock, all three printed:

    edges  what those two parts may be wrong by: counters say how many requests were in
           flight at each whole second and how many ended in it, not when. One that stays
           adds a second; one that ends (or is sent) within it adds h +- h, where h is the
           smaller of half a second and r = E[s^2] / (2 E[s]), the mean rest of a service
           time seen at a random moment. One that never ends adds T/2 +- T/2
    clock  throughput * 10 us: two countings of one request cannot agree more closely than
           the time between their clock readings; it decides only where the service time is
           below 0.2 ms, and in_flight a few requests or fewer
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from analysis.figures import StageFigures
from analysis.findings import Finding, Law, invalid
from loadtests.record.archive import Run
from loadtests.record.histogram import (
    BUCKETS,
    HIGHEST_EQUIVALENT_US,
    LOWEST_EQUIVALENT_US,
    Histogram,
)
from loadtests.record.tally import tally_of
from loadtests.record.window import CONNECTION

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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """Requests x seconds, known up to `unsure`."""

    sure: float
    unsure: float


def _moments_s(histogram: Histogram) -> tuple[float, float]:
    """Sums of service times and of their squares, in s and s^2; overflow left out."""
    counts = histogram.counts[:BUCKETS]
    return float((counts * _MIDDLE_S).sum()), float((counts * _MIDDLE_S**2).sum())


def _rest_s(run: Run, stage: StageFigures) -> float:
    """The h of the module's formulas: of the stage or of the whole run, whichever is longer."""
    every = tally_of(run.merged(judged=False), range(len(run.slots)))
    rests = [0.0]
    for tally in (stage.overall.tally, every):
        service_s, squares_s2 = _moments_s(tally.service + tally.failed_service)
        rests.append(squares_s2 / (2 * service_s) if service_s else 0.0)
    return min(0.5, max(rests))


def _part(rows: pd.DataFrame, first_s: int, last_s: int, rest_s: float, *, ends: int) -> _Part:
    """What the requests of `rows` spent in flight in the seconds `first_s` .. `last_s`.

    `ends`: so many of them stay in flight for ever and are left out.
    """
    if last_s < first_s or not len(rows):
        return _Part(sure=0.0, unsure=0.0)
    sums = rows.groupby("window_s")[["sent", "ok", "client_error", "failed"]].sum()
    done = sums["ok"] + sums["client_error"] + sums["failed"]
    flow = sums["sent"] - done
    before = int(flow[sums.index < first_s].sum()) - ends
    seconds = range(first_s, last_s + 1)
    sent_in = sums["sent"].reindex(seconds, fill_value=0).to_numpy(dtype=np.int64)
    done_in = done.reindex(seconds, fill_value=0).to_numpy(dtype=np.int64)
    at_start = before + np.concatenate(([0], np.cumsum(sent_in - done_in)[:-1]))
    stays = float(np.clip(at_start - done_in, 0, None).sum())
    moving = float((sent_in + done_in).sum()) * rest_s
    return _Part(sure=stays + moving, unsure=moving)


def _outside(run: Run, stage: StageFigures) -> tuple[_Part, _Part]:
    """The stage's requests after the judged time, and other stages' within it."""
    span, rest_s, frame = stage.span, _rest_s(run, stage), run.windows
    is_own = (frame["stage"] == stage.facts.name).to_numpy(dtype=bool)
    is_request = (frame["request"] != CONNECTION).to_numpy(dtype=bool)
    last_s = int(frame["window_s"].max())
    unanswered = stage.overall.unanswered
    after = _part(frame[is_own & is_request], span.last_s + 1, last_s, rest_s, ends=unanswered)
    within = _part(frame[~is_own & is_request], span.first_s, span.last_s, rest_s, ends=0)
    never = unanswered * span.seconds / 2
    return after, _Part(sure=within.sure + never, unsure=within.unsure + never)


def _edge_windows(run: Run, stage: StageFigures) -> float:
    """Requests x seconds of the windows that an unaligned stage only partly fills."""
    if stage.span.is_aligned:
        return 0.0
    window_s = run.engines["window_s"].to_numpy(dtype=np.int64)
    is_edge = (window_s == stage.span.first_s - 1) | (window_s == stage.span.last_s + 1)
    return float(run.engines["in_flight_ns"][is_edge].sum()) / 1e9


def little_of(run: Run, stage: StageFigures) -> Little | None:
    """Both sides for one stage; None where engines or requests are missing."""
    span, tally = stage.span, stage.overall.tally
    window_s = run.engines["window_s"].to_numpy(dtype=np.int64)
    rows = run.engines[(window_s >= span.first_s) & (window_s <= span.last_s)]
    if not len(rows) or not tally.done:
        return None
    sums = rows.groupby("engine", observed=True)[["in_flight_ns", "wall_ns"]].sum()
    in_flight = float((sums["in_flight_ns"] / sums["wall_ns"]).sum())
    service_s, _squares = _moments_s(tally.service + tally.failed_service)
    after, within = _outside(run, stage)
    unsure = after.unsure + within.unsure + _edge_windows(run, stage)
    return Little(
        in_flight=in_flight,
        from_service=(service_s - after.sure + within.sure) / span.seconds,
        tolerance=TOLERANCE_RATIO * in_flight,
        edges=unsure / span.seconds,
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
                f"{law.in_flight:.3f} in flight, done x service time {law.from_service:.3f}; "
                f"may differ by {law.tolerance:.3f} (5 %) + {law.edges:.3f} (edges) "
                f"+ {law.clock:.3f} (clock)"
            )
            yield invalid(Law.LITTLE, name, text)
