"""Request messages of gRPC: the tree of a call's parts, compiled to bytes for any sequence.

What does not vary is encoded once. Where every placeholder has a fixed width the lengths
around it stay valid and are encoded once as well; else only the lengths on the way from
the root to the placeholder are computed again (protobuf's wire format, "Length-Delimited
Records"). The law: the result is what a protobuf library would write for the same values.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from loadtests.plan.call import Delimited, Number, NumberEncoding, Part, Raw, Text
from loadtests.plan.model import Feed
from loadtests.plan.template import Template, compile_template

Sequences = NDArray[np.int64]
_U64: Final = (1 << 64) - 1


def varint(value: int) -> bytes:
    """Base-128 varint of 0 <= value < 2**64."""
    out = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits a byte
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_ENCODERS: Final[Mapping[NumberEncoding, Callable[[bytes], bytes]]] = {
    NumberEncoding.VARINT: lambda text: varint(int(text) & _U64),
    NumberEncoding.ZIGZAG: lambda text: varint(int(text) << 1 ^ int(text) >> 63),
    NumberEncoding.FIXED32: lambda text: struct.pack("<I", int(text)),
    NumberEncoding.SFIXED32: lambda text: struct.pack("<i", int(text)),
    NumberEncoding.FIXED64: lambda text: struct.pack("<Q", int(text)),
    NumberEncoding.SFIXED64: lambda text: struct.pack("<q", int(text)),
    NumberEncoding.FLOAT: lambda text: struct.pack("<f", float(text)),
    NumberEncoding.DOUBLE: lambda text: struct.pack("<d", float(text)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageTemplate:
    """A compiled message, without the five bytes that gRPC puts before it."""

    constant: bytes | None
    _render: Callable[[Sequences], list[bytes]]

    @property
    def is_constant(self) -> bool:
        """True when every sequence has the same bytes."""
        return self.constant is not None

    def render_many(self, sequences: Sequences) -> list[bytes]:
        """Bytes of each sequence."""
        if self.constant is not None:
            return [self.constant] * sequences.size
        return self._render(sequences)


def _constant(data: bytes) -> MessageTemplate:
    return MessageTemplate(constant=data, _render=lambda sequences: [data] * sequences.size)


def _number(template: Template, encode: Callable[[bytes], bytes]) -> MessageTemplate:
    if template.is_constant:
        return _constant(encode(template.render(0)))
    return MessageTemplate(
        constant=None,
        _render=lambda sequences: list(map(encode, template.render_many(sequences))),
    )


def _text(template: Template) -> MessageTemplate:
    if template.is_constant:
        return _constant(template.render(0))
    return MessageTemplate(constant=None, _render=template.render_many)


def _joined(children: Sequence[MessageTemplate]) -> MessageTemplate:
    constants = [child.constant for child in children]
    known = [data for data in constants if data is not None]
    if len(known) == len(constants):
        return _constant(b"".join(known))

    def render(sequences: Sequences) -> list[bytes]:
        columns = [child.render_many(sequences) for child in children]
        return list(map(b"".join, zip(*columns, strict=True)))

    return MessageTemplate(constant=None, _render=render)


def _delimited(content: MessageTemplate) -> MessageTemplate:
    if content.constant is not None:
        return _constant(varint(len(content.constant)) + content.constant)
    return MessageTemplate(
        constant=None,
        _render=lambda sequences: [
            varint(len(data)) + data for data in content.render_many(sequences)
        ],
    )


def compile_message(
    parts: Sequence[Part],
    *,
    run_id: str,
    seed: int,
    feeds: Sequence[Feed],
    environment: Mapping[str, str],
    where: str,
) -> MessageTemplate:
    """Compile once; ScenarioError with what is wrong in a placeholder."""

    def template(source: bytes) -> Template:
        return compile_template(
            source, run_id=run_id, seed=seed, feeds=feeds, environment=environment, where=where
        )

    def compiled(part: Part) -> MessageTemplate:
        match part:
            case Raw():
                return _constant(part.data)
            case Text():
                return _text(template(part.source))
            case Number():
                return _number(template(part.source), _ENCODERS[part.encoding])
            case Delimited():
                return _delimited(_joined([compiled(child) for child in part.parts]))

    return _joined([compiled(part) for part in parts])
