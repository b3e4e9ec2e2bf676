"""A message as its author wrote it into parts of the wire, with everything wrong in it noted.

Structure is walked here, field by field, so that every mistake has its path; single values
that do not vary are left to protobuf's own `json_format`, which knows the JSON forms of
all types. Fields are written in the order of their numbers, as protobuf libraries do.
Well-known types have their JSON forms; those that are one text there (Timestamp, Duration,
FieldMask) and Any cannot vary. Extensions of proto2 are not known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import ParseDict, ParseError

from loadtests.plan.authored import Source, varies
from loadtests.plan.call import Delimited, Part, Raw
from loadtests.plan.scalars import expected_of, varying_value, wire_type
from loadtests.plan.schema import is_map, message_class
from loadtests.plan.units import UnitError
from loadtests.plan.values import Mistakes, one_of, shown
from loadtests.plan.wire import DELIMITED_TYPE, GROUP_END_TYPE, GROUP_START_TYPE, tag, varint

_WELL_KNOWN: Final = "google.protobuf."
_WRAPPERS: Final = frozenset(
    f"{_WELL_KNOWN}{name}Value"
    for name in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)
_CONSTANT: Final = frozenset(
    _WELL_KNOWN + name for name in ("Timestamp", "Duration", "FieldMask", "Any")
)
_VALUE: Final = f"{_WELL_KNOWN}Value"
_SPECIAL: Final = (
    _WRAPPERS | _CONSTANT | {_VALUE, f"{_WELL_KNOWN}Struct", f"{_WELL_KNOWN}ListValue"}
)
_BOOLEAN_KEYS: Final = {"true": True, "false": False}
# Everything that json_format raises for a value that is not what it should be.
_REFUSALS: Final = (ParseError, KeyError, AttributeError, TypeError, ValueError)


def folded(parts: Sequence[Part]) -> tuple[Part, ...]:
    """The same bytes with everything constant in as few `Raw` as there can be."""
    found: list[Part] = []
    for part in parts:
        if isinstance(part, Delimited):
            inner = folded(part.parts)
            match inner:
                case ():
                    part = Raw(data=varint(0))  # noqa: PLW2901 - the same part, folded
                case (Raw(data=data),):
                    part = Raw(data=varint(len(data)) + data)  # noqa: PLW2901 - as above
                case _:
                    part = Delimited(parts=inner)  # noqa: PLW2901 - as above
        if isinstance(part, Raw) and found and isinstance(found[-1], Raw):
            found[-1] = Raw(data=found[-1].data + part.data)
        elif part != Raw(data=b""):
            found.append(part)
    return tuple(found)


def _meant(kind: Descriptor, value: object) -> str:
    """Name of the field that a varying JSON form of a well-known type stands for."""
    match kind.full_name.removeprefix(_WELL_KNOWN), value:
        case "Struct", _:
            name = "fields"
        case "ListValue", _:
            name = "values"
        case "Value", Source(is_bare=True):
            name = "number_value"
        case "Value", Source():
            name = "string_value"
        case "Value", dict():
            name = "struct_value"
        case "Value", _:
            name = "list_value"
        case _:  # a wrapper
            name = "value"
    return name


class MessageWriter:
    """Writes messages of the types in a pool."""

    def __init__(self, pool: DescriptorPool, mistakes: Mistakes) -> None:
        self._pool, self._mistakes = pool, mistakes

    def message(self, kind: Descriptor, value: object, where: str) -> list[Part]:
        """Content of a message, without tag and length."""
        if isinstance(value, Source) and value.is_wrong:
            return []
        if kind.full_name in _SPECIAL:
            return self._special(kind, value, where)
        if isinstance(value, dict):
            return self._fields(kind, value, where)
        self._mistakes.add(where, _seen(value), f"a table with fields of {kind.full_name}")
        return []

    def _special(self, kind: Descriptor, value: object, where: str) -> list[Part]:
        """A well-known type in its JSON form, which stands for one of its fields."""
        if not varies(value):
            return [self._constant_message(kind, value, where)]
        if kind.full_name in _CONSTANT:
            expected = f"a constant: a {kind.full_name} cannot vary"
            self._mistakes.add(where, "a placeholder", expected)
            return []
        return self._field(kind.fields_by_name[_meant(kind, value)], value, where)

    def _fields(self, kind: Descriptor, table: dict[Any, Any], where: str) -> list[Part]:
        by_name = {field.json_name: field for field in kind.fields}
        by_name.update(kind.fields_by_name)
        given: dict[int, list[Part]] = {}
        oneofs: set[str] = set()
        for key, value in table.items():
            path = f"{where}.{_key(key)}"
            field = by_name.get(key) if isinstance(key, str) else None
            if field is None:
                known = f"the fields of {kind.full_name}"
                names = tuple(kind.fields_by_name)
                self._mistakes.add(path, "an unknown field", one_of(_key(key), names, known))
                continue
            oneof = field.containing_oneof
            if field.number in given or (oneof is not None and oneof.name in oneofs):
                group = (field,) if oneof is None else oneof.fields
                only = ", ".join(other.name for other in group)
                self._mistakes.add(path, "a second value", f"only one of: {only}")
            if oneof is not None and value is not None:
                oneofs.add(oneof.name)
            given[field.number] = self._field(field, value, path)
        for field in kind.fields:
            if field.is_required and field.number not in given:
                self._mistakes.add(f"{where}.{field.name}", "nothing", "this field: it is required")
        return [part for number in sorted(given) for part in given[number]]

    def _field(self, field: FieldDescriptor, value: object, where: str) -> list[Part]:
        """A field with its tag, as often as it repeats."""
        if is_map(field):
            return self._map(field, value, where)
        if not field.is_repeated:
            return self._single(field, value, where)
        if not isinstance(value, list):
            if value is not None:
                self._mistakes.add(where, _seen(value), f"a list in [ ], each {expected_of(field)}")
            return []
        items = [self._single(field, item, f"{where}[{index}]") for index, item in enumerate(value)]
        if not field.is_packed or not value:
            return [part for parts in items for part in parts]
        # Packed: one tag and one length before all values, whose own tags go.
        own = len(tag(field.number, DELIMITED_TYPE))
        contents: list[Part] = []
        for parts in items:
            match parts:
                case [Raw(data=data)]:  # tag, a length below 128, the value
                    contents.append(Raw(data=data[own + 1 :]))
                case _:
                    contents += parts[1:]
        return [_tag(field, DELIMITED_TYPE), Delimited(parts=tuple(contents))]

    def _single(self, field: FieldDescriptor, value: object, where: str) -> list[Part]:
        """One value with its tag."""
        if field.message_type is not None:
            return self._nested(field, field.message_type, value, where)
        if not isinstance(value, Source):
            return [self._constant_field(field, value, where)]
        if value.is_wrong:
            return []
        try:
            return [_tag(field, wire_type(field)), varying_value(field, value)]
        except UnitError as error:
            self._mistakes.add(where, _seen(value), error.expected)
            return []

    def _nested(
        self, field: FieldDescriptor, kind: Descriptor, value: object, where: str
    ) -> list[Part]:
        if value is None and kind.full_name != _VALUE:
            if field.is_repeated:
                self._mistakes.add(where, "null", expected_of(field))
            return []
        content = self.message(kind, value, where)
        if field.type == FieldDescriptor.TYPE_GROUP:
            return [_tag(field, GROUP_START_TYPE), *content, _tag(field, GROUP_END_TYPE)]
        return [_tag(field, DELIMITED_TYPE), Delimited(parts=tuple(content))]

    def _map(self, field: FieldDescriptor, value: object, where: str) -> list[Part]:
        """Entries in the author's order; a constant map in that of its keys, as protobuf does."""
        entry = cast("Descriptor", field.message_type)
        key_field, value_field = entry.fields_by_name["key"], entry.fields_by_name["value"]
        if value is None:
            return []
        if not isinstance(value, dict):
            self._mistakes.add(where, _seen(value), "a table")
            return []
        before, parts = len(self._mistakes.found), list[Part]()
        for key, item in value.items():
            path = f"{where}.{_key(key)}"
            own: object = key
            if key_field.type == FieldDescriptor.TYPE_BOOL and isinstance(key, str):
                own = _BOOLEAN_KEYS.get(key, key)
            content = [*self._single(key_field, own, path), *self._single(value_field, item, path)]
            parts += [_tag(field, DELIMITED_TYPE), Delimited(parts=tuple(content))]
        if len(self._mistakes.found) > before or varies(value):
            return parts
        return [self._constant_field(field, value, where)]

    def _constant_field(self, field: FieldDescriptor, value: object, where: str) -> Raw:
        """The whole field as protobuf writes it."""
        if field.containing_type is not None and field.containing_type.full_name in _WRAPPERS:
            return self._constant_message(field.containing_type, value, where)
        holder = message_class(cast("Descriptor", field.containing_type))()
        is_item = field.is_repeated and not is_map(field)
        table = {field.json_name: [value] if is_item else value}
        try:
            ParseDict(table, holder, descriptor_pool=self._pool)
        except _REFUSALS:
            self._mistakes.add(where, shown(value), self._expected(field, value))
            return Raw(data=b"")
        return Raw(data=holder.SerializePartialToString(deterministic=True))

    def _expected(self, field: FieldDescriptor, value: object) -> str:
        if field.enum_type is None or not isinstance(value, str):
            return expected_of(field)
        return one_of(value, tuple(v.name for v in field.enum_type.values))

    def _constant_message(self, kind: Descriptor, value: object, where: str) -> Raw:
        """A well-known type as protobuf reads its JSON form."""
        message = message_class(kind)()
        try:
            ParseDict(cast("dict[str, Any]", value), message, descriptor_pool=self._pool)
        except _REFUSALS as error:
            field = kind.fields_by_name["value"] if kind.full_name in _WRAPPERS else None
            form = f"the JSON form of {kind.full_name} ({_first_line(error)})"
            expected = form if field is None else f"{expected_of(field)} ({kind.full_name})"
            self._mistakes.add(where, shown(value), expected)
            return Raw(data=b"")
        return Raw(data=message.SerializeToString(deterministic=True))


def _tag(field: FieldDescriptor, kind: int) -> Raw:
    return Raw(data=tag(field.number, kind))


def _seen(value: object) -> str:
    return shown(value.text if isinstance(value, Source) else value)


def _key(key: object) -> str:
    """A key as a path has it."""
    return _seen(key)[1:-1]


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:120]
