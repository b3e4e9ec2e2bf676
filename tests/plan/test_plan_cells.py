"""Texts in cells are the texts, whatever holes their rows have; wide rows are narrow ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.engine.grpc import framed
from loadtests.plan import rows
from loadtests.plan.call import Compression, Delimited, Number, NumberEncoding, Part, Raw, Text
from loadtests.plan.cells import (
    Cells,
    Integers,
    cells_of_texts,
    decimals,
    joined,
    padded_decimals,
)
from loadtests.plan.message import compile_message
from loadtests.plan.model import Feed
from loadtests.plan.wire import varint, varints

NUMBERS = st.lists(
    st.one_of(st.integers(-(2**62), 2**62), st.integers(-12, 12), st.just(10**18)),
    min_size=1,
    max_size=20,
)
TEXTS = st.lists(st.binary(max_size=12), min_size=4, max_size=4)
FEED = Feed(name="words", columns=("text",), rows=(("a",), ("",), ("a longer text",)))


def _integers(numbers: Sequence[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(numbers, dtype=np.int64)


@given(NUMBERS)
def test_decimals_are_what_python_writes(numbers: list[int]) -> None:
    """Signs, powers of ten, zero; lengths are those of the texts."""
    cells = decimals(_integers(numbers))
    expected = [b"%d" % number for number in numbers]
    assert list(cells.texts()) == expected
    assert np.broadcast_to(cells.lengths, len(numbers)).tolist() == list(map(len, expected))


@given(st.lists(st.integers(0, 2**56), min_size=1), st.integers(18, 20))
def test_padded_decimals_have_zeros_before_them(numbers: list[int], digits: int) -> None:
    """At least so many digits."""
    rows_of_digits = padded_decimals(_integers(numbers), digits)
    assert [bytes(row).lstrip(b"0") or b"0" for row in rows_of_digits] == [
        b"%d" % number for number in numbers
    ]
    assert rows_of_digits.shape[1] >= digits


@given(st.lists(TEXTS, max_size=4), st.binary(max_size=5))
def test_joined_cells_are_joined_texts(columns: list[list[bytes]], literal: bytes) -> None:
    """Texts of any lengths, zero bytes and none at all among them, between literals."""
    parts: list[bytes | Cells] = [literal]
    for column in columns:
        parts += [cells_of_texts(column), literal]
    cells = joined(parts, 4)
    expected = [
        literal + b"".join(text + literal for text in row) for row in zip(*columns, strict=True)
    ]
    assert list(cells.texts()) == (expected or [literal] * 4)
    lengths = np.broadcast_to(cells.lengths, 4)
    assert lengths.tolist() == [len(text) for text in expected or [literal] * 4]


@given(
    st.lists(
        st.tuples(
            st.sampled_from([decimals, varints]),
            st.lists(st.integers(0, 2**40), min_size=3, max_size=3),
            st.binary(max_size=1),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_holes_before_inside_and_behind_texts_are_left_out(
    columns: list[tuple[Callable[[Integers], Cells], list[int], bytes]],
) -> None:
    """Numbers at the ends of their rows (decimal) and at their beginnings, first to last."""
    parts: list[bytes | Cells] = []
    expected = [b""] * 3
    for make, numbers, literal in columns:
        parts += [make(_integers(numbers)), literal]
        written = [b"%d" % n if make is decimals else varint(n) for n in numbers]
        expected = [text + more + literal for text, more in zip(expected, written, strict=True)]
    assert joined(parts, 3).texts() == expected
    assert joined([joined(parts, 3), b"."], 3).texts() == [text + b"." for text in expected]


@given(st.lists(TEXTS, max_size=4), st.integers(0, 4))
def test_parts_of_cells_have_the_texts_of_their_rows(columns: list[list[bytes]], at: int) -> None:
    """Cut anywhere, also where one of both parts has no row."""
    cells = joined([b"<", *map(cells_of_texts, columns)], 4)
    parts = cells.part(slice(0, at)), cells.part(slice(at, None))
    assert [text for part in parts for text in part] == cells.texts()


@given(st.integers(0, 1 << 32), st.integers(250, 1100), st.integers(0, 1), st.integers(3, 40))
@settings(max_examples=30)
def test_many_texts_are_cut_in_order(seed: int, count: int, shortest: int, above: int) -> None:
    """A batch and more; of one length and of many, none at all among them or not."""
    random = Random(seed)
    lengths = [random.randrange(shortest, above) for _ in range(count)]
    texts = [random.randbytes(length) for length in lengths]
    assert list(cells_of_texts(texts).texts()) == texts
    alike = [random.randbytes(7) for _ in texts]
    assert list(joined([b"<", cells_of_texts(alike), b">"], count).texts()) == [
        b"<" + text + b">" for text in alike
    ]


_NESTED: tuple[Part, ...] = (
    Raw(data=b"\x0a"),
    Delimited(
        parts=(
            Text(source=b"${words.text}-${uuid}-${hex:20}"),
            Delimited(parts=(Text(source=b"${seq}${choice:x|yy|}"),)),
            Number(source=b"${int:-300:300}", encoding=NumberEncoding.ZIGZAG),
        )
    ),
    Text(source=b"${int:100:999}${seq:12}"),
)


@pytest.mark.parametrize("parts", [_NESTED, (Text(source=b"${uuid}"),), (Raw(data=b"same"),)])
@pytest.mark.parametrize("is_framed", [False, True])
def test_wide_rows_are_narrow_ones(
    parts: tuple[Part, ...], *, is_framed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Joined one by one or put together by NumPy: the same bytes, framed as one by one."""
    template = compile_message(
        parts, run_id="r", seed=1, feeds=(FEED,), environment={}, where="m", is_framed=is_framed
    )
    sequences = np.arange(300) * 7
    narrow = template.render_many(sequences)
    monkeypatch.setattr(rows, "WIDE_BYTES", 0)
    assert template.render_many(sequences) == narrow
    if is_framed:
        plain = compile_message(
            parts, run_id="r", seed=1, feeds=(FEED,), environment={}, where="m"
        ).render_many(sequences)
        assert narrow == [framed(message, Compression.IDENTITY) for message in plain]


def test_a_large_text_takes_the_memory_of_its_bytes() -> None:
    """One cell of a feed of 1 MB among short ones: a batch is not a matrix of the longest."""
    feed = Feed(name="words", columns=("text",), rows=(("x" * 1_000_000,), *[("a",)] * 999))
    template = compile_message(
        (Text(source=b"${words.text}${seq}"),),
        run_id="r",
        seed=1,
        feeds=(feed,),
        environment={},
        where="m",
    )
    columns = list(template.columns_of(np.arange(512)))
    assert not any(isinstance(column, Cells) for column in columns)
    lengths = [len(text) for text in template.rows(columns, 512)]
    assert lengths == [len(feed.rows[n][0]) + len(str(n)) for n in range(512)]
