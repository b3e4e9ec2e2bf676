"""The schedule: which arrival is due when, for any share and any stretch of time.

Pure and with random access: nothing is generated in advance, an hour at 1.5M arrivals/s
costs no more memory than the stretch that is asked for. Arrivals are numbered over the
whole run (*sequence*); time, request and node of arrival k are functions of (plan, k), so
the shares of any split hold together exactly the arrivals of the whole.

Constant arrivals: of a stage whose cumulative count is R(t), the arrivals lie at
R(t) = 1/2, 3/2, 5/2 ... : evenly, symmetric in the stage and never on its edge.

Poisson arrivals: a stage is cut into bins (100 ms up to four hours of plan). The number
in a bin is drawn from a Poisson law with the bin's mean; each of its arrivals lies at an
independent uniform part of the bin's cumulative count, a hash of (seed, sequence): that is
the definition of the process, and any bin can be computed alone. Inside one bin sequence
numbers are therefore in no order of time; each answer is sorted by time all the same.

Mix: (request, node) of arrival k is the R2 low-discrepancy sequence (Roberts 2018, powers
of the plastic number) against the cumulative weights, shifted by the seed: over the run,
proportions are kept within a few arrivals in any stretch. A share sees every N-th point;
measured for N up to 128 that is within 3 % after 2,000 arrivals for the worst N and far
closer for most, where independent choices would scatter by as much for every N.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from loadtests.clock import NS_PER_MS, NS_PER_S
from loadtests.plan.mixing import cumulative_words, key_of, uniform_many
from loadtests.plan.model import ArrivalProcess, LoadModel, Plan, Share, Stage
from loadtests.plan.pacers import Pacer, pacer_of

Integers = NDArray[np.int64]

_PLASTIC: Final = 1.3247179572447460260  # root of x^3 = x + 1
# 2**64 / g and 2**64 / g**2, made odd so that they generate all residues.
_STEP_REQUEST: Final = np.uint64(int(2**64 / _PLASTIC) | 1)
_STEP_NODE: Final = np.uint64(int(2**64 / _PLASTIC**2) | 1)
_BIN_NS: Final = 100 * NS_PER_MS
_BINNED_NS: Final = 4 * 3600 * NS_PER_S  # longer plans get wider bins: at most 144 000 of them
_SLACK: Final = 3  # arrivals by which an estimated index may miss the exact one


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """Arrivals in order of time; five arrays of equal length, all int64.

    `sequences` number them over the run, `offsets_ns` count from T0, the others are
    indices into the plan's requests, nodes and stages.
    """

    sequences: Integers
    offsets_ns: Integers
    requests: Integers
    nodes: Integers
    stages: Integers

    def __len__(self) -> int:
        return int(self.sequences.size)


def _residues(share: Share, low: int, high: int) -> Integers:
    """Sequences of the share in [low, high)."""
    first = low + (share.residue - low) % share.modulus
    return np.arange(first, high, share.modulus, dtype=np.int64)


def _residues_below(share: Share, bound: int) -> int:
    """How many sequences of the share lie in [0, bound)."""
    return max(0, -((share.residue - bound) // share.modulus))


class _ConstantStage:
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
        return _residues_below(share, exact) - _residues_below(share, self.first)

    def between(self, share: Share, from_ns: int, to_ns: int) -> tuple[Integers, Integers]:
        """Sequences and offsets of the share's arrivals in [from_ns, to_ns), by time."""
        low = self._bounded(self._estimate(from_ns) - _SLACK)
        high = self._bounded(self._estimate(to_ns) + _SLACK)
        sequences = _residues(share, low, high)
        offsets = self._offsets(sequences)
        begin, end = np.searchsorted(offsets, (from_ns, to_ns))
        return sequences[begin:end], offsets[begin:end]


class _PoissonStage:
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
        parts = uniform_many(self._key, sequences.astype(np.uint64))
        counts = self._counts[bins] + parts * (self._counts[bins + 1] - self._counts[bins])
        offsets = (self._pacer.times(counts) * NS_PER_S).astype(np.int64)
        lowest = bins * self._bin_ns
        highest = np.minimum(lowest + self._bin_ns, self._length_ns) - 1
        return self._start_ns + np.clip(offsets, lowest, highest)

    def before(self, share: Share, offset_ns: int) -> int:
        """Arrivals of the share and this stage with an offset below `offset_ns`."""
        low, high = self._bins(offset_ns, offset_ns + 1)
        whole = _residues_below(share, int(self._firsts[low])) - _residues_below(share, self.first)
        part = _residues(share, int(self._firsts[low]), int(self._firsts[high]))
        return whole + int(np.count_nonzero(self._offsets(part) < offset_ns))

    def between(self, share: Share, from_ns: int, to_ns: int) -> tuple[Integers, Integers]:
        """Sequences and offsets of the share's arrivals in [from_ns, to_ns), by time."""
        low, high = self._bins(from_ns, to_ns)
        sequences = _residues(share, int(self._firsts[low]), int(self._firsts[high]))
        offsets = self._offsets(sequences)
        order = np.argsort(offsets, kind="stable")
        begin, end = np.searchsorted(offsets[order], (from_ns, to_ns))
        order = order[begin:end]
        return sequences[order], offsets[order]


