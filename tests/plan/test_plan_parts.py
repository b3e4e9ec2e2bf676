"""What protobuf's types make of a message as written: proto2, maps, names, broken JSON."""

from __future__ import annotations

import numpy as np
import pytest
from grpc_schemas import kinds, legacy, parsed

from loadtests.plan.authored import read_message
from loadtests.plan.call import (
    Number,
    Part,
)
from loadtests.plan.message import compile_message
from loadtests.plan.parts import MessageWriter, folded
from loadtests.plan.schema import Schema
from loadtests.plan.units import UnitError
from loadtests.plan.values import Mistakes


def legacy_parts(value: object) -> tuple[tuple[Part, ...], list[str]]:
    """Parts and mistakes of a proto2 order."""
    mistakes = Mistakes()
    tree = read_message(value, "message", (), mistakes)
    kind = legacy().pool.FindMessageTypeByName("legacy.Order")
    parts = folded(MessageWriter(legacy().pool, mistakes).message(kind, tree, "message"))
    return parts, [str(mistake) for mistake in mistakes.found]


def test_proto2_has_groups_unpacked_numbers_and_closed_enums() -> None:
    """What varies and what does not are both as protobuf writes them."""
    value = {
        "id": "a-${seq}",
        "numbers": [1, "${int:5:5}"],
        "line": {"article": "${choice:x|x}", "count": 2},
        "grade": "HIGH",
    }
    parts, mistakes = legacy_parts(value)
    assert mistakes == []
    template = compile_message(
        parts,
        run_id="r",
        seed=1,
        feeds=(),
        environment={},
        where="message",
    )
    kind = legacy().pool.FindMessageTypeByName("legacy.Order")
    (data,) = template.render_many(np.arange(1))
    order = parsed(kind, data)
    assert (order.id, list(order.numbers), order.grade) == ("a-0", [1, 5], 2)
    assert (order.line.article, order.line.count) == ("x", 2)
    assert order.SerializeToString() == data


def test_what_proto2_requires_is_asked_for() -> None:
    """A required field that is missing and an enum's unknown name are mistakes."""
    _, mistakes = legacy_parts({"grade": "MIDDLE", "line": {"count": "${seq}"}})
    assert len(mistakes) == 3
    assert mistakes[0].startswith("message.grade: ")
    assert mistakes[1].startswith("message.line.count: ")
    assert mistakes[2].startswith("message.id: saw nothing")


def test_map_keys_may_vary() -> None:
    """Keys of maps take placeholders as their type allows."""
    mistakes = Mistakes()
    kind = kinds().pool.FindMessageTypeByName("kinds.v1.Kinds")
    value = {"labels": {"k${seq}": "v"}, "by_number": {"${int:7:7}": {"text": "${seq}"}}}
    tree = read_message(value, "message", (), mistakes)
    parts = folded(MessageWriter(kinds().pool, mistakes).message(kind, tree, "message"))
    template = compile_message(parts, run_id="r", seed=1, feeds=(), environment={}, where="message")
    message = parsed(kind, template.render_many(np.arange(3))[2])
    assert mistakes.found == []
    assert dict(message.labels) == {"k2": "v"}
    assert message.by_number[7].text == "2"


def test_numbers_keep_the_source_that_the_author_wrote() -> None:
    """Names of enums become numbers at load; everything else stays a placeholder."""
    mistakes = Mistakes()
    kind = kinds().pool.FindMessageTypeByName("kinds.v1.Kinds")
    tree = read_message({"colour": "${choice:RED|BELOW}"}, "message", (), mistakes)
    parts = MessageWriter(kinds().pool, mistakes).message(kind, tree, "message")
    (number,) = (part for part in parts if isinstance(part, Number))
    assert number.source == b"${choice:1|-2}"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("kinds.v1.KindsService/Ecko", 'did you mean "Echo"'),
        ("kinds.v1.KindService/Echo", 'did you mean "kinds.v1.KindsService/Echo"'),
        ("/kinds.v1.KindsService/Echo", 'did you mean "kinds.v1.KindsService/Echo"'),
    ],
)
def test_an_unknown_method_has_a_neighbour(name: str, expected: str) -> None:
    """Service and method are looked up apart; what was near is said."""
    with pytest.raises(UnitError) as caught:
        kinds().method(name)
    assert expected in caught.value.expected


def test_an_empty_descriptor_set_is_none() -> None:
    """No file, no types."""
    with pytest.raises(UnitError, match="FileDescriptorSet"):
        Schema(b"")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("null", "not null"),
        ("[1", "line 1"),
        ('{"twice": NaN}', '"NaN" in quotes'),
        ('{"i32": 1, "i32": 2}', "twice"),
        ('{"child":' * 120 + "{}" + "}" * 120, "inside each other"),
        ("[" * 100_000, "JSON"),
        ('{"x": ' + "9" * 5000 + "}", "JSON"),
    ],
)
def test_what_is_no_json_is_refused(text: str, expected: str) -> None:
    """A JSON text is JSON with placeholders, bounded in depth, with each key once."""
    mistakes = Mistakes()
    read_message(text, "message", (), mistakes)
    assert len(mistakes.found) == 1
    assert expected in mistakes.found[0].expected
