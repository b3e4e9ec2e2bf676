"""The use of the stream pool in a stage: its highest second, and what held for how long.

A level at a time and no sum over requests: objectives judge the highest judged second,
alerts with a sustain the highest level that held for so long on end (of an upper limit:
the largest of the smallest uses in all stretches of that length). Both are None without
data, and a stretch with an unknown second is none.

A second's use is the generator's doing as far as its own standing still made it: while an
engine or a host was not well, or for the part of the second for which a loop stood still
(`attribution`), streams stay in use because nobody reads their answers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from analysis.attribution import generator_parts
from analysis.figures import Span, StageFigures
from analysis.reading import Reading
from analysis.unit import Unit
from loadtests.plan.model import Objective, Plan
from loadtests.plan.objectives import is_met, sustained_windows
from loadtests.record.archive import Run
from loadtests.record.stream_pool import StreamPool

KNOWN_RATIO: Final = 0.99  # of a stage's seconds, as for lost windows (measurement.md)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolUse:
    """Use by unix second, of the judged seconds that have one; `own` is the generator's part.

    `step` is the smallest difference that a use can show: engines round up to whole streams.
    """

    span: Span
    use: Mapping[int, float]
    own: Mapping[int, float]
    step: float | None

    def highest(self) -> float | None:
        """The highest second."""
        return max(self.use.values(), default=None)

    def held(self, sustain_ns: int) -> float | None:
        """The highest level that was not left for `sustain_ns` on end."""
        seconds, length = self.span.seconds, sustained_windows(sustain_ns)
        if length > seconds:
            return None
        levels = np.array([self.use.get(self.span.first_s + at, math.nan) for at in range(seconds)])
        lowest = np.lib.stride_tricks.sliding_window_view(levels, length).min(axis=1)
        known = lowest[~np.isnan(lowest)]
        return float(known.max()) if known.size else None

    def missed(self, objective: Objective) -> tuple[int, int]:
        """Seconds that miss the limit, and those that do without the generator's part."""
        seconds = [s for s, use in self.use.items() if not is_met(objective, use)]
        targets = [
            s for s in seconds if not is_met(objective, self.use[s] * (1 - self.own.get(s, 1.0)))
        ]
        return len(seconds), len(targets)


def use_by_second(run: Run) -> dict[int, float]:
    """The use in every window of a run that has one."""
    pools = run.engines.groupby("window_s")[["streams_in_use", "streams"]].sum()
    pool, found = StreamPool(), dict[int, float]()
    for second, (in_use, size) in zip(pools.index.tolist(), pools.to_numpy().tolist(), strict=True):
        use = pool.use(int(second), int(in_use), int(size))
        if use is not None:
            found[int(second)] = use
    return found


def _step(run: Run, span: Span) -> float | None:
    rows = run.engines[run.engines["window_s"].between(span.first_s, span.last_s)]
    sizes = rows.groupby("window_s")["streams"].agg(["sum", "count"])
    largest = sizes[sizes["sum"] > 0]
    return float((largest["count"] / largest["sum"]).min()) if len(largest) else None


def build_pool_uses(run: Run, plan: Plan, stages: Sequence[StageFigures]) -> Mapping[str, PoolUse]:
    """The use in each stage by its name; without a second where no request uses HTTP/2."""
    uses = use_by_second(run) if plan.multiplexing.connections else {}
    return {
        stage.facts.name: PoolUse(
            span=stage.span,
            use={s: u for s, u in uses.items() if stage.span.first_s <= s <= stage.span.last_s},
            own=generator_parts(run, plan, stage) if uses else {},
            step=_step(run, stage.span) if uses else None,
        )
        for stage in stages
    }


def read_pool(objective: Objective, pool: PoolUse) -> Reading:
    """The pool's use as an objective or alert asks for it; samples are seconds."""
    sustain_ns = objective.sustain_ns
    return Reading(
        unit=Unit.RATIO,
        value=pool.held(sustain_ns) if sustain_ns else pool.highest(),
        samples=len(pool.use),
        required=math.ceil(KNOWN_RATIO * pool.span.seconds),
        resolution=pool.step,
    )
