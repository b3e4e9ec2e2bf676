"""The messages of conformance.proto, compiled as those of any scenario are."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf.message import Message

from loadtests.plan.protoc import compile_protos
from loadtests.plan.schema import message_class, message_type
from loadtests.plan.values import Mistakes

SERVICE = "headroom.interop.Conformance"


@cache
def descriptors() -> bytes:
    """Descriptor set of conformance.proto."""
    mistakes = Mistakes()
    found = compile_protos(Path(__file__).parent, ("conformance.proto",), (), mistakes)
    assert found is not None, mistakes.found
    return found


@cache
def message_of(name: str) -> type[Message]:
    """Class of the messages `Order` or `Reply`."""
    return message_class(message_type(descriptors(), f"headroom.interop.{name}"))


def order(**fields: object) -> bytes:
    """One order on the wire."""
    made: Any = message_of("Order")(**fields)
    return bytes(made.SerializeToString())