class Schedule:
    """Arrivals of a plan; every method is a pure function of the plan and its arguments.

    A closed plan has no arrivals (`arrivals` is empty, `planned` is 0): its requests follow
    answers; `connections_at` gives its connections and `mix` what each request is.
    """

    __slots__ = (
        "_edges_ns",
        "_node_edges",
        "_pacers",
        "_plan",
        "_request_edges",
        "_shifts",
        "_stages",
    )

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._pacers = tuple(
            pacer_of(stage.profile, stage.end_ns - stage.start_ns) for stage in plan.stages
        )
        self._edges_ns = [stage.start_ns for stage in plan.stages]
        self._request_edges = cumulative_words(tuple(r.weight for r in plan.requests))
        self._node_edges = cumulative_words(tuple(n.weight for n in plan.nodes))
        self._shifts = (
            np.uint64(key_of("request", plan.seed)),
            np.uint64(key_of("node", plan.seed)),
        )
        self._stages = self._build_stages() if plan.load_model is LoadModel.OPEN else ()

    def _build_stages(self) -> tuple[_ConstantStage | _PoissonStage, ...]:
        plan = self._plan
        bin_ns = _BIN_NS * max(1, -(-plan.duration_ns // _BINNED_NS))
        stages: list[_ConstantStage | _PoissonStage] = []
        first = 0
        for index, (stage, pacer) in enumerate(zip(plan.stages, self._pacers, strict=True)):
            built: _ConstantStage | _PoissonStage
            if plan.arrival_process is ArrivalProcess.CONSTANT:
                built = _ConstantStage(stage, pacer, first)
            else:
                key = key_of("poisson", plan.seed, index)
                built = _PoissonStage(stage, pacer, first, key=key, bin_ns=bin_ns)
            stages.append(built)
            first += built.total
        return tuple(stages)

    @property
    def totals(self) -> tuple[int, ...]:
        """Arrivals of each stage over all shares; zeros for a closed plan."""
        if not self._stages:
            return (0,) * len(self._pacers)
        return tuple(stage.total for stage in self._stages)

    def mix(self, sequences: Integers) -> tuple[Integers, Integers]:
        """Request and node index of each sequence number (>= 0); same shape."""
        words = sequences.astype(np.uint64)
        requests = np.searchsorted(
            self._request_edges, words * _STEP_REQUEST + self._shifts[0], side="right"
        )
        nodes = np.searchsorted(
            self._node_edges, words * _STEP_NODE + self._shifts[1], side="right"
        )
        return requests, nodes

    def _stage_range(self, from_ns: int, to_ns: int) -> range:
        """Stages that overlap [from_ns, to_ns)."""
        if not self._stages or to_ns <= from_ns:
            return range(0)
        first = max(0, bisect_right(self._edges_ns, from_ns) - 1)
        return range(first, bisect_right(self._edges_ns, to_ns - 1))

    def arrivals(self, share: Share, from_ns: int, to_ns: int) -> Arrivals:
        """Arrivals of the share due in [max(from_ns, share.from_ns), to_ns), by time."""
        from_ns = max(from_ns, share.from_ns)
        parts = [
            (index, *self._stages[index].between(share, from_ns, to_ns))
            for index in self._stage_range(from_ns, to_ns)
        ]
        if len(parts) == 1:  # nearly always: spares the copies in the engine's hot process
            index, sequences, offsets = parts[0]
            stages = np.full(sequences.size, index, dtype=np.int64)
        else:
            none = np.empty(0, dtype=np.int64)
            sequences = np.concatenate([none, *(part[1] for part in parts)])
            offsets = np.concatenate([none, *(part[2] for part in parts)])
            stages = np.repeat(
                np.array([part[0] for part in parts], dtype=np.int64),
                [part[1].size for part in parts],
            )
        requests, nodes = self.mix(sequences)
        return Arrivals(
            sequences=sequences, offsets_ns=offsets, requests=requests, nodes=nodes, stages=stages
        )

    def planned(self, share: Share, from_ns: int, to_ns: int) -> int:
        """How many arrivals `arrivals` would return, without computing them."""
        from_ns = max(from_ns, share.from_ns)
        return sum(
            self._stages[index].before(share, to_ns) - self._stages[index].before(share, from_ns)
            for index in self._stage_range(from_ns, to_ns)
        )

    def _level_at(self, offset_ns: int) -> float:
        if not 0 <= offset_ns < self._plan.duration_ns:
            return 0.0
        index = bisect_right(self._edges_ns, offset_ns) - 1
        return self._pacers[index].level((offset_ns - self._edges_ns[index]) / NS_PER_S)

    def rate_per_s(self, offset_ns: int) -> float:
        """Planned arrivals per second at an offset from T0; 0 outside, and for closed load."""
        return self._level_at(offset_ns) if self._stages else 0.0

    def connections_at(self, offset_ns: int) -> int:
        """Connections that a closed plan holds at an offset from T0; 0 outside, or if open."""
        return 0 if self._stages else round(self._level_at(offset_ns))
