"""Mistakes under construction, and the values that one key of a scenario can hold.

A value is taken as it stands or refused with `UnitError`, which says what was expected:
text is not a number, a number is not a duration, NaN and infinities are nothing.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, Final, NamedTuple, TypeVar

from loadtests.errors import Mistake
from loadtests.plan import spec
from loadtests.plan.call import CODES
from loadtests.plan.targets import URL_EXPECTED, parse_node
from loadtests.plan.units import (
    DURATION_EXPECTED,
    RATE_EXPECTED,
    RATIO_EXPECTED,
    SIZE_EXPECTED,
    UnitError,
    parse_duration_ns,
    parse_percent,
    parse_rate_per_s,
    parse_ratio,
    parse_size_bytes,
)

Value = TypeVar("Value")

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_URL_PATH: Final = re.compile(r"/[!\"$-~]*")
_URL_PATH_EXPECTED: Final = 'a path from "/" on, of visible ASCII without "#"'
_USER: Final = re.compile(r"//[^/@]*@")
_HIGHEST_WHOLE: Final = 10_000_000
_LONGEST_SEEN: Final = 60
_MOST_WORDS: Final = 40
_PART: Final = re.compile(r"[.\[]")  # what a path goes on with below a value


class Mistakes:
    """A list under construction; paths are as in `stages[2].rate`.

    A value that cannot be used is refused: a stand-in takes its place, so that everything
    around it is still checked, and whatever else would be found wrong because of the
    stand-in is not noted.
    """

    __slots__ = ("_refused", "found")

    def __init__(self) -> None:
        self.found: list[Mistake] = []
        self._refused: set[str] = set()

    def refuse(self, where: str, seen: str, expected: str) -> None:
        """Note one at a value that nothing can be said about from now on."""
        self.found.append(Mistake(where=where, seen=seen, expected=expected))
        self._refused.add(where)

    def is_refused(self, where: str) -> bool:
        """Whether the value at a path was refused, or what it is a part of."""
        parts = (where[: match.start()] for match in _PART.finditer(where))
        return not self._refused.isdisjoint((where, *parts))

    def add(self, where: str, seen: str, expected: str, *, rests_on: Iterable[str] = ()) -> None:
        """Note one, unless a value that it is about or rests on was refused."""
        if not any(self.is_refused(path) for path in (where, *rests_on)):
            self.found.append(Mistake(where=where, seen=seen, expected=expected))

    def attempt(self, where: str, seen: object, parse: Callable[[], Value]) -> Value | None:
        """The value, or None: it is not what was expected, which is noted, or refused before."""
        if self.is_refused(where):
            return None
        try:
            return parse()
        except UnitError as error:
            self.add(where, shown(seen), error.expected, rests_on=error.rests_on)
            self._refused.add(where)
            return None


def one_of(word: str, known: Sequence[str], what: str = "") -> str:
    """What was expected instead of a word: all known ones (the first 40), and the nearest."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    hint = f' (did you mean "{near[0]}"?)' if near else ""
    more = ", ..." if len(known) > _MOST_WORDS else ""
    words = ", ".join(known[:_MOST_WORDS]) or "none"
    return f"one of {what + ': ' if what else ''}{words}{more}{hint}"


def shown(value: object) -> str:
    """A short text of a value as the author would write it."""
    match value:
        case None:
            return "nothing"
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


def can_name(name: str, names: Collection[str]) -> bool:
    """Whether a reference can be right: a name that is no text ("") may be the one meant."""
    return name in names or "" in names


def _text(value: object) -> str:
    """A text, never a number taken for one."""
    if not isinstance(value, str):
        raise UnitError("a text in quotes")
    return value


def _from_text(parse: Callable[[str], Any], expected: str) -> Callable[[object], Any]:
    def read(value: object) -> Any:
        if not isinstance(value, str):
            raise UnitError(expected)
        return parse(value)

    return read


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UnitError("a number")
    return float(value)


