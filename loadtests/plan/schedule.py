"""The schedule: which arrival is due when, for any share and any stretch of time.

Pure and with random access: nothing is generated in advance, an hour at 1.5M arrivals/s
costs no more memory than the stretch that is asked for. Arrivals are numbered over the
whole run (*sequence*); time, request and node of arrival k are functions of (plan, k), so
the shares of any split hold together exactly the arrivals of the whole.

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

from loadtests.clock import NS_PER_MS, NS_PER_S
from loadtests.plan.mixing import cumulative_words, key_of, words_of
from loadtests.plan.model import ArrivalProcess, LoadModel, Plan, Share
from loadtests.plan.pacers import pacer_of
from loadtests.plan.stage_arrivals import ConstantStage, Integers, PoissonStage

_PLASTIC: Final = 1.3247179572447460260  # root of x^3 = x + 1
# 2**64 / g and 2**64 / g**2, made odd so that they generate all residues.
_STEP_REQUEST: Final = np.uint64(int(2**64 / _PLASTIC) | 1)
_STEP_NODE: Final = np.uint64(int(2**64 / _PLASTIC**2) | 1)
_BIN_NS: Final = 100 * NS_PER_MS
_BINNED_NS: Final = 4 * 3600 * NS_PER_S  # longer plans get wider bins: at most 144 000 of them


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

    def _build_stages(self) -> tuple[ConstantStage | PoissonStage, ...]:
        plan = self._plan
        bin_ns = _BIN_NS * max(1, -(-plan.duration_ns // _BINNED_NS))
        stages: list[ConstantStage | PoissonStage] = []
        first = 0
        for index, (stage, pacer) in enumerate(zip(plan.stages, self._pacers, strict=True)):
            built: ConstantStage | PoissonStage
            if plan.arrival_process is ArrivalProcess.CONSTANT:
                built = ConstantStage(stage, pacer, first)
            else:
                key = key_of("poisson", plan.seed, index)
                built = PoissonStage(stage, pacer, first, key=key, bin_ns=bin_ns)
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
        words = words_of(sequences)
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
