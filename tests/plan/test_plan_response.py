"""Checks on responses: what holds, what fails in words, what can never hold is no check."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf import json_format
from grpc_schemas import compiled, kinds
from hypothesis import given
from hypothesis import strategies as st

from loadtests.plan.call import Call, CallShape, Compression, FieldEquals
from loadtests.plan.response import compile_check, compile_checks, parse_check
from loadtests.plan.schema import message_class
from loadtests.plan.units import UnitError

KINDS = kinds().pool.FindMessageTypeByName("kinds.v1.Kinds")
FULL = {
    "text": "x",
    "data": "+/8=",
    "flag": True,
    "colour": "DEEP_BLUE",
    "i32": -5,
    "u64": "18446744073709551615",
    "single": 0.1,
    "twice": 0.5,
    "maybe": 0,
    "child": {"colour": "RED", "child": {"text": "deep"}},
    "children": [{"i32": 1}, {"i32": 2, "texts": ["a", "b"]}],
    "labels": {"region": "eu"},
    "byNumber": {"-7": {"text": "seven"}},
    "byFlag": {"true": 9},
    "figure": 3,
    "wrappedText": "w",
    "at": "1970-01-01T00:00:05Z",
}


def message(value: dict[str, Any]) -> bytes:
    """Bytes of a response."""
    return json_format.ParseDict(value, message_class(KINDS)()).SerializeToString()


def checks(*texts: str) -> Callable[[bytes], str | None]:
    """The function that the engine calls."""
    call = Call(
        method="kinds.v1.KindsService/Echo",
        shape=CallShape.UNARY,
        message=(),
        messages=1,
        pace_ns=0,
        compression=Compression.IDENTITY,
        expected_codes=(0,),
        checks=tuple(map(parse_check, texts)),
        response_type="kinds.v1.Kinds",
    )
    return compile_checks(call, compiled("kinds.proto"))


@pytest.mark.parametrize(
    ("text", "failing"),
    [
        ('text == "x"', 'text == "y"'),
        ('data == "-_8"', 'data == "AA=="'),
        ("flag == true", "flag == false"),
        ('colour == "DEEP_BLUE"', 'colour == "COLOUR_UNKNOWN"'),
        ("i32 == -5", "i32 == 5"),
        ("u64 == 18446744073709551615", "u64 == 0"),
        ("single == 0.1", "single == 0.2"),
        ("twice == 0.5", "twice == 1"),
        ("maybe == 0", "maybe == 1"),
        ('child.colour == "RED"', 'child.colour == "BELOW"'),
        ('child.child.text == "deep"', 'child.child.text == ""'),
        ("children.1.i32 == 2", "children.0.i32 == 2"),
        ('children.1.texts.1 == "b"', 'children.1.texts.0 == "b"'),
        ('labels.region == "eu"', 'labels.region == "us"'),
        ('by_number.-7.text == "seven"', 'by_number.-7.text == "eight"'),
        ("by_flag.true == 9", "by_flag.true == 8"),
        ("figure == 3", "figure == 4"),
        ('wrapped_text.value == "w"', 'wrapped_text.value == "v"'),
        ("at.seconds == 5", "at.seconds == 6"),
    ],
)
def test_a_check_holds_or_says_what_it_saw(text: str, failing: str) -> None:
    """Every kind of field compares with its own kind of value."""
    data = message(FULL)
    assert checks(text)(data) is None
    failure = checks(failing)(data)
    assert failure is not None
    assert failure.startswith(f"{failing.split(' ', maxsplit=1)[0]}: saw ")


@pytest.mark.parametrize(
    "text",
    [
        'child.colour == "COLOUR_UNKNOWN"',  # as in status.code == "OK" without a status
        "maybe == 0",
        "figure == 0",
        "children.0.i32 == 0",
        'labels.region == ""',
        'by_number.1.text == ""',
        "by_flag.false == 0",
        'wrapped_text.value == ""',
    ],
)
def test_what_is_absent_equals_nothing(text: str) -> None:
    """An absent field is not its default: a check that cannot be evaluated has failed."""
    failure = checks(text)(b"")
    assert failure is not None
    assert "saw nothing" in failure


def test_a_field_without_presence_has_its_default() -> None:
    """Where the wire cannot tell absent from default, the default it is."""
    assert checks('colour == "COLOUR_UNKNOWN"', "i32 == 0", 'text == ""')(b"") is None
    assert checks("child.i32 == 0")(message({"child": {}})) is None


def test_the_first_failure_is_told() -> None:
    """Checks hold in their order; names of enums and long texts are shown."""
    data = message(FULL | {"text": "y" * 500})
    failure = checks("flag == true", 'colour == "RED"', 'text == "z"')(data)
    assert failure == "colour: saw DEEP_BLUE, expected RED"
    assert len(checks('text == "z"')(data) or "") < 200
    assert checks('colour == "RED"')(b"\x18\x63") == "colour: saw 99, expected RED"


def test_what_is_no_message_fails() -> None:
    """A response that cannot be decoded is a failed check; without checks nothing is decoded."""
    failure = checks("i32 == 0")(b"\xff")
    assert failure is not None
    assert failure.startswith("not a kinds.v1.Kinds")
    assert checks()(b"\xff") is None


@given(st.binary(max_size=40))
def test_any_bytes_are_judged(data: bytes) -> None:
    """No response of any server can raise."""
    for text in ('child.colour == "RED"', "children.0.i32 == 1", 'labels.a == "b"'):
        assert checks(text)(data) is None or isinstance(checks(text)(data), str)


@given(st.binary(max_size=20))
def test_bytes_compare_by_their_base64(data: bytes) -> None:
    """Any content equals its own base64, in either alphabet, and not another."""
    encoded = base64.urlsafe_b64encode(data).decode()
    assert checks(f'data == "{encoded}"')(message({"data": encoded})) is None
    assert checks(f'data == "{encoded}"')(message({"data": "AAAAAAAA" + encoded})) is not None


@pytest.mark.parametrize(
    "text",
    ["", "text", "text = 1", "text ==", "== 1", "text == yes", "text == [1]", "text == null"],
)
def test_what_is_no_check_is_refused(text: str) -> None:
    """A check is a path, two equal signs and a JSON value."""
    with pytest.raises(UnitError):
        parse_check(text)


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("colur", "RED", 'did you mean "colour"'),
        ("colour", "REDD", 'did you mean "RED"'),
        ("colour", 1, "one of COLOUR_UNKNOWN"),
        ("i32", "5", "a whole number"),
        ("i32", 1.5, "a whole number"),
        ("i32", True, "a whole number"),
        ("u32", -1, "from 0"),
        ("single", 1e39, "a number"),
        ("twice", 10**400, "a number"),
        ("flag", 1, "true or false"),
        ("data", "a", "base64"),
        ("child", "x", "a path to a single value"),
        ("text.x", "x", "a path that ends at text"),
        ("texts", "x", "texts.0"),
        ("texts.x", "x", "texts.0"),
        ("labels", "x", "labels.KEY"),
        ("by_number.x.text", "x", "a key of by_number"),
        ("by_flag.yes", 1, "a key of by_flag"),
        ("children.0", "x", "a path to a single value"),
    ],
)
def test_what_can_never_hold_is_refused(path: str, value: str | float, expected: str) -> None:
    """Paths and values are checked against the types of the method, before any run."""
    with pytest.raises(UnitError) as caught:
        compile_check(KINDS, FieldEquals(path=path, value=value))
    assert expected in caught.value.expected
