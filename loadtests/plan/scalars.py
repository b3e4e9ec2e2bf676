"""What a placeholder may bring into a field of one value: checked when a scenario loads.

A number is one placeholder alone, so that its range is known: `${seq}` (below 2**56),
`${int:A:B}`, a choice or a feed's cells that are all numbers in the field's range. Enums
and booleans take a choice of their names. A variable is known on the engines' hosts only,
so it needs a field that holds any number of 64 bits. Content of bytes fields is base64.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from google.protobuf.descriptor import FieldDescriptor

from loadtests.plan.authored import Source
from loadtests.plan.call import Base64, Delimited, Number, NumberEncoding, Part, Text
from loadtests.plan.placeholders import Environment, Int, Maker, Pick, Seq
from loadtests.plan.units import UnitError
from loadtests.plan.values import one_of
from loadtests.plan.wire import DELIMITED_TYPE, WIRE_TYPES, encode_number

F = FieldDescriptor
ENCODINGS: Final[Mapping[int, NumberEncoding]] = {
    F.TYPE_INT32: NumberEncoding.VARINT,
    F.TYPE_INT64: NumberEncoding.VARINT,
    F.TYPE_UINT32: NumberEncoding.VARINT,
    F.TYPE_UINT64: NumberEncoding.VARINT,
    F.TYPE_BOOL: NumberEncoding.VARINT,
    F.TYPE_ENUM: NumberEncoding.VARINT,
    F.TYPE_SINT32: NumberEncoding.ZIGZAG,
    F.TYPE_SINT64: NumberEncoding.ZIGZAG,
    F.TYPE_FIXED32: NumberEncoding.FIXED32,
    F.TYPE_SFIXED32: NumberEncoding.SFIXED32,
    F.TYPE_FIXED64: NumberEncoding.FIXED64,
    F.TYPE_SFIXED64: NumberEncoding.SFIXED64,
    F.TYPE_FLOAT: NumberEncoding.FLOAT,
    F.TYPE_DOUBLE: NumberEncoding.DOUBLE,
}
_SIGNED32: Final = (-(2**31), 2**31 - 1)
_SIGNED64: Final = (-(2**63), 2**63 - 1)
RANGES: Final[Mapping[int, tuple[int, int]]] = {
    F.TYPE_INT32: _SIGNED32,
    F.TYPE_SINT32: _SIGNED32,
    F.TYPE_SFIXED32: _SIGNED32,
    F.TYPE_INT64: _SIGNED64,
    F.TYPE_SINT64: _SIGNED64,
    F.TYPE_SFIXED64: _SIGNED64,
    F.TYPE_UINT32: (0, 2**32 - 1),
    F.TYPE_FIXED32: (0, 2**32 - 1),
    F.TYPE_UINT64: (0, 2**64 - 1),
    F.TYPE_FIXED64: (0, 2**64 - 1),
}
_HIGHEST_SEQ: Final = 2**56 - 1
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/_-]*={0,2}")
_BASE64_UNPADDED: Final = re.compile(rb"[A-Za-z0-9+/_-]*")
BASE64_EXPECTED: Final = "base64 (RFC 4648), of the same length for every sequence"


def wire_type(field: F) -> int:
    """Wire type of one value of a field that is no message."""
    return WIRE_TYPES[ENCODINGS[field.type]] if field.type in ENCODINGS else DELIMITED_TYPE


def expected_of(field: F) -> str:
    """What a field takes."""
    if field.type in RANGES:
        return "a whole number from {} to {}".format(*RANGES[field.type])
    if field.enum_type is not None:
        return "one of " + ", ".join(value.name for value in field.enum_type.values)
    if field.message_type is not None:
        return f"a value of {field.message_type.full_name}"
    return {
        F.TYPE_BOOL: "true or false",
        F.TYPE_STRING: "a text",
        F.TYPE_BYTES: "base64 text",
    }.get(field.type, "a number")


def _numbers_of(field: F, texts: Sequence[bytes]) -> list[bytes]:
    """Texts that a choice or a feed brings in, as numbers; UnitError for one that is none."""
    found = []
    for text in texts:
        word = text.decode()
        if field.enum_type is not None:
            value = field.enum_type.values_by_name.get(word)
            if value is None:
                names = tuple(value.name for value in field.enum_type.values)
                raise UnitError(one_of(word, names, f"the names, not {word!r}"))
            found.append(b"%d" % value.number)
            continue
        if field.type == F.TYPE_BOOL:
            if word not in {"true", "false"}:
                raise UnitError("${choice:true|false}")
            found.append(b"1" if word == "true" else b"0")
            continue
        _check_number(field, text)
        found.append(text)
    return found


def _check_number(field: F, text: bytes) -> None:
    try:
        encode_number(text, ENCODINGS[field.type])
        lowest, highest = RANGES.get(field.type, (0, 0))
        is_inside = field.type not in RANGES or lowest <= int(text) <= highest
    except ValueError:
        is_inside = False
    if not is_inside:
        raise UnitError(f"{expected_of(field)}, not {text.decode()!r}")


def _check_range(field: F, lowest: int, highest: int, what: str) -> None:
    if field.type not in ENCODINGS or field.type in {F.TYPE_BOOL, F.TYPE_ENUM}:
        raise UnitError(f"{expected_of(field)}: a choice of these")
    bounds = RANGES.get(field.type)
    if bounds is not None and not bounds[0] <= lowest <= highest <= bounds[1]:
        raise UnitError(f"{expected_of(field)}; {what} goes from {lowest} to {highest}")


def _number(field: F, source: Source) -> Number:
    text = source.text.encode()
    match source.pieces:
        case (Seq(),):
            _check_range(field, 0, _HIGHEST_SEQ, "${seq}")
        case (Int(low=low, span=span),):
            _check_range(field, low, low + span - 1, source.text)
        case (Pick(choices=choices, key=key),):
            numbers = _numbers_of(field, choices)
            if numbers != list(choices):
                if key is None:
                    raise UnitError(f"a choice: a feed's cells cannot be names ({field.name})")
                text = b"${choice:" + b"|".join(numbers) + b"}"
        case (Environment(),):
            if RANGES.get(field.type, _SIGNED64)[1] < _SIGNED64[1] or field.type in {
                F.TYPE_BOOL,
                F.TYPE_ENUM,
            }:
                raise UnitError("a field of 64 bits for a variable, which is not known here")
        case _:
            raise UnitError(
                f"{expected_of(field)}: one placeholder that makes a number, alone "
                "(${seq}, ${int:A:B}, a choice or a feed's cells of numbers)"
            )
    return Number(source=text, encoding=ENCODINGS[field.type])


def check_base64(pieces: Sequence[bytes | Maker | Environment]) -> None:
    """UnitError unless every rendering is base64 of one length; a variable alone is allowed."""
    if len(pieces) == 1 and isinstance(pieces[0], Environment):
        return
    width = 0
    for index, piece in enumerate(pieces):
        form = _BASE64 if index == len(pieces) - 1 else _BASE64_UNPADDED
        match piece:
            case bytes():
                texts: tuple[bytes, ...] = (piece,)
                width += len(piece.rstrip(b"="))
            case Pick(choices=texts, length=int() as length):
                form = _BASE64_UNPADDED
                width += length
            case Environment() | Seq(length=None) | Pick():
                raise UnitError(BASE64_EXPECTED)
            case _:
                if piece.length is None:
                    raise UnitError(BASE64_EXPECTED)
                texts = ()
                width += piece.length
        if any(form.fullmatch(text) is None for text in texts):
            raise UnitError(BASE64_EXPECTED)
    if width % 4 == 1:
        raise UnitError(f"{BASE64_EXPECTED}, not {width} characters")


def varying_value(field: F, source: Source) -> Part:
    """One value of a field that is no message, without its tag; UnitError if it cannot vary so."""
    text = source.text.encode()
    match field.type:
        case F.TYPE_STRING:
            return Delimited(parts=(Text(source=text),))
        case F.TYPE_BYTES:
            check_base64(source.pieces)
            return Delimited(parts=(Base64(source=text),))
        case _:
            return _number(field, source)
