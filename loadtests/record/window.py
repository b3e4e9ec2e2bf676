"""Windows: what one second counted, and their exact merge.

A *slot* is one (stage, request, node): `SlotSpace` numbers them. An arrival belongs to
the stage of its intended time for ever; `planned`, `sent` and `dropped` are counted in
the second of the event, outcomes and latencies in the second of completion. A window is
therefore immutable once its second is over, late answers still count for their own
stage, and sums over windows conserve every request.

A window is sparse: only slots and buckets that were hit. Histograms of all slots and
kinds share one key space, `key = (slot * len(Kind) + kind) * LENGTH + bucket`, so that
merging a window is one addition of arrays however many endpoints it holds.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from loadtests.record.bins import (
    NO_BINS,
    Bins,
    PackedBins,
    broken_bin_law,
    pack_bins,
    sum_bins,
    unpack_bins,
)
from loadtests.record.histogram import LENGTH, Histogram
from loadtests.record.packing import PackedCounts, pack_counts, unpack_counts
from loadtests.record.writes import (
    NO_WRITES,
    PackedWrites,
    Writes,
    merge_writes,
    pack_writes,
    unpack_writes,
)


class Kind(IntEnum):
    """What a latency histogram of a slot counts."""

    RESPONSE = 0  # done - intended, of ok requests
    SERVICE = 1  # done - sent, of ok requests
    FAILED_RESPONSE = 2  # done - intended, of client_error and failed requests
    FAILED_SERVICE = 3  # done - sent, of client_error and failed requests
    SEND_LAG = 4  # sent - intended, of all sent requests
    CONNECT = 5  # connection establishment (TCP, TLS, SETTINGS), ok or not; request is CONNECTION
    # Of calls whose sides are streams, as they happen:
    STREAM_SETUP = 6  # head of the answer - sent
    FIRST_MESSAGE = 7  # first message of the answer - sent
    # Every later message - the one before it; where the call sends as many itself, every
    # message - the message of ours with the same number.
    MESSAGE = 8


class Count(IntEnum):
    """Columns of a window's counters, in the order of the archive."""

    PLANNED = 0
    SENT = 1
    DROPPED = 2
    OK = 3
    CLIENT_ERROR = 4
    FAILED = 5
    BYTES_SENT = 6
    BYTES_RECEIVED = 7
    CONNECTS = 8  # connections opened for this node (request CONNECTION)
    CONNECT_FAILURES = 9


_COLUMNS: Final = len(Count)
_KEYS_A_SLOT: Final = LENGTH * len(Kind)
MAX_SLOTS: Final = (2**32 - 1) // _KEYS_A_SLOT
CONNECTION: Final = "(connection)"  # the pseudo request that connection figures belong to


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotSpace:
    """Numbers (stage, request, node); names are in plan order, `requests` ends in CONNECTION."""

    stages: tuple[str, ...]
    requests: tuple[str, ...]
    nodes: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self) > MAX_SLOTS:
            raise ValueError(f"{len(self)} slots, at most {MAX_SLOTS} fit the key space")

    def __len__(self) -> int:
        return len(self.stages) * len(self.requests) * len(self.nodes)

    def slot(self, stage: int, request: int, node: int) -> int:
        """Slot number of three indices."""
        return (stage * len(self.requests) + request) * len(self.nodes) + node

    def indices(self, slot: int) -> tuple[int, int, int]:
        """Return the (stage, request, node) indices of a slot: the inverse of `slot`."""
        rest, node = divmod(slot, len(self.nodes))
        stage, request = divmod(rest, len(self.requests))
        return stage, request, node


