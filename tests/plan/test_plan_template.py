"""Templates: pure functions of a sequence, unique where they promise it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.errors import ScenarioError
from loadtests.plan.mixing import bijection62
from loadtests.plan.model import Feed
from loadtests.plan.template import Template, compile_template, measure_cost_ns, mistakes_of

FEED = Feed(name="users", columns=("id", "full name"), rows=(("1", "ann"), ("22", "bob%d")))
ALL = (
    b"${seq} ${uuid} ${hex:5} ${hex:16} ${hex:37} ${int:-5:5} ${choice:a|bb|} "
    b"${users.id} ${users.full name} ${env:TOKEN} $${seq} 100 %"
)


def compiled(
    source: bytes,
    *,
    run_id: str = "run",
    seed: int = 3,
    environment: Mapping[str, str] | None = None,
) -> Template:
    """A template with one feed and one variable."""
    environment = {"TOKEN": "t%ok"} if environment is None else environment
    return compile_template(
        source, run_id=run_id, seed=seed, feeds=(FEED,), environment=environment
    )


@settings(max_examples=100)
@given(
    sequences=st.lists(st.integers(min_value=0, max_value=2**56 - 1), min_size=1, max_size=20),
    seed=st.integers(min_value=0, max_value=2**63 - 1),
)
def test_batches_render_as_single_sequences(sequences: list[int], seed: int) -> None:
    """`render_many` equals `render`, for every placeholder and sequence."""
    template = compiled(ALL, seed=seed)
    many = template.render_many(np.array(sequences, dtype=np.int64))
    assert many == [template.render(sequence) for sequence in sequences]


def test_each_placeholder_renders_as_documented() -> None:
    """Each kind has its form; the escape and percent signs stay literal."""
    words = compiled(ALL).render(7).split(b" ")
    assert words[0] == b"7"
    assert str(uuid.UUID(words[1].decode())) == words[1].decode()
    assert [len(word) for word in words[2:5]] == [5, 16, 37]
    assert all(set(word) <= set(b"0123456789abcdef") for word in words[2:5])
    assert -5 <= int(words[5]) <= 5
    assert words[6] in {b"a", b"bb", b""}
    assert words[7:] == [b"22", b"bob%d", b"t%ok", b"${seq}", b"100", b"%"]


@settings(max_examples=300)
@given(
    literal=st.binary(max_size=30).filter(lambda data: b"${" not in data),
    seq=st.integers(min_value=0, max_value=2**56 - 1),
)
def test_literals_are_kept_byte_for_byte(literal: bytes, seq: int) -> None:
    """Any other bytes, percent signs and invalid UTF-8 included, are rendered as they are."""
    assert compiled(literal).render(seq) == literal
    assert compiled(literal + b" ${seq}").render(seq) == literal + b" %d" % seq


def test_constant_templates_know_it() -> None:
    """Without placeholders, or with variables only, every sequence renders the same."""
    assert compiled(b"plain").is_constant
    assert compiled(b"${env:TOKEN}").is_constant
    assert not compiled(b"${seq}").is_constant
    assert compiled(b"plain").render_many(np.arange(3)) == [b"plain"] * 3


@pytest.mark.parametrize(
    ("source", "length"),
    [
        (b"plain %", 7),
        (b"id=${uuid}", 39),
        (b"${hex:7}${hex:20}", 27),
        (b"${choice:ab|cd}", 2),
        (b"${int:10:99}", 2),
        (b"${int:-9:-1}", 2),
        (b"${env:TOKEN}", 4),
        (b"${seq}", None),
        (b"${int:1:100}", None),
        (b"${int:-9:9}", None),
        (b"${choice:a|bb}", None),
        (b"${users.id}", None),
    ],
)
def test_a_fixed_length_is_known(source: bytes, length: int | None) -> None:
    """`length` is the bytes of every rendering, or None where they differ."""
    template = compiled(source)
    assert template.length == length
    if length is not None:
        assert {len(template.render(seq)) for seq in range(500)} == {length}


def test_uuids_are_unique_over_the_run() -> None:
    """100,000 sequences with three uuids each never meet; versions and variants are RFC 9562's."""
    template = compiled(b"${uuid} ${uuid} ${uuid}")
    # Neighbours, a second stretch, and single bits: where a weak scramble would collide.
    sequences = np.concatenate(
        [np.arange(50_000), np.arange(2**40, 2**40 + 50_000), 2 ** np.arange(16, 40)]
    )
    found = b" ".join(template.render_many(sequences)).split(b" ")
    assert len(set(found)) == len(found) == 3 * sequences.size
    first = uuid.UUID(found[0].decode())
    assert (first.version, first.variant) == (4, uuid.RFC_4122)


