"""Reads the histograms of every window of a run into `Blocks`, and checks their sum.

Law: the rows of a population add up to the archive's total of it, bucket by bucket; where
they do not, nothing is returned.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

import numpy as np

from analysis.blocks.parts import Part, journalled, logged
from analysis.blocks.rows import Blocks, BlocksBuilder, Sparse, SparseSum
from analysis.blocks.stretches import Stretch, over_stretches
from analysis.figures import OVERALL, span_of
from loadtests.errors import HarnessError
from loadtests.record.archive import Manifest, Run
from loadtests.record.directory import LATENCY_FILE, is_partial
from loadtests.record.window import Kind, histogram_of

Key = tuple[str, str | None]  # stage; request, or OVERALL (None) for all together
MOST_ROWS: Final = 3600  # an hour of seconds: more rows show and decide nothing more


def step_for(run: Run, most_rows: int = MOST_ROWS) -> int:
    """Seconds a row, so that no stage has more than so many of them: 1 up to an hour."""
    t0_ns = run.manifest.t0_unix_ns or 0
    longest_s = max(span_of(facts, t0_ns).seconds for facts in run.manifest.stages)
    return max(1, -(-longest_s // most_rows))


def load_blocks(
    run: Run,
    *,
    kind: Kind,
    judged: bool = True,
    step_s: int = 1,
    requests: Collection[str | None] | None = None,
) -> Mapping[Key, Blocks]:
    """Histograms of a kind by stage and request, and of all requests of a stage together.

    Of each stage's judged windows (a warm-up has some too: it is left out by its stage's name),
    or of every window. What has no samples is not in it. A
    row of several seconds begins a whole number of them after the stage's first judged second.
    `requests` names the populations to keep (None: all), for the sake of memory.
    HarnessError when the file is damaged or does not add up to the archive's totals.
    """
    wanted = {*run.slots.requests, OVERALL} if requests is None else set(requests)
    gathering = _Gathering(
        manifest=run.manifest, kind=kind, judged=judged, step_s=step_s, wanted=frozenset(wanted)
    )
    if is_partial(run.path):
        blocks = gathering.of(journalled(run, kind))
    elif LATENCY_FILE in run.manifest.checksums:
        blocks = _joined(list(over_stretches(run.path / LATENCY_FILE, gathering)))
    else:
        blocks = {}  # it ended before T0
    _check_sums(run, kind, blocks, judged=judged, wanted=wanted)
    return blocks


def _joined(parts: Sequence[Mapping[Key, Blocks]]) -> Mapping[Key, Blocks]:
    """What stretches of one file hold, row by row; a row that was cut in two is added up."""
    if len(parts) == 1:
        return parts[0]
    keys = dict.fromkeys(key for part in parts for key in part)
    total, joined = SparseSum(), dict[Key, Blocks]()
    for key in keys:
        own = [part[key] for part in parts if key in part]
        builder = BlocksBuilder(own[0].step_s, total)
        for blocks in own:
            for second, row in zip(blocks.window_s.tolist(), blocks.rows(), strict=True):
                builder.add(second, row)
        joined[key] = builder.build()
    return joined


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gathering:
    """How parts become blocks: what a process is told that reads a stretch of the log."""

    manifest: Manifest
    kind: Kind
    judged: bool
    step_s: int
    wanted: frozenset[str | None]

    def __call__(self, stretch: Stretch) -> Mapping[Key, Blocks]:
        """The blocks of a stretch."""
        return self.of(logged(stretch, self.manifest.slots, self.kind))

    def of(self, parts: Iterable[Part]) -> Mapping[Key, Blocks]:
        """The blocks of some parts."""
        gathered = _Gathered(self)
        for part in parts:
            gathered.add(part)
        return dict(gathered.blocks())


class _Gathered:
    """Collects the parts of a row until the next row of its stage begins."""

    def __init__(self, how: _Gathering) -> None:
        self._manifest, self._slots = how.manifest, how.manifest.slots
        self._judged, self._step_s = how.judged, how.step_s
        self._has_overall = OVERALL in how.wanted
        self._is_wanted = [request in how.wanted for request in self._slots.requests]
        t0_ns = how.manifest.t0_unix_ns or 0
        self._first_s = [span_of(facts, t0_ns).first_s for facts in how.manifest.stages]
        self._open: dict[int, tuple[int, dict[int, list[Sparse]]]] = {}  # by stage: row, parts
        self._total = SparseSum()
        self._builders: dict[tuple[int, int | None], BlocksBuilder] = defaultdict(
            lambda: BlocksBuilder(self._step_s, self._total)
        )

    def add(self, part: Part) -> None:
        """Count a part in, unless it is not to be judged."""
        if self._judged and not self._manifest.judges(part.stage, part.second):
            return
        if not (self._has_overall or self._is_wanted[part.request]):
            return
        offset = (part.second - self._first_s[part.stage]) // self._step_s
        row = self._first_s[part.stage] + offset * self._step_s
        if part.stage not in self._open or self._open[part.stage][0] != row:
            self._close(part.stage)
            self._open[part.stage] = row, defaultdict(list)
        self._open[part.stage][1][part.request].append((part.buckets, part.counts))

    def _close(self, stage: int) -> None:
        window_s, requests = self._open.pop(stage, (0, {}))
        sums = {request: self._total(parts) for request, parts in requests.items()}
        for request, row in sums.items():
            if self._is_wanted[request]:
                self._builders[stage, request].add(window_s, row)
        if sums and self._has_overall:
            self._builders[stage, OVERALL].add(window_s, self._total(list(sums.values())))

    def blocks(self) -> Iterator[tuple[Key, Blocks]]:
        """All that was added, stages and requests in plan order; ends the adding."""
        for stage in list(self._open):
            self._close(stage)
        for stage, request in sorted(
            self._builders, key=lambda at: (at[0], at[1] is None, at[1] or 0)
        ):
            name = OVERALL if request is None else self._slots.requests[request]
            built = self._builders.pop((stage, request)).build()
            if len(built):
                yield (self._slots.stages[stage], name), built


def _check_sums(
    run: Run,
    kind: Kind,
    blocks: Mapping[Key, Blocks],
    *,
    judged: bool,
    wanted: AbstractSet[str | None],
) -> None:
    """HarnessError unless every wanted population's rows add up to the archive's total."""
    slots, merged = run.slots, run.merged(judged=judged)
    for stage, stage_name in enumerate(slots.stages):
        numbers: dict[str | None, list[int]] = {
            name: [slots.slot(stage, at, node) for node in range(len(slots.nodes))]
            for at, name in enumerate(slots.requests)
        }
        every = [number for of_request in numbers.values() for number in of_request]
        numbers[OVERALL] = every
        for name in numbers.keys() & wanted:
            expected = histogram_of(merged, kind, numbers[name])
            found = blocks.get((stage_name, name))
            seen = found.histogram().counts if found else np.zeros_like(expected.counts)
            if not np.array_equal(seen, expected.counts):
                which = "all requests" if name is None else f"request {name!r}"
                raise HarnessError(
                    where=f"{run.path}, stage {stage_name!r}, {which}",
                    seen=f"windows with {int(seen.sum())} samples of {kind.name.lower()}",
                    expected=f"the archive's total of {expected.n}, equal in every bucket",
                )
