"""The sum of a run's windows, added up as they come, without a pause that grows.

Each histogram that was ever hit has a row of counters in anonymous memory; a window is
one addition at the places it hits (1 ms for 100,000 keys). Sorting the sum again with
each window instead takes a second in every minute of a run with 40 slots, which is when
a master misses leases. Memory is what was touched: a row is 188 kB of address space, and
usually 20-60 kB of it are pages in use (huge pages are declined for that reason).
"""

from __future__ import annotations

import mmap
from collections import Counter
from typing import Final

import numpy as np
from numpy.typing import NDArray

from loadtests.record.histogram import LENGTH
from loadtests.record.window import Count, Window

_CHUNK_ROWS: Final = 64
_CHUNK_KEYS: Final = _CHUNK_ROWS * LENGTH


class WindowSum:
    """Adds windows up exactly; health and hiccups, which are per second, are left out."""

    def __init__(self, start_s: int) -> None:
        self._start_s = start_s
        self._counters: dict[int, NDArray[np.int64]] = {}
        self._rows: dict[int, int] = {}  # histogram number (key // LENGTH) -> row
        self._chunks: list[NDArray[np.int64]] = []
        self._errors: Counter[tuple[int, str]] = Counter()
        self._messages: dict[tuple[int, str], str] = {}

    def add(self, window: Window) -> None:
        """Count a window in."""
        for slot, row in zip(window.slots.tolist(), window.counters, strict=True):
            if slot in self._counters:
                self._counters[slot] += row
            else:
                self._counters[slot] = row.copy()
        self._add_histograms(window.keys.astype(np.int64), window.counts)
        self._errors.update(window.errors)
        for label, text in window.messages.items():
            self._messages[label] = min(text, self._messages.get(label, text))

    def _add_histograms(self, keys: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
        histograms, buckets = np.divmod(keys, LENGTH)
        starts = np.flatnonzero(np.diff(histograms, prepend=-1))
        lengths = np.diff(starts, append=keys.size)
        rows = np.array([self._row_of(number) for number in histograms[starts].tolist()], np.int64)
        places = np.repeat(rows * LENGTH, lengths) + buckets
        chunks = places // _CHUNK_KEYS
        for number in np.unique(chunks).tolist():
            here = chunks == number
            # Keys are unique within a window, so an indexed addition counts each once.
            self._chunks[number][places[here] - number * _CHUNK_KEYS] += counts[here]

    def _row_of(self, histogram: int) -> int:
        row = self._rows.setdefault(histogram, len(self._rows))
        if row == len(self._chunks) * _CHUNK_ROWS:
            memory = mmap.mmap(-1, _CHUNK_KEYS * 8, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            memory.madvise(mmap.MADV_NOHUGEPAGE)
            self._chunks.append(np.frombuffer(memory, dtype=np.int64))
        return row

    def value(self) -> Window:
        """Return the sum so far, labelled with the first second."""
        slots = sorted(self._counters)
        keys: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
        counts: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
        for histogram, row in sorted(self._rows.items()):
            chunk, place = divmod(row, _CHUNK_ROWS)
            counters = self._chunks[chunk][place * LENGTH : (place + 1) * LENGTH]
            hit = np.flatnonzero(counters)
            keys.append(hit + histogram * LENGTH)
            counts.append(counters[hit])
        rows = [self._counters[slot] for slot in slots]
        return Window(
            start_s=self._start_s,
            slots=np.array(slots, dtype=np.uint32),
            counters=np.array(rows, dtype=np.int64).reshape(len(slots), len(Count)),
            keys=np.concatenate(keys).astype(np.uint32),
            counts=np.concatenate(counts),
            errors=Counter(self._errors),
            messages=dict(self._messages),
            health=(),
            hiccups=(),
        )
