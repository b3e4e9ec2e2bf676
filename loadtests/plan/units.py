"""Texts with units into numbers: durations, rates, percentages, ratios, sizes.

A value without its unit, a unit that is not listed, a sign, NaN, an infinity and a
number beyond the stated highest are refused with `UnitError`, which says what was
expected. Nothing is guessed: "200" is not a duration.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Final

from loadtests.clock import NS_PER_MS, NS_PER_S, NS_PER_US

_QUANTITY: Final = re.compile(
    r"(?P<number>[0-9]+(?:_[0-9]+)*(?:\.[0-9]+)?) ?(?P<unit>[A-Za-z%µ/]*)"
)
_DURATION_NS: Final[Mapping[str, int]] = {
    "ns": 1,
    "us": NS_PER_US,
    "µs": NS_PER_US,
    "ms": NS_PER_MS,
    "s": NS_PER_S,
    "min": 60 * NS_PER_S,
    "h": 3600 * NS_PER_S,
    "d": 86_400 * NS_PER_S,
}
_RATE_PER_S: Final[Mapping[str, Fraction | int]] = {"rps": 1, "/s": 1, "/min": Fraction(1, 60)}
_SIZE_BYTES: Final[Mapping[str, int]] = {
    "B": 1,
    "kB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
}
_MOST_DIGITS: Final = 30
HIGHEST_DURATION_NS: Final = 7 * 86_400 * NS_PER_S  # a week: longer than any soak
HIGHEST_RATE_PER_S: Final = 1e9
HIGHEST_SIZE_BYTES: Final = 1024**4

DURATION_EXPECTED: Final = 'a duration with its unit, such as "200 ms", "1.5 s", "30 min", "1 h"'
RATE_EXPECTED: Final = 'a rate with its unit, such as "776000 rps" or "600 /min"'
PERCENT_EXPECTED: Final = 'a percentage, such as "150 %"'
RATIO_EXPECTED: Final = 'a ratio in percent, such as "0.1 %"'
COUNT_EXPECTED: Final = 'a number without a unit, such as "80"'
SIZE_EXPECTED: Final = 'a size with its unit, such as "64 KiB" or "1 MB"'


class UnitError(ValueError):
    """A text that is not the quantity asked for; `expected` says what would have been.

    `rests_on` are the keys of a scenario that the text refers to: where one of them is
    wrong itself, nothing is known about the text.
    """

    def __init__(self, expected: str, *, rests_on: tuple[str, ...] = ()) -> None:
        self.expected, self.rests_on = expected, rests_on
        super().__init__(f"expected {expected}")


def _quantity(
    text: str, units: Mapping[str, Fraction | int], highest: tuple[float, str], expected: str
) -> float:
    match = _QUANTITY.fullmatch(text.strip())
    if match is None or len(match["number"]) > _MOST_DIGITS:
        raise UnitError(expected)
    factor = units.get(match["unit"])
    if factor is None:
        raise UnitError(f"{expected} (units: {', '.join(units)})")
    # Exact until the one rounding at the end: 99.9 % is the float 0.999, not its neighbour.
    value = Fraction(match["number"]) * factor
    if value > highest[0]:
        raise UnitError(f"{expected}, at most {highest[1]}")
    return float(value)


def parse_duration_ns(text: str) -> int:
    """Nanoseconds of "150us", "200 ms", "1 s", "30 min", "1 h", "2 d"; at most a week."""
    return round(_quantity(text, _DURATION_NS, (HIGHEST_DURATION_NS, "7 d"), DURATION_EXPECTED))


def parse_rate_per_s(text: str) -> float:
    """Arrivals per second of "776000 rps", "600 /min"; at most 1e9."""
    return _quantity(text, _RATE_PER_S, (HIGHEST_RATE_PER_S, "1e9 rps"), RATE_EXPECTED)


def parse_percent(text: str) -> float:
    """The number before the sign: 150.0 for "150 %"; at most 100 000."""
    return _quantity(text, {"%": 1}, (1e5, "100000 %"), PERCENT_EXPECTED)


def parse_ratio(text: str) -> float:
    """A ratio 0-1 of "0.1 %": 0.001; more than 100 % is refused."""
    return _quantity(text, {"%": Fraction(1, 100)}, (1.0, "100 %"), RATIO_EXPECTED)


def parse_count(text: str) -> float:
    """A number of things: "80"; at most 1e9."""
    return _quantity(text, {"": 1}, (1e9, "1e9"), COUNT_EXPECTED)


def parse_size_bytes(text: str) -> int:
    """Bytes of "512 B", "64 KiB", "1 MB"; at most 1 TiB."""
    return round(_quantity(text, _SIZE_BYTES, (HIGHEST_SIZE_BYTES, "1024 GiB"), SIZE_EXPECTED))


def format_duration(value_ns: float) -> str:
    """Shortest exact text in the largest unit that fits: 1500000000 is "1.5 s"."""
    for unit in ("h", "min", "s", "ms", "us"):
        if value_ns >= _DURATION_NS[unit]:
            return f"{value_ns / _DURATION_NS[unit]:.6g} {unit}"
    return f"{value_ns:g} ns"
