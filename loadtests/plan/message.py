"""Request messages of gRPC: the tree of a call's parts, compiled to bytes for any sequence.

What does not vary is encoded once. The whole message becomes one row: where every
placeholder has a fixed width the lengths around it stay valid and are literals of that
row, so that a message costs what a REST body costs. What varies in length is made first,
on its own, and only the lengths on the way from the root to it are written anew
(protobuf's wire format, "Length-Delimited Records").

The law: parsing the result gives the message that a protobuf library would make of the
same values. A number that happens to be its field's default is written all the same.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from operator import add
from typing import Final

import numpy as np

from loadtests.plan.call import Base64, Delimited, Number, NumberEncoding, Part, Raw, Text
from loadtests.plan.columns import (
    DecodedTexts,
    EncodedNumbers,
    Sequences,
    decode_base64,
    delimited,
)
from loadtests.plan.model import Feed
from loadtests.plan.placeholders import Int, Maker, Pick, Seq
from loadtests.plan.rows import Node, Row, Values
from loadtests.plan.template import Compiler, Template
from loadtests.plan.wire import encode_number, framed

NUMBER_EXPECTED: Final = "one placeholder that makes a number, alone"


class MessageKind(Enum):
    """What a message costs depends on what varies in it."""

    CONSTANT = "constant"
    FIXED_WIDTH = "fixed width"
    VARYING_LENGTH = "varying length"


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageTemplate:
    """A compiled message; with the five bytes that gRPC puts before it, if asked for."""

    constant: bytes | None
    kind: MessageKind
    _content: Row
    _is_framed: bool  # when its rows are made: its length is not known before

    @property
    def is_constant(self) -> bool:
        """True when every sequence has the same bytes."""
        return self.constant is not None

    @property
    def widest(self) -> int:
        """Bytes of a message at most, without what is put before it."""
        return self._content.widest

    def columns_of(self, sequences: Sequences) -> Iterator[Values]:
        """Each column's values, made when they are taken; none where the message is constant."""
        return self._content.columns_of(sequences)

    def rows(self, columns: Sequence[Values], count: int) -> Iterable[bytes]:
        """Bytes of the `count` sequences that the columns are of; cells where NumPy has them."""
        if not self._is_framed:
            return self._content.rows(columns, count)
        if self._content.is_wide:
            texts = list(self._content.rows(columns, count))
            return map(add, framed(np.array([len(text) for text in texts])), texts)
        return self._content.joined(columns, count, framed)

    def render_many(self, sequences: Sequences) -> list[bytes]:
        """Bytes of each sequence."""
        return list(self.rows(list(self.columns_of(sequences)), sequences.size))


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
                return self._base64(self.compiler.parts(source))
            case Delimited(parts=parts):
                return delimited(self.nodes(parts))

    def _number(self, made: list[bytes | Maker], encoding: NumberEncoding) -> list[Node]:
        try:
            match made:
                case []:  # a variable that is not set, and that is noted
                    return []
                case [Seq() | Int() as numbers]:
                    return [EncodedNumbers.of(numbers, encoding)]
                case [Pick(choices=choices, key=key)]:
                    return [Pick.of(tuple(encode_number(c, encoding) for c in choices), key)]
                case _ if all(isinstance(part, bytes) for part in made):
                    text = b"".join(part for part in made if isinstance(part, bytes))
                    return [encode_number(text, encoding)]
        except ValueError:  # the text is not repeated: it can come from a variable
            self.compiler.refuse("a text", f"a number for the encoding {encoding.value}")
            return []
        self.compiler.refuse("other text", NUMBER_EXPECTED)
        return []

    def _base64(self, made: list[bytes | Maker]) -> list[Node]:
        template = Template.of(made)
        try:
            content = decode_base64(template.render(0))
        except binascii.Error:  # not repeated either
            self.compiler.refuse("a text", "base64")
            return []
        if template.is_constant:
            return [content]
        if template.length is None:
            self.compiler.refuse("a text", "base64 of one length")
            return []
        return [DecodedTexts.of(made, len(content))]


def compile_message(
    parts: Sequence[Part],
    *,
    run_id: str,
    seed: int,
    feeds: Sequence[Feed],
    environment: Mapping[str, str],
    where: str,
    is_framed: bool = False,
) -> MessageTemplate:
    """Compile once; ScenarioError with everything wrong in its placeholders and variables.

    `is_framed`: with what gRPC puts before a message that is not compressed.
    """
    compiler = Compiler(where, run_id=run_id, seed=seed, feeds=feeds, environment=environment)
    nodes = _Parts(compiler).nodes(parts)
    compiler.finish()
    length = Row(tuple(nodes)).length
    if is_framed and length is not None:
        nodes = [*framed(np.array([length])).texts(), *nodes]
    content = Row(tuple(nodes))
    if not content.columns:
        kind = MessageKind.CONSTANT
    elif content.length is not None:
        kind = MessageKind.FIXED_WIDTH
    else:
        kind = MessageKind.VARYING_LENGTH
    return MessageTemplate(
        constant=content.constant,
        kind=kind,
        _content=content,
        _is_framed=is_framed and length is None,
    )
