"""TOML tables into specification types, collecting every mistake with its path.

Nothing is coerced and nothing is ignored: an unknown key is a mistake with the nearest
known one beside it. Each value is decoded on its own, and a stand-in takes the place of
one that is refused. So whatever is wrong, decoding gives a whole document, and what its
keys say about each other is checked in the same pass.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import operator
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Final, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from loadtests.plan import spec
from loadtests.plan.units import UnitError
from loadtests.plan.values import Mistakes, leaf_of, shown

Value = TypeVar("Value")

_MOST_ITEMS: Final = 1000  # of a list; bounds the work on a hostile file


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Key:
    """One key of a table; `field` is its name in the specification type."""

    field: str
    kind: Any
    is_required: bool


def key_of_field(name: str) -> str:
    """Key of the file for a field of a specification type."""
    return name.removesuffix("_")


def unknown_key(key: str, known: tuple[str, ...]) -> str:
    """What was expected instead of an unknown key."""
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    hint = f' (did you mean "{near[0]}"?)' if near else ""
    return f"one of {', '.join(known)}{hint}"


def _without_none(kind: Any) -> Any:
    """The type of a key that is there: `X` of `X | None`."""
    if get_origin(kind) not in {Union, UnionType}:
        return kind
    return functools.reduce(operator.or_, (arm for arm in get_args(kind) if arm is not NoneType))


@functools.cache
def _keys(kind: Any) -> Mapping[str, _Key]:
    hints = get_type_hints(kind)
    return {
        key_of_field(field.name): _Key(
            field=field.name,
            kind=_without_none(hints[field.name]),
            is_required=field.default is field.default_factory is dataclasses.MISSING,
        )
        for field in dataclasses.fields(kind)
    }


def _below(where: str, key: str) -> str:
    key = shown(key)[1:-1]  # a key is the author's text, too
    return f"{where}.{key}" if where else key


def _decode_table(kind: Any, raw: object, where: str, mistakes: Mistakes) -> Any:
    if not isinstance(raw, dict):
        mistakes.refuse(where, shown(raw), "a table")
        return _stand_in(kind)
    keys, values = _keys(kind), {}
    for name, key in keys.items():
        path = _below(where, name)
        if name in raw:
            values[key.field] = _decode(key.kind, raw[name], path, mistakes)
        elif key.is_required:
            mistakes.refuse(path, "nothing", "this key: it is required")
            values[key.field] = _stand_in(key.kind)
    for name in sorted(raw.keys() - keys.keys()):
        mistakes.add(_below(where, name), "an unknown key", unknown_key(name, tuple(keys)))
    return kind(**values)


def _decode_list(kind: Any, raw: object, where: str, mistakes: Mistakes) -> tuple[Any, ...]:
    if not isinstance(raw, list):
        expected = "a list in [ ]" if "." in where else f"tables: [[{where}]]"
        mistakes.refuse(where, shown(raw), expected)
        return ()
    if len(raw) > _MOST_ITEMS:
        mistakes.refuse(where, f"{len(raw)} items", f"at most {_MOST_ITEMS}")
        return ()
    item_kind = get_args(kind)[0]
    return tuple(
        _decode(item_kind, item, f"{where}[{index}]", mistakes) for index, item in enumerate(raw)
    )


def _decode_names(kind: Any, raw: object, where: str, mistakes: Mistakes) -> dict[Any, Any]:
    """A table whose keys are the author's own names."""
    if not isinstance(raw, dict):
        mistakes.refuse(where, shown(raw), "a table")
        return {}
    name_kind, item_kind = get_args(kind)
    return {
        _decode(name_kind, name, _below(where, name), mistakes): _decode(
            item_kind, item, _below(where, name), mistakes
        )
        for name, item in raw.items()
    }


def _decode_leaf(kind: Any, raw: object, where: str, mistakes: Mistakes) -> Any:
    leaf = leaf_of(kind)
    try:
        return leaf.read(raw)
    except UnitError as error:
        seen = "no text" if leaf.is_secret else shown(raw)
        mistakes.refuse(where, seen, error.expected)
    # A text stays as it was written: a reference to a wrong name is no second mistake.
    return raw if isinstance(raw, str) and isinstance(leaf.stand_in, str) else leaf.stand_in


def _stand_in(kind: Any) -> Any:
    """What takes the place of a value that is not there: its mistakes are nobody's."""
    if dataclasses.is_dataclass(kind):
        return _decode(kind, {}, "", Mistakes())
    return _decode(kind, None, "", Mistakes())


def _stage_kind(raw: object) -> type[spec.StageSpec]:
    shape = raw.get("shape", "hold") if isinstance(raw, dict) else None
    known = spec.SHAPES.get(shape) if isinstance(shape, str) else None
    return known or spec.ShapelessSpec


def _decode(kind: Any, raw: object, where: str, mistakes: Mistakes) -> Any:
    if kind == spec.StageSpec:
        return _decode_table(_stage_kind(raw), raw, where, mistakes)
    if kind is spec.NodeSpec and not isinstance(raw, dict):
        return spec.NodeSpec(url=_decode(spec.Url, raw, where, mistakes))
    if dataclasses.is_dataclass(kind):
        return _decode_table(kind, raw, where, mistakes)
    if get_origin(kind) is tuple:
        return _decode_list(kind, raw, where, mistakes)
    if get_origin(kind) is Mapping:
        return _decode_names(kind, raw, where, mistakes)
    return _decode_leaf(kind, raw, where, mistakes)


def decode(kind: type[Value], raw: object, where: str, mistakes: Mistakes) -> Value:
    """`raw` as `kind`; each value that is none is noted and stood in for."""
    return cast("Value", _decode(kind, raw, where, mistakes))
