"""Checks on the messages of a gRPC answer, compiled once from a plan's descriptors."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from loadtests.plan.call import Call, FieldEquals

Value = str | int | float | bool


def _shown(value: object, field: FieldDescriptor) -> Value:
    if field.enum_type is not None and isinstance(value, int):
        known = field.enum_type.values_by_number.get(value)
        return known.name if known is not None else value
    if isinstance(value, bytes):
        return b64encode(value).decode()
    return value if isinstance(value, str | int | float | bool) else str(value)


def _value_at(message: Message, path: str) -> Value | None:
    """The value at a path; None when there is nothing."""
    here: object = message
    field: FieldDescriptor | None = None
    for name in path.split("."):
        if isinstance(here, Message):
            field = here.DESCRIPTOR.fields_by_name.get(name)  # type: ignore[assignment]  # upb's
            if field is None:
                return None
            here = getattr(here, name)
        else:
            try:
                here = here[int(name)]  # type: ignore[index]  # a repeated field
            except (IndexError, ValueError, TypeError):
                return None
    return None if field is None or isinstance(here, Message) else _shown(here, field)


def _is_equal(seen: Value | None, expected: Value) -> bool:
    if isinstance(seen, bool) or isinstance(expected, bool):
        return seen is expected
    return seen == expected


def _failed(check: FieldEquals, message: Message) -> str | None:
    seen = _value_at(message, check.path)
    if _is_equal(seen, check.value):
        return None
    return f"{check.path}: saw {seen!r:.80}, expected {check.value!r:.80}"


def compile_checks(call: Call, descriptors: bytes) -> Callable[[bytes], str | None]:
    """Return a function that describes the first check that fails on a message, or None."""
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(descriptors).file:
        pool.Add(file)
    kind = message_factory.GetMessageClass(pool.FindMessageTypeByName(call.response_type))

    def examine(data: bytes) -> str | None:
        try:
            message = kind.FromString(data)
        except DecodeError:
            return f"the message is no {call.response_type}"
        return next((text for check in call.checks if (text := _failed(check, message))), None)

    return examine
