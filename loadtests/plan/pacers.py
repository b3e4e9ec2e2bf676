"""Pacers: the level of a stage at any time, its cumulative count, and the inverse.

Pure: no clock, no sleep, no state. Times are seconds from the stage's start, levels are
arrivals per second (open load) or connections (closed load), counts are arrivals.

    a, b   start and end level                     D   length of the stage (s)
    t      time into the stage (s), 0 <= t <= D    R   arrivals until t: integral of level

    hold              ramp                step              spike             sine
    a |--------       b |      ,-'        b |      .--      p |   .--.        m+A |  .-.
      |                 |   ,-'             |   .--'          |   |  |          m |-'---`-.---
      |                 |,-'              a |---'           b |---'  '---     m-A |        `-'
      +------- t      a +------- t          +------- t        +------- t          +--------- t
    R = a t           R = a t + s t^2/2   R = piecewise     R = piecewise     R = m t + A P/2pi
                      s = (b - a) / D         a linear one      linear            (1 - cos(2pi t/P))
    t = R / a         t = 2R / (a +       t = inverse of    t = inverse of    t = Newton from a
                        sqrt(a^2 + 2sR))      the piece         the piece         table, one period

Hold, step and spike are one pacer: pieces of constant level. The inverse of each arrival
is a function of its count alone, so it does not depend on what else is asked with it.
The drawing and the split into pure pacers follow vegeta's `lib/pacer.go`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from loadtests.clock import NS_PER_S
from loadtests.plan.model import Hold, Profile, Ramp, Sine, Spike, Step

Floats = NDArray[np.float64]


class Pacer(Protocol):
    """Level, cumulative count and its inverse over one stage."""

    def level(self, t_s: float) -> float:
        """Level at `t_s`."""
        ...

    def count(self, t_s: float) -> float:
        """Arrivals, not whole, from the start of the stage until `t_s`."""
        ...

    def times(self, counts: Floats) -> Floats:
        """Seconds at which the cumulative count is reached; same shape, rising with counts."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """Constant levels one after the other: `edges_s` has one entry more than `levels`."""

    edges_s: Floats
    levels: Floats
    counts: Floats  # cumulative count at each edge

    @staticmethod
    def of(levels: list[float], lengths_s: list[float]) -> Pieces:
        """Pieces of the given levels and lengths."""
        edges = np.concatenate(([0.0], np.cumsum(lengths_s)))
        counts = np.concatenate(([0.0], np.cumsum(np.multiply(levels, lengths_s))))
        return Pieces(edges_s=edges, levels=np.asarray(levels, dtype=np.float64), counts=counts)

    def _piece(self, t_s: float) -> int:
        piece = int(np.searchsorted(self.edges_s, t_s, side="right")) - 1
        return min(max(piece, 0), self.levels.size - 1)

    def level(self, t_s: float) -> float:
        """Level of the piece that `t_s` lies in."""
        return float(self.levels[self._piece(t_s)])

    def count(self, t_s: float) -> float:
        """Whole pieces before, and the part of this one."""
        piece = self._piece(t_s)
        part = (t_s - float(self.edges_s[piece])) * float(self.levels[piece])
        return float(self.counts[piece]) + part

    def times(self, counts: Floats) -> Floats:
        """Inverse in the piece that holds each count; a piece of level 0 holds none."""
        if self.levels.size == 1:
            return counts / self.levels[0] if self.levels[0] > 0 else np.zeros_like(counts)
        pieces = np.searchsorted(self.counts, counts, side="right") - 1
        pieces = np.clip(pieces, 0, self.levels.size - 1)
        levels = np.where(self.levels > 0, self.levels, np.inf)[pieces]
        times: Floats = self.edges_s[pieces] + (counts - self.counts[pieces]) / levels
        return times


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A ramp from `start`, changing by `slope` per second."""

    start: float
    slope: float

    def level(self, t_s: float) -> float:
        """Level on the line a + s t, never below 0."""
        return max(0.0, self.start + self.slope * t_s)

    def count(self, t_s: float) -> float:
        """Area under the line: a t + s t^2 / 2."""
        return (self.start + self.slope * t_s / 2) * t_s

    def times(self, counts: Floats) -> Floats:
        """2R / (a + sqrt(a^2 + 2sR)): the root's form that does not cancel for small slopes."""
        # A falling ramp ends at the vertex; rounding must not take the root below zero.
        root = np.sqrt(np.maximum(self.start**2 + 2 * self.slope * counts, 0.0))
        with np.errstate(invalid="ignore"):
            times: Floats = np.nan_to_num(2 * counts / (self.start + root))
        return times


