"""Where a series changed: E-divisive with permutation tests, on values that no spike rules.

Were the code the same all the time, every order of the nights would be as likely. So a
stretch has changed if few random orders of its values split as well as its own does; both
sides are then looked at in the same way. Three questions are put to a stretch, and the
allowed false alarms are shared out among them (weighted Bonferroni: the sum is never above
`significance`, whatever the distribution; skewed and spiky nights give no more of them):

    newest     do the last `LEAST_LEVEL` nights differ? What a nightly run is for gets 2/5
    lasting    is there a split into two levels anywhere? 2/5
    temporary  is there one that did not last (energy's k < n)? 1/5

Where there is a change its two sides inherit the allowance, the newer one three quarters of
it: so the sum stays below `significance` for a series with changes as well.

A level has at least three nights, so a single spike, or two, can be no change. Values are
drawn in to three standard deviations (by the median absolute deviation) around the median
first, so that a spike cannot hide a change either. What all this reaches is simulated in
tests/analysis/test_trend_statistics.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import Final

import numpy as np

from analysis.trend.energy import Floats, split_statistics

LEAST_LEVEL: Final = 3
SIGNIFICANCE: Final = 0.04  # of unchanged series show a change: 1 in 20 is allowed
# Shift / noise (standard deviation) that is found in 9 of 10 series of 20 nights + 3 after it.
SHIFT_TO_NOISE: Final = 2.8
_PERMUTATIONS: Final = 999
_BATCH: Final = 111
_BATCH_PAIRS: Final = 2_000_000  # 16 MB an array, whatever the length of the history
_SEED: Final = 1  # any fixed number: the same history gives the same changes
_NEWER_PART: Final = 0.75
_SPIKE_DEVIATIONS: Final = 3.0
_NORMAL_MAD: Final = 1.4826  # standard deviation / median absolute deviation of a normal


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangePoint:
    """`index` is the first value of the new level; `p_value` is over all that was asked."""

    index: int
    p_value: float


def _deviation(values: Floats) -> float:
    """Standard deviation by the median absolute deviation."""
    return _NORMAL_MAD * float(np.median(np.abs(values - np.median(values))))


def without_spikes(values: Floats) -> Floats:
    """The values, none further than three deviations from the median; as they are if that is 0."""
    reach = _SPIKE_DEVIATIONS * _deviation(values)
    if reach == 0:
        return values
    middle = float(np.median(values))
    tame: Floats = np.clip(values, middle - reach, middle + reach)
    return tame


def noise_of(values: Floats, starts: Sequence[int]) -> float:
    """Standard deviation around the levels that begin at 0 and `starts`, spikes left out.

    A spike is further out than five deviations by the median absolute deviation, which alone
    would be too rough a measure of so few nights.
    """
    edges = [0, *starts, len(values)]
    rest = np.concatenate([values[a:b] - np.median(values[a:b]) for a, b in pairwise(edges)])
    reach = 5 * _deviation(rest)
    usual = rest[np.abs(rest) <= reach] if reach > 0 else rest
    return float(np.sqrt(np.square(usual).sum() / max(1, len(usual) - len(starts) - 1)))


class _Question(Enum):
    """One way to ask a stretch for a change, the most special one first."""

    NEWEST = "newest"
    LASTING = "lasting"
    TEMPORARY = "temporary"

    @property
    def part(self) -> float:
        """Its part of the allowed false alarms."""
        return 0.2 if self is _Question.TEMPORARY else 0.4

    def of(self, statistics: Floats) -> Floats:
        """The statistics that answer it, of each order: shape (orders, candidates)."""
        if self is _Question.TEMPORARY:
            largest: Floats = statistics.max(axis=2)
            return largest
        return statistics[:, -1:, -1] if self is _Question.NEWEST else statistics[:, :, -1]


def _answers(tame: Floats, questions: Sequence[_Question], significance: float) -> list[float]:
    """The p-value of each question, divided by its part; it stops once all are hopeless."""
    n, random = len(tame), np.random.default_rng(_SEED)
    own = split_statistics(tame, np.arange(n)[None, :], LEAST_LEVEL)
    # Orders that are as good must count as such whatever the last digit says.
    best = [float(question.of(own).max()) * (1 - 1e-9) for question in questions]
    reached, tried = np.ones(len(questions)), 1
    hopeless = [significance * question.part * (_PERMUTATIONS + 1) for question in questions]
    batch = max(1, min(_BATCH, _BATCH_PAIRS // n**2))
    while tried <= _PERMUTATIONS and (reached <= hopeless).any():
        size = min(batch, _PERMUTATIONS + 1 - tried)
        orders = np.argsort(random.random((size, n)), axis=1)
        statistics = split_statistics(tame, orders, LEAST_LEVEL)
        reached += [(q.of(statistics).max(axis=1) >= b).sum()
                    for q, b in zip(questions, best, strict=True)]  # fmt: skip
        tried += size
    return [float(r) / tried / q.part for r, q in zip(reached, questions, strict=True)]


def _best_split(values: Floats, significance: float, *, is_newest: bool) -> ChangePoint | None:
    """The change of a stretch; None where there is none. Its p-value is over its questions."""
    if len(values) < 2 * LEAST_LEVEL or values.min() == values.max():
        return None
    tame = without_spikes(values)
    questions = list(_Question) if is_newest else [_Question.LASTING, _Question.TEMPORARY]
    answers = _answers(tame, questions, significance)
    answered = [q for q, p in zip(questions, answers, strict=True) if p <= significance]
    if not answered:
        return None
    own = split_statistics(tame, np.arange(len(tame))[None, :], LEAST_LEVEL)
    places = answered[-1].of(own)[0]  # the most general one knows best where
    at = len(tame) - LEAST_LEVEL if len(places) == 1 else LEAST_LEVEL + int(places.argmax())
    return ChangePoint(index=at, p_value=min(answers))


def find_change_points(
    values: Floats, significance: float = SIGNIFICANCE
) -> tuple[ChangePoint, ...]:
    """All changes of a series, in its order; the same values give the same changes."""
    found, open_ = [], [(0, len(values), 1.0)]
    while open_:
        start, end, part = open_.pop()
        is_newest = end == len(values)
        split = _best_split(values[start:end], significance * part, is_newest=is_newest)
        if split is not None:
            at = start + split.index
            found.append(ChangePoint(index=at, p_value=min(1.0, split.p_value / part)))
            open_ += [(start, at, part * (1 - _NEWER_PART)), (at, end, part * _NEWER_PART)]
    return tuple(sorted(found, key=lambda point: point.index))
