"""Request messages of gRPC: the tree of a call's parts, compiled to bytes for any sequence.

What does not vary is encoded once. The whole message becomes one %-format: where every
placeholder has a fixed width the lengths around it stay valid and are literals of that
format, so that a message costs what a REST body costs; else only the lengths on the way
from the root to what varies in length are columns of their own, computed for a batch
(protobuf's wire format, "Length-Delimited Records").

The law: parsing the result gives the message that a protobuf library would make of the
same values. A number that happens to be its field's default is written all the same.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from loadtests.plan.call import Base64, Delimited, Number, NumberEncoding, Part, Raw, Text
from loadtests.plan.model import Feed
from loadtests.plan.placeholders import Int, Maker, Pick, Seq, Value
from loadtests.plan.template import Compiler, Template, escaped, template_of
from loadtests.plan.wire import (
    encode_number,
    lengths_of,
    number_encoder,
    number_width,
    varint,
    varint_lengths,
    varints,
)

Sequences = NDArray[np.int64]
_STANDARD: Final = bytes.maketrans(b"-_", b"+/")  # RFC 4648 section 5 to section 4
NUMBER_EXPECTED: Final = "one placeholder that makes a number, alone"


class MessageKind(Enum):
    """What a message costs depends on what varies in it."""

    CONSTANT = "constant"
    FIXED_WIDTH = "fixed width"
    VARYING_LENGTH = "varying length"


class Column(Protocol):
    """Makes the values of one conversion of the format."""

    @property
    def spec(self) -> bytes:
        """The conversion."""
        ...

    @property
    def length(self) -> int | None:
        """Bytes that it fills, where that is the same for every sequence."""
        ...

    def many(self, sequences: Sequences) -> list[Sequence[Value]]:
        """One column."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Encoded:
    """Whole numbers in the wire's encoding."""

    numbers: Seq | Int
    encoding: NumberEncoding
    spec: bytes = b"%b"

    @property
    def length(self) -> int | None:
        return number_width(self.encoding)

    def many(self, sequences: Sequences) -> list[Sequence[Value]]:
        return [number_encoder(self.encoding)(self.numbers.numbers(sequences))]


def decode_base64(text: bytes) -> bytes:
    """Content of a bytes field in protobuf's JSON form: either alphabet, padding optional."""
    return binascii.a2b_base64(text.translate(_STANDARD) + b"=" * (-len(text) % 4))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Decoded:
    """Base64 texts of one length, decoded."""

    template: Template
    length: int | None
    spec: bytes = b"%b"

    def many(self, sequences: Sequences) -> list[Sequence[Value]]:
        return [list(map(decode_base64, self.template.render_many(sequences)))]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """Nodes behind a length that varies; `fixed` bytes of them are the same for every sequence."""

    nodes: tuple[Node, ...]
    fixed: int

    def columns(self, sequences: Sequences) -> tuple[list[Sequence[Value]], Sequences]:
        """Columns, the length's first, and the bytes that they and the literals fill."""
        found: list[Sequence[Value]] = []
        total = np.full(sequences.size, self.fixed, dtype=np.int64)
        for node in self.nodes:
            if isinstance(node, _Group):
                columns, lengths = node.columns(sequences)
                total += lengths
                found += columns
            elif not isinstance(node, bytes):
                columns = node.many(sequences)
                found += columns
                if node.length is None:
                    total += lengths_of(columns[0])
        words = total.astype(np.uint64)
        return [varints(words), *found], total + varint_lengths(words)


Node = bytes | Column | _Group


def _format(nodes: Sequence[Node]) -> bytes:
    found = []
    for node in nodes:
        if isinstance(node, bytes):
            found.append(escaped(node))
        elif isinstance(node, _Group):
            found.append(b"%b" + _format(node.nodes))
        else:
            found.append(node.spec)
    return b"".join(found)


def _length(node: Node) -> int | None:
    if isinstance(node, bytes):
        return len(node)
    return None if isinstance(node, _Group) else node.length


