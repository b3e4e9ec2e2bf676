"""Columns of the wire: numbers encoded, base64 decoded, and groups that stand behind a length.

The makers of `placeholders.py` are columns of texts and numbers in decimal; these are what a
message needs besides.
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from operator import add
from typing import Final

import numpy as np
from numpy.typing import NDArray

from loadtests.plan.call import NumberEncoding
from loadtests.plan.cells import Cells, full, joined
from loadtests.plan.placeholders import Int, Maker, Seq
from loadtests.plan.rows import Narrow, Node, Row
from loadtests.plan.template import Template
from loadtests.plan.wire import (
    FRAME_BYTES,
    MOST_VARINT_BYTES,
    encode_number,
    encode_numbers,
    framed,
    number_width,
    varint,
    varints,
)

Sequences = NDArray[np.int64]
_STANDARD: Final = bytes.maketrans(b"-_", b"+/")  # RFC 4648 section 5 to section 4


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedNumbers(Narrow):
    """Whole numbers in the wire's encoding."""

    numbers: Seq | Int
    encoding: NumberEncoding
    length: int | None
    widest: int

    @staticmethod
    def of(numbers: Seq | Int, encoding: NumberEncoding) -> EncodedNumbers:
        """Know the length where all numbers share it: varints do between ends of one sign."""
        length = number_width(encoding)
        if isinstance(numbers, Int) and length is None:
            low, high = numbers.low, numbers.low + numbers.span - 1
            ends = {len(encode_number(b"%d" % end, encoding)) for end in (low, high)}
            length = ends.pop() if len(ends) == 1 and (low < 0) == (high < 0) else None
        widest = MOST_VARINT_BYTES if length is None else length
        return EncodedNumbers(numbers=numbers, encoding=encoding, length=length, widest=widest)

    def cells(self, sequences: Sequences) -> Cells:
        """Encode the numbers."""
        return encode_numbers(self.numbers.numbers(sequences), self.encoding)


def decode_base64(text: bytes) -> bytes:
    """Content of a bytes field in protobuf's JSON form; binascii.Error when it is no base64.

    Either alphabet of RFC 4648, padding optional.
    """
    text = text.rstrip(b"=").translate(_STANDARD)
    return binascii.a2b_base64(text + b"=" * (-len(text) % 4), strict_mode=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedTexts(Narrow):
    """Base64 texts of one length, decoded all at once: 0.1 instead of 0.4 us each.

    `filled` renders them filled up to whole groups of four characters, whose bytes beyond
    `length` are cut off again.
    """

    filled: Template
    length: int
    widest: int

    @staticmethod
    def of(parts: Sequence[bytes | Maker], length: int) -> DecodedTexts:
        """`length` bytes of content."""
        *others, last = parts
        parts = (*others, last.rstrip(b"=") if isinstance(last, bytes) else last)
        characters = Template.of(parts).length or 0
        filled = Template.of((*parts, b"A" * (-characters % 4)))
        return DecodedTexts(filled=filled, length=length, widest=length)

    def cells(self, sequences: Sequences) -> Cells:
        """Decode the texts."""
        texts = b"".join(self.filled.render_many(sequences)).translate(_STANDARD)
        content = np.frombuffer(binascii.a2b_base64(texts), dtype=np.uint8)
        return full(content.reshape(sequences.size, -1)[:, : self.length])


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Content that varies in length, behind its length as a varint."""

    content: Row
    widest: int
    length: None = None

    def cells(self, sequences: Sequences) -> Cells:
        """Lengths and contents."""
        content = self.content.cells(sequences)
        lengths = np.broadcast_to(content.lengths, sequences.size)
        return joined((varints(lengths.astype(np.uint64)), content), sequences.size)

    def texts(self, sequences: Sequences) -> list[bytes]:
        """The same, where contents can be wide."""
        contents = self.content.texts(sequences)
        return list(map(add, map(varint, map(len, contents)), contents))


@dataclass(frozen=True, slots=True, kw_only=True)
class Framed:
    """A message that varies in length, behind what gRPC puts before it."""

    content: Row
    widest: int
    length: None = None

    def cells(self, sequences: Sequences) -> Cells:
        """Prefixes and messages."""
        content = self.content.cells(sequences)
        lengths = np.broadcast_to(content.lengths, sequences.size)
        return joined((framed(lengths), content), sequences.size)

    def texts(self, sequences: Sequences) -> list[bytes]:
        """The same, where messages can be wide."""
        contents = self.content.texts(sequences)
        prefixes = framed(np.array([len(content) for content in contents])).texts()
        return list(map(add, prefixes, contents))


def delimited(nodes: Sequence[Node]) -> list[Node]:
    """The nodes behind their length: a literal where it is known, else one group."""
    content = Row(tuple(nodes))
    if content.length is None:
        return [Group(content=content, widest=content.widest + MOST_VARINT_BYTES)]
    return [varint(content.length), *nodes]


def framed_message(nodes: Sequence[Node]) -> list[Node]:
    """The nodes of a message behind what gRPC puts before it."""
    content = Row(tuple(nodes))
    if content.length is None:
        return [Framed(content=content, widest=content.widest + FRAME_BYTES)]
    return [next(framed(np.array([content.length])).texts()), *nodes]
