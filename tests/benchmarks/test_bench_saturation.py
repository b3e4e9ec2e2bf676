"""Saturation is what is made at most, wherever it lies: not the most that was offered."""

from __future__ import annotations

import pytest

from benchmarks.saturation import climb


class _Engine:
    """Makes what it is asked for up to a capacity, and less where it is asked for more."""

    def __init__(self, capacity: float, slow_tries: tuple[int, ...] = ()) -> None:
        self.capacity, self.slow_tries = capacity, slow_tries
        self.tries = 0

    def made_per_s(self, offered: float) -> float:
        self.tries += 1
        capacity = self.capacity * (0.5 if self.tries in self.slow_tries else 1.0)
        return offered if offered <= capacity else max(0.0, 2 * capacity - offered)


@pytest.mark.parametrize("capacity", [41_000.0, 100_000.0, 163_000.0])
def test_the_search_comes_within_a_step_of_any_capacity(capacity: float) -> None:
    """Also where it is far above the first rate that is offered."""
    tries = climb(_Engine(capacity).made_per_s, 40_000.0)
    assert capacity / 1.1 <= max(made for _, made in tries) <= capacity
    assert max(offered for offered, _ in tries) > capacity


def test_one_slow_moment_does_not_end_it() -> None:
    """A rate that is not made is offered again."""
    tries = climb(_Engine(100_000.0, slow_tries=(1, 4)).made_per_s, 40_000.0)
    assert max(made for _, made in tries) >= 90_000.0


def test_it_ends_where_everything_is_made() -> None:
    """Load is bounded in count, whatever the server does."""
    tries = climb(lambda offered: offered, 40_000.0)
    assert len(tries) == 20
