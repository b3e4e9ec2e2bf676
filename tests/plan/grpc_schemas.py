"""The test's own .proto files, compiled once for all tests that need types."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from loadtests.plan.protoc import compile_protos
from loadtests.plan.schema import Schema
from loadtests.plan.values import Mistakes

PROTOS = Path(__file__).parent / "protos"


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