@settings(max_examples=300)
@given(st.sets(st.integers(min_value=0, max_value=2**62 - 1), max_size=50), st.integers(0, 2**64))
def test_the_uuid_scramble_is_a_bijection(values: set[int], key: int) -> None:
    """Different labels stay different: this is what makes uuids unique."""
    assert len({bijection62(value, key) for value in values}) == len(values)


def test_uuids_differ_between_runs_and_other_values_do_not() -> None:
    """The run id moves uuids; hex, int and choice depend on the seed alone."""
    one, two = compiled(b"${uuid}", run_id="a"), compiled(b"${uuid}", run_id="b")
    sequences = np.arange(10_000)
    assert not set(one.render_many(sequences)) & set(two.render_many(sequences))
    source = b"${hex:9} ${int:1:9} ${choice:a|b}"
    kept = compiled(source, run_id="a").render_many(sequences)
    assert kept == compiled(source, run_id="b").render_many(sequences)
    assert kept != compiled(source, seed=4).render_many(sequences)


def test_values_are_spread_evenly() -> None:
    """Integers and choices are uniform within 5 standard deviations; both ends are reached."""
    rows = [
        row.split()
        for row in compiled(b"${int:1:6} ${choice:a|b|c|d}").render_many(np.arange(60_000))
    ]
    dice = np.bincount([int(row[0]) for row in rows], minlength=7)
    assert dice[0] == 0
    assert np.all(np.abs(dice[1:] - 10_000) < 5 * np.sqrt(10_000 * 5 / 6))
    letters = [sum(row[1] == letter for row in rows) for letter in (b"a", b"b", b"c", b"d")]
    assert all(abs(count - 15_000) < 5 * np.sqrt(15_000 * 3 / 4) for count in letters)


def test_positions_are_independent() -> None:
    """Two equal placeholders of one template take different values."""
    template = compiled(b"${int:1:1000000} ${int:1:1000000}")
    rows = [row.split() for row in template.render_many(np.arange(1000))]
    assert sum(left == right for left, right in rows) < 3


def test_feeds_are_served_in_turn() -> None:
    """Row = sequence modulo rows; cells of one request come from one row."""
    template = compiled(b"${users.id}/${users.full name}")
    assert template.render_many(np.arange(3)) == [b"1/ann", b"22/bob%d", b"1/ann"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (b"${}", "${seq}"),
        (b"${uid}", "${seq}"),
        (b"${seq", "a closed placeholder"),
        (b"a ${ b", "a closed placeholder"),
        (b"${hex:0}", "from 1 to 64"),
        (b"${hex:65}", "from 1 to 64"),
        (b"${hex:x}", "${seq}"),
        (b"${int:5:4}", "A <= B"),
        (b"${int:0:4611686018427387904}", "within 2**62"),
        (b"${users.name}", "a column of feed users (id, full name)"),
        (b"${user.id}", "a feed of [[feeds]] (users)"),
        (b"${env:MISSING}", "environment variable MISSING set on this host"),
        (b"${env:1}", "${seq}"),
        (b"${seq}" * 65, "at most 64"),
        (b"${\xff}", "${seq}"),
    ],
)
def test_a_wrong_placeholder_is_refused(source: bytes, expected: str) -> None:
    """Each mistake says what was expected."""
    with pytest.raises(ScenarioError) as caught:
        compiled(source)
    assert expected in str(caught.value)


def test_all_mistakes_of_a_template_are_reported_at_once() -> None:
    """Three wrong placeholders are three mistakes, with their place."""
    found = mistakes_of(b"${a} ${b} ${env:NOT_NEEDED_YET} ${c}", "requests[0].body", ())
    assert [mistake.seen for mistake in found] == ["${a}", "${b}", "${c}"]
    assert {mistake.where for mistake in found} == {"requests[0].body"}


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\x00", "\x7f"])
def test_a_variable_cannot_bring_control_characters(value: str) -> None:
    """A variable's value cannot end a header and begin another, and is not repeated."""
    with pytest.raises(ScenarioError, match="without control characters") as caught:
        compiled(b"${env:TOKEN}", environment={"TOKEN": value})
    assert "Evil" not in str(caught.value)


def test_cost_is_measured_and_positive() -> None:
    """The cost table is measured on the host that asks."""
    assert measure_cost_ns(compiled(ALL), renders=2000) > 0
