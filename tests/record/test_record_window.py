"""Windows: exact merge, exact packing, and refusal of whatever does not fit."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable
from random import Random

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_builders import T0_S, good_manifest, window_of

from loadtests.record.histogram import LENGTH, Histogram, buckets_of_ns
from loadtests.record.window import (
    MAX_SLOTS,
    Count,
    Kind,
    SlotSpace,
    Window,
    histogram_of,
    merge_windows,
    pack_window,
    unpack_window,
)

SLOTS = good_manifest().slots
seeds = st.integers(min_value=0, max_value=2**32 - 1)


def window(seed: int) -> Window:
    """A random window of a few slots."""
    rng = np.random.default_rng(seed)
    wanted = np.flatnonzero(rng.random(len(SLOTS)) < 0.5).tolist() or [0]
    return window_of(T0_S, SLOTS, rng, wanted=wanted, samples=12)


def same(one: Window, other: Window) -> bool:
    """Equal in every count and text."""
    arrays = ("slots", "counters", "keys", "counts")
    return all(np.array_equal(getattr(one, a), getattr(other, a)) for a in arrays) and (
        one.start_s, one.errors, one.messages, one.health, one.hiccups
    ) == (other.start_s, other.errors, other.messages, other.health, other.hiccups)  # fmt: skip


def test_slot_numbers_are_unique_and_reversible() -> None:
    """Every (stage, request, node) has one number, and the number gives it back."""
    triples = [(s, r, n) for s in range(2) for r in range(3) for n in range(2)]
    numbers = [SLOTS.slot(*triple) for triple in triples]
    assert numbers == list(range(len(SLOTS)))
    assert [SLOTS.indices(number) for number in numbers] == triples


def test_more_slots_than_keys_are_refused() -> None:
    """A slot space that would wrap the 32-bit keys is refused when it is made."""
    names = tuple(str(number) for number in range(MAX_SLOTS + 1))
    with pytest.raises(ValueError, match="slots"):
        SlotSpace(stages=("s",), requests=names, nodes=("n",))


@given(st.lists(seeds, max_size=6), st.randoms(use_true_random=False))
def test_merge_does_not_depend_on_order_or_grouping(parts: list[int], random: Random) -> None:
    """Merging in any order and grouping gives the same window; an empty one changes nothing."""
    windows = [window(seed) for seed in parts]
    whole = merge_windows(T0_S, windows)
    shuffled = list(windows)
    random.shuffle(shuffled)
    middle = len(shuffled) // 2
    grouped = merge_windows(
        T0_S,
        [merge_windows(T0_S, shuffled[:middle]), Window.empty(T0_S),
         merge_windows(T0_S, shuffled[middle:])],
    )  # fmt: skip
    assert same(
        dataclasses.replace(whole, health=(), hiccups=()),
        dataclasses.replace(grouped, health=(), hiccups=()),
    )
    assert sorted(h.engine for h in whole.health) == sorted(h.engine for h in grouped.health)


@given(st.lists(seeds, min_size=1, max_size=5))
def test_merged_histograms_are_the_sums(parts: list[int]) -> None:
    """Each histogram of a merged window is the sum of that histogram of the parts."""
    windows = [window(seed) for seed in parts]
    whole = merge_windows(T0_S, windows)
    for kind in Kind:
        for slot in range(len(SLOTS)):
            summed = sum(
                (histogram_of(part, kind, [slot]) for part in windows), start=Histogram.empty()
            )
            assert np.array_equal(histogram_of(whole, kind, [slot]).counts, summed.counts)
    for count in Count:
        assert whole.total(count) == sum(part.total(count) for part in windows)


def test_a_histogram_of_slots_takes_only_its_kind_and_slots() -> None:
    """Neighbouring kinds and slots in the key space do not leak into a histogram."""
    buckets = buckets_of_ns(np.array([0, 3_600_000_000_000, 4_000_000_000_000]))
    keys = [
        (slot * len(Kind) + kind) * LENGTH + int(bucket)
        for slot in range(3)
        for kind in Kind
        for bucket in buckets
    ]
    full = dataclasses.replace(
        Window.empty(T0_S),
        keys=np.array(sorted(keys), dtype=np.uint32),
        counts=np.arange(1, len(keys) + 1, dtype=np.int64),
    )
    for slot in range(3):
        for kind in Kind:
            first = (slot * len(Kind) + kind) * 3 + 1
            got = histogram_of(full, kind, [slot]).counts
            assert got[buckets].tolist() == [first, first + 1, first + 2]
            assert got.sum() == 3 * first + 3


@given(seeds)
def test_packing_is_exact(seed: int) -> None:
    """Unpacking gives back every count, text and host row."""
    packed = window(seed)
    assert same(unpack_window(pack_window(packed)), packed)


def test_any_flipped_bit_is_found() -> None:
    """Every single-bit error of a packed window is refused."""
    packed = pack_window(window(1))
    rng = np.random.default_rng(2)
    places = {0, 31, 32, len(packed) * 8 - 1, *rng.integers(0, len(packed) * 8, 300).tolist()}
    for place in places:
        damaged = bytearray(packed)
        damaged[place // 8] ^= 1 << place % 8
        with pytest.raises(ValueError, match="checksum"):
            unpack_window(bytes(damaged))


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x00\x00\x00\x00"], ids=["none", "one", "head"])
def test_a_cut_window_is_refused(data: bytes) -> None:
    """A window of too few bytes is an error with a sentence."""
    with pytest.raises(ValueError, match="window"):
        unpack_window(data)


def frame(seed: int) -> list[object]:
    """The fields of a packed window as msgpack values, to be changed and packed again."""
    fields: list[object] = msgspec.msgpack.decode(pack_window(window(seed))[4:])
    return fields


def repack(fields: list[object]) -> bytes:
    """A frame with a right checksum over wrong content."""
    body = msgspec.msgpack.encode(fields)
    return zlib.crc32(body).to_bytes(4, "big") + body


@pytest.mark.parametrize(
    ("field", "change", "message"),
    [
        (0, lambda _: "soon", "window frame"),
        (1, lambda _: b"\x00" * 4, "differ in length"),
        (2, lambda data: (-np.frombuffer(data, "<i8")).tobytes(), "negative count"),
    ],
    ids=[
        "label of a wrong type",
        "one slot",
        "counters negative",
    ],
)
def test_a_lying_window_is_refused(
    field: int, change: Callable[[bytes], object], message: str
) -> None:
    """Content that contradicts itself is refused although its checksum is right."""
    fields = frame(3)
    data = fields[field]
    fields[field] = change(data if isinstance(data, bytes) else b"")
    with pytest.raises(ValueError, match=message):
        unpack_window(repack(fields))
