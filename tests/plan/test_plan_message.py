"""Messages: what is rendered is what protobuf makes of the rendered JSON, byte for byte."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from google.protobuf import json_format
from google.protobuf.message import Message
from grpc_schemas import kinds
from hypothesis import HealthCheck, given, settings
from message_texts import message_text

from loadtests.errors import ScenarioError
from loadtests.plan.authored import read_message
from loadtests.plan.call import Base64, Delimited, Number, NumberEncoding, Part, Raw, Text
from loadtests.plan.message import MessageKind, MessageTemplate, compile_message
from loadtests.plan.model import Feed
from loadtests.plan.parts import MessageWriter, folded
from loadtests.plan.schema import message_class
from loadtests.plan.template import compile_template, measure_cost_ns
from loadtests.plan.values import Mistakes

FEED = Feed(name="users", columns=("id", "name"), rows=(("1", "ann"), ("22", "bö%d"), ("0", "")))
SEQUENCES = np.array([0, 1, 2, 3, 127, 128, 16_384, 2**32, 2**56 - 1], dtype=np.int64)
KINDS = kinds().pool.FindMessageTypeByName("kinds.v1.Kinds")


def parts_of(value: object) -> tuple[Part, ...]:
    """Parts of a message of type Kinds that has no mistakes."""
    mistakes = Mistakes()
    tree = read_message(value, "message", (FEED,), mistakes)
    parts = MessageWriter(kinds().pool, mistakes).message(KINDS, tree, "message")
    assert mistakes.found == []
    return folded(parts)


def compiled(
    *parts: Part, environment: Mapping[str, str] | None = None, seed: int = 3
) -> MessageTemplate:
    """A compiled message with one feed."""
    return compile_message(
        parts,
        run_id="run",
        seed=seed,
        feeds=(FEED,),
        environment=environment or {},
        where="requests.kinds.message",
    )


def parsed(data: bytes) -> Any:
    """A message of type Kinds."""
    return message_class(KINDS).FromString(data)


def canonical(message: Message) -> bytes:
    """Bytes that are equal for equal messages, NaN included."""
    return message.SerializeToString(deterministic=True)


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(text=message_text(KINDS, 2))
def test_the_law_of_messages(text: str) -> None:
    """Rendered bytes parse to the message that protobuf makes of the rendered JSON text."""
    if text.count("${") > 60:
        return  # more placeholders than there are positions: refused, see below
    template = compiled(*parts_of(text))
    document = compile_template(
        text.encode(), run_id="run", seed=3, feeds=(FEED,), environment={}
    ).render_many(SEQUENCES)
    for data, rendered in zip(template.render_many(SEQUENCES), document, strict=True):
        expected = json_format.Parse(rendered, message_class(KINDS)(), descriptor_pool=kinds().pool)
        assert canonical(parsed(data)) == canonical(expected)
        if template.is_constant:
            assert data == canonical(expected)


def test_what_never_varies_is_one_raw_part() -> None:
    """A constant message of any shape is encoded once, as protobuf writes it."""
    value = {
        "children": [{"i32": -1}, {}],
        "labels": {"b": "2", "a": "1"},
        "by_number": {"7": {"text": "x"}},
        "packed": [1, 2, 300],
        "at": "2025-01-31T12:00:00Z",
        "document": {"a": [1, None, {"b": True}]},
    }
    (part,) = parts_of(value)
    assert isinstance(part, Raw)
    expected = json_format.ParseDict(value, message_class(KINDS)())
    assert part.data == canonical(expected)
    assert compiled(part).constant == part.data
    assert compiled(part).render_many(SEQUENCES[:2]) == [part.data, part.data]


def test_a_table_and_a_text_are_the_same_message() -> None:
    """TOML tables and JSON text mean the same, by field names and by JSON names."""
    table = {"wrapped_text": "${uuid}", "i64": "${seq}", "child": {"sf64": "${int:1:9}"}}
    text = '{"wrappedText": "${uuid}", "i64": ${seq}, "child": {"sf64": ${int:1:9}}}'
    assert parts_of(table) == parts_of(text)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({"text": "x", "i32": 5}, MessageKind.CONSTANT),
        ({"text": "${uuid}", "data": "${hex:8}", "f64": "${seq}"}, MessageKind.FIXED_WIDTH),
        ({"child": {"child": {"text": "${hex:64}${hex:64}"}}}, MessageKind.FIXED_WIDTH),
        ({"colour": "${choice:RED|DEEP_BLUE}"}, MessageKind.FIXED_WIDTH),
        ({"i64": "${int:128:16383}", "s64": "${int:-64:-1}"}, MessageKind.FIXED_WIDTH),
        ({"i64": "${int:-9:9}"}, MessageKind.VARYING_LENGTH),
        ({"i64": "${int:127:128}"}, MessageKind.VARYING_LENGTH),
        ({"i64": "${seq}"}, MessageKind.VARYING_LENGTH),
        ({"child": {"text": "${choice:a|bb}"}}, MessageKind.VARYING_LENGTH),
    ],
)
def test_the_kind_of_a_message_is_known(value: object, kind: MessageKind) -> None:
    """Constant, fixed width and varying length are told apart, and lengths are as promised."""
    template = compiled(*parts_of(value))
    assert template.kind is kind
    assert template.is_constant == (kind is MessageKind.CONSTANT)
    lengths = {len(data) for data in template.render_many(np.arange(3000))}
    assert (len(lengths) == 1) == (kind is not MessageKind.VARYING_LENGTH)


def test_placeholders_of_all_fields_have_positions_of_their_own() -> None:
    """Equal placeholders in different fields and messages take different values."""
    value = {
        "text": "${hex:16}",
        "i64": "${int:1:1000000000}",
        "child": {"text": "${hex:16}", "i64": "${int:1:1000000000}"},
        "by_number": {"1": {"text": "${uuid}"}, "2": {"text": "${uuid}"}},
    }
    for data in compiled(*parts_of(value)).render_many(np.arange(200)):
        message = parsed(data)
        assert message.text != message.child.text
        assert message.i64 != message.child.i64
        assert message.by_number[1].text != message.by_number[2].text


def test_uuids_of_a_message_are_unique_over_the_run() -> None:
    """Four uuids a message never meet each other."""
    value = {"texts": ["${uuid}", "${uuid}"], "children": [{"text": "${uuid}"}] * 2}
    found: set[str] = set()
    for data in compiled(*parts_of(value)).render_many(np.arange(5000)):
        message = parsed(data)
        found |= {*message.texts, *(child.text for child in message.children)}
    assert len(found) == 20_000


def test_lengths_that_cross_a_varint_are_right() -> None:
    """Lengths on the way to what varies grow by a byte at 128 and at 16,384."""
    filler = "x" * (16_384 - 12)
    value = {"child": {"child": {"text": filler + "${choice:|12345678901234567890}"}}}
    short = {"child": {"text": "x" * 117 + "${choice:|12345678901234567890}"}}
    for one in (value, short):
        data = compiled(*parts_of(one)).render_many(np.arange(64))
        assert len({len(item) for item in data}) == 2
        for item in data:
            assert canonical(parsed(item)) == item


def test_a_variable_is_filled_where_the_message_is_compiled() -> None:
    """Texts, numbers and base64 of the engine's environment are constants of the message."""
    value = {"text": "Bearer ${env:TOKEN}", "i64": "${env:SHARD}", "data": "${env:KEY}"}
    template = compiled(
        *parts_of(value), environment={"TOKEN": "t%s", "SHARD": "-7", "KEY": "AQI_"}
    )
    assert template.constant is not None
    message = parsed(template.constant)
    assert (message.text, message.i64, message.data) == ("Bearer t%s", -7, b"\x01\x02\x3f")


