"""Mistakes under construction, and the values that one key of a scenario can hold.

A value is taken as it stands or refused with `UnitError`, which says what was expected:
text is not a number, a number is not a duration, NaN and infinities are nothing.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, Final, TypeVar

from loadtests.errors import Mistake
from loadtests.plan import spec
from loadtests.plan.call import CODES
from loadtests.plan.targets import URL_EXPECTED, parse_node
from loadtests.plan.units import (
    DURATION_EXPECTED,
    RATE_EXPECTED,
    SIZE_EXPECTED,
    UnitError,
    parse_duration_ns,
    parse_rate_per_s,
    parse_size_bytes,
)

Value = TypeVar("Value")
Hook = Callable[[Any, Any], Any]

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
NAME_EXPECTED: Final = "a name of up to 64 letters, digits, '.', '_' or '-'"
_URL_PATH: Final = re.compile(r"/[!\"$-~]*")
_URL_PATH_EXPECTED: Final = 'a path from "/" on, of visible ASCII without "#"'
_USER: Final = re.compile(r"//[^/@]*@")
_HIGHEST_WHOLE: Final = 10_000_000
_LONGEST_SEEN: Final = 60
_MOST_WORDS: Final = 40


class Mistakes:
    """A list under construction; paths are as in `stages[2].rate`."""

    __slots__ = ("found",)

    def __init__(self) -> None:
        self.found: list[Mistake] = []

    def add(self, where: str, seen: str, expected: str) -> None:
        """Note one."""
        self.found.append(Mistake(where=where, seen=seen, expected=expected))

    def attempt(self, where: str, seen: object, parse: Callable[[], Value]) -> Value | None:
        """The value, or None with the mistake noted when it is not what was expected."""
        try:
            return parse()
        except UnitError as error:
            self.add(where, shown(seen), error.expected)
            return None


def one_of(word: str, known: Sequence[str], what: str) -> str:
    """The nearest known word, and all of them (the first 40): what was expected instead."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    hint = f'did you mean "{near[0]}"? ' if near else ""
    more = ", ..." if len(known) > _MOST_WORDS else ""
    return f"{hint}{what}: {', '.join(known[:_MOST_WORDS]) or 'none'}{more}"


def shown(value: object) -> str:
    """A short text of a value as the author would write it."""
    match value:
        case dict():
            return "a table"
        case list():
            return "a list"
        case bool():
            return str(value).lower()
        case str():
            value = _USER.sub("//...@", value)  # a message must not spread a password
            text = value if len(value) <= _LONGEST_SEEN else value[:_LONGEST_SEEN] + "..."
            return '"' + text.encode("unicode_escape").decode() + '"'
        case _:
            return str(value)[:_LONGEST_SEEN]


def text_value(value: object, _: object = None) -> str:
    """A text, never a number taken for one."""
    if not isinstance(value, str):
        raise UnitError("a text in quotes")
    return value


def _from_text(parse: Callable[[str], Any], expected: str) -> Callable[[object, object], Any]:
    def structure(value: object, _: object) -> Any:
        if not isinstance(value, str):
            raise UnitError(expected)
        return parse(value)

    return structure


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UnitError("a number")
    return float(value)


def _whole(value: object, lowest: int, highest: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise UnitError(f"a whole number from {lowest} to {highest}")
    return value


def boolean_value(value: object, _: object) -> bool:
    """`true` or `false`, not 0 or 1."""
    if not isinstance(value, bool):
        raise UnitError("true or false")
    return value


def _name(value: object, _: object) -> str:
    if not isinstance(value, str) or NAME.fullmatch(value) is None:
        raise UnitError(NAME_EXPECTED)
    return value


def _weight(value: object, _: object) -> float:
    weight = _number(value)
    if not 0 < weight <= _HIGHEST_WHOLE:
        raise UnitError(f"a weight above 0 and at most {_HIGHEST_WHOLE}")
    return weight


def scalar_value(value: object, _: object) -> object:
    """What a JSON value can equal."""
    if not isinstance(value, str | int | float | bool):
        raise UnitError("a text, a number, true or false")
    return value


def _rate(value: str) -> str:
    if "%" not in value:  # a percentage needs its baseline: checked when it is resolved
        parse_rate_per_s(value)
    return value


def positive_rate(value: str) -> float:
    """Arrivals per second, above 0."""
    rate = parse_rate_per_s(value)
    if rate == 0:
        raise UnitError("a rate above 0")
    return rate


def _positive_ns(value: str) -> int:
    length_ns = parse_duration_ns(value)
    if length_ns == 0:
        raise UnitError("a duration above 0")
    return length_ns


def _url_path(value: str) -> str:
    if _URL_PATH.fullmatch(value) is None:
        raise UnitError(_URL_PATH_EXPECTED)
    return value


def _level(value: object, _: object) -> object:
    if isinstance(value, str):
        return _rate(value)
    try:
        return _whole(value, 0, _HIGHEST_WHOLE)
    except UnitError:
        raise UnitError(
            'a rate such as "500 rps" or "150 %", or a whole number of connections'
        ) from None


def url_value(value: str) -> str:
    """A base URL, kept as written."""
    parse_node(value, name=None, weight=1.0)
    return value


def _code_name(value: str) -> str:
    if value not in CODES:
        raise UnitError(one_of(value, CODES, "gRPC status codes"))
    return value


def _message(value: object, _: object) -> object:
    if not isinstance(value, dict | str):
        raise UnitError("a table, or JSON in a text")
    return value


def choice_value(value: object, kind: type[Enum]) -> Enum:
    """The member of a closed choice by its word."""
    known = {member.value: member for member in kind}
    if not isinstance(value, str) or value not in known:
        raise UnitError("one of " + ", ".join(f'"{word}"' for word in known))
    return known[value]


def text_table_value(value: object, _: object) -> dict[str, str]:
    """A table whose values are all texts."""
    if not isinstance(value, dict):
        raise UnitError("a table of texts")
    for key, text in value.items():
        if not isinstance(text, str):
            raise UnitError(f"a table of texts: {key} is not one")
    return value


HOOKS: Final[Mapping[Any, Hook]] = {
    str: text_value,
    int: lambda value, _: _whole(value, 0, 2**63 - 1),
    bool: boolean_value,
    spec.DurationNs: _from_text(parse_duration_ns, DURATION_EXPECTED),
    spec.PositiveNs: _from_text(_positive_ns, DURATION_EXPECTED),
    spec.PerSecond: _from_text(positive_rate, RATE_EXPECTED),
    spec.SizeBytes: _from_text(parse_size_bytes, SIZE_EXPECTED),
    spec.RateText: _from_text(_rate, 'a rate such as "500 rps" or "150 %"'),
    spec.Url: _from_text(url_value, URL_EXPECTED),
    spec.UrlPath: _from_text(_url_path, _URL_PATH_EXPECTED),
    spec.Name: _name,
    spec.Whole: lambda value, _: _whole(value, 1, _HIGHEST_WHOLE),
    spec.Weight: _weight,
    spec.Status: lambda value, _: _whole(value, 200, 599),
    spec.Level: _level,
    spec.CodeName: _from_text(_code_name, "the name of a gRPC status code, such as OK"),
    spec.MessageText: _message,
}
