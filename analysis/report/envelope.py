"""Long series made short enough to draw, without hiding anything.

A point stands for `step_s` seconds and keeps the smallest and the largest of them: a single
bad second stays as high as it was. A mean is kept beside them for what may be averaged
(rates, never percentiles). Up to `POINTS` seconds nothing is thinned out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
POINTS: Final = 400  # a figure is some 500 pixels wide


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """Smallest, largest and mean of every `step_s` seconds; NaN where none of them is known.

    `at_s` is the middle of each point in seconds from the axis' start.
    """

    step_s: int
    at_s: Floats
    low: Floats
    high: Floats
    mean: Floats

    @property
    def is_thinned(self) -> bool:
        """Whether a point stands for more than one second."""
        return self.step_s > 1


def step_for(seconds: int, points: int = POINTS) -> int:
    """Seconds that one point stands for, so that at most `points` are drawn."""
    return max(1, -(-seconds // points))


def in_steps(values: Floats, step_s: int) -> Floats:
    """One row a step, filled up with NaN; infinities stay."""
    rows = -(-values.size // step_s)
    padded = np.full(rows * step_s, np.nan)
    padded[: values.size] = values
    return padded.reshape(rows, step_s)


def build_envelope(values: Floats, step_s: int) -> Envelope:
    """Thin out a series of one value a second."""
    steps = in_steps(values, step_s)
    known = ~np.isnan(steps)
    number = known.sum(axis=1)
    is_known = number > 0
    total = np.where(known, steps, 0.0).sum(axis=1)
    return Envelope(
        step_s=step_s,
        at_s=(np.arange(steps.shape[0], dtype=np.float64) + 0.5) * step_s,
        low=np.where(is_known, np.where(known, steps, np.inf).min(axis=1, initial=np.inf), np.nan),
        high=np.where(
            is_known, np.where(known, steps, -np.inf).max(axis=1, initial=-np.inf), np.nan
        ),
        mean=np.where(is_known, total / np.maximum(number, 1), np.nan),
    )
