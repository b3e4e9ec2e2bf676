"""Plans as bytes: an exact round trip, and a hash that only the plan decides."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_builders import good_plan

from loadtests.plan.codec import decode_plan, encode_plan, plan_hash
from loadtests.plan.model import LoadModel, Plan
from loadtests.plan.scenario import load_scenario, resolve

FILES = sorted((Path(__file__).parent / "good").glob("*.toml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_plan_survives_the_wire(path: Path) -> None:
    """Decoding gives an equal plan, with every union and enum of its own type."""
    plan = resolve(load_scenario(path))
    again = decode_plan(encode_plan(plan))
    assert again == plan
    assert repr(again) == repr(plan)
    assert encode_plan(again) == encode_plan(plan)


def test_the_hash_tells_plans_apart() -> None:
    """Equal plans have equal hashes; any changed field changes it."""
    plan = good_plan()
    reference = plan_hash(encode_plan(plan))
    assert len(reference) == 64
    assert plan_hash(encode_plan(good_plan())) == reference
    for change in (
        {"seed": 8},
        {"scale": 0.5},
        {"load_model": LoadModel.CLOSED},
        {"scenario_text": "#"},
        {"requests": (dataclasses.replace(plan.requests[0], body=b""),)},
    ):
        assert plan_hash(encode_plan(good_plan(**change))) != reference


@given(st.binary(max_size=200))
def test_bytes_that_are_no_plan_are_refused(data: bytes) -> None:
    """Garbage is a ValueError, never another exception and never a plan."""
    with pytest.raises(ValueError, match="not a plan"):
        decode_plan(data)


@given(cut=st.integers(min_value=0, max_value=500))
def test_a_truncated_plan_is_refused(cut: int) -> None:
    """Every proper prefix of a plan's bytes is refused."""
    data = encode_plan(good_plan())
    with pytest.raises(ValueError, match="not a plan"):
        decode_plan(data[: min(cut, len(data) - 1)])


@pytest.mark.parametrize(
    ("field", "value"),
    [("seed", "7"), ("nodes", None), ("load_model", "half-open"), ("stages", [{"type": "hold"}])],
)
def test_a_wrong_type_is_refused(field: str, value: object) -> None:
    """Decoding is strict: a field of another type is not coerced."""
    table = msgspec.msgpack.decode(encode_plan(good_plan()))
    table[field] = value
    with pytest.raises(ValueError, match=field):
        decode_plan(msgspec.msgpack.encode(table))


def test_every_field_is_on_the_wire() -> None:
    """No field of a plan stays behind."""
    table = msgspec.msgpack.decode(encode_plan(good_plan()))
    assert list(table) == [field.name for field in dataclasses.fields(Plan)]