def _delimited(nodes: Sequence[Node]) -> list[Node]:
    lengths = [_length(node) for node in nodes]
    fixed = sum(length for length in lengths if length is not None)
    if None in lengths:
        return [_Group(nodes=tuple(nodes), fixed=fixed)]
    return [varint(fixed), *nodes]


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageTemplate:
    """A compiled message, without the five bytes that gRPC puts before it."""

    constant: bytes | None
    kind: MessageKind
    _format: bytes
    _nodes: tuple[Column | _Group, ...]

    @property
    def is_constant(self) -> bool:
        """True when every sequence has the same bytes."""
        return self.constant is not None

    def render_many(self, sequences: Sequences) -> list[bytes]:
        """Bytes of each sequence."""
        if self.constant is not None:
            return [self.constant] * sequences.size
        columns: list[Sequence[Value]] = []
        for node in self._nodes:
            if isinstance(node, _Group):
                columns += node.columns(sequences)[0]
            else:
                columns += node.many(sequences)
        return list(map(self._format.__mod__, zip(*columns, strict=True)))


class _Parts:
    """Turns parts into nodes; placeholders of all of them share one compiler."""

    def __init__(self, compiler: Compiler) -> None:
        self.compiler = compiler

    def nodes(self, parts: Sequence[Part]) -> list[Node]:
        """Nodes in the order of the wire."""
        return [node for part in parts for node in self._part(part)]

    def _part(self, part: Part) -> list[Node]:
        match part:
            case Raw(data=data):
                return [data]
            case Text(source=source):
                return list(self.compiler.parts(source))
            case Number(source=source, encoding=encoding):
                return self._number(self.compiler.parts(source), encoding)
            case Base64(source=source):
                return self._base64(template_of(self.compiler.parts(source)))
            case Delimited(parts=parts):
                return _delimited(self.nodes(parts))

    def _number(self, made: list[bytes | Maker], encoding: NumberEncoding) -> list[Node]:
        try:
            match made:
                case []:  # a variable that is not set, and that is noted
                    return []
                case [Seq() | Int() as numbers]:
                    return [_Encoded(numbers=numbers, encoding=encoding)]
                case [Pick(texts=texts, key=key)]:
                    return [Pick.of(tuple(encode_number(t, encoding) for t in texts), key)]
                case _ if all(isinstance(part, bytes) for part in made):
                    text = b"".join(part for part in made if isinstance(part, bytes))
                    return [encode_number(text, encoding)]
        except ValueError:  # the text is not repeated: it can come from a variable
            self.compiler.refuse("a text", f"a number for the encoding {encoding.value}")
            return []
        self.compiler.refuse("other text", NUMBER_EXPECTED)
        return []

    def _base64(self, template: Template) -> list[Node]:
        try:
            content = decode_base64(template.render(0))
        except binascii.Error:  # not repeated either
            self.compiler.refuse("a text", "base64")
            return []
        if template.is_constant:
            return [content]
        length = None if template.length is None else len(content)
        return [_Decoded(template=template, length=length)]


def compile_message(
    parts: Sequence[Part],
    *,
    run_id: str,
    seed: int,
    feeds: Sequence[Feed],
    environment: Mapping[str, str],
    where: str,
) -> MessageTemplate:
    """Compile once; ScenarioError with everything wrong in its placeholders and variables."""
    compiler = Compiler(where, run_id=run_id, seed=seed, feeds=feeds, environment=environment)
    nodes = _Parts(compiler).nodes(parts)
    compiler.finish()
    varying = tuple(node for node in nodes if not isinstance(node, bytes))
    if not varying:
        kind = MessageKind.CONSTANT
    elif all(_length(node) is not None for node in varying):
        kind = MessageKind.FIXED_WIDTH
    else:
        kind = MessageKind.VARYING_LENGTH
    return MessageTemplate(
        constant=None if varying else b"".join(node for node in nodes if isinstance(node, bytes)),
        kind=kind,
        _format=_format(nodes),
        _nodes=varying,
    )
