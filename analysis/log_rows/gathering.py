"""Parts of seconds become rows: by stage and request, and of all requests of a stage.

A hundred parts or so are added up at a time; the parts of the newest row wait for what may still
come of it, so that hardly a row has to be joined from pieces afterwards.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from analysis.log_rows.parts import Parts, chain_parts, logged
from analysis.log_rows.sparse import Ints, Rows, added_up, join, narrow
from analysis.log_rows.stretches import Stretch
from loadtests.record.manifest import Manifest
from loadtests.record.window import Kind

_PARTS_AT_ONCE: Final = 128  # as many as stay within a core's cache
PopulationKey = tuple[int, int | None]  # numbers of stage and request; None: all requests


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathering:
    """How parts become rows: what a process is told that reads a stretch of the log.

    A row of stage i begins a whole number of `step_s` after `first_s[i]`. `requests` are the
    numbers of those that have rows of their own.
    """

    manifest: Manifest
    kind: Kind
    is_judged: bool  # judged windows alone
    step_s: int
    first_s: tuple[int, ...]
    requests: frozenset[int]
    has_overall: bool

    def __call__(self, stretch: Stretch) -> Mapping[PopulationKey, Rows]:
        """The rows of a stretch of the log."""
        slots = self.manifest.slots
        needed = frozenset(range(len(slots.requests))) if self.has_overall else self.requests
        return self.of(logged(stretch, slots, self.kind, needed))

    def of(self, parts: Iterable[Parts]) -> Mapping[PopulationKey, Rows]:
        """The rows of some parts."""
        gathered = _Gathered(self)
        waiting: list[Parts] = []
        for some in parts:
            waiting.append(some)
            if sum(map(len, waiting)) >= _PARTS_AT_ONCE:
                waiting = [gathered.add(chain_parts(waiting), is_last=False)]
        if waiting:
            gathered.add(chain_parts(waiting), is_last=True)
        return gathered.rows()


class _Gathered:
    """Collects rows by population: stage and request, the number behind the last for all."""

    def __init__(self, how: Gathering) -> None:
        self._how = how
        self._first_s = np.array(how.first_s, dtype=np.int64)
        self._requests = np.array(sorted(how.requests), dtype=np.int64)
        self._overall = len(how.manifest.slots.requests)
        self._rows: dict[int, list[Rows]] = defaultdict(list)

    def add(self, parts: Parts, *, is_last: bool) -> Parts:
        """Count parts in; those of the newest row come back, to be given again with more."""
        row_s = self._row_s(parts)
        changes = np.flatnonzero(row_s[1:] != row_s[:-1])
        end = int(changes[-1]) + 1 if changes.size and not is_last else len(parts)
        self._count(parts.between(0, end), row_s[:end])
        return parts.between(end, len(parts))

    def _row_s(self, parts: Parts) -> Ints:
        """When the row of each part begins."""
        first_s, step_s = self._first_s[parts.stage], self._how.step_s
        return first_s + (parts.second - first_s) // step_s * step_s

    def _count(self, parts: Parts, row_s: Ints) -> None:
        is_kept = np.diff(parts.sparse.starts) > 0
        if self._how.is_judged and len(parts):
            is_kept &= self._judged(parts)
        if not is_kept.all():
            kept = np.flatnonzero(is_kept)
            parts, row_s = parts.taken(kept), row_s[kept]
        if self._how.has_overall:
            self._collect(parts, row_s, np.full(len(parts), self._overall, dtype=np.int64))
        if self._requests.size:
            kept = np.flatnonzero(np.isin(parts.request, self._requests))
            wanted = parts.taken(kept) if kept.size < len(parts) else parts
            self._collect(wanted, row_s[kept], wanted.request)

    def _judged(self, parts: Parts) -> NDArray[np.bool_]:
        """Whether each part lies in a judged window of its stage."""
        pairs, places = np.unique(
            np.stack([parts.stage, parts.second]), axis=1, return_inverse=True
        )
        judges = self._how.manifest.judges
        judged = np.array([judges(*pair) for pair in pairs.T.tolist()])
        return judged[places.ravel()]

    def _collect(self, parts: Parts, row_s: Ints, request: Ints) -> None:
        """Add parts of one population and row up, and keep the rows."""
        if not len(parts):
            return
        population = parts.stage * (self._overall + 1) + request
        low, span = int(row_s.min()), int(np.ptp(row_s)) + 1
        keys, groups = np.unique(population * span + (row_s - low), return_inverse=True)
        sparse = narrow(added_up(groups, keys.size, parts.sparse))
        populations, firsts = np.unique(keys // span, return_index=True)
        ends = [*firsts[1:].tolist(), keys.size]
        for number, first, end in zip(populations.tolist(), firsts.tolist(), ends, strict=True):
            window_s = keys[first:end] % span + low
            self._rows[number].append(Rows(window_s=window_s, sparse=sparse.between(first, end)))

    def rows(self) -> Mapping[PopulationKey, Rows]:
        """All that was added, stages and requests in plan order, all requests last."""
        found: dict[PopulationKey, Rows] = {}
        for number in sorted(self._rows):
            stage, request = divmod(number, self._overall + 1)
            key = stage, None if request == self._overall else request
            found[key] = join(self._rows.pop(number))
        return found