def test_wrong_variables_are_all_named_and_not_repeated() -> None:
    """A variable that is no number, no base64 or not set is a mistake of the engine's host."""
    value = {"text": "${env:TOKEN}", "i64": "${env:SHARD}", "data": "${env:KEY}"}
    with pytest.raises(ScenarioError) as caught:
        compiled(*parts_of(value), environment={"SHARD": "canary", "KEY": "canar"})
    assert len(caught.value.mistakes) == 3
    assert "TOKEN" in str(caught.value)
    assert "canar" not in str(caught.value)


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (Number(source=b"1${seq}", encoding=NumberEncoding.VARINT), "alone"),
        (Number(source=b"${uuid}", encoding=NumberEncoding.VARINT), "alone"),
        (Number(source=b"${choice:1|x}", encoding=NumberEncoding.VARINT), "varint"),
        (Text(source=b"${seq}" * 65), "at most 64"),
        (Base64(source=b"${choice:A|AAA=}"), "base64"),
        (Base64(source=b"${choice:AAAA|AAAAAAAA}"), "of one length"),
        (Delimited(parts=(Text(source=b"${uid}"),)), "${uuid}"),
    ],
)
def test_a_wrong_part_is_refused(part: Part, expected: str) -> None:
    """A plan that was not made by the loader is checked all the same."""
    with pytest.raises(ScenarioError, match=r"requests\.kinds\.message") as caught:
        compiled(part)
    assert expected in str(caught.value)


def test_parts_mean_what_they_say() -> None:
    """Each kind of part in wire format, by hand."""
    template = compiled(
        Raw(data=b"%\x0a"),
        Delimited(parts=(Text(source=b"n${seq}%"), Delimited(parts=()))),
        Number(source=b"${seq}", encoding=NumberEncoding.ZIGZAG),
        Delimited(parts=(Base64(source=b"QUJD"),)),
    )
    assert template.render_many(np.array([64])) == [b"%\x0a\x05n64%\x00\x80\x01\x03ABC"]


def test_values_depend_on_the_seed_and_not_on_the_batch() -> None:
    """A sequence has the same message in any batch; another seed gives others."""
    parts = parts_of({"text": "${hex:8}", "i64": "${int:1:1000000}"})
    template, sequences = compiled(*parts), np.arange(100)
    alone = [template.render_many(sequences[index : index + 1])[0] for index in range(100)]
    assert template.render_many(sequences) == alone
    assert set(compiled(*parts, seed=4).render_many(sequences)).isdisjoint(alone)


def test_the_cost_of_a_message_is_measured() -> None:
    """The same measurement serves templates and messages."""
    assert measure_cost_ns(compiled(*parts_of({"text": "${uuid}"})), renders=500) > 0