_CELLS: Final = 4096  # of the table that Newton starts from
_NEWTON_STEPS: Final = 5  # quadratic from 1/4096 of a period: 3 reach float64; 2 in reserve


@dataclass(frozen=True, slots=True, kw_only=True)
class Wave:
    """Mean m, amplitude A (0 <= A <= m) and period P of a sine that begins at its mean."""

    mean: float
    amplitude: float
    period_s: float
    table_s: Floats
    table_counts: Floats

    @staticmethod
    def of(mean: float, amplitude: float, period_s: float) -> Wave:
        """Tabulate the cumulative count over one period."""
        table_s = np.linspace(0.0, period_s, _CELLS + 1)
        swing = amplitude * period_s / (2 * math.pi)
        counts = mean * table_s + swing * (1 - np.cos(2 * math.pi * table_s / period_s))
        return Wave(
            mean=mean, amplitude=amplitude, period_s=period_s, table_s=table_s, table_counts=counts
        )

    def level(self, t_s: float) -> float:
        """Level on the wave: m + A sin(2 pi t / P)."""
        angle = 2 * math.pi * (t_s % self.period_s) / self.period_s
        return max(0.0, self.mean + self.amplitude * math.sin(angle))

    def count(self, t_s: float) -> float:
        """Area under the wave: m t + A P / 2 pi (1 - cos(2 pi t / P))."""
        swing = self.amplitude * self.period_s / (2 * math.pi)
        angle = 2 * math.pi * (t_s % self.period_s) / self.period_s
        return self.mean * t_s + swing * (1 - math.cos(angle))

    def times(self, counts: Floats) -> Floats:
        """Whole periods, then Newton inside the cell of the table that brackets the rest."""
        if self.mean == 0:
            return np.zeros_like(counts)
        per_period = self.mean * self.period_s
        periods = np.floor(counts / per_period)
        rest = counts - periods * per_period
        cells = np.clip(np.searchsorted(self.table_counts, rest, side="right") - 1, 0, _CELLS - 1)
        low, high = self.table_s[cells], self.table_s[cells + 1]
        times = np.interp(rest, self.table_counts, self.table_s)
        omega = 2 * math.pi / self.period_s
        swing = self.amplitude / omega
        for _ in range(_NEWTON_STEPS):
            excess = self.mean * times + swing * (1 - np.cos(omega * times)) - rest
            # At a trough of level 0 the step would be endless; the bracket holds it.
            level = np.maximum(self.mean + self.amplitude * np.sin(omega * times), 1e-12)
            times = np.clip(times - excess / level, low, high)
        found: Floats = periods * self.period_s + times
        return found


def pacer_of(profile: Profile, length_ns: int) -> Pacer:
    """The pacer of a stage's profile over its length."""
    length_s = length_ns / NS_PER_S
    match profile:
        case Hold(level=level):
            return Pieces.of([level], [length_s])
        case Ramp(start=start, end=end):
            return Line(start=start, slope=(end - start) / length_s)
        case Step(start=start, end=end, steps=steps):
            rise = (end - start) / max(1, steps - 1)
            levels = [start + rise * step for step in range(steps)]
            return Pieces.of(levels, [length_s / steps] * steps)
        case Spike(base=base, peak=peak, peak_start_ns=peak_start_ns, peak_ns=peak_ns):
            before_s, peak_s = peak_start_ns / NS_PER_S, peak_ns / NS_PER_S
            after_s = max(0.0, length_s - before_s - peak_s)
            return Pieces.of([base, peak, base], [before_s, peak_s, after_s])
        case Sine(mean=mean, amplitude=amplitude, period_ns=period_ns):
            return Wave.of(mean, amplitude, period_ns / NS_PER_S)
