"""A figure that is known as a range: `low` to `high`, both included."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """From `low` to `high`; equal where it is known exactly."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"a spread from {self.low} to {self.high}")

    def through(self, function: Callable[[float], float]) -> Spread:
        """Both ends through a function that never falls."""
        return Spread(low=function(self.low), high=function(self.high))

    def __add__(self, other: Spread) -> Spread:
        return Spread(low=self.low + other.low, high=self.high + other.high)

    def __mul__(self, factor: float) -> Spread:
        return Spread(low=self.low * factor, high=self.high * factor)


def exactly(value: float) -> Spread:
    """A figure without a spread."""
    return Spread(low=value, high=value)
