"""Arrivals of one stage: constant or Poisson, any stretch of them alone.

Constant arrivals: of a stage whose cumulative count is R(t), the arrivals lie at
R(t) = 1/2, 3/2, 5/2 ... : evenly, symmetric in the stage and never on its edge.

Poisson arrivals: a stage is cut into bins (100 ms up to four hours of plan). The number
in a bin is drawn from a Poisson law with the bin's mean; each of its arrivals lies at an
independent uniform part of the bin's cumulative count, a hash of (seed, sequence): that is
the definition of the process, and any bin can be computed alone. Inside one bin sequence
numbers are therefore in no order of time; each answer is sorted by time all the same.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from loadtests.clock import NS_PER_S
from loadtests.plan.mixing import uniform_many, words_of
from loadtests.plan.model import Share, Stage
from loadtests.plan.pacers import Pacer

Integers = NDArray[np.int64]

_SLACK: Final = 3  # arrivals by which an estimated index may miss the exact one


def sequences_of(share: Share, low: int, high: int) -> Integers:
    """Sequences of the share in [low, high)."""
    first = low + (share.residue - low) % share.modulus
    return np.arange(first, high, share.modulus, dtype=np.int64)


def sequences_below(share: Share, bound: int) -> int:
    """How many sequences of the share lie in [0, bound)."""
    return max(0, -((share.residue - bound) // share.modulus))


class ConstantStage:
    """Arrivals `first` .. `first + total` of one stage, evenly spaced in count."""

    __slots__ = ("_length_ns", "_pacer", "_start_ns", "first", "total")

    def __init__(self, stage: Stage, pacer: Pacer, first: int) -> None:
        self._start_ns = stage.start_ns
        self._length_ns = stage.end_ns - stage.start_ns
        self._pacer = pacer
        self.first = first
        # 1e-6 of an arrival: more than float64 loses over any plan, less than anyone sees.
        self.total = int(pacer.count(self._length_ns / NS_PER_S) + 0.5 + 1e-6)

    def _offsets(self, sequences: Integers) -> Integers:
        counts = (sequences - self.first).astype(np.float64) + 0.5
        offsets = (self._pacer.times(counts) * NS_PER_S).astype(np.int64)
        return self._start_ns + np.clip(offsets, 0, self._length_ns - 1)

    def _estimate(self, offset_ns: int) -> int:
        into_ns = min(max(offset_ns - self._start_ns, 0), self._length_ns)
        return int(self._pacer.count(into_ns / NS_PER_S) + 0.5)

    def _bounded(self, index: int) -> int:
        return self.first + min(max(index, 0), self.total)

    def before(self, share: Share, offset_ns: int) -> int:
        """Arrivals of the share and this stage with an offset below `offset_ns`."""
        estimate = self._estimate(offset_ns)
        low, high = self._bounded(estimate - _SLACK), self._bounded(estimate + _SLACK)
        near = self._offsets(np.arange(low, high, dtype=np.int64))
        exact = low + int(np.searchsorted(near, offset_ns))
        return sequences_below(share, exact) - sequences_below(share, self.first)

    def between(self, share: Share, from_ns: int, to_ns: int) -> tuple[Integers, Integers]:
        """Sequences and offsets of the share's arrivals in [from_ns, to_ns), by time."""
        low = self._bounded(self._estimate(from_ns) - _SLACK)
        high = self._bounded(self._estimate(to_ns) + _SLACK)
        sequences = sequences_of(share, low, high)
        offsets = self._offsets(sequences)
        begin, end = np.searchsorted(offsets, (from_ns, to_ns))
        return sequences[begin:end], offsets[begin:end]


class PoissonStage:
    """Arrivals of one stage in bins; `_firsts[i]` is the sequence of bin i's first one."""

    __slots__ = (
        "_bin_ns",
        "_counts",
        "_firsts",
        "_key",
        "_length_ns",
        "_pacer",
        "_start_ns",
        "first",
        "total",
    )

    def __init__(self, stage: Stage, pacer: Pacer, first: int, *, key: int, bin_ns: int) -> None:
        self._start_ns = stage.start_ns
        self._length_ns = stage.end_ns - stage.start_ns
        self._pacer, self._key, self._bin_ns = pacer, key, bin_ns
        bins = -(-self._length_ns // bin_ns)
        edges_ns = np.minimum(np.arange(bins + 1) * bin_ns, self._length_ns)
        self._counts = np.array([pacer.count(float(edge) / NS_PER_S) for edge in edges_ns])
        # RandomState's streams are frozen by NumPy's policy (NEP 19), Generator's are not.
        random = np.random.RandomState(key % 2**32)
        drawn = random.poisson(np.maximum(np.diff(self._counts), 0.0))
        self._firsts = np.concatenate(([first], first + np.cumsum(drawn, dtype=np.int64)))
        self.first = first
        self.total = int(self._firsts[-1]) - first

    def _bins(self, from_ns: int, to_ns: int) -> tuple[int, int]:
        last = self._firsts.size - 1
        low = (from_ns - self._start_ns) // self._bin_ns
        high = -(-(to_ns - self._start_ns) // self._bin_ns)
        return min(max(low, 0), last), min(max(high, 0), last)

    def _offsets(self, sequences: Integers) -> Integers:
        bins = np.searchsorted(self._firsts, sequences, side="right") - 1
        parts = uniform_many(self._key, words_of(sequences))
        counts = self._counts[bins] + parts * (self._counts[bins + 1] - self._counts[bins])
        offsets = (self._pacer.times(counts) * NS_PER_S).astype(np.int64)
        lowest = bins * self._bin_ns
        highest = np.minimum(lowest + self._bin_ns, self._length_ns) - 1
        return self._start_ns + np.clip(offsets, lowest, highest)

    def before(self, share: Share, offset_ns: int) -> int:
        """Arrivals of the share and this stage with an offset below `offset_ns`."""
        low, high = self._bins(offset_ns, offset_ns + 1)
        whole = sequences_below(share, int(self._firsts[low])) - sequences_below(share, self.first)
        part = sequences_of(share, int(self._firsts[low]), int(self._firsts[high]))
        return whole + int(np.count_nonzero(self._offsets(part) < offset_ns))

    def between(self, share: Share, from_ns: int, to_ns: int) -> tuple[Integers, Integers]:
        """Sequences and offsets of the share's arrivals in [from_ns, to_ns), by time."""
        low, high = self._bins(from_ns, to_ns)
        sequences = sequences_of(share, int(self._firsts[low]), int(self._firsts[high]))
        offsets = self._offsets(sequences)
        # Not the stable sort, which costs twice as much: arrivals of one nanosecond are equal.
        order = np.argsort(offsets)
        begin, end = np.searchsorted(offsets[order], (from_ns, to_ns))
        order = order[begin:end]
        return sequences[order], offsets[order]
