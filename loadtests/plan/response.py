"""Checks on the fields of a gRPC response: read once, evaluated on each message.

    check = path "==" value          status.code == "OK"     items.0.id == 7
    path  = field { "." field | "." index of a list | "." key of a map }
    value = JSON: a text, a number, true or false

Enums are compared by name, bytes by their base64. A field that can be absent (a message, an
optional field, one of a oneof) and is absent equals nothing, not even its default: a check
that cannot be evaluated has failed. Pure; `compile_checks` is what the engine calls.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, cast

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from loadtests.plan.call import Call, FieldEquals
from loadtests.plan.columns import decode_base64
from loadtests.plan.scalars import RANGES, expected_of
from loadtests.plan.schema import is_map, message_class, message_type
from loadtests.plan.units import UnitError
from loadtests.plan.values import one_of

CHECK_EXPECTED: Final = "a check on the response, such as 'status.code == \"OK\"'"
_CHECK: Final = re.compile(r"\s*(?P<path>[^\s=]+)\s*==\s*(?P<value>.+?)\s*", re.DOTALL)
_LONGEST_SEEN: Final = 80  # characters of a seen value that a message repeats
_ABSENT: Final = object()

Step = Callable[[Any], Any]
Failed = Callable[[bytes], str | None]
F = FieldDescriptor


def parse_check(text: str) -> FieldEquals:
    """`path == value`; UnitError otherwise."""
    match = _CHECK.fullmatch(text)
    if match is None:
        raise UnitError(CHECK_EXPECTED)
    try:
        value = json.loads(match["value"])
    except ValueError:
        raise UnitError(f"{CHECK_EXPECTED}: a JSON value after ==") from None
    if not isinstance(value, str | int | float | bool):
        raise UnitError(f"{CHECK_EXPECTED}: a text, a number, true or false after ==")
    return FieldEquals(path=match["path"], value=value)


def _single(field: F) -> Step:
    name = field.name
    if not field.has_presence:
        return lambda message: getattr(message, name)
    return lambda message: getattr(message, name) if message.HasField(name) else _ABSENT


def _item(field: F, index: str | None) -> Step:
    name = field.name
    if index is None or re.fullmatch(r"[0-9]{1,6}", index) is None:
        raise UnitError(f"an index after {name}, which is a list: {name}.0")
    place = int(index)

    def step(message: Any) -> Any:
        items = getattr(message, name)
        return items[place] if place < len(items) else _ABSENT

    return step


def _entry(field: F, key: str | None) -> Step:
    name, entry = field.name, cast("Descriptor", field.message_type)
    key_field = entry.fields_by_name["key"]
    if key is None:
        raise UnitError(f"a key after {name}, which is a map: {name}.KEY")
    own: object = key
    if key_field.type == F.TYPE_BOOL:
        own = {"true": True, "false": False}.get(key)
    elif key_field.type != F.TYPE_STRING:
        own = int(key) if re.fullmatch(r"-?[0-9]{1,20}", key) else None
    if own is None:
        raise UnitError(f"a key of {name}: {expected_of(key_field)}")

    def step(message: Any) -> Any:
        entries = getattr(message, name)
        return entries.get(own, _ABSENT)

    return step


def _steps(kind: Descriptor, path: str) -> tuple[list[Step], F]:
    """How to walk from a message to the value, and the field that it is in."""
    steps: list[Step] = []
    field: F | None = None
    below: Descriptor | None = kind
    segments = iter(path.split("."))
    for segment in segments:
        if below is None:
            raise UnitError(f"a path that ends at {field.name if field else ''}, a single value")
        field = below.fields_by_name.get(segment)
        if field is None:
            names = tuple(below.fields_by_name)
            raise UnitError(one_of(segment, names, f"the fields of {below.full_name}"))
        if is_map(field):
            steps.append(_entry(field, next(segments, None)))
            field = cast("Descriptor", field.message_type).fields_by_name["value"]
        elif field.is_repeated:
            steps.append(_item(field, next(segments, None)))
        else:
            steps.append(_single(field))
        below = field.message_type
    if field is None or below is not None:
        further = ", ".join(below.fields_by_name) if below is not None else ""
        raise UnitError(f"a path to a single value: {path}. and one of {further}")
    return steps, field


def _expected_value(field: F, value: str | float) -> object:
    """The value as a message class has it; UnitError when the field can never equal it."""
    low, high = RANGES.get(field.type, (0, 0))
    match field.type, value:
        case F.TYPE_ENUM, str():
            values = cast("EnumDescriptor", field.enum_type).values_by_name
            if value not in values:
                raise UnitError(one_of(value, tuple(values)))
            return values[value].number
        case (F.TYPE_BOOL, bool()) | (F.TYPE_STRING, str()):
            return value
        case F.TYPE_BYTES, str():
            with suppress(ValueError):
                return decode_base64(value.encode())
        case _, bool() | str():
            pass
        case F.TYPE_DOUBLE, _:
            with suppress(OverflowError):
                return float(value)
        case F.TYPE_FLOAT, _:
            with suppress(OverflowError):
                return struct.unpack("<f", struct.pack("<f", value))[0]
        case kind, int() if kind in RANGES and low <= value <= high:
            return value
    raise UnitError(f"{expected_of(field)}, as {field.name} is")


def _shown(field: F, value: Any) -> str:
    if value is _ABSENT:
        return "nothing"
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return str(value) if known is None else known.name
    text = repr(value)
    return text if len(text) <= _LONGEST_SEEN else text[:_LONGEST_SEEN] + "..."


def compile_check(kind: Descriptor, check: FieldEquals) -> Callable[[Message], str | None]:
    """What fails of one check, in words, or None; UnitError when the type knows no such value."""
    steps, field = _steps(kind, check.path)
    expected = _expected_value(field, check.value)

    def failed(message: Message) -> str | None:
        value: Any = message
        for step in steps:
            value = step(value)
            if value is _ABSENT:
                break
        if value == expected:
            return None
        return f"{check.path}: saw {_shown(field, value)}, expected {_shown(field, expected)}"

    return failed


def _first_failure(
    parse: Callable[[bytes], Message], checks: Sequence[Callable[[Message], str | None]], name: str
) -> Failed:
    def failed(data: bytes) -> str | None:
        try:
            message = parse(data)
        except DecodeError as error:
            return f"not a {name}: {error}"
        for check in checks:
            failure = check(message)
            if failure is not None:
                return failure
        return None

    return failed


def compile_checks(call: Call, descriptors: bytes) -> Failed:
    """A function of one response message's bytes: the first check that fails, or None.

    `descriptors` are the plan's. Without checks nothing is decoded.
    """
    if not call.checks:
        return lambda _: None
    kind = message_type(descriptors, call.response_type)
    checks = [compile_check(kind, check) for check in call.checks]
    return _first_failure(message_class(kind).FromString, checks, kind.full_name)