class EngineHealth(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """How one engine fared in one window."""

    engine: str  # "<agent>/<index>"
    wall_ns: int  # length of the window on the monotonic clock
    cpu_ns: int  # user + system time of the engine process
    in_flight: int  # requests sent and unanswered when the window ended
    in_flight_ns: int  # integral of requests in flight over the window
    backlog: int  # arrivals due and waiting for a connection when the window ended
    connections: int  # open connections when the window ended
    stalled_ns: int  # longest time the loop did not come round
    # Of HTTP/2 connections; their pool's use is streams_in_use / streams.
    streams: int = 0  # requests that the open ones can carry at once, when the window ended
    streams_in_use: int = 0  # requests they carried: mean over the window, rounded up


class Hiccup(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """Lateness of a bare ticker on one host in one window: a stolen CPU, not a slow engine."""

    agent: str
    ticks: int
    p50_ns: int
    p99_ns: int
    max_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One second of counts. Merging is commutative and associative, with `empty` neutral.

    `slots` (n,) uint32 sorted unique; `counters` (n, len(Count)) int64;
    `keys` (m,) uint32 sorted unique; `counts` (m,) int64; `errors` maps (slot, kind) to
    a count; `messages` keeps at most one sample text per (slot, kind). `bins` and the
    log of `writes` are there where the plan asks for them.
    """

    start_s: int
    slots: NDArray[np.uint32]
    counters: NDArray[np.int64]
    keys: NDArray[np.uint32]
    counts: NDArray[np.int64]
    errors: Mapping[tuple[int, str], int]
    messages: Mapping[tuple[int, str], str]
    health: tuple[EngineHealth, ...]
    hiccups: tuple[Hiccup, ...]
    bins: Bins = NO_BINS
    writes: Writes = NO_WRITES

    @staticmethod
    def empty(start_s: int) -> Window:
        """A second in which nothing happened."""
        return Window(
            start_s=start_s,
            slots=np.empty(0, dtype=np.uint32),
            counters=np.empty((0, len(Count)), dtype=np.int64),
            keys=np.empty(0, dtype=np.uint32),
            counts=np.empty(0, dtype=np.int64),
            errors={},
            messages={},
            health=(),
            hiccups=(),
        )

    def total(self, count: Count) -> int:
        """Sum of one counter over all slots."""
        return int(self.counters[:, count].sum())


def _sum_rows(
    labels: NDArray[np.uint32], values: NDArray[np.int64]
) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Sort labels, add up the values (rows) of equal ones."""
    if not labels.size:
        return labels, values
    order = np.argsort(labels, kind="stable")
    labels, values = labels[order], values[order]
    starts = np.flatnonzero(np.concatenate(([True], labels[1:] != labels[:-1])))
    return labels[starts], np.add.reduceat(values, starts, axis=0)


_DENSE_KEYS: Final = 1 << 25  # at most 256 MiB of counters while merging
_DENSE_GAIN: Final = 16  # sorting one key costs about as much as passing over so many counters


def _sum_histograms(parts: list[Window]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Add all histograms of the parts.

    A master with 1,000 agents merges millions of keys a second: adding each part into one
    dense array is 14 times cheaper than sorting them all (52 against 722 ms), because keys
    are unique within a part. A few keys spread over a wide space are sorted.
    """
    filled = [part for part in parts if part.keys.size]
    if filled:
        low = min(int(part.keys[0]) for part in filled)
        span = max(int(part.keys[-1]) for part in filled) - low + 1
        if span <= min(_DENSE_KEYS, _DENSE_GAIN * sum(part.keys.size for part in filled)):
            dense = np.zeros(span, dtype=np.int64)
            for part in filled:
                # Both int64: then `add.at` takes NumPy's short way, two to four times faster
                # than an indexed `+=`.
                np.add.at(dense, part.keys.astype(np.int64) - low, part.counts)
            found = np.flatnonzero(dense)
            return (found + low).astype(np.uint32), dense[found]
    return _sum_rows(
        np.concatenate([part.keys for part in parts]),
        np.concatenate([part.counts for part in parts]),
    )


def merge_windows(start_s: int, windows: Iterable[Window]) -> Window:
    """Add windows exactly; the result is labelled `start_s` whatever the parts say."""
    parts = [Window.empty(start_s), *windows]
    slots, counters = _sum_rows(
        np.concatenate([part.slots for part in parts]),
        np.concatenate([part.counters for part in parts]),
    )
    keys, counts = _sum_histograms(parts)
    errors: Counter[tuple[int, str]] = Counter()
    messages: dict[tuple[int, str], str] = {}
    for part in parts:
        errors.update(part.errors)
        for label, text in part.messages.items():
            # The smallest text wins, so that the merge does not depend on its order.
            messages[label] = min(text, messages.get(label, text))
    return Window(
        start_s=start_s,
        slots=slots,
        counters=counters,
        keys=keys,
        counts=counts,
        errors=errors,
        messages=messages,
        health=tuple(sorted((h for p in parts for h in p.health), key=lambda h: h.engine)),
        hiccups=tuple(sorted((h for p in parts for h in p.hiccups), key=lambda h: h.agent)),
        bins=sum_bins([part.bins for part in parts]),
        writes=merge_writes([part.writes for part in parts]),
    )


def check_slots(window: Window, slots: SlotSpace) -> None:
    """ValueError when a window names a slot that the slot space does not have."""
    seen = window.slots[-1:].tolist()
    seen += [key // _KEYS_A_SLOT for key in window.keys[-1:].tolist()]
    seen += [slot for slot, _ in (*window.errors, *window.messages)]
    if window.bins is not NO_BINS:
        seen += window.bins.slots.tolist()
    if window.writes is not NO_WRITES:
        seen += window.writes.rows[:, 1].tolist()
    if seen and not 0 <= min(seen) <= max(seen) < len(slots):
        raise ValueError(f"window of slot {max(seen)}, this run has {len(slots)}")


def check_bins(window: Window) -> None:
    """ValueError when a window has bins and they do not add up to its counters."""
    if len(window.bins):
        broken = broken_bin_law(window.bins, window.start_s, window.slots, window.counters)
        if broken is not None:
            raise ValueError(broken)


def histogram_of(window: Window, kind: Kind, slots: Iterable[int]) -> Histogram:
    """Exact sum of the histograms of `kind` over the given slots."""
    dense = np.zeros(LENGTH, dtype=np.int64)
    for slot in slots:
        low = (slot * len(Kind) + kind) * LENGTH
        first, last = np.searchsorted(window.keys, [low, low + LENGTH])
        dense[window.keys[first:last].astype(np.int64) - low] += window.counts[first:last]
    return Histogram(counts=dense)


class _Frame(msgspec.Struct, array_like=True):
    start_s: int
    slots: bytes
    counters: bytes
    histograms: PackedCounts
    errors: list[tuple[int, str, int]]
    messages: list[tuple[int, str, str]]
    health: tuple[EngineHealth, ...]
    hiccups: tuple[Hiccup, ...]
    # Journals of before there were any have none.
    bins: PackedBins | None = None
    writes: PackedWrites | None = None


_DECODER: Final = msgspec.msgpack.Decoder(_Frame)


def pack_window(window: Window) -> bytes:
    """Encode as CRC-32 (4 bytes, big endian) and msgpack; arrays are little endian."""
    body = msgspec.msgpack.encode(
        _Frame(
            window.start_s,
            window.slots.astype("<u4").tobytes(),
            window.counters.astype("<i8").tobytes(),
            pack_counts(window.keys, window.counts),
            [(slot, kind, n) for (slot, kind), n in sorted(window.errors.items())],
            [(slot, kind, text) for (slot, kind), text in sorted(window.messages.items())],
            window.health,
            window.hiccups,
            pack_bins(window.bins),
            pack_writes(window.writes),
        )
    )
    return zlib.crc32(body).to_bytes(4, "big") + body


def unpack_window(data: bytes) -> Window:
    """Inverse of `pack_window`; ValueError on a wrong checksum, type, shape or order."""
    body = memoryview(data)[4:]
    if zlib.crc32(body).to_bytes(4, "big") != data[:4]:
        raise ValueError("window checksum differs")
    try:
        frame = _DECODER.decode(body)
    except msgspec.MsgspecError as error:
        raise ValueError(f"window frame: {error}") from error
    slots = np.frombuffer(frame.slots, dtype="<u4").astype(np.uint32)
    keys, counts = unpack_counts(frame.histograms)
    counters = np.frombuffer(frame.counters, dtype="<i8").astype(np.int64)
    if counters.size != slots.size * _COLUMNS:
        raise ValueError("window arrays differ in length")
    numbers = slots.tolist()  # few: cheaper looked at here than by NumPy
    if sorted(set(numbers)) != numbers:
        raise ValueError("window slots are not sorted and unique")
    if counters.size and np.minimum.reduce(counters) < 0:
        raise ValueError("window holds a negative count")
    return Window(
        start_s=frame.start_s,
        slots=slots,
        counters=counters.reshape(-1, _COLUMNS),
        keys=keys,
        counts=counts,
        errors={(slot, kind): n for slot, kind, n in frame.errors},
        messages={(slot, kind): text for slot, kind, text in frame.messages},
        health=frame.health,
        hiccups=frame.hiccups,
        bins=unpack_bins(frame.bins),
        writes=unpack_writes(frame.writes),
    )
