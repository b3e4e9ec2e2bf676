"""Ledgers, batches and assembly: the same result whatever the network did."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.record.histogram import LENGTH
from loadtests.record.window import (
    CONNECTION,
    Count,
    Hiccup,
    Kind,
    SlotSpace,
    Window,
    merge_windows,
    pack_window,
)
from loadtests.swarm.batching import Batcher
from loadtests.swarm.merge import Assembly, Ledger, LedgerError, totals_of
from loadtests.swarm.messages import Batch, Progress, Totals

SLOTS = SlotSpace(stages=("only",), requests=("read", CONNECTION), nodes=("n0",))
HICCUP = Hiccup(agent="a", ticks=1000, p50_ns=1, p99_ns=2, max_ns=3)


def window_of(label: int, sent: int, *, slot: int = 0, error_slot: int | None = None) -> Window:
    """A window in which `sent` requests were planned, sent and answered in bucket `sent`."""
    counters = np.zeros((1, len(Count)), dtype=np.int64)
    counters[0, [Count.PLANNED, Count.SENT, Count.OK]] = sent
    errors_of = slot if error_slot is None else error_slot
    key = (slot * len(Kind) + Kind.RESPONSE) * LENGTH + sent
    return Window(
        start_s=label,
        slots=np.array([slot], dtype=np.uint32),
        counters=counters,
        keys=np.array([key], dtype=np.uint32),
        counts=np.array([max(1, sent)], dtype=np.int64),
        errors={(errors_of, "timeout"): sent},
        messages={(errors_of, "timeout"): f"text {sent}"},
        health=(),
        hiccups=(),
    )


def batches_of(sent: Sequence[int]) -> list[Batch]:
    """Batches of one engine, one window each."""
    batcher = Batcher(expects_hiccups=False, hiccup_wait_ns=0)
    for number, count in enumerate(sent, start=1):
        window = window_of(100 + number, count)
        batcher.add_window(0, number, window, pack_window(window))
    batcher.close(None, 0)
    return list(batcher.unacknowledged())


def take_all(ledger: Ledger, batches: Sequence[Batch]) -> list[Window]:
    """Windows that a ledger accepts, refusals left out."""
    taken = []
    for batch in batches:
        try:
            window = ledger.take(batch)
        except LedgerError:
            continue
        if window is not None:
            taken.append(window)
    return taken


@given(st.lists(st.integers(0, 50), min_size=1, max_size=12), st.integers(0, 2**32))
def test_drops_repeats_and_reorders_change_nothing(sent: list[int], seed: int) -> None:
    """Cumulative retransmission until acknowledged gives every batch once and in order."""
    draw, batches, ledger = random.Random(seed), batches_of(sent), Ledger(range(1), SLOTS)
    taken: list[Window] = []
    while ledger.contiguous < len(batches):
        # A snapshot holds a prefix of what is not acknowledged, at any older acknowledgement.
        acknowledged = draw.randint(0, ledger.contiguous)
        newest = draw.randint(acknowledged, len(batches))
        taken += take_all(ledger, batches[acknowledged:newest])
    assert [window.start_s for window in taken] == [100 + n for n in range(1, len(sent) + 1)]
    assert ledger.totals(0).sent == sum(sent)


def test_a_gap_is_refused_and_leaves_the_book_as_it_was() -> None:
    """A batch that skips another is a jump, not a loss that goes unseen."""
    first, second, third = batches_of([1, 2, 3])
    ledger = Ledger(range(1), SLOTS)
    ledger.take(first)
    with pytest.raises(LedgerError, match="batch 3 after 1"):
        ledger.take(third)
    assert ledger.contiguous == 1
    assert ledger.take(second) is not None
    assert ledger.take(third) is not None


def with_window(batch: Batch, window: Window) -> Batch:
    """The batch with another window."""
    return Batch(batch.number, batch.start_s, pack_window(window), batch.progress)


def damaged(batch: Batch, totals: Totals) -> Batch:
    """The batch with other cumulative totals."""
    progress = batch.progress[0]
    changed = Progress(progress.index, progress.windows, progress.through_s, totals)
    return Batch(batch.number, batch.start_s, batch.window, (changed,))


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda b: damaged(b, Totals(4, 3, 0, 3, 0, 0)), "batch_sums"),
        (lambda b: damaged(b, Totals(0, 0, 0, 0, 0, 0)), "counters_backwards"),
        (lambda b: Batch(b.number, 7, b.window, b.progress), "batch_label"),
        (lambda b: Batch(b.number, b.start_s, b.window[:-1], b.progress), "batch_damaged"),
        (lambda b: Batch(b.number, b.start_s, b.window, b.progress * 2), "batch_engine"),
        (
            lambda b: Batch(
                b.number, b.start_s, b.window, (Progress(9, 2, 102, Totals(3, 3, 0, 3, 0, 0)),)
            ),
            "batch_engine",
        ),
        (lambda b: with_window(b, window_of(b.start_s, 2, slot=len(SLOTS))), "batch_slot"),
        (lambda b: with_window(b, window_of(b.start_s, 2, error_slot=99)), "batch_slot"),
    ],
)
def test_a_batch_that_contradicts_itself_is_refused_with_its_kind(
    change: Callable[[Batch], Batch], kind: str
) -> None:
    """Wrong sums, counters that run backwards, foreign engines and slots do not get in."""
    first, second = batches_of([1, 2])
    ledger = Ledger(range(1), SLOTS)
    ledger.take(first)
    with pytest.raises(LedgerError) as caught:
        ledger.take(change(second))
    assert caught.value.kind == kind
    assert ledger.contiguous == 1
    assert ledger.totals(0) == Totals(1, 1, 0, 1, 0, 0)


def same(left: Window, right: Window) -> bool:
    """Equal to the bit."""
    return pack_window(left) == pack_window(right)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=8),
    st.integers(0, 2**32),
)
def test_merging_is_commutative_and_associative(parts: list[tuple[int, int]], seed: int) -> None:
    """Any order and any grouping of windows gives the same bytes."""
    windows = [window_of(1, sent, slot=slot) for slot, sent in parts]
    whole = merge_windows(1, windows)
    draw = random.Random(seed)
    draw.shuffle(windows)
    cut = draw.randint(0, len(windows))
    grouped = merge_windows(1, [merge_windows(1, windows[cut:]), merge_windows(1, windows[:cut])])
    assert same(whole, grouped)
    assert totals_of(whole).sent == sum(sent for _, sent in parts)


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 9)), max_size=15),
    st.lists(st.integers(0, 6), max_size=5),
)
def test_assembly_hands_out_everything_once(parts: list[tuple[int, int]], marks: list[int]) -> None:
    """Whatever the watermarks are: each label once as regular, the rest late, sums equal."""
    assembly, released = Assembly(), []
    for position, (label, sent) in enumerate(parts):
        assembly.add(window_of(label, sent))
        if position < len(marks):
            released += assembly.release(marks[position])
    released += assembly.release(None)
    regular = [window.start_s for window, is_late in released if not is_late]
    assert regular == sorted(set(regular))
    assert sum(totals_of(w).sent for w, _ in released) == sum(sent for _, sent in parts)
    assert assembly.totals.sent == sum(sent for _, sent in parts)
    assert assembly.is_empty


def test_a_label_passed_without_windows_is_late_when_it_comes() -> None:
    """The watermark decides what is late, not whether something was released."""
    assembly = Assembly()
    assert assembly.release(10) == []
    assembly.add(window_of(9, 1))
    ((window, is_late),) = assembly.release(10)
    assert (window.start_s, is_late) == (9, True)


def test_a_label_waits_for_every_engine() -> None:
    """A batch closes when all engines have passed its second, and merges them."""
    batcher = Batcher(expects_hiccups=False, hiccup_wait_ns=0)
    for index, sent in enumerate((3, 4)):
        window = window_of(7, sent)
        batcher.add_window(index, 1, window, pack_window(window))
    assert not batcher.close(6, 0)
    assert batcher.close(7, 0)
    (batch,) = batcher.unacknowledged()
    ledger = Ledger(range(2), SLOTS)
    taken = ledger.take(batch)
    assert taken is not None
    assert totals_of(taken).sent == 7
    assert (ledger.totals(0).sent, ledger.totals(1).sent) == (3, 4)


def test_a_second_waits_for_its_hiccups_but_not_for_ever() -> None:
    """The ticker's figures join their second; a dead ticker holds nothing up."""
    batcher = Batcher(expects_hiccups=True, hiccup_wait_ns=10)
    first, second = window_of(1, 1), window_of(2, 1)
    batcher.add_window(0, 1, first, pack_window(first))
    batcher.add_window(0, 2, second, pack_window(second))
    batcher.add_hiccup(1, HICCUP)
    assert batcher.close(2, 100)
    assert batcher.last_batch == 1
    assert batcher.closed_through_s(2) == 1
    assert batcher.close(2, 110)
    batches = batcher.unacknowledged()
    windows = take_all(Ledger(range(1), SLOTS), batches)
    assert [window.hiccups for window in windows] == [(HICCUP,), ()]


def test_only_what_was_acknowledged_is_forgotten() -> None:
    """An acknowledgement of a number never given changes nothing."""
    batcher = Batcher(expects_hiccups=False, hiccup_wait_ns=0)
    for number in range(1, 5):
        window = window_of(number, 1)
        batcher.add_window(0, number, window, pack_window(window))
    batcher.close(None, 0)
    batcher.acknowledge(99)
    assert batcher.waiting == 4
    batcher.acknowledge(2)
    assert [batch.number for batch in batcher.unacknowledged()] == [3, 4]
    batcher.acknowledge(1)
    assert batcher.waiting == 2


def test_a_snapshot_holds_what_fits_and_at_least_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long outage does not make one message of everything."""
    monkeypatch.setattr("loadtests.swarm.batching.SNAPSHOT_BYTES", 1)
    batcher = Batcher(expects_hiccups=False, hiccup_wait_ns=0)
    for number in range(1, 4):
        window = window_of(number, 1)
        batcher.add_window(0, number, window, pack_window(window))
    batcher.close(None, 0)
    assert [batch.number for batch in batcher.unacknowledged()] == [1]
