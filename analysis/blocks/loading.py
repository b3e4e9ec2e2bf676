"""Reads the histograms of every window of a run into `Blocks`, and checks their sum.

Law: the rows of a population add up to the archive's total of it, bucket by bucket; where
they do not, nothing is returned.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from typing import Final

import numpy as np

from analysis.blocks.journalled import journalled
from analysis.blocks.rows import Blocks
from analysis.figures import OVERALL, span_of
from analysis.log_rows.gathering import Gathering, PopulationKey
from analysis.log_rows.sparse import Rows, join
from analysis.log_rows.stretches import over_stretches
from loadtests.errors import HarnessError
from loadtests.record.archive import Run
from loadtests.record.directory import LATENCY_FILE, is_partial
from loadtests.record.window import Kind, histogram_of

Key = tuple[str, str | None]  # stage; request, or OVERALL (None) for all together
MOST_ROWS: Final = 3600  # an hour of seconds: more rows show and decide nothing more


def step_for(run: Run, most_rows: int = MOST_ROWS) -> int:
    """Seconds a row, so that no stage has more than so many of them: 1 up to an hour."""
    t0_ns = run.manifest.t0_unix_ns or 0
    longest_s = max(span_of(facts, t0_ns).seconds for facts in run.manifest.stages)
    return max(1, -(-longest_s // most_rows))


@contextmanager
def reading_blocks(
    run: Run,
    *,
    kind: Kind,
    judged: bool = True,
    step_s: int = 1,
    requests: Collection[str | None] | None = None,
    short_bytes: int | None = None,
) -> Iterator[Callable[[], Mapping[Key, Blocks]]]:
    """Begin to read; what is yielded waits for the blocks. Long logs are read meanwhile.

    Histograms of a kind by stage and request, and of all requests of a stage together: of each
    stage's judged windows (a warm-up has some too: it is left out by its stage's name), or of
    every window. What has no samples is not in it. A row of several seconds begins a whole
    number of them after the stage's first judged second. `requests` names the populations to
    keep (None: all), for the sake of memory; a log from `short_bytes` on (None: 256 MiB) is read
    by several processes.
    HarnessError when the file is damaged or does not add up to the archive's totals.
    """
    wanted = {*run.slots.requests, OVERALL} if requests is None else set(requests)
    gathering = _gathering(run, kind, wanted, judged=judged, step_s=step_s)

    def checked(found: Mapping[PopulationKey, Rows]) -> Mapping[Key, Blocks]:
        blocks = {_key(run, key): _blocks(rows, step_s) for key, rows in found.items()}
        _check_sums(run, kind, blocks, judged=judged, wanted=wanted)
        return blocks

    if is_partial(run.path):
        yield lambda: checked(gathering.of(journalled(run, kind)))
    elif LATENCY_FILE in run.manifest.checksums:
        with over_stretches(run.path / LATENCY_FILE, gathering, short_bytes) as results:
            yield lambda: checked(_joined(results()))
    else:
        yield lambda: checked({})  # it ended before T0


def load_blocks(
    run: Run,
    *,
    kind: Kind,
    judged: bool = True,
    step_s: int = 1,
    requests: Collection[str | None] | None = None,
) -> Mapping[Key, Blocks]:
    """The same at once."""
    with reading_blocks(run, kind=kind, judged=judged, step_s=step_s, requests=requests) as blocks:
        return blocks()


def _gathering(
    run: Run, kind: Kind, wanted: Collection[str | None], *, judged: bool, step_s: int
) -> Gathering:
    t0_ns = run.manifest.t0_unix_ns or 0
    numbered = enumerate(run.slots.requests)
    return Gathering(
        manifest=run.manifest,
        kind=kind,
        is_judged=judged,
        step_s=step_s,
        first_s=tuple(span_of(facts, t0_ns).first_s for facts in run.manifest.stages),
        requests=frozenset(number for number, request in numbered if request in wanted),
        has_overall=OVERALL in wanted,
    )


def _key(run: Run, key: PopulationKey) -> Key:
    stage, request = key
    return run.slots.stages[stage], OVERALL if request is None else run.slots.requests[request]


def _blocks(rows: Rows, step_s: int) -> Blocks:
    starts, buckets, counts = rows.sparse
    return Blocks(
        step_s=step_s, window_s=rows.window_s, starts=starts, buckets=buckets, counts=counts
    )


def _joined(several: Sequence[Mapping[PopulationKey, Rows]]) -> Mapping[PopulationKey, Rows]:
    """What stretches of one file hold; a row that was cut in two is added up."""
    keys = dict.fromkeys(key for found in several for key in found)
    return {key: join([found[key] for found in several if key in found]) for key in keys}


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