def _whole(lowest: int, highest: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
            raise UnitError(f"a whole number from {lowest} to {highest}")
        return value

    return read


def _version(value: object) -> int:
    if isinstance(value, bool) or value != spec.VERSION:
        raise UnitError(f"{spec.VERSION}, the only version so far")
    return spec.VERSION


def _boolean(value: object) -> bool:
    """`true` or `false`, not 0 or 1."""
    if not isinstance(value, bool):
        raise UnitError("true or false")
    return value


def _name(value: object) -> str:
    if not isinstance(value, str) or _NAME.fullmatch(value) is None:
        raise UnitError("a name of up to 64 letters, digits, '.', '_' or '-'")
    return value


def _weight(value: object) -> float:
    weight = _number(value)
    if not 0 < weight <= _HIGHEST_WHOLE:
        raise UnitError(f"a weight above 0 and at most {_HIGHEST_WHOLE}")
    return weight


def _scalar(value: object) -> object:
    """What a JSON value can equal."""
    if not isinstance(value, str | int | float | bool):
        raise UnitError("a text, a number, true or false")
    return value


def _rate(value: str) -> str:
    if "%" not in value:  # a percentage needs its baseline: checked when it is resolved
        parse_rate_per_s(value)
    return value


def _positive_rate(value: str) -> float:
    rate = parse_rate_per_s(value)
    if rate == 0:
        raise UnitError("a rate above 0")
    return rate


def _positive_ns(value: str) -> int:
    length_ns = parse_duration_ns(value)
    if length_ns == 0:
        raise UnitError("a duration above 0")
    return length_ns


def _percent(value: str) -> int:
    percent = parse_percent(value)
    if percent != int(percent) or percent > 100:  # noqa: PLR2004 - a part of a whole
        raise UnitError('a whole percentage from "0 %" to "100 %"')
    return int(percent)


def _bytes_per_s(value: str) -> int:
    size = parse_size_bytes(value.removesuffix("/s")) if value.endswith("/s") else 0
    if size == 0:
        raise UnitError('bytes per second, such as "64 KiB/s"')
    return size


def _url_path(value: str) -> str:
    if _URL_PATH.fullmatch(value) is None:
        raise UnitError(_URL_PATH_EXPECTED)
    return value


def _level(value: object) -> object:
    if isinstance(value, str):
        return _rate(value)
    try:
        return _whole(0, _HIGHEST_WHOLE)(value)
    except UnitError:
        raise UnitError(
            'a rate such as "500 rps" or "150 %", or a whole number of connections'
        ) from None


def _url(value: str) -> str:
    """A base URL, kept as written."""
    parse_node(value, name=None, weight=1.0)
    return value


def _code_name(value: str) -> str:
    if value not in CODES:
        raise UnitError(one_of(value, CODES, "the gRPC status codes"))
    return value


def _message(value: object) -> object:
    if not isinstance(value, dict | str):
        raise UnitError("a table, or JSON in a text")
    return value


def _shape(value: object) -> str:
    if not isinstance(value, str) or value not in spec.SHAPES:
        raise UnitError("one of " + ", ".join(f'"{word}"' for word in spec.SHAPES))
    return value


class Leaf(NamedTuple):
    """How a value of one type is read, and what stands in for one that is refused."""

    read: Callable[[object], Any]
    stand_in: object
    is_secret: bool = False  # a message must not repeat it


# Stand-ins are the weakest of their type: neither a long run nor a high rate.
_LEAVES: Final[Mapping[Any, Leaf]] = {
    str: Leaf(_text, ""),
    int: Leaf(_whole(0, 2**63 - 1), 0),
    bool: Leaf(_boolean, True),  # noqa: FBT003 - a value of the table
    str | int | float | bool: Leaf(_scalar, ""),
    spec.Version: Leaf(_version, spec.VERSION),
    spec.DurationNs: Leaf(_from_text(parse_duration_ns, DURATION_EXPECTED), 0),
    spec.PositiveNs: Leaf(_from_text(_positive_ns, DURATION_EXPECTED), 1),
    spec.PerSecond: Leaf(_from_text(_positive_rate, RATE_EXPECTED), 1.0),
    spec.SizeBytes: Leaf(_from_text(parse_size_bytes, SIZE_EXPECTED), 1),
    spec.RateText: Leaf(_from_text(_rate, 'a rate such as "500 rps" or "150 %"'), ""),
    spec.Url: Leaf(_from_text(_url, URL_EXPECTED), ""),
    spec.UrlPath: Leaf(_from_text(_url_path, _URL_PATH_EXPECTED), ""),
    spec.Name: Leaf(_name, ""),
    spec.Whole: Leaf(_whole(1, _HIGHEST_WHOLE), 1),
    spec.Ratio: Leaf(_from_text(parse_ratio, RATIO_EXPECTED), 0.0),
    spec.Weight: Leaf(_weight, 1.0),
    spec.Percent: Leaf(_from_text(_percent, 'a percentage such as "25 %"'), 0),
    spec.BytesPerSecond: Leaf(_from_text(_bytes_per_s, 'bytes per second, such as "64 KiB/s"'), 1),
    spec.Status: Leaf(_whole(200, 599), 200),
    spec.Level: Leaf(_level, 0),
    spec.Shape: Leaf(_shape, ""),
    spec.CodeName: Leaf(_from_text(_code_name, "the name of a gRPC status code, such as OK"), ""),
    spec.MessageText: Leaf(_message, {}),
    spec.HeaderText: Leaf(_text, "", is_secret=True),
}


def _choice(kind: type[Enum]) -> Leaf:
    """The member of a closed choice by its word."""
    known = {member.value: member for member in kind}

    def read(value: object) -> Enum:
        if not isinstance(value, str) or value not in known:
            raise UnitError("one of " + ", ".join(f'"{word}"' for word in known))
        return known[value]

    return Leaf(read, next(iter(kind)))


def leaf_of(kind: Any) -> Leaf:
    """Reader and stand-in of a type that is no table and no list."""
    is_choice = isinstance(kind, type) and issubclass(kind, Enum)
    return _choice(kind) if is_choice else _LEAVES[kind]
