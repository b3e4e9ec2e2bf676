"""Sums of windows over a run: of each stage's judged windows, and of everything.

Kept while the run is written, so that a run of an hour is judged from a few hundred
histograms instead of some hundred thousand intervals. Sums are exact: the histograms of
a log of intervals add up to these, bucket by bucket, and `verify` checks that they do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from loadtests.clock import NS_PER_S
from loadtests.record.histogram import BUCKETS, LENGTH
from loadtests.record.hlog import Interval
from loadtests.record.manifest import Manifest
from loadtests.record.summary import segments_of
from loadtests.record.window import Kind, SlotSpace, Window, merge_windows
from loadtests.record.window_sum import WindowSum

KeyCounts = tuple[NDArray[np.uint32], NDArray[np.int64]]  # a window's keys and counts


class Totals:
    """The two sums of a run, of judged windows and of everything.

    What is not judged is summed apart, so that a window of an ordinary second is added once.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._start_s = (manifest.t0_unix_ns or 0) // NS_PER_S
        self._judged = WindowSum(self._start_s)
        self._not_judged = WindowSum(self._start_s)

    def add(self, window: Window) -> None:
        """Count a window in."""
        stages = range(len(self._manifest.stages))
        judged = np.array([self._manifest.judges(stage, window.start_s) for stage in stages])
        if judged.all():
            self._judged.add(window)
            return
        per_stage = len(self._manifest.requests) * len(self._manifest.nodes)
        self._judged.add(_part_of(window, judged, per_stage))
        self._not_judged.add(_part_of(window, ~judged, per_stage))

    def judged(self) -> Window:
        """Return the sum of each stage's judged windows."""
        return self._judged.value()

    def everything(self) -> Window:
        """Return the sum of all windows."""
        return merge_windows(self._start_s, [self._judged.value(), self._not_judged.value()])


def _part_of(window: Window, stages: NDArray[np.bool_], per_stage: int) -> Window:
    """Keep the slots of some stages."""
    slots = stages[window.slots // per_stage]
    keys = stages[window.keys // (per_stage * len(Kind) * LENGTH)]
    return dataclasses.replace(
        window,
        slots=window.slots[slots],
        counters=window.counters[slots],
        keys=window.keys[keys],
        counts=window.counts[keys],
        errors={at: n for at, n in window.errors.items() if stages[at[0] // per_stage]},
        messages={at: text for at, text in window.messages.items() if stages[at[0] // per_stage]},
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
