"""The tests' own .proto files, compiled once, and a small scenario that calls them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import Descriptor

from loadtests.plan.call import Call
from loadtests.plan.model import Plan
from loadtests.plan.protoc import compile_protos
from loadtests.plan.schema import Schema, message_class
from loadtests.plan.values import Mistakes

PROTOS = Path(__file__).parent / "protos"
CALLS = """
version = 1
name = "calls"

[target]
nodes = ["http://127.0.0.1:9104"]

[load]
rate = "100 rps"
channels = 4

[grpc]
protos = ["kinds.proto"]

[[requests]]
name = "echo"
method = "kinds.v1.KindsService/Echo"

[[stages]]
name = "hold"
duration = "10 s"
"""


@cache
def compiled(*names: str) -> bytes:
    """Descriptor set of files in tests/plan/protos."""
    mistakes = Mistakes()
    descriptors = compile_protos(PROTOS, names, (), mistakes)
    assert mistakes.found == []
    assert descriptors is not None
    return descriptors


@cache
def kinds() -> Schema:
    """Types with every kind of field of proto3."""
    return Schema(compiled("kinds.proto"))


@cache
def legacy() -> Schema:
    """Types with what only proto2 has."""
    return Schema(compiled("legacy/legacy.proto"))


def written(folder: Path, text: str, *, name: str = "s.toml") -> Path:
    """A scenario beside the test's protos."""
    (folder / "kinds.proto").write_bytes((PROTOS / "kinds.proto").read_bytes())
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def parsed(kind: Descriptor, data: bytes) -> Any:
    """A message of a type that is known at run time only."""
    return message_class(kind).FromString(data)


def call(plan: Plan, index: int) -> Call:
    """The call of a request."""
    found = plan.requests[index].call
    assert found is not None
    return found
