"""Random JSON texts of a message type, with and without placeholders, for property tests.

Fields come in the order of their numbers, so that placeholders meet the compiler in the
order in which the text has them: then both sides have the same positions.
"""

from __future__ import annotations

import base64
import json

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import strategies as st

from loadtests.plan.scalars import RANGES

F = FieldDescriptor
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="$"), max_size=8)
VARYING_TEXTS = st.sampled_from(
    ["${uuid}", "a ${seq} %d", "${hex:5}${int:-9:99}", "${choice:x|yy|}", "é${users.name}", "$${x}"]
)
VARYING_NUMBERS = {
    64: ["${seq}", "${int:-3:70000}", "${choice:-1|300}", "${users.id}", "${int:10:99}"],
    32: ["${int:-3:70000}", "${choice:-1|300}", "${users.id}"],
    0: ["${int:0:200}", "${choice:0|300}", "${users.id}"],
}
VARYING_BYTES = ["${hex:8}", "${uuid}", "ab${choice:AA|-_}", "${hex:6}QQ==", "${int:100:999}"]


def quoted(text: str) -> str:
    """A JSON text."""
    return json.dumps(text)


def number_text(field: F) -> st.SearchStrategy[str]:
    """A constant or varying number in the field's range."""
    low, high = RANGES[field.type]
    bits = 0 if low == 0 else 64 if high > 2**32 else 32
    constants = st.integers(low, high).map(str)
    return st.one_of(constants, constants.map(quoted), st.sampled_from(VARYING_NUMBERS[bits]))


def scalar_text(field: F) -> st.SearchStrategy[str]:
    """JSON of one value that is no message."""
    if field.type in RANGES:
        return number_text(field)
    match field.type:
        case F.TYPE_STRING:
            return st.one_of(TEXTS, VARYING_TEXTS).map(quoted)
        case F.TYPE_BYTES:
            constants = st.binary(max_size=6).map(lambda data: base64.b64encode(data).decode())
            return st.one_of(constants, st.sampled_from(VARYING_BYTES)).map(quoted)
        case F.TYPE_BOOL:
            return st.sampled_from(["true", "false", "${choice:true|false}"])
        case F.TYPE_ENUM:
            return st.sampled_from(['"RED"', "7", '"${choice:RED|BELOW|COLOUR_UNKNOWN}"'])
        case _:
            floats = st.floats(allow_nan=False, allow_infinity=False, width=32).map(repr)
            words = ["${seq}", "${int:-5:5}", "${choice:0.5|1e3}", '"NaN"', '"-Infinity"']
            return st.one_of(floats, st.sampled_from(words))


def json_text(depth: int) -> st.SearchStrategy[str]:
    """Any JSON, as google.protobuf.Value takes it."""
    leaves = st.one_of(
        st.sampled_from(["null", "true", "1.5", "${int:1:9}", "${choice:1|2.5}"]),
        st.one_of(TEXTS, VARYING_TEXTS).map(quoted),
    )
    if depth <= 0:
        return leaves
    inner = json_text(depth - 1)
    return st.one_of(leaves, list_text(inner), table_text(TEXTS.map(quoted), inner))


def list_text(items: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """A JSON list."""
    return st.lists(items, max_size=3).map(lambda found: f"[{','.join(found)}]")


def table_text(
    keys: st.SearchStrategy[str], items: st.SearchStrategy[str]
) -> st.SearchStrategy[str]:
    """A JSON object."""
    return st.dictionaries(keys, items, max_size=3).map(
        lambda found: "{" + ",".join(f"{key}:{item}" for key, item in found.items()) + "}"
    )


def well_known_text(kind: Descriptor, depth: int) -> st.SearchStrategy[str] | None:
    """JSON of a well-known type, None for any other."""
    url = "type.googleapis.com/kinds.v1.Kinds"
    constants = {
        "Timestamp": ['"2025-01-31T12:00:00.5Z"', '"1970-01-01T00:00:00Z"'],
        "Duration": ['"1.5s"', '"-3s"'],
        "Any": [json.dumps({"@type": url, "text": "in it"})],
        "Empty": ["{}"],
    }
    name = kind.full_name.removeprefix("google.protobuf.")
    if name in constants:
        return st.sampled_from(constants[name])
    if name == "Struct":
        return table_text(TEXTS.map(quoted), json_text(depth))
    if name == "ListValue":
        return list_text(json_text(depth))
    if name == "Value":
        return json_text(depth)
    return scalar_text(kind.fields_by_name["value"]) if name.endswith("Value") else None


def value_text(field: F, depth: int) -> st.SearchStrategy[str]:
    """JSON of one value of a field, repetition aside."""
    if field.message_type is None:
        return scalar_text(field)
    found = well_known_text(field.message_type, depth)
    return message_text(field.message_type, depth - 1) if found is None else found


def field_text(field: F, depth: int) -> st.SearchStrategy[str]:
    """JSON of a field."""
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        key, value = kind.fields_by_name["key"], kind.fields_by_name["value"]
        keys = {
            F.TYPE_STRING: TEXTS.map(quoted),
            F.TYPE_BOOL: st.sampled_from(['"true"', '"false"']),
        }
        numbers = st.integers(-(2**31), 2**31 - 1).map(lambda number: quoted(str(number)))
        return table_text(keys.get(key.type, numbers), value_text(value, depth))
    items = value_text(field, depth)
    return list_text(items) if field.is_repeated else items


@st.composite
def message_text(draw: st.DrawFn, kind: Descriptor, depth: int) -> str:
    """JSON of a message: some of its fields, one of each oneof, in the order of numbers."""
    fields = [field for field in kind.fields if depth > 0 or field.message_type is None]
    chosen = draw(st.lists(st.sampled_from(fields), max_size=6, unique_by=lambda f: f.number))
    oneofs: set[str] = set()
    texts = []
    for field in sorted(chosen, key=lambda field: field.number):
        if field.containing_oneof is not None:
            if field.containing_oneof.name in oneofs:
                continue
            oneofs.add(field.containing_oneof.name)
        texts.append(f"{quoted(field.json_name)}:{draw(field_text(field, depth))}")
    return "{" + ",".join(texts) + "}"
