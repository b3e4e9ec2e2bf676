"""TOML tables into specification types, collecting every mistake with its path.

Nothing is coerced and nothing is ignored: an unknown key is a mistake with the nearest
known one beside it. Sections are decoded one by one, and what is right in a section with
a mistake is kept where that cannot mislead, so that one mistake does not hide others.
"""

from __future__ import annotations

import dataclasses
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

from loadtests.plan import spec
from loadtests.plan.units import UnitError
from loadtests.plan.values import (
    HOOKS,
    Mistakes,
    choice_value,
    one_of,
    scalar_value,
    shown,
    text_table_value,
    url_value,
)

Value = TypeVar("Value")

SHAPES: Final[Mapping[str, type[spec.StageSpec]]] = {
    "hold": spec.HoldSpec,
    "ramp": spec.RampSpec,
    "step": spec.StepSpec,
    "spike": spec.SpikeSpec,
    "sine": spec.SineSpec,
}

_REQUEST_DECISIVE: Final = frozenset({"name", "path"})
_CALL_DECISIVE: Final = frozenset({"name", "message"})


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
            return spec.NodeSpec(url=spec.Url(url_value(value)))
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
    converter.register_structure_hook_factory(dataclasses.is_dataclass)(_class_hook)
    converter.register_structure_hook_factory(_is_generic(tuple))(_tuple_hook)
    converter.register_structure_hook_func(
        lambda kind: isinstance(kind, type) and issubclass(kind, Enum), choice_value
    )
    converter.register_structure_hook_func(_is_generic(Mapping), text_table_value)
    scalar: object = str | int | float | bool | None
    converter.register_structure_hook_func(lambda kind: kind == scalar, scalar_value)
    for kind, hook in HOOKS.items():
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
    return one_of(key, known, "known keys")


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


def _is_call(method: object) -> bool:
    """A slash is in no HTTP method and in every gRPC method; a dot in none that we know."""
    return isinstance(method, str) and ("/" in method or "." in method)


def decode_request(
    raw: object, where: str, mistakes: Mistakes
) -> spec.RequestSpec | spec.CallSpec | None:
    """One request, of HTTP or gRPC as its method says."""
    if isinstance(raw, dict) and _is_call(raw.get("method")):
        return decode_partly(spec.CallSpec, raw, where, _CALL_DECISIVE, mistakes)
    return decode_partly(spec.RequestSpec, raw, where, _REQUEST_DECISIVE, mistakes)


def decode_stage(raw: object, where: str, mistakes: Mistakes) -> spec.StageSpec | None:
    """One stage as the type that its shape says."""
    shape = raw.get("shape", "hold") if isinstance(raw, dict) else "hold"
    kind = SHAPES.get(shape) if isinstance(shape, str) else None
    if kind is None:
        known = ", ".join(f'"{word}"' for word in SHAPES)
        mistakes.add(f"{where}.shape", shown(shape), f"one of {known}")
        return None
    return decode(kind, raw, where, mistakes)
