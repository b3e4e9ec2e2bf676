"""TOML tables into specification types, collecting every mistake with its path.

Nothing is coerced: text is not a number, a number is not a duration, an unknown key is a
mistake with the nearest known one beside it. Sections are decoded one by one, so that a
mistake in one does not hide those of another.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final, TypeVar, get_args, get_origin

from cattrs import (
    AttributeValidationNote,
    BaseValidationError,
    ClassValidationError,
    Converter,
    ForbiddenExtraKeysError,
    IterableValidationError,
    IterableValidationNote,
)
from cattrs.gen import make_dict_structure_fn, override

from loadtests.errors import Mistake
from loadtests.plan import spec
from loadtests.plan.targets import URL_EXPECTED, parse_node
from loadtests.plan.units import (
    UnitError,
    parse_duration_ns,
    parse_rate_per_s,
    parse_size_bytes,
)

Value = TypeVar("Value")

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
NAME_EXPECTED: Final = "a name of up to 64 letters, digits, '.', '_' or '-'"
_USER: Final = re.compile(r"//[^/@]*@")
_HIGHEST_WHOLE: Final = 10_000_000
_LONGEST_SEEN: Final = 60

SHAPES: Final[Mapping[str, type[spec.StageSpec]]] = {
    "hold": spec.HoldSpec,
    "ramp": spec.RampSpec,
    "step": spec.StepSpec,
    "spike": spec.SpikeSpec,
    "sine": spec.SineSpec,
}


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


def _text(value: object, _: object = None) -> str:
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


def _boolean(value: object, _: object) -> bool:
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


def _scalar(value: object, _: object) -> object:
    if not isinstance(value, str | int | float | bool):
        raise UnitError("a text, a number, true or false")
    return value


def _rate(value: str) -> str:
    if "%" not in value:  # a percentage needs its baseline: checked when it is resolved
        parse_rate_per_s(value)
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


def _url(value: str) -> str:
    parse_node(value, name=None, weight=1.0)
    return value


def _choice(value: object, kind: type[Enum]) -> Enum:
    known = {member.value: member for member in kind}
    if not isinstance(value, str) or value not in known:
        raise UnitError("one of " + ", ".join(f'"{word}"' for word in known))
    return known[value]


def _table(value: object, _: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise UnitError("a table of texts")
    for key, text in value.items():
        if not isinstance(text, str):
            raise UnitError(f"a table of texts: {key} is not one")
    return value


def _tuple_hook(kind: Any, converter: Converter) -> Callable[[object, object], Any]:
    item_kind = get_args(kind)[0]
    structure_item = converter.get_structure_hook(item_kind)

    def structure(value: object, _: object) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise UnitError("a list in [ ]")
        items, errors = [], []
        for index, item in enumerate(value):
            try:
                items.append(structure_item(item, item_kind))
            except (UnitError, BaseValidationError) as error:
                error.add_note(IterableValidationNote("", index, item_kind))
                errors.append(error)
        if errors:
            raise IterableValidationError("list", errors, kind)
        return tuple(items)

    return structure


def _class_hook(kind: Any, converter: Converter) -> Callable[[object, object], Any]:
    renamed: Any = {
        field.name: override(rename=key_of_field(field.name))
        for field in dataclasses.fields(kind)
        if field.name.endswith("_")
    }
    structure_table = make_dict_structure_fn(
        kind, converter, _cattrs_forbid_extra_keys=True, _cattrs_detailed_validation=True, **renamed
    )

    def structure(value: object, _: object) -> Any:
        if kind is spec.NodeSpec and isinstance(value, str):
            return spec.NodeSpec(url=spec.Url(_url(value)))
        if not isinstance(value, dict):
            raise UnitError("a table")
        return structure_table(value, kind)

    return structure


def key_of_field(name: str) -> str:
    """Key of the file for a field of a specification type."""
    return name.removesuffix("_")


def _is_generic(origin: object) -> Callable[[Any], bool]:
    def predicate(kind: Any) -> bool:
        found: object = get_origin(kind)
        return found is origin

    return predicate


def _build_converter() -> Converter:
    converter = Converter(detailed_validation=True, forbid_extra_keys=True)
    hooks: dict[Any, Callable[[Any, Any], Any]] = {
        str: _text,
        int: lambda value, _: _whole(value, 0, 2**63 - 1),
        bool: _boolean,
        spec.DurationNs: _from_text(parse_duration_ns, 'a duration such as "200 ms"'),
        spec.PerSecond: _from_text(parse_rate_per_s, 'a rate such as "500 rps"'),
        spec.SizeBytes: _from_text(parse_size_bytes, 'a size such as "64 KiB"'),
        spec.RateText: _from_text(_rate, 'a rate such as "500 rps" or "150 %"'),
        spec.Url: _from_text(_url, URL_EXPECTED),
        spec.Name: _name,
        spec.Whole: lambda value, _: _whole(value, 1, _HIGHEST_WHOLE),
        spec.Weight: _weight,
        spec.Status: lambda value, _: _whole(value, 200, 599),
        spec.Level: _level,
    }
    converter.register_structure_hook_factory(dataclasses.is_dataclass)(_class_hook)
    converter.register_structure_hook_factory(_is_generic(tuple))(_tuple_hook)
    converter.register_structure_hook_func(
        lambda kind: isinstance(kind, type) and issubclass(kind, Enum), _choice
    )
    converter.register_structure_hook_func(_is_generic(Mapping), _table)
    scalar: object = str | int | float | bool | None
    converter.register_structure_hook_func(lambda kind: kind == scalar, _scalar)
    for kind, hook in hooks.items():
        converter.register_structure_hook(kind, hook)
    return converter


_CONVERTER: Final = _build_converter()


def _at(raw: object, key: str | int) -> object:
    try:
        return raw[key]  # type: ignore[index]  # a miss, or a text instead of a table, is caught
    except (KeyError, IndexError, TypeError):
        return None


def unknown_key(key: str, known: tuple[str, ...]) -> str:
    """What was expected instead of an unknown key."""
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    hint = f'did you mean "{near[0]}"? ' if near else ""
    return f"{hint}known keys: {', '.join(known)}"


def _collect(error: BaseException, where: str, raw: object, mistakes: Mistakes) -> None:
    """Walk cattrs' tree of errors to its leaves; a leaf is one mistake."""
    match error:
        case ClassValidationError() | IterableValidationError():
            for child in error.exceptions:
                path, value = where, raw
                for note in getattr(child, "__notes__", []):
                    if isinstance(note, AttributeValidationNote):
                        key = key_of_field(note.name)
                        path, value = f"{where}.{key}", _at(raw, key)
                    elif isinstance(note, IterableValidationNote):
                        path, value = f"{where}[{note.index}]", _at(raw, int(note.index))
                _collect(child, path, value, mistakes)
        case ForbiddenExtraKeysError():
            known = tuple(key_of_field(field.name) for field in dataclasses.fields(error.cl))
            for key in sorted(error.extra_fields):
                mistakes.add(f"{where}.{key}", "an unknown key", unknown_key(key, known))
        case KeyError():
            mistakes.add(where, "nothing", "this key: it is required")
        case UnitError():
            mistakes.add(where, shown(raw), error.expected)
        case _:
            raise error


