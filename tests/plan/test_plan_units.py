"""Units: every accepted text, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from loadtests.plan.units import (
    UnitError,
    format_duration,
    parse_duration_ns,
    parse_percent,
    parse_rate_per_s,
    parse_ratio,
    parse_size_bytes,
)

PARSERS: list[Callable[[str], float]] = [
    parse_duration_ns,
    parse_rate_per_s,
    parse_percent,
    parse_ratio,
    parse_size_bytes,
]


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (parse_duration_ns, "1 ns", 1),
        (parse_duration_ns, "150us", 150_000),
        (parse_duration_ns, "150µs", 150_000),
        (parse_duration_ns, "200 ms", 200_000_000),
        (parse_duration_ns, "1.5 s", 1_500_000_000),
        (parse_duration_ns, " 30 min ", 1_800_000_000_000),
        (parse_duration_ns, "1 h", 3_600_000_000_000),
        (parse_duration_ns, "7 d", 604_800_000_000_000),
        (parse_rate_per_s, "776000 rps", 776_000.0),
        (parse_rate_per_s, "776_000 rps", 776_000.0),
        (parse_rate_per_s, "600 /min", 10.0),
        (parse_percent, "150 %", 150.0),
        (parse_ratio, "0.1 %", 0.001),
        (parse_ratio, "99.9 %", 0.999),
        (parse_ratio, "100 %", 1.0),
        (parse_size_bytes, "64 KiB", 65_536),
        (parse_size_bytes, "1 kB", 1000),
    ],
)
def test_a_quantity_means_its_unit(parse: Callable[[str], float], text: str, value: float) -> None:
    """A text with a known unit is that number, exactly."""
    assert parse(text) == value


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize(
    "text",
    [
        "",
        "200",
        "ms",
        "-1 s",
        "+1 s",
        "nan s",
        "inf rps",
        "1e308 rps",
        "1e3 rps",
        "0x10 s",
        "1 parsec",
        "1,5 s",
        "1 s 2 ms",
        "1  s",
        "٣ s",
        "1" * 400 + " rps",
        "1__0 rps",
        "1 S",
    ],
)
def test_anything_else_is_refused(parse: Callable[[str], float], text: str) -> None:
    """No unit, an unknown one, signs, exponents, NaN, infinities and other digits are refused."""
    with pytest.raises(UnitError, match="expected"):
        parse(text)


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (parse_duration_ns, "7.1 d"),
        (parse_rate_per_s, "1000000001 rps"),
        (parse_ratio, "100.1 %"),
        (parse_percent, "100001 %"),
        (parse_size_bytes, "1025 GiB"),
    ],
)
def test_values_beyond_the_highest_are_refused(parse: Callable[[str], float], text: str) -> None:
    """Each quantity has a stated highest value."""
    with pytest.raises(UnitError, match="at most"):
        parse(text)


def test_durations_are_printed_in_the_largest_unit() -> None:
    """A printed duration reads as its author would write it."""
    values = [0, 150_000, 2_000_000, 1_500_000_000, 60_000_000_000, 5_400_000_000_000]
    assert [format_duration(value) for value in values] == [
        "0 ns",
        "150 us",
        "2 ms",
        "1.5 s",
        "1 min",
        "1.5 h",
    ]
