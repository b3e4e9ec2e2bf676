"""What a search was asked for, and the ladder of rates that it may try."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from analysis.capacity.search.trials import OBJECTIVES
from analysis.text import latency

# SPECjbb2015's critical-jOPS: geometric mean of the rates at these limits, there of p99 too.
CRITICAL_NS: Final = tuple(ms * 1_000_000 for ms in (50, 100, 200, 300, 500))
RUNGS: Final = 5  # a precision holds so many steps of the ladder
CRITICAL_WIDTHS: Final = 2  # bounds at a p99 limit may be so many precisions wide


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What a rate has to hold; `limit_ns` on p99, None: the scenario's own objectives.

    `width_ratio`: how far the upper bound may be above the lower one (0.05: 5 %).
    """

    name: str
    limit_ns: int | None
    width_ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Limits of a search; rates per second. `critical_ns`: p99 limits, () for none."""

    min_per_s: float
    max_per_s: float
    precision_ratio: float  # above 0
    trial_s: float
    max_trials: int
    settle_s: float
    critical_ns: tuple[int, ...]

    def __post_init__(self) -> None:
        if not 0 < self.min_per_s < self.max_per_s:
            raise ValueError(f"rates from {self.min_per_s} to {self.max_per_s}")
        if not 0 < self.precision_ratio < 1 or self.max_trials < 1 or self.trial_s <= 0:
            raise ValueError(f"{self} asks for nothing that can be found")

    @property
    def goals(self) -> tuple[Goal, ...]:
        """The objectives first, then the p99 limits from the smallest on."""
        width = self.precision_ratio
        own = Goal(name=OBJECTIVES, limit_ns=None, width_ratio=width)
        return (own, *(_critical(ns, width * CRITICAL_WIDTHS) for ns in sorted(self.critical_ns)))

    @property
    def ladder(self) -> tuple[float, ...]:
        """All rates that may be tried, from the lowest to the highest."""
        return ladder(self.min_per_s, self.max_per_s, self.precision_ratio)


def _critical(limit_ns: int, width_ratio: float) -> Goal:
    return Goal(name=f"p99 <= {latency(limit_ns)}", limit_ns=limit_ns, width_ratio=width_ratio)


@lru_cache(maxsize=16)
def ladder(min_per_s: float, max_per_s: float, precision_ratio: float) -> tuple[float, ...]:
    """Rates at equal ratios, `RUNGS` to a precision or a little more; both ends are on it.

    Few rates, so that trials meet at the same ones; four digits, so that they can be read.
    """
    steps = math.ceil(math.log(max_per_s / min_per_s) / math.log1p(precision_ratio) * RUNGS)
    ratio = (max_per_s / min_per_s) ** (1 / steps)
    inner = (float(f"{min_per_s * ratio**step:.4g}") for step in range(1, steps))
    between = {rate for rate in inner if min_per_s < rate < max_per_s}
    return (min_per_s, *sorted(between), max_per_s)
