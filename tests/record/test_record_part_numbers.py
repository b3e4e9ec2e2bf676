"""Parts of seconds are numbered as if every second were remembered, and hardly one is."""

from __future__ import annotations

from collections import Counter
from sys import getsizeof

from hypothesis import given
from hypothesis import strategies as st

from loadtests.record.part_numbers import PartNumbers

_START_S = 1_790_000_000


@given(
    st.lists(st.integers(min_value=0, max_value=12), max_size=60), st.sampled_from([0, _START_S])
)
def test_each_part_has_the_number_of_those_before_it(offsets: list[int], start_s: int) -> None:
    """In any order, with gaps, repeats, and what lies before the first second that came."""
    numbers, seen = PartNumbers(), Counter[int]()
    for offset in offsets:
        assert numbers.take(start_s + offset) == seen[offset]
        seen[offset] += 1


def test_a_long_run_keeps_no_second() -> None:
    """A day of seconds in order, each tenth left out and one in a hundred in two parts."""
    numbers = PartNumbers()
    for second in range(86_400):
        if second % 10 or second > 1_000:
            assert numbers.take(_START_S + second) == 0
        if second % 100 == 99 and second < 1_000:
            assert numbers.take(_START_S + second) == 1
    kept = [getattr(numbers, name) for name in numbers.__slots__]
    assert sum(map(getsizeof, kept)) < 4_000
