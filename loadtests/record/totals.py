"""Sums of windows over a run: of each stage's judged windows, and of everything.

Kept while the run is written, so that a run of an hour is judged from a few hundred
histograms instead of some hundred thousand intervals. Sums are exact: the histograms of
a log of intervals add up to these, bucket by bucket, and `verify` checks that they do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from loadtests.clock import NS_PER_S
from loadtests.record.histogram import BUCKETS, LENGTH
from loadtests.record.hlog import Interval
from loadtests.record.manifest import Manifest
from loadtests.record.summary import segments_of
from loadtests.record.window import Kind, SlotSpace, Window, merge_windows

# Keys waiting to be merged: bounds memory (3 MB) and the pause of one merge (20 ms).
_PENDING_KEYS: Final = 1 << 18

KeyCounts = tuple[NDArray[np.uint32], NDArray[np.int64]]  # a window's keys and counts


class WindowSum:
    """Adds up windows in batches: merging each one at once would sort the sum every time."""

    def __init__(self, start_s: int) -> None:
        self._sum = Window.empty(start_s)
        self._pending: list[Window] = []
        self._pending_keys = 0

    def add(self, window: Window) -> None:
        """Count a window in; its health and hiccups are left out."""
        self._pending.append(without_hosts(window))
        self._pending_keys += window.keys.size + window.slots.size + 1
        if self._pending_keys > _PENDING_KEYS:
            self.value()

    def value(self) -> Window:
        """Return the sum so far, labelled with the first second."""
        if self._pending:
            self._sum = merge_windows(self._sum.start_s, [self._sum, *self._pending])
            self._pending.clear()
            self._pending_keys = 0
        return self._sum


class Totals:
    """The two sums of a run: `judged` and `everything`."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        start_s = (manifest.t0_unix_ns or 0) // NS_PER_S
        self.judged = WindowSum(start_s)
        self.everything = WindowSum(start_s)

    def add(self, window: Window) -> None:
        """Count a window in."""
        self.everything.add(window)
        self.judged.add(judged_part(window, self._manifest))


def judged_part(window: Window, manifest: Manifest) -> Window:
    """Keep the slots whose stage judges this window."""
    judges = np.array([manifest.judges(stage, window.start_s)
                       for stage in range(len(manifest.stages))])  # fmt: skip
    if judges.all():
        return window
    per_stage = len(manifest.requests) * len(manifest.nodes)
    slots = judges[window.slots // per_stage]
    keys = judges[window.keys // (per_stage * len(Kind) * LENGTH)]
    return Window(
        start_s=window.start_s,
        slots=window.slots[slots],
        counters=window.counters[slots],
        keys=window.keys[keys],
        counts=window.counts[keys],
        errors={at: n for at, n in window.errors.items() if judges[at[0] // per_stage]},
        messages={at: text for at, text in window.messages.items() if judges[at[0] // per_stage]},
        health=window.health,
        hiccups=window.hiccups,
    )


def without_hosts(window: Window) -> Window:
    """Drop what is per host and second and cannot be added up."""
    return Window(
        start_s=window.start_s,
        slots=window.slots,
        counters=window.counters,
        keys=window.keys,
        counts=window.counts,
        errors=window.errors,
        messages=window.messages,
        health=(),
        hiccups=(),
    )


def intervals_of(
    window: Window, slots: SlotSpace, length_s: int, prefix: tuple[str, ...]
) -> Iterator[Interval]:
    """Histograms of a window as log intervals, named prefix / stage / request / node / kind."""
    segments = segments_of(window)
    for index, slot in enumerate(segments.slots.tolist()):
        stage, request, node = slots.indices(slot)
        kind = Kind(int(segments.kinds[index]))
        overflow = int(segments.overflow[index])
        first = segments.starts[index]
        last = segments.ends[index] - (1 if overflow else 0)
        names = (slots.stages[stage], slots.requests[request], slots.nodes[node])
        yield Interval(
            names=(*prefix, *names, kind.name.lower()),
            start_s=window.start_s,
            length_s=length_s,
            buckets=segments.buckets[first:last],
            counts=window.counts[first:last],
            overflow=overflow,
        )


def keys_of(interval: Interval, slots: SlotSpace) -> KeyCounts:
    """Inverse of `intervals_of`: keys and counts of a window; ValueError on an unknown name."""
    *_, stage, request, node, kind = interval.names
    slot = slots.slot(
        slots.stages.index(stage), slots.requests.index(request), slots.nodes.index(node)
    )
    try:
        number = Kind[kind.upper()]
    except KeyError as error:
        raise ValueError(
            f"kind {kind!r}, expected one of {[k.name.lower() for k in Kind]}"
        ) from error
    base = (slot * len(Kind) + number) * LENGTH
    keys, counts = interval.buckets + base, interval.counts
    if interval.overflow:
        keys = np.append(keys, base + BUCKETS)
        counts = np.append(counts, interval.overflow)
    return keys.astype(np.uint32), counts