def decode(kind: type[Value], raw: object, where: str, mistakes: Mistakes) -> Value | None:
    """One table as `kind`, or None with its mistakes noted."""
    try:
        return _CONVERTER.structure(raw, kind)
    except (BaseValidationError, UnitError) as error:
        _collect(error, where, raw, mistakes)
        return None


def decode_partly(
    kind: type[Value], raw: object, where: str, decisive: frozenset[str], mistakes: Mistakes
) -> Value | None:
    """As `decode`, but keys in error are left at their defaults unless one is `decisive`.

    The rest of the table can then be checked in the same pass; a decisive key is one
    whose default would make correct parts look wrong.
    """
    before = len(mistakes.found)
    value = decode(kind, raw, where, mistakes)
    if value is not None or not isinstance(raw, dict):
        return value
    paths = [mistake.where for mistake in mistakes.found[before:]]
    wrong = {re.split(r"[.\[]", path.removeprefix(f"{where}."))[0] for path in paths}
    if wrong & decisive:
        return None
    kept = {key: item for key, item in raw.items() if key not in wrong}
    return decode(kind, kept, where, Mistakes())


def decode_stage(raw: object, where: str, mistakes: Mistakes) -> spec.StageSpec | None:
    """One stage as the type that its shape says."""
    shape = raw.get("shape", "hold") if isinstance(raw, dict) else "hold"
    kind = SHAPES.get(shape) if isinstance(shape, str) else None
    if kind is None:
        known = ", ".join(f'"{word}"' for word in SHAPES)
        mistakes.add(f"{where}.shape", shown(shape), f"one of {known}")
        return None
    return decode(kind, raw, where, mistakes)
